"""What a run's spec means for training: its objective, its untrained student, the validation, and the job made of them. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.data.labels import load_labels
from potstill.data.ondisk import Dataset
from potstill.data.splits import open_split
from potstill.errors import ModelError
from potstill.models.load import weights_of
from potstill.models.locate import is_local
from potstill.models.look_up import look_up
from potstill.records import Example, Message, Sampling
from potstill.spec.sections import RunSpec, WeightsSpec
from potstill.spec.sections.training import BESIDE_ANSWERS
from potstill.store.run import Run
from potstill.tasks import build_task
from potstill.tasks.base import Task
from potstill.tasks.metrics import build_metric
from potstill.training.foresee import NO_ORIGIN, student_origin
from potstill.training.kinship import shares_tokens
from potstill.training.objectives import ObjectiveName, choose_objective
from potstill.training.settings import LIVE, targets_kind

if TYPE_CHECKING:
    from potstill.models.weights import Weights
    from potstill.training.fine_tune import FineTuning, Rollouts
    from potstill.training.mixture import Mixture
    from potstill.training.objectives.base import Teaching
    from potstill.training.student import Student
    from potstill.training.validation import Validation


def objective_name(run: Run) -> ObjectiveName:
    """The objective that the spec asks for, or that fits its models. Raises CapabilityError where it cannot be had."""
    spec = run.spec

    def same_tokens() -> bool:
        if spec.student.model is None and len(spec.all_teachers) == 1:
            return True
        origin = tokenizer_of(origin_of(run))
        return all(shares_tokens(origin, tokenizer_of(weights_of(teacher)), chats(run)) for teacher in spec.all_teachers)

    return choose_objective(spec, teacher_is_local=all(map(is_local, spec.all_teachers)), same_tokens=same_tokens)


def load_live_teacher(run: Run, name: ObjectiveName) -> Weights | None:
    """The teacher's weights, where the objective needs them beside the student; not where what the teacher says is cached."""
    from potstill.models.weights import load_weights

    return load_weights(weights_of(run.spec.teacher)) if name != "sft" and targets_kind(run.spec) == LIVE else None


def make_student(run: Run, rows: Sequence[Example], folder: Path, teacher: Weights | None = None) -> Student:
    """The untrained student in `folder`/baseline: made now, or by an earlier attempt.

    A vocabulary trimmed to the data keeps what the prompts and `rows` use. `teacher` spares loading it again where the student comes
    out of it. Raises ModelError where there is nothing to make it of.
    """
    from potstill.models.weights import load_weights
    from potstill.training.student import build_student, read_student, write_student

    standing = read_student(folder)
    if standing is not None:
        return standing
    spec, rows = run.spec, _mixture(run, rows).rows
    task = build_task(spec.task, load_labels(run))
    origin_spec = origin_of(run)
    origin = teacher if teacher is not None and origin_spec == weights_of(spec.teacher) else load_weights(origin_spec)

    def token_use(tokenizer: Any) -> Iterator[list[int]]:
        from potstill.training.rows import vocabulary_use

        return vocabulary_use(tokenizer, _prompts(task, open_split(run, "train", "training")), rows)

    student = build_student(origin, spec.student.carve, token_use, folder / "baseline")
    write_student(student, folder)
    share = student.parameters / student.origin_parameters
    run.events.info(f"the student has {student.parameters:,} weights, {share:.0%} of {student.origin_parameters:,}")
    return student


def fine_tuning(
    run: Run,
    student: Student,
    teach: Callable[[Sequence[Example]], Teaching],
    rows: Sequence[Example],
    folder: Path,
    *,
    answers_alone: bool = False,
) -> FineTuning:
    """The training that the spec asks for, of `student` on accepted `rows` and what is mixed in, into `folder`; validated by nobody.

    `teach` makes the teaching of the conversations that are learnt in the end.
    """
    from potstill.training.fine_tune import FineTuning

    spec, mixture = run.spec, _mixture(run, rows, answers_alone=answers_alone)
    return FineTuning(
        student=student_weights(spec, student.folder),
        rows=mixture.rows,
        folder=folder,
        teaching=mixture.teach(teach(mixture.rows)),
        weigh=mixture.weigh,
        training=spec.training,
        positions=spec.targets.positions,
        carved=spec.student.carve is not None,
        seed=spec.seed,
        events=run.events,
        rollouts=_rollouts(run),
        teacher_context=_teacher_context(run),
    )


def student_weights(spec: RunSpec, folder: Path) -> WeightsSpec:
    """How a student's own folder is loaded: in the place and number format that the spec wants."""
    return spec.student.model_copy(update={"model": str(folder), "chat_template": None, "revision": None, "carve": None})


def load_validation(run: Run, limit: int) -> Validation | None:
    """The questions of at most `limit` validation rows, and how answers are scored; None where none has one to compare with."""
    from potstill.training.validation import Validation, pick_questions

    spec = run.spec
    task = build_task(spec.task, load_labels(run))
    answered = run.path("generation", "validation.jsonl")
    questions = pick_questions(
        task,
        open_split(run, "validation", "training"),
        Dataset(answered) if answered.exists() else (),
        limit=limit,
        seed=spec.seed,
    )
    if not questions:
        return None
    metric = build_metric(choosing_metric(spec), load_labels(run))
    return Validation(questions, task.parse, metric, Sampling(max_new_tokens=task.max_new_tokens))


def choosing_metric(spec: RunSpec) -> str:
    """The metric that chooses the checkpoint: the first that the evaluation is asked for, which is what its headline tells."""
    asked = spec.evaluation.metrics
    # Which metric leads does not hang on the labels, which may come from the data.
    return build_task(spec.task, spec.task.labels or ("a", "b")).metrics[0] if asked == "auto" else asked[0]


def _mixture(run: Run, rows: Sequence[Example], *, answers_alone: bool = False) -> Mixture:
    from potstill.training.mixture import mix

    own_reasons = run.spec.training.objective == "step_by_step" and run.spec.targets.weights.reference > 0
    return mix(run.spec, rows, open_split(run, "train", "training") if own_reasons else (), answers_alone=answers_alone)


def _rollouts(run: Run) -> Rollouts | None:
    from potstill.training.fine_tune import Rollouts

    training = run.spec.training
    if training.objective != "on_policy":
        return None
    limit = training.on_policy.max_new_tokens or build_task(run.spec.task, load_labels(run)).max_new_tokens
    return Rollouts(training.on_policy, limit)


def _teacher_context(run: Run) -> int | None:
    """The tokens that each teacher has room for which reads the student's rows as they are; None where none reads them."""
    spec = run.spec
    if objective_name(run) == "sft" or targets_kind(spec) in BESIDE_ANSWERS or spec.targets.align:
        return None
    known = [look_up(weights_of(teacher)).context for teacher in spec.all_teachers]
    return min((context for context in known if context), default=None)


def tokenizer_of(weights: WeightsSpec) -> Any:
    """The tokenizer of a local model, with the chat template that its section names."""
    from potstill.models.weights import load_tokenizer, read_template

    tokenizer = load_tokenizer(weights)
    template = read_template(weights.chat_template)
    if template is not None:
        tokenizer.chat_template = template
    return tokenizer


def chats(run: Run) -> Iterator[tuple[Message, ...]]:
    """What is asked in the training rows; nothing before they are prepared."""
    if not run.path("data", "train.jsonl").exists():
        return iter(())
    return _prompts(build_task(run.spec.task, load_labels(run)), open_split(run, "train", "training"))


def origin_of(run: Run) -> WeightsSpec:
    """The weights that the student is, or is cut out of. Raises ModelError where there are none."""
    origin = student_origin(run.spec)
    if origin is None:
        raise ModelError(f"the student {NO_ORIGIN}")
    return origin


def _prompts(task: Task, rows: Iterable[Example]) -> Iterator[tuple[Message, ...]]:
    """What is asked in the training rows, alone and with each gold answer."""
    for row in rows:
        for asked in task.expand(row):
            messages = task.render(asked)
            if messages is not None:
                yield messages
                yield from ((*messages, Message("assistant", answer)) for answer in asked.reference)
