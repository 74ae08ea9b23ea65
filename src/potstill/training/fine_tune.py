"""Training without a run: a student's folder, rows, and an objective in; the best weights and the figures out."""

from __future__ import annotations

import contextlib
import math
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.errors import TrainingError
from potstill.models.weights import Weights, load_weights, quiet_transformers
from potstill.records import Example
from potstill.spec.sections import OnPolicySpec, Precision, TrainingSpec, WeightsSpec
from potstill.store.events import EventLog
from potstill.training.adapters import add_adapters
from potstill.training.batches import LengthBatches, TokenRows, most_rows_of_a_part
from potstill.training.folders import Checkpoints, recover_folder, replace_folder
from potstill.training.history import Log, MetricsFile, best, checkpoint_log, scored, without_progress
from potstill.training.learner import pad_id
from potstill.training.notices import tell_idle_patience, tell_left_out, tell_rollouts
from potstill.training.objectives.base import Lesson, Objective, Teaching
from potstill.training.rows import EncodedRows, Limit, Positions, encode_rows
from potstill.training.settings import auto_batch_size, auto_learning_rate, evaluation_steps, warmup_steps
from potstill.training.student import count_parameters, save_weights
from potstill.training.validation import Validation

if TYPE_CHECKING:
    import torch
    from transformers import TrainingArguments

    from potstill.training.on_policy import RolloutSource
    from potstill.training.trainer import DistillationTrainer, Judge


@dataclass(frozen=True)
class Rollouts:
    """That the student writes rows itself, as `spec` says, of at most `max_new_tokens` tokens each."""

    spec: OnPolicySpec
    max_new_tokens: int


@dataclass(frozen=True)
class FineTuning:
    """All that training needs.

    `student` is an ordinary transformers folder; `rows` are conversations whose `trained_turns` are learnt, as `teaching` says; `folder`
    takes `checkpoints/`, `best/` and `metrics.jsonl`, and training goes on from what stands there. Without `validation` the last
    weights are kept as the best. `steps` stands in place of the training's epochs. `weigh` says what each row counts, once all are
    encoded. `section` is where the spec holds `training`, for advice. With `rollouts` the student writes some rows itself. A teacher that
    reads the rows beside the student takes `teacher_context` tokens.
    """

    student: WeightsSpec
    rows: Sequence[Example]
    folder: Path
    teaching: Teaching
    validation: Validation | None = None
    training: TrainingSpec = field(default_factory=TrainingSpec)
    positions: Positions = "answer"
    carved: bool = False
    seed: int = 0
    events: EventLog = field(default_factory=EventLog)
    steps: int | None = None
    weigh: Callable[[TokenRows], TokenRows] = lambda rows: rows
    section: str = "training"
    rollouts: Rollouts | None = None
    teacher_context: int | None = None


@dataclass(frozen=True)
class TrainingSummary:
    """What a training did; `steps` are fewer than `steps_planned` where it ended early, `precision` is the products' number format.

    `tokens_per_s` counts prompts and answers, not padding; `seconds` the steps alone. `rollouts` are the rows that the student wrote
    itself, of `rollout_length` tokens on average; `writing_share` is the share of the time that this took beside the steps. None where it
    wrote none.
    """

    objective: str
    rows: int
    rows_too_long: int
    rows_cut: int
    rows_without_answer: int
    parameters: int
    steps: int
    steps_planned: int
    epochs: float
    batch_size: int
    learning_rate: float
    precision: Precision
    trained_tokens: int
    tokens_per_s: float
    seconds: float
    best_step: int
    metric: str | None
    best_metric: float | None
    rollouts: int = 0
    rollout_length: float | None = None
    writing_share: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As `training/summary.json` holds it."""
        return asdict(self)


@dataclass(frozen=True)
class _Plan:
    parameters: int
    steps: int
    batch_size: int
    learning_rate: float
    batches: LengthBatches


@dataclass(frozen=True)
class _Learning:
    """The student that learns: as it was loaded, with its adapters where it has any, and in which number formats it was stored."""

    weights: Weights
    module: Any
    stored: dict[str, torch.dtype]


def fine_tune(job: FineTuning) -> TrainingSummary:
    """Train a student, or go on where a killed training stood; `best/` holds the best weights by the validation metric.

    They are kept in the number format in which the student was loaded. A resumed training ends with the very weights of an
    uninterrupted one. Raises TrainingError where there is nothing to train on, the loss is not finite or memory runs out,
    StoreError where weights cannot be written.
    """
    weights = load_weights(job.student)
    encoded = encode_job(job, weights.tokenizer, weights.module.config)
    plan = _plan(job, encoded, count_parameters(weights.module))
    # Weights are trained in float32, whatever they are stored in: small updates would be rounded away.
    stored = {name: tensor.dtype for name, tensor in weights.module.state_dict().items()}
    weights.module.float()
    # Adapters first: what listens to layers is to hear them.
    learning = weights.module if job.training.lora is None else add_adapters(weights.module, job.training.lora, job.seed)
    objective = job.teaching(encoded.rows, weights.module)
    rollouts = _rollout_source(job, weights, encoded, plan, objective)
    log = _train(job, _Learning(weights, learning, stored), Lesson(encoded.rows, plan.batches, objective, rollouts), plan)
    return _summary(job, objective, encoded, plan, log)


def encode_job(job: FineTuning, tokenizer: Any, config: Any) -> EncodedRows:
    """The token rows of a training whose student has this tokenizer and config; says which are left out. Raises TrainingError."""
    limit = _longest(job, config)
    encoded = encode_rows(tokenizer, job.rows, max_length=limit, positions=job.positions, too_long=job.training.too_long)
    tell_left_out(job, encoded, limit)
    return replace(encoded, rows=job.weigh(encoded.rows))


def _longest(job: FineTuning, config: Any) -> Limit:
    """Most tokens of a row, and what says so."""
    known = [
        (job.training.max_length, f"`{job.section}.max_length`"),
        (getattr(config.get_text_config(), "max_position_embeddings", None), "the student's context"),
        (job.teacher_context, "the teacher's context"),
    ]
    return min((Limit(tokens, why) for tokens, why in known if tokens), key=lambda limit: limit.tokens)


def _plan(job: FineTuning, encoded: EncodedRows, parameters: int) -> _Plan:
    spec, rows = job.training, len(encoded.rows)
    batch_size = auto_batch_size(rows, spec.epochs) if spec.batch_size == "auto" else spec.batch_size
    rate = (
        auto_learning_rate(parameters, carved=job.carved, adapters=spec.lora is not None)
        if spec.learning_rate == "auto"
        else spec.learning_rate
    )
    steps = job.steps or math.ceil(spec.epochs * math.ceil(rows / batch_size))
    batches = LengthBatches(encoded.rows.lengths, batch_size, spec.micro_batch_size or batch_size, job.seed)
    return _Plan(parameters, steps, batch_size, rate, batches)


def _rollout_source(job: FineTuning, weights: Weights, encoded: EncodedRows, plan: _Plan, objective: Objective) -> RolloutSource | None:
    if job.rollouts is None:
        return None
    from potstill.models.transformers_local import TransformersModel
    from potstill.training.on_policy import RolloutSource, Writing, write
    from potstill.training.targets.live_teacher import LiveTeacher

    spec = job.rollouts.spec
    limit = _longest(job, weights.module.config).tokens
    writing = Writing(spec.temperature, spec.top_p, job.rollouts.max_new_tokens, limit)
    student, teacher = TransformersModel(weights, name="student"), objective.aims[0].targets
    unknown = teacher.unknown if isinstance(teacher, LiveTeacher) else None
    return RolloutSource(
        partial(write, student, unknown=unknown), encoded, spec, writing, batch_size=plan.batch_size, steps=plan.steps, seed=job.seed
    )


def _train(job: FineTuning, student: _Learning, lesson: Lesson, plan: _Plan) -> Log:
    """The log of the whole training, earlier attempts included."""
    newest, step, log = _standing(job, plan)
    if _is_over(job, plan, step, log):
        return log
    tell_idle_patience(job)
    tell_rollouts(job)
    from potstill.training.reporter import Reporter, Schedule
    from potstill.training.trainer import DistillationTrainer

    weights = student.weights
    precision = _precision(job, weights.module, log)
    schedule = Schedule(plan.steps, evaluation_steps(plan.steps, job.training.evaluations), job.training.save_minutes)
    metrics = MetricsFile(job.folder / "metrics.jsonl", job.validation.metric.name if job.validation else "")
    with quiet_transformers(), job.events.progress("training", plan.steps, "steps", done=step) as progress:
        trainer = DistillationTrainer(
            student.module, lesson, _judge(job, weights, student.stored), _arguments(job, plan, weights.module, precision)
        )
        trainer.add_callback(Reporter(trainer, schedule, metrics, job.events, progress))
        with _memory_advice(plan, trainer, lesson.rows, job):
            trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    return list(trainer.state.log_history)


def _standing(job: FineTuning, plan: _Plan) -> tuple[Path | None, int, Log]:
    """The checkpoint to go on from, its step and its log; none where the best weights that it speaks of are gone."""
    best_folder, checkpoints = job.folder / "best", Checkpoints(job.folder / "checkpoints")
    recover_folder(best_folder)
    newest = checkpoints.newest()
    step, log = checkpoint_log(newest) if newest else (0, [])
    if (scored(log) or step >= plan.steps) and not best_folder.is_dir():
        job.events.warn(f"{best_folder}: the best weights so far are gone: training begins anew")
        checkpoints.discard()
        return None, 0, []
    return newest, step, log


def _precision(job: FineTuning, module: Any, log: Log) -> Precision:
    """The number format of products: what the spec says, what the training began with, or what is faster here."""
    from potstill.training.machine import choose_precision, require_precision

    begun: list[Precision] = [entry["precision"] for entry in log if "precision" in entry]
    chosen = job.training.precision
    if chosen == "auto":
        chosen = begun[-1] if begun else choose_precision(module)
    require_precision(chosen, module.device)
    return chosen


def _is_over(job: FineTuning, plan: _Plan, step: int, log: Log) -> bool:
    evaluations = scored(log)
    impatient = bool(evaluations) and without_progress(evaluations, higher_is_better=_higher_is_better(job)) >= job.training.patience
    return step >= plan.steps or impatient


def _higher_is_better(job: FineTuning) -> bool:
    return job.validation is None or job.validation.metric.higher_is_better


@contextlib.contextmanager
def _memory_advice(plan: _Plan, trainer: DistillationTrainer, rows: TokenRows, job: FineTuning) -> Iterator[None]:
    """Warn where memory will hardly do, and say what would where it runs out: torch has an error of its own, or a plain one's words."""
    from potstill.training.memory import Room, free_bytes, make_room

    learner, together, found = trainer.model, plan.batches.micro_batch_size, Room(None, 0)
    if learner.student.device.type == "cpu":
        together = min(together, most_rows_of_a_part(rows.lengths))
    try:
        with trainer.accelerator.autocast():
            found, twice = make_room(learner, rows, pad_id(learner), free_bytes(learner.student.device))
        if twice:
            job.events.warn("memory does not hold one of the longest rows: what layers compute is computed twice (gradient checkpointing)")
        if found.rows is not None and found.rows < together:
            job.events.warn(f"memory may run out with {together} rows at a time; {found.advice(together, job.section)}")
        yield
    except RuntimeError as error:
        if not re.search("out of memory|allocate memory", str(error)):
            raise
        raise TrainingError(
            f"memory ran out while training {plan.parameters:,} weights, {together} row{'' if together == 1 else 's'} at a time "
            f"({str(error).splitlines()[0]}); {found.advice(together, job.section)}"
        ) from None


def _judge(job: FineTuning, weights: Weights, stored: dict[str, torch.dtype]) -> Judge:
    from potstill.models.transformers_local import TransformersModel
    from potstill.training.trainer import Judge

    validation = job.validation
    model = TransformersModel(weights, name="student")

    def keep() -> None:
        with replace_folder(job.folder / "best") as part:
            save_weights(weights.module, stored, part)
            _copy_tokenizer(weights, part)

    return Judge(None if validation is None else lambda: validation.measure(model), keep, _higher_is_better(job), job.training.patience)


def _copy_tokenizer(weights: Weights, target: Path) -> None:
    """The tokenizer's files as they stand beside the untrained weights: saved anew, they might not come out the same."""
    if weights.folder is None:
        weights.tokenizer.save_pretrained(target)
        return
    for path in weights.folder.iterdir():
        is_model = path.name in ("config.json", "generation_config.json") or path.suffix in (".safetensors", ".bin", ".gguf")
        if path.is_file() and not is_model and not path.name.endswith(".index.json"):
            shutil.copyfile(path, target / path.name)


def _arguments(job: FineTuning, plan: _Plan, module: Any, precision: Precision) -> TrainingArguments:
    from transformers import TrainingArguments

    on_cpu = module.device.type == "cpu"
    arguments = TrainingArguments(
        output_dir=str(job.folder / "checkpoints"),
        num_train_epochs=job.training.epochs,
        max_steps=job.steps or -1,
        gradient_accumulation_steps=plan.batches.micro_batches_per_step,
        learning_rate=plan.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=warmup_steps(plan.steps, job.training.warmup_ratio),
        weight_decay=job.training.weight_decay,
        max_grad_norm=job.training.max_grad_norm,
        seed=job.seed,
        use_cpu=on_cpu,
        bf16=precision == "bfloat16",
        # Reporter decides after each step; what is decided by time must not depend on the arguments of the run.
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        logging_nan_inf_filter=False,
        use_cache=bool(module.config.get_text_config().use_cache),
        dataloader_pin_memory=False,
        disable_tqdm=True,
        log_level="error",
        report_to=[],
    )
    if arguments.world_size > 1:
        raise TrainingError(f"training runs in one process, but {arguments.world_size} were started; start `potstill` without a launcher")
    # One accelerator: the replicas of DataParallel would call another forward pass than ours.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _summary(job: FineTuning, objective: Objective, encoded: EncodedRows, plan: _Plan, log: Log) -> TrainingSummary:
    counts = [entry for entry in log if "trained_tokens" in entry][-1]
    chosen = best(scored(log), higher_is_better=_higher_is_better(job)) if scored(log) else None
    return TrainingSummary(
        objective=objective.name,
        rows=len(encoded.rows),
        rows_too_long=encoded.too_long,
        rows_cut=encoded.cut,
        rows_without_answer=encoded.without_answer,
        parameters=plan.parameters,
        steps=int(counts["step"]),
        steps_planned=plan.steps,
        epochs=float(counts["epoch"]),
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        precision=counts["precision"],
        trained_tokens=int(counts["trained_tokens"]),
        tokens_per_s=counts["tokens"] / max(counts["seconds"], 1e-9),
        seconds=counts["seconds"],
        best_step=chosen.step if chosen else int(counts["step"]),
        metric=job.validation.metric.name if job.validation else None,
        best_metric=chosen.value if chosen else None,
        rollouts=int(counts.get("rollouts", 0)),
        rollout_length=counts["rollout_tokens"] / counts["rollouts"] if "rollouts" in counts else None,
        writing_share=counts.get("writing_share"),
    )
