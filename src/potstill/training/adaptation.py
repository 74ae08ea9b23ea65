"""Before stage 1, where `teacher.adapt` asks for it: the teacher is fine-tuned on the rows that carry a `reference` (teacher correction).

All stages after it work with the adapted teacher (`store.adapted`).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.data.labels import load_labels
from potstill.data.ondisk import Dataset
from potstill.data.splits import open_split
from potstill.errors import DataError, ModelError
from potstill.models.load import weights_of
from potstill.models.locate import template_stamp, weights_stamp
from potstill.records import Sampling
from potstill.spec.sections import AdaptSpec, TrainingSpec, WeightsSpec
from potstill.store.atomic import read_json, write_json
from potstill.store.events import StageName
from potstill.store.run import Run
from potstill.tasks import build_task
from potstill.tasks.base import Task
from potstill.tasks.metrics import build_metric
from potstill.training.foresee import adapt_problem
from potstill.training.gold import gold_rows, rows_with_reference
from potstill.training.objectives import OBJECTIVES, Ingredients
from potstill.training.objectives.base import always
from potstill.training.recipe import choosing_metric
from potstill.training.summary import read_summary, student_files, write_summary

if TYPE_CHECKING:
    from potstill.training.validation import Validation

NAME: StageName = "adapt"
DISCARD = ("checkpoints", "best", "metrics.jsonl", "before.json", "summary.json")

VERSION = 1
_READ = ("data/train.jsonl", "data/validation.jsonl", "data/labels.json")


def inputs(run: Run) -> dict[str, object]:
    """What the adapted teacher depends on: the given one, how it is adapted, the rows, and what chooses the checkpoint."""
    spec = run.spec
    return {
        "version": VERSION,
        "teacher": spec.teacher.model_dump(mode="json", include={*WeightsSpec.model_fields}),
        "weights": weights_stamp(spec.teacher.model),
        "template": template_stamp(spec.teacher),
        # How often checkpoints are saved changes nothing that is learnt.
        "adapt": _wanted(run).model_dump(mode="json", exclude={"save_minutes"}),
        "task": spec.task.model_dump(mode="json"),
        "metric": choosing_metric(spec),
        "seed": spec.seed,
        "files": {path: digest for path, digest in run.stage("data").outputs().items() if path in _READ},
    }


def outputs(run: Run) -> list[Path]:
    """The adapted teacher, the figures, and the summary."""
    return student_files(run.path("adaptation"))


def work(run: Run, resumed: bool) -> str:
    """Fine-tune the teacher, write down what came out. Goes on where an earlier attempt on the same inputs was cut.

    Raises ModelError where the teacher has no weights here, DataError where no training row has a reference, and what training raises.
    """
    if (problem := adapt_problem(run.spec)) is not None:
        raise ModelError(problem)
    folder = run.path("adaptation")
    summary = (read_summary(folder) if resumed else None) or _adapt(run, folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return _line(summary)


def _adapt(run: Run, folder: Path) -> dict[str, Any]:
    from potstill.training.fine_tune import FineTuning, fine_tune

    task = build_task(run.spec.task, load_labels(run))
    train = open_split(run, "train", "adaptation")
    gold = rows_with_reference(train, _wanted(run).rows, run.spec.seed)
    rows = Dataset.of(gold_rows(task, (train[place] for place in gold)))
    if not len(rows):
        raise DataError(
            f"teacher.adapt: none of {len(train):,} training rows has a `reference`, which is what the teacher would learn; add references "
            "to some of them, or remove `teacher.adapt`"
        )
    if run.spec.generation.prompting.strategy != "direct":
        run.events.warn(
            f"the teacher is adapted on plain questions and answers, and then asked by `{run.spec.generation.prompting.strategy}`: look at "
            "some of its answers (`potstill data`)"
        )
    validation = _validation(run, task, _wanted(run).validation_rows)
    before = _score_before(run, validation, folder / "before.json")
    job = FineTuning(
        student=weights_of(run.spec.teacher),
        rows=rows,
        folder=folder,
        teaching=always(OBJECTIVES["sft"](Ingredients())),
        validation=validation,
        training=_settings(_wanted(run)),
        seed=run.spec.seed,
        events=run.events,
        section="teacher.adapt",
    )
    figures = fine_tune(job).to_json()
    _warn_of_a_worse_teacher(run, before, figures["best_metric"], validation)
    return write_summary(folder, {**figures, "gold_rows": len(gold), "validation_questions": _count(validation), "metric_before": before})


def _wanted(run: Run) -> AdaptSpec:
    assert run.spec.teacher.adapt is not None, "the stage runs only where it is asked for"
    return run.spec.teacher.adapt


def _settings(adapt: AdaptSpec) -> TrainingSpec:
    """The same words mean the same in both sections."""
    return TrainingSpec.model_validate(adapt.model_dump(exclude={"rows"}) | {"objective": "sft"})


def _validation(run: Run, task: Task, limit: int) -> Validation | None:
    """Questions of validation rows with references alone: nobody has answered the others yet."""
    from potstill.training.validation import Validation, pick_questions

    questions = pick_questions(task, open_split(run, "validation", "adaptation"), (), limit=limit, seed=run.spec.seed)
    if not questions:
        run.events.warn("no validation row has a `reference`: the last weights are taken as the best, and nobody knows what adapting did")
        return None
    metric = build_metric(choosing_metric(run.spec), load_labels(run))
    return Validation(questions, task.parse, metric, Sampling(max_new_tokens=task.max_new_tokens))


def _score_before(run: Run, validation: Validation | None, path: Path) -> float | None:
    """The given teacher's score on the validation questions; kept, so that an attempt that goes on need not ask again."""
    if validation is None:
        return None
    if not path.exists():
        from potstill.models.load import load_local

        model = load_local(weights_of(run.spec.teacher), run.spec.generation.batch_size)
        write_json(path, {validation.metric.name: validation.measure(model)})
    known: float = read_json(path)[validation.metric.name]
    return known


def _warn_of_a_worse_teacher(run: Run, before: float | None, after: float | None, validation: Validation | None) -> None:
    if validation is None or before is None or after is None:
        return
    if (after < before) if validation.metric.higher_is_better else (after > before):
        run.events.warn(
            f"adapting has made the teacher worse: {validation.metric.title} {after:.3f} on the validation rows, and {before:.3f} before; "
            "lower `teacher.adapt.learning_rate` or `epochs`, look at the references, or remove `teacher.adapt`"
        )


def _count(validation: Validation | None) -> int:
    return 0 if validation is None else len(validation.questions)


def _line(summary: dict[str, Any]) -> str:
    score = "" if summary["metric"] is None else f", {summary['metric']} {summary['metric_before']:.3f} → {summary['best_metric']:.3f}"
    return (
        f"the teacher learnt {summary['gold_rows']:,} gold rows: {summary['steps']:,} steps, {summary['tokens_per_s']:,.0f} tokens/s{score}"
    )
