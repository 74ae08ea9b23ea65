"""The judge of a run: who may be one, and its hearing of student and teacher."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from potstill.errors import DataError, ModelError
from potstill.evaluation.compare import STUDENT, TEACHER
from potstill.evaluation.extras import HOW_TO_REACH
from potstill.evaluation.human import Preference, read_preferences
from potstill.evaluation.judge import NAME, human_to_json, judge_pairs, judged_to_json
from potstill.evaluation.predict import Question
from potstill.evaluation.problems import ITSELF
from potstill.evaluation.resampling import Bootstrap
from potstill.evaluation.score import Replies
from potstill.evaluation.systems import Examiner
from potstill.models.base import Model
from potstill.models.load import load_teacher
from potstill.models.locate import teacher_stamp, template_stamp
from potstill.spec.sections import JudgeSpec
from potstill.store.atomic import hash_file, write_jsonl
from potstill.store.run import Run
from potstill.tasks.base import Task
from potstill.tasks.judging import VERSION
from potstill.tasks.metrics import build_metric
from potstill.tasks.metrics.base import Mean

FILE = "judge.jsonl"


def judge_inputs(judge: JudgeSpec) -> dict[str, object]:
    """What its judgement depends on besides the answers."""
    model = judge.model.model_dump(mode="json", exclude=HOW_TO_REACH)
    words = {"version": VERSION, "rubric": judge.rubric, "rows": judge.rows, "may_judge_itself": judge.may_judge_itself}
    human = {"human": hash_file(judge.human)} if judge.human is not None else {}
    return {**words, **human, "model": model, "weights": teacher_stamp(judge.model), "template": template_stamp(judge.model)}


def hold_court(run: Run, task: Task, examiner: Examiner, questions: Sequence[Question], replies: Replies) -> dict[str, Any] | None:
    """Have the spec's judge compare student and teacher, and write `judge.jsonl`; None where the spec names none.

    Raises ModelError where the judge is one of the two, DataError where people judged a question that is not there, and as `judge_pairs`.
    """
    spec = run.spec.evaluation.judge
    if spec is None:
        return None
    model = load_teacher(spec.model, run.spec.generation)
    _require_another(model, spec, examiner, replies)
    preferences = _preferences(spec, questions)
    with run.events.progress("judge answers", 2 * min(spec.rows, len(questions)), "answers") as progress:
        pairs = asyncio.run(_hear(model, spec, examiner, questions, replies, progress=progress))
        progress.skip(2 * sum(not pair.asked for pair in pairs))
    write_jsonl(run.path("evaluation", FILE), (pair.to_json() for pair in pairs))
    metrics = (build_metric(name) for name in task.metrics)
    metric = next((metric for metric in metrics if isinstance(metric, Mean)), None)
    settings = Bootstrap(run.spec.evaluation.resamples, run.spec.evaluation.confidence, run.spec.seed)
    dollars = examiner.dollars(NAME)
    judged = judged_to_json(spec.model.title, spec, pairs, replies, metric, settings=settings, dollars=dollars)
    return judged if preferences is None else {**judged, "human": human_to_json(pairs, preferences, replies, settings)}


async def _hear(
    model: Model, spec: JudgeSpec, examiner: Examiner, questions: Sequence[Question], replies: Replies, *, progress: Any
) -> Any:
    try:
        ledger, budget = examiner.charged(NAME, model)
        return await judge_pairs(model, spec, questions, replies, ledger, progress=progress, budget=budget)
    finally:
        await model.close()


def _preferences(spec: JudgeSpec, questions: Sequence[Question]) -> dict[str, Preference] | None:
    if spec.human is None:
        return None
    found, asked = read_preferences(spec.human), {question.id for question in questions}
    if strange := [key for key in found if key not in asked]:
        raise DataError(
            f'{spec.human}: "{strange[0]}" is the id of no test question ({len(strange)} of {len(found)} ids are not); '
            "they stand in evaluation/judge.jsonl and evaluation/questions.jsonl"
        )
    return found


def _require_another(model: Model, spec: JudgeSpec, examiner: Examiner, replies: Replies) -> None:
    """Weights tell what names do not."""
    for name in (STUDENT, TEACHER):
        if name in replies and not spec.may_judge_itself and model.identity == examiner.identities.get(name):
            raise ModelError(f"evaluation.judge: {spec.model.title} is the {name} itself, and {ITSELF}")
