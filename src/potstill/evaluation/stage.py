"""Stage 3: teacher, baseline and student on the sealed test split; `evaluation/scores.json`.

Everything that the clock or the machine's state decides stands under `timings`, so that the rest is equal in equal runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill.data.labels import load_labels
from potstill.errors import ModelError, SpecError
from potstill.evaluation.compare import TEACHER
from potstill.evaluation.court import FILE as JUDGED
from potstill.evaluation.court import hold_court, judge_inputs
from potstill.evaluation.extras import HOW_TO_REACH, extra_inputs
from potstill.evaluation.leaks import answer_leaks
from potstill.evaluation.lm_eval import examine_by_lm_eval
from potstill.evaluation.predict import Question, Reply, build_questions, prediction_to_json
from potstill.evaluation.problems import evaluation_problems
from potstill.evaluation.resampling import Bootstrap
from potstill.evaluation.roster import examined
from potstill.evaluation.score import require_references, sample_agreement, sample_references
from potstill.evaluation.sealed import open_rows
from potstill.evaluation.slices import find_traits
from potstill.evaluation.summary import Answers, row_scores, summarise
from potstill.evaluation.systems import Examiner
from potstill.models.locate import teacher_stamp, template_stamp
from potstill.store.atomic import write_json, write_jsonl
from potstill.store.events import StageName
from potstill.store.ledger import Ledger
from potstill.store.run import Run
from potstill.tasks import build_task
from potstill.tasks.base import Task
from potstill.tasks.metrics import build_metric
from potstill.tasks.metrics.base import Metric
from potstill.verdicts import judge_quality

NAME: StageName = "evaluate"
DISCARD = ("predictions", "questions.jsonl", "leaks.json", "scores.json", "judge.jsonl")

SCHEMA_VERSION = 3
_SIZES = ("parameters", "weights_bytes", "disk_bytes", "storage", "shipped_bytes")


def inputs(run: Run) -> dict[str, object]:
    """What the scores depend on. The teacher's sampling does not count here: every system answers greedily."""
    spec = run.spec
    made = {**run.stage("data").outputs(), **run.stage("train").outputs()}
    read = ("data/test.jsonl", "data/labels.json", "training/baseline/", "training/best/", "training/sft/best/")
    return {
        "version": SCHEMA_VERSION,
        "task": spec.task.model_dump(mode="json"),
        "teacher": spec.teacher.model_dump(mode="json", exclude={*HOW_TO_REACH, "adapt"}),
        "weights": teacher_stamp(spec.teacher),
        "template": template_stamp(spec.teacher),
        "student": spec.student.model_dump(mode="json", include={"dtype", "device"}),
        "evaluation": spec.evaluation.model_dump(mode="json", exclude={"compare", "judge"}),
        "seed": spec.seed,
        "files": {path: digest for path, digest in made.items() if path.startswith(read)},
        **({"judge": judge_inputs(spec.evaluation.judge)} if spec.evaluation.judge else {}),
        **({"compare": extra_inputs(run)} if spec.evaluation.compare else {}),
        **({"taught": _taught(run, made)} if spec.examined_as_taught else {}),
    }


def _taught(run: Run, made: dict[str, str]) -> dict[str, object]:
    """What the teacher is told besides; its worked examples are training rows."""
    prompting = run.spec.generation.prompting
    return {"prompting": prompting.model_dump(mode="json"), "rows": made.get("data/train.jsonl") if prompting.examples else None}


def preflight(run: Run) -> None:
    """Raises ModelError with all that would stop the evaluation, as far as it can be known before."""
    if problems := list(evaluation_problems(run.spec)):
        raise ModelError("\n".join(problems))


def outputs(run: Run) -> list[Path]:
    """The scores, the questions, what of them was learnt, and each system's predictions."""
    folder = run.path("evaluation")
    predictions = [folder / "predictions" / f"{system}.jsonl" for system in examined(run)]
    judged = [folder / JUDGED] if run.spec.evaluation.judge is not None else []
    return [folder / "scores.json", folder / "questions.jsonl", folder / "leaks.json", *predictions, *judged]


def work(run: Run, resumed: bool) -> str:
    """Ask, score and measure each system; the ledger keeps what was answered, so a cut stage goes on there.

    Raises DataError where there is nothing to score or a metric lacks its references, ModelError where a model cannot answer.
    """
    del resumed  # the ledger knows
    spec = run.spec
    preflight(run)
    labels = load_labels(run)
    task = build_task(spec.task, labels)
    rows = open_rows(run)
    questions = build_questions(task, rows)
    write_json(run.path("evaluation", "leaks.json"), answer_leaks(run, questions))
    metrics = _choose_metrics(run, task, labels, questions)
    with Ledger(run.path("evaluation", "ledger.sqlite")) as ledger:
        examiner = Examiner(run, task, ledger, labels)
        replies: dict[str, list[Reply]] = {system: examiner.ask(system, questions) for system in examined(run)}
        answers = Answers(
            questions,
            find_traits(questions, labels),
            replies,
            sample_references(metrics, questions, replies) if metrics else None,
            sample_agreement(build_metric(task.agreement, labels), questions, replies) if TEACHER in replies else None,
            labels,
        )
        scores = summarise(answers, Bootstrap(spec.evaluation.resamples, spec.evaluation.confidence, spec.seed))
        if (judged := hold_court(run, task, examiner, questions, replies)) is not None:
            scores["judge"] = judged
        for name, system in examiner.systems.items():
            scores["systems"][name] |= {"kind": system.kind, "title": system.title}
        measured = examiner.measure(questions, replies)
        if (forgotten := examine_by_lm_eval(run, examiner.systems)) is not None:
            scores["lm_eval"] = forgotten
    head = {"schema_version": SCHEMA_VERSION, "task": spec.task.type, "rows": len(rows)}
    goals = judge_quality(spec.goals.quality(), scores)
    _write(run, {**head, **scores, "goals": goals, **_split_measured(measured)}, answers)
    return _describe(scores, len(questions))


def _choose_metrics(run: Run, task: Task, labels: Sequence[str], questions: Sequence[Question]) -> list[Metric]:
    asked = run.spec.evaluation.metrics
    named = (build_metric(name, labels) for name in (task.metrics if asked == "auto" else asked))
    metrics = list({metric.name: metric for metric in named}.values())
    if misfits := run.spec.goals.misfits([metric.name for metric in metrics]):
        raise SpecError("\n".join(misfits))
    without = sum(not question.references for question in questions)
    if asked == "auto" and without == len(questions) and TEACHER in run.spec.evaluation.systems:
        run.events.warn("the test rows carry no `reference`: only agreement with the teacher is scored")
        return []
    require_references(questions, metrics)
    if without:
        run.events.warn(f"{without} of {len(questions)} test questions carry no `reference`; metrics are taken on the others")
    return metrics


def _split_measured(measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a system is (sizes), and what the clock and the system's memory said of it (timings)."""
    sizes = {system: {key: found.get(key) for key in _SIZES} for system, found in measured.items()}
    timings = {system: {key: value for key, value in found.items() if key not in _SIZES} for system, found in measured.items()}
    return {"sizes": sizes, "timings": timings}


def _write(run: Run, scores: dict[str, Any], answers: Answers) -> None:
    folder, questions = run.path("evaluation"), answers.questions
    asked = zip(questions, answers.traits, strict=True)
    write_jsonl(folder / "questions.jsonl", (question.to_json() | {"slices": traits.to_json()} for question, traits in asked))
    for system, found in answers.replies.items():
        rows = zip(questions, found, row_scores(answers, system), strict=True)
        lines = (prediction_to_json(question, reply) | {"scores": scored} for question, reply, scored in rows)
        write_jsonl(folder / "predictions" / f"{system}.jsonl", lines)
    write_json(folder / "scores.json", scores)


def _describe(scores: dict[str, Any], questions: int) -> str:
    """A line such as `60 questions: ROUGE-L teacher 0.179, baseline 0.000, student 0.156`."""
    primary, agreement = scores["primary"], scores["agreement"]
    if primary is not None:
        title = scores["metrics"][primary]["title"]
        values = {system: found["scores"][primary]["value"] for system, found in scores["systems"].items()}
    else:
        title = f"agreement with the teacher ({agreement['title']})"
        values = {system: score["value"] for system, score in agreement["scores"].items()}
    figures = ", ".join(f"{system} {value:.3f}" if value is not None else f"{system} undefined" for system, value in values.items())
    return f"{questions} questions: {title} {figures}"
