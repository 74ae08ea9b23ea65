"""Stage 2 of a run: the student is made, then trained on what the teacher accepted answers to."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.data.labels import load_labels
from potstill.data.ondisk import Dataset
from potstill.data.splits import open_split
from potstill.errors import ModelError
from potstill.models.folder import weight_files
from potstill.models.load import weights_of
from potstill.models.locate import is_local, template_stamp, weights_stamp
from potstill.records import Example, Message, Sampling
from potstill.spec.sections import RunSpec, WeightsSpec
from potstill.store.events import StageName
from potstill.store.run import Run
from potstill.tasks import build_task
from potstill.tasks.base import Task
from potstill.tasks.metrics import build_metric
from potstill.training.foresee import NO_ORIGIN, foresee, student_origin
from potstill.training.objectives import OBJECTIVES, Ingredients, ObjectiveName, choose_objective
from potstill.training.summary import read_summary, write_summary

if TYPE_CHECKING:
    from potstill.models.weights import Weights
    from potstill.training.student import Student
    from potstill.training.validation import Validation

NAME: StageName = "train"
DISCARD = ("checkpoints", "best", "baseline", "metrics.jsonl", "vocabulary.npy", "student.json", "summary.json")

VERSION = 2
_READ = ("data/train.jsonl", "data/validation.jsonl", "data/labels.json", "generation/accepted.jsonl", "generation/validation.jsonl")


def inputs(run: Run) -> dict[str, object]:
    """What the student depends on: its section and those of training, the rows, the teacher's answers, and the teacher's weights."""
    spec = run.spec
    sections = spec.model_dump(mode="json", include={"student", "task", "targets", "training", "seed"})
    # How often checkpoints are saved changes nothing that is learnt.
    sections["training"].pop("save_minutes")
    origins = (spec.teacher, spec.student)
    files = run.stage("data").outputs() | run.stage("generate").outputs()
    return {
        **sections,
        "version": VERSION,
        "teacher": spec.teacher.model_dump(mode="json", include={"base_url", *WeightsSpec.model_fields}),
        "weights": [weights_stamp(origin.model) for origin in origins],
        "templates": [template_stamp(origin) for origin in origins],
        "metric": _choosing_metric(spec),
        "files": {path: digest for path, digest in files.items() if path in _READ},
    }


def preflight(run: Run) -> None:
    """Raise what would stop this stage in any case, before the teacher is asked for money: a student that cannot be loaded or taught so."""
    problems = foresee(run.spec, fetch=True).problems
    if problems:
        raise ModelError("\n".join(problems))
    _objective_name(run)


def work(run: Run, resumed: bool) -> str:
    """Make the student, train it, write down what came out. Goes on where an earlier attempt on the same inputs was cut."""
    summary = read_summary(run.path("training")) if resumed else None
    if summary is None:
        summary = _train(run, _objective_name(run))
    else:
        _student(run)
    # They exist to be gone on from, are several times as large as the student, and nothing is left to go on from.
    shutil.rmtree(run.path("training", "checkpoints"), ignore_errors=True)
    return _line(summary)


def outputs(run: Run) -> list[Path]:
    """The student before and after, the figures, and the summary."""
    folder = run.path("training")
    weights = [path for name in ("baseline", "best") for path in _model_files(folder / name)]
    return [*weights, folder / "metrics.jsonl", folder / "summary.json"]


def _model_files(folder: Path) -> list[Path]:
    """Every file of a model folder, those that it cannot do without whether they stand there or not."""
    index = folder / "model.safetensors.index.json"
    weights = weight_files(folder) if index.is_file() else [folder / "model.safetensors"]
    needed = {folder / "config.json", folder / "tokenizer_config.json", *weights}
    return sorted(needed | {path for path in folder.rglob("*") if path.is_file()})


def _objective_name(run: Run) -> ObjectiveName:
    spec = run.spec

    def same_tokens() -> bool:
        if spec.student.model is None:
            return True
        return _vocabulary(spec.student) == _vocabulary(weights_of(spec.teacher))

    return choose_objective(spec, teacher_is_local=is_local(spec.teacher), same_tokens=same_tokens)


def _vocabulary(weights: WeightsSpec) -> dict[str, int]:
    from potstill.models.weights import load_tokenizer

    found: dict[str, int] = load_tokenizer(weights).get_vocab()
    return found


def _train(run: Run, name: ObjectiveName) -> dict[str, Any]:
    """Train the student; returns the summary as it was written down."""
    from potstill.models.weights import load_weights
    from potstill.training.fine_tune import FineTuning, fine_tune
    from potstill.training.targets.live_teacher import LiveTeacher

    spec, folder = run.spec, run.path("training")
    teacher = load_weights(weights_of(spec.teacher)) if name == "logits" else None
    student = _student(run, teacher)
    targets = LiveTeacher(teacher.module, student.vocabulary, student.kept_ids) if teacher is not None else None
    job = FineTuning(
        student=spec.student.model_copy(update={"model": str(student.folder), "chat_template": None, "revision": None, "carve": None}),
        rows=_accepted(run),
        folder=folder,
        objective=OBJECTIVES[name](Ingredients(targets, spec.targets.temperature)),
        validation=_validation(run),
        training=spec.training,
        positions=spec.targets.positions,
        carved=spec.student.carve is not None,
        seed=spec.seed,
        events=run.events,
    )
    figures = {
        **fine_tune(job).to_json(),
        "parameters_before": student.origin_parameters,
        "layers": student.layers,
        "vocabulary": None if student.kept_ids is None else len(student.kept_ids),
    }
    return write_summary(folder, figures)


def _student(run: Run, teacher: Weights | None = None) -> Student:
    """The untrained student: made now, or by an earlier attempt. `teacher` spares loading it again where the student comes out of it."""
    from potstill.models.weights import load_weights
    from potstill.training.student import build_student, read_student, write_student

    folder = run.path("training")
    standing = read_student(folder)
    if standing is not None:
        return standing
    spec = run.spec
    task = build_task(spec.task, load_labels(run))
    origin_spec = _origin(run)
    origin = teacher if teacher is not None and origin_spec == weights_of(spec.teacher) else load_weights(origin_spec)

    def token_use(tokenizer: Any) -> Iterator[list[int]]:
        from potstill.training.rows import vocabulary_use

        return vocabulary_use(tokenizer, _prompts(task, open_split(run, "train", "training")), _accepted(run))

    student = build_student(origin, spec.student.carve, token_use, folder / "baseline")
    write_student(student, folder)
    share = student.parameters / student.origin_parameters
    run.events.info(f"the student has {student.parameters:,} weights, {share:.0%} of {student.origin_parameters:,}")
    return student


def _origin(run: Run) -> WeightsSpec:
    origin = student_origin(run.spec)
    if origin is None:
        raise ModelError(f"the student {NO_ORIGIN}")
    return origin


def _accepted(run: Run) -> Sequence[Example]:
    return Dataset(run.path("generation", "accepted.jsonl"))


def _prompts(task: Task, rows: Iterable[Example]) -> Iterator[tuple[Message, ...]]:
    """What is asked in the training rows, alone and with each gold answer."""
    for row in rows:
        for asked in task.expand(row):
            messages = task.render(asked)
            if messages is not None:
                yield messages
                yield from ((*messages, Message("assistant", answer)) for answer in asked.reference)


def _validation(run: Run) -> Validation | None:
    from potstill.training.validation import Validation, pick_questions

    spec = run.spec
    task = build_task(spec.task, load_labels(run))
    answered = run.path("generation", "validation.jsonl")
    questions = pick_questions(
        task,
        open_split(run, "validation", "training"),
        Dataset(answered) if answered.exists() else (),
        limit=spec.training.validation_rows,
        seed=spec.seed,
    )
    if not questions:
        run.events.warn("no validation row has an answer to compare with: the last weights are taken as the best")
        return None
    metric = build_metric(_choosing_metric(spec), load_labels(run))
    return Validation(questions, task.parse, metric, Sampling(max_new_tokens=spec.task.max_new_tokens or task.max_new_tokens))


def _choosing_metric(spec: RunSpec) -> str:
    """The metric that chooses the checkpoint: the first that the evaluation is asked for, which is what its headline tells."""
    asked = spec.evaluation.metrics
    # Which metric leads does not hang on the labels, which may come from the data.
    return build_task(spec.task, spec.task.labels or ("a", "b")).metrics[0] if asked == "auto" else asked[0]


def _line(summary: dict[str, Any]) -> str:
    best = "" if summary["metric"] is None else f", best {summary['metric']} {summary['best_metric']:.3f} after step {summary['best_step']}"
    return (
        f"{summary['parameters'] / 1e6:,.1f} M weights trained by {summary['objective']} on {summary['rows']:,} rows: "
        f"{summary['steps']:,} steps, {summary['tokens_per_s']:,.0f} tokens/s{best}"
    )
