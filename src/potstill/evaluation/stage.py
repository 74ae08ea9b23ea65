"""Stage 3: teacher, baseline and student on the sealed test split; `evaluation/scores.json`.

Everything that the clock or the machine's state decides stands under `timings`, so that the rest is equal in equal runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill.data.labels import load_labels
from potstill.data.splits import open_split
from potstill.errors import DataError, ModelError
from potstill.evaluation.compare import STUDENT, TEACHER, Comparison, estimate_to_json
from potstill.evaluation.court import FILE as JUDGED
from potstill.evaluation.court import hold_court, judge_inputs
from potstill.evaluation.extras import extra_inputs
from potstill.evaluation.intervals import FEW_UNITS, FEWEST_UNITS, Bootstrap
from potstill.evaluation.lm_eval import examine_by_lm_eval
from potstill.evaluation.predict import Question, Reply, build_questions, prediction_to_json
from potstill.evaluation.problems import evaluation_problems
from potstill.evaluation.roster import examined
from potstill.evaluation.score import (
    Replies,
    compare_to_references,
    compare_to_teacher,
    comparison_to_json,
    count_replies,
    require_references,
    scores_to_json,
)
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

NAME: StageName = "evaluate"
DISCARD = ("predictions", "questions.jsonl", "scores.json", "judge.jsonl")

SCHEMA_VERSION = 3
_SIZES = ("parameters", "weights_bytes", "disk_bytes", "storage", "shipped_bytes")
_HOW_TO_REACH = {"api_key_env", "api_key_file", "headers", "timeout_s", "max_attempts", "price", "temperature", "top_p", "adapt"}


def inputs(run: Run) -> dict[str, object]:
    """What the scores depend on. The teacher's sampling does not count here: every system answers greedily."""
    spec = run.spec
    made = {**run.stage("data").outputs(), **run.stage("train").outputs()}
    read = ("data/test.jsonl", "data/labels.json", "training/baseline/", "training/best/", "training/sft/best/")
    return {
        "version": SCHEMA_VERSION,
        "task": spec.task.model_dump(mode="json"),
        "teacher": spec.teacher.model_dump(mode="json", exclude=_HOW_TO_REACH),
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
    """The scores, the questions, and each system's predictions."""
    folder = run.path("evaluation")
    predictions = [folder / "predictions" / f"{system}.jsonl" for system in examined(run)]
    judged = [folder / JUDGED] if run.spec.evaluation.judge is not None else []
    return [folder / "scores.json", folder / "questions.jsonl", *predictions, *judged]


def work(run: Run, resumed: bool) -> str:
    """Ask, score and measure each system; the ledger keeps what was answered, so a cut stage goes on there.

    Raises DataError where there is nothing to score or a metric lacks its references, ModelError where a model cannot answer.
    """
    del resumed  # the ledger knows
    spec = run.spec
    preflight(run)
    labels = load_labels(run)
    task = build_task(spec.task, labels)
    rows = open_split(run, "test", "evaluation")
    questions = build_questions(task, rows)
    metrics = _choose_metrics(run, task, labels, questions)
    with Ledger(run.path("evaluation", "ledger.sqlite")) as ledger:
        examiner = Examiner(run, task, ledger, labels)
        replies: dict[str, list[Reply]] = {system: examiner.ask(system, questions) for system in examined(run)}
        scores = _summarise(run, metrics, build_metric(task.agreement, labels), questions, replies)
        if (judged := hold_court(run, task, examiner, questions, replies)) is not None:
            scores["judge"] = judged
        for name, system in examiner.systems.items():
            scores["systems"][name] |= {"kind": system.kind, "title": system.title}
        measured = examiner.measure(questions, replies)
        if (forgotten := examine_by_lm_eval(run, examiner.systems)) is not None:
            scores["lm_eval"] = forgotten
    head = {"schema_version": SCHEMA_VERSION, "task": spec.task.type, "rows": len(rows)}
    _write(run, {**head, **scores, **_split_measured(measured)}, questions, replies)
    return _describe(scores, len(questions))


def _choose_metrics(run: Run, task: Task, labels: Sequence[str], questions: Sequence[Question]) -> list[Metric]:
    asked = run.spec.evaluation.metrics
    named = (build_metric(name, labels) for name in (task.metrics if asked == "auto" else asked))
    metrics = list({metric.name: metric for metric in named}.values())
    without = sum(not question.references for question in questions)
    if asked == "auto" and without == len(questions) and TEACHER in run.spec.evaluation.systems:
        run.events.warn("the test rows carry no `reference`: only agreement with the teacher is scored")
        return []
    require_references(questions, metrics)
    if without:
        run.events.warn(f"{without} of {len(questions)} test questions carry no `reference`; metrics are taken on the others")
    return metrics


def _summarise(run: Run, metrics: Sequence[Metric], agreement: Metric, questions: Sequence[Question], replies: Replies) -> dict[str, Any]:
    settings = Bootstrap(run.spec.evaluation.resamples, run.spec.evaluation.confidence, run.spec.seed)
    compared = compare_to_references(metrics, questions, replies, settings) if metrics else None
    agreed = compare_to_teacher(agreement, questions, replies, settings) if TEACHER in replies else None
    leading = compared or agreed
    if leading is None:
        raise DataError("nothing to score: the test rows carry no `reference`, and the teacher gave no answer that can be parsed")
    scored = next(score.n for scores in leading.scores.values() for score in scores.values())
    return {
        "questions": len(questions),
        "scored": scored,
        "groups": leading.units,
        "seed": run.spec.seed,
        "settings": {
            "bootstrap": "paired, expanded percentile",
            "unit": "row" if leading.units == scored else "group",
            "fewest_units": FEWEST_UNITS,
            "few_units": FEW_UNITS,
            "resamples": settings.resamples,
            "confidence": settings.confidence,
            "temperature": 0.0,
        },
        "primary": metrics[0].name if metrics else None,
        "metrics": {metric.name: {"title": metric.title, "higher_is_better": metric.higher_is_better} for metric in metrics},
        "systems": {
            system: {**count_replies(found), "scores": scores_to_json(compared.scores[system]) if compared else {}}
            for system, found in replies.items()
        },
        "comparisons": comparison_to_json(compared) if compared else {},
        "agreement": None if agreed is None else _agreement_to_json(agreement, agreed),
    }


def _agreement_to_json(metric: Metric, agreed: Comparison) -> dict[str, Any]:
    scores = {system: found[metric.name] for system, found in agreed.scores.items()}
    over_sft = agreed.estimates[metric.name].get(STUDENT, {}).get("over_sft")
    plain = {} if over_sft is None else {"over_sft": estimate_to_json(over_sft)}
    return {"metric": metric.name, "title": metric.title, "scores": scores_to_json(scores), **plain}


def _split_measured(measured: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a system is (sizes), and what the clock and the system's memory said of it (timings)."""
    sizes = {system: {key: found.get(key) for key in _SIZES} for system, found in measured.items()}
    timings = {system: {key: value for key, value in found.items() if key not in _SIZES} for system, found in measured.items()}
    return {"sizes": sizes, "timings": timings}


def _write(run: Run, scores: dict[str, Any], questions: Sequence[Question], replies: Replies) -> None:
    folder = run.path("evaluation")
    write_jsonl(folder / "questions.jsonl", (question.to_json() for question in questions))
    for system, found in replies.items():
        rows = (prediction_to_json(question, reply) for question, reply in zip(questions, found, strict=True))
        write_jsonl(folder / "predictions" / f"{system}.jsonl", rows)
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
