"""The library: distillation in the words of the field's textbooks. `potstill.<name>` imports each when it is first used.

>>> import potstill
>>> teacher = potstill.load_model("smollm2-135m-instruct")
>>> train = potstill.generate_teacher_responses(teacher, potstill.load_dataset("train.jsonl"))
>>> student = potstill.fine_tune_student("my-small-model", train)
>>> potstill.evaluate_accuracy(student, potstill.load_dataset("test.jsonl"))

`task` is one of nli, conversation, qa, math, summarization and translation, or a `TaskSpec`; where it is left out it is read off the
rows (`potstill.jobs.guess.guess_task` says how). Everything works in notebooks too.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.data.dataset import Dataset, load_dataset
from potstill.errors import CapabilityError, DataError, ModelError, StoreError
from potstill.evaluation.latency import Timing
from potstill.evaluation.memory import Sizes, profile_memory
from potstill.generation.alone import require_alone
from potstill.generation.asking import ask_rows_async, rows_of
from potstill.generation.collect import Judged, judge_rows
from potstill.generation.interview import Interview
from potstill.jobs.scoring import Scored, ask_row, outside_any_loop, score_names, task_of, time_rows
from potstill.models.base import Model
from potstill.models.budget import Budget
from potstill.models.folder import identity
from potstill.models.load import load_local, load_model
from potstill.models.recall import recall_ledger
from potstill.models.talk import Seat
from potstill.pipeline import run_pipeline
from potstill.records import Example, Message, Sampling
from potstill.spec import GatesSpec, GenerationSpec, RunSpec, TaskSpec, TrainingSpec, WeightsSpec, load_spec, spec_from_dict
from potstill.store.atomic import fingerprint, read_json, store_error, write_json
from potstill.store.events import EventLog
from potstill.store.ledger import Ledger
from potstill.store.run import Run
from potstill.tasks.base import Task as TaskOf
from potstill.tasks.metrics import build_metric
from potstill.tasks.prompting import build_strategy
from potstill.tasks.prompting.examples import choose_examples
from potstill.tasks.reasons import answer_tokens

if TYPE_CHECKING:
    from potstill.models.transformers_local import TransformersModel
    from potstill.training.validation import Validation

__all__ = [
    "evaluate_accuracy",
    "evaluate_task_performance",
    "fine_tune_student",
    "generate_teacher_responses",
    "load_dataset",
    "load_model",
    "measure_inference_time",
    "profile_memory_consumption",
    "run",
]

Task = str | TaskSpec | None


def generate_teacher_responses(
    teacher: Model | str | Path,
    dataset: Sequence[Example] | str | Path,
    *,
    task: Task = None,
    sampling: Sampling | None = None,
    gates: GatesSpec | None = None,
    generation: GenerationSpec | None = None,
    folder: str | Path | None = None,
) -> Dataset:
    """Rows that the teacher answered acceptably: its answers as assistant turns, named in `trained_turns`; `reference` keeps the gold.

    `sampling` is by default greedy, as long as the task allows; `gates` say which answers are dropped; `generation` holds prompting
    with worked examples out of the rows, samples and how one is chosen, turns, and the budget's caps. A judge, new prompts, balance,
    an examination, a pilot, batches, a shared ledger and going on at a cap belong to `run`. With a `folder` the answers are kept in a
    ledger there, and none is asked for twice, a killed process's included.

    Before anything is asked, raises UsageError where `generation` or `gates` ask for what belongs to `run`, or for several greedy
    samples, and DataError where the rows do not give the worked examples. Then EndpointError and ModelError where the teacher cannot
    be asked, BudgetError where a cap is reached, DataError where no answer is acceptable.
    """
    asking, kept_by = generation or GenerationSpec(), gates or GatesSpec()
    rows = _rows(dataset, task)
    scored = _scored(rows, task)
    chosen = sampling or Sampling(max_new_tokens=answer_tokens(scored.task))
    require_alone(asking, kept_by, chosen)
    examples = choose_examples(asking.prompting.examples, build_strategy(asking.prompting), scored.task, rows)
    model = _loaded(teacher)

    def ask() -> list[Judged]:
        with ExitStack() as stack:
            place = Path(folder) if folder is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
            _make(place)
            ledger = stack.enter_context(Ledger(place / "ledger.sqlite"))
            recall_ledger([model], ledger)
            seat = Seat(model.name, model, chosen)
            interview = Interview(scored.task, (seat,), ledger, generation=asking, gates=kept_by, examples=examples)
            budget = Budget.left(asking.budget, ledger)
            asyncio.run(_ask_and_leave(interview, rows, budget))
            return list(judge_rows(interview, rows))

    judged = outside_any_loop(ask)
    kept = Dataset.of(row for one in judged for row in one.rows)
    if not len(kept):
        drop = next((one.drop for one in judged if one.drop is not None), None)
        reason = f"; the first: {drop[0].reason}" if drop is not None else ""
        raise DataError(f"none of {len(rows)} answers of {model.name} is acceptable{reason}")
    return kept


def fine_tune_student(
    student: Model | str | Path,
    train: Sequence[Example] | str | Path,
    validation: Sequence[Example] | str | Path | None = None,
    *,
    task: Task = None,
    training: TrainingSpec | None = None,
    folder: str | Path | None = None,
) -> TransformersModel:
    """A student that learnt the answers in `train`: the best by the task's metric on `validation`, else the last.

    Learnt are the turns that `trained_turns` name, else the row's reference. `student` is a local model or its name, and stays as it
    was. Checkpoints and the trained model (`best/`, an ordinary transformers folder) are kept in `folder`, by default one of
    `potstill-students/` that is named after the student and a hash of everything the training depends on; the same call goes
    on where a killed one stood. Raises TrainingError where there is nothing to learn or the loss is not finite, StoreError where
    `folder` holds another training.
    """
    from potstill.training.fine_tune import FineTuning, fine_tune
    from potstill.training.objectives import OBJECTIVES, Ingredients
    from potstill.training.objectives.base import always
    from potstill.training.summary import read_summary, write_summary

    given = _rows(train, task)
    scored = _scored(given, task)
    rows = [_with_answer(row, scored.task) for row in given]
    held_out = _rows(validation, task) if validation is not None else []
    settings = training or TrainingSpec()
    name, weights = _name_and_identity(student)
    inputs = {
        "student": weights,
        "rows": [row.to_json() for row in (*rows, *held_out)],
        "task": [scored.task.type, scored.labels],
        "training": settings.model_dump(mode="json"),
    }
    digest = fingerprint(inputs)
    place = Path(folder) if folder is not None else Path("potstill-students") / f"{name}-{digest[:12]}"
    _claim(place, digest)
    if read_summary(place) is None:
        start = _start_of(student, place)
        teaching = always(OBJECTIVES["sft"](Ingredients()))
        job = FineTuning(start, rows, place, teaching, validation=_validation(scored, held_out, settings), training=settings)
        write_summary(place, outside_any_loop(lambda: fine_tune(job)).to_json())
    return load_local(WeightsSpec(model=str((place / "best").absolute())))


def evaluate_accuracy(model: Model | str | Path, data: Sequence[Example] | str | Path, *, task: Task = None) -> float:
    """The share of the model's greedy answers that equal an acceptable reference, letter case and white space aside.

    In math, answers whose value equals a reference's. A row that a teacher answered and that has no reference of its own is held
    against the teacher's answer. Raises DataError where there are no rows, or none to compare with.
    """
    return _figures(model, data, task, ["accuracy"])["accuracy"]


def evaluate_task_performance(model: Model | str | Path, data: Sequence[Example] | str | Path, *, task: Task = None) -> dict[str, float]:
    """Accuracy and the metrics of the task, by name: shares, but BLEU and chrF in points of 100; the answers are greedy.

    Raises DataError where there are no rows, or none to compare with.
    """
    rows = _rows(data, task)
    names = [name for name in _scored(rows, task).default_metrics if name != "inference_time"]
    return _figures(model, rows, task, names)


def measure_inference_time(model: Model | str | Path, data: Sequence[Example] | str | Path, *, task: Task = None) -> Timing:
    """Seconds an answer, each row asked alone and greedily: `p50_s`, `p95_s`, `mean_s`, and `tokens_per_answer`, `tokens_per_s`, `n`.

    Of what writes piece by piece (a local model, an endpoint that streams) also `first_token_s`; its `tokens_per_s` is the rate of the
    tokens after the first. The first row is asked once more before, uncounted. Raises DataError where there are no rows, ModelError
    where a call fails.
    """
    rows = _rows(data, task)
    kind = _scored(rows, task).task
    return time_rows(_loaded(model), kind, [ask_row(row, kind.type) for row in rows])


def profile_memory_consumption(model: Model | str | Path) -> Sizes:
    """`parameters`, `weights_bytes` and `disk_bytes` of a loaded model or of a model folder; None where that cannot be known.

    Of a loaded model the weights in memory count, of a folder those on disk; an endpoint tells nothing. Raises StoreError where
    the folder is not there.
    """
    if isinstance(model, Path) or (isinstance(model, str) and Path(model).is_dir()):
        return profile_memory(Path(model))
    return profile_memory(_loaded(model))


def run(spec: RunSpec | Mapping[str, Any] | str | Path, folder: str | Path | None = None) -> Run:
    """Run a whole distillation, or what is missing of it, and return the finished run: its `folder` holds `report.json` and the rest.

    `spec` is a YAML file, a mapping of its sections (paths from the working folder) or a RunSpec; `folder` is by default
    `runs/<name>`. Raises SpecError where the spec is not acceptable, and what the stages raise.
    """
    if isinstance(spec, str | Path):
        loaded = load_spec(Path(spec))
    elif isinstance(spec, RunSpec):
        loaded = spec
    else:
        loaded = spec_from_dict(dict(spec), Path.cwd())
    place = Path(folder) if folder is not None else Path("runs") / loaded.name
    return outside_any_loop(lambda: run_pipeline(loaded, place))


async def _ask_and_leave(interview: Interview, rows: Sequence[Example], budget: Budget) -> None:
    model = interview.teachers[0].model
    try:
        await ask_rows_async(interview, rows_of(rows), len(rows), EventLog(), budget=budget)
    finally:
        if not model.capabilities.logits:
            await model.close()


def _figures(model: Model | str | Path, data: Sequence[Example] | str | Path, task: Task, names: Sequence[str]) -> dict[str, float]:
    rows = _rows(data, task)
    return score_names(_loaded(model), _scored(rows, task), rows, names)


def _loaded(model: Model | str | Path) -> Model:
    if isinstance(model, str | Path):
        return load_model(model)
    if not hasattr(model, "complete"):
        raise ModelError(f"expected a model, or its name or path, and found {type(model).__name__}; `potstill.load_model` opens one")
    return model


def _rows(data: Sequence[Example] | str | Path, task: Task) -> Sequence[Example]:
    kind = task.type if isinstance(task, TaskSpec) else task
    rows = load_dataset(data, conversation=kind == "conversation") if isinstance(data, str | Path) else data
    if not isinstance(rows, Sequence):
        raise DataError(f"rows are a list of Example, or the path of a file, not {type(rows).__name__}")
    if not len(rows):
        raise DataError("no rows were given; give at least one")
    if not isinstance(rows[0], Example):
        raise DataError(f"a row is an Example, not {type(rows[0]).__name__}; `potstill.load_dataset` reads rows of any format from a file")
    return rows


def _scored(rows: Sequence[Example], task: Task) -> Scored:
    if isinstance(task, TaskSpec):
        return Scored.of(task, sorted({reference for row in rows for reference in row.reference}))
    return Scored.of(*task_of([ask_row(row, "any") for row in rows], task))


def _with_answer(row: Example, task: TaskOf) -> Example:
    """The row with the turns that are learnt: those that are named, else its reference, else a conversation's own answers."""
    question = task.expand(row)[-1]
    messages = task.render(question)
    if row.trained_turns or messages is None or not question.reference:
        return row
    answers = [place for place, (before, _) in enumerate(itertools.pairwise(messages), start=1) if before.role == "user"]
    learnt = (*answers, len(messages)) if task.type == "conversation" else (len(messages),)
    return replace(row, messages=(*messages, Message("assistant", question.reference[0])), trained_turns=learnt)


def _validation(scored: Scored, rows: Sequence[Example], training: TrainingSpec) -> Validation | None:
    from potstill.training.validation import Validation, pick_questions

    asked = [ask_row(row, scored.task.type) for row in rows]
    questions = pick_questions(scored.task, asked, (), limit=training.validation_rows, seed=0)
    if not questions:
        return None
    metric = build_metric(scored.task.metrics[0], scored.labels)
    return Validation(questions, scored.task.parse, metric, Sampling(max_new_tokens=scored.task.max_new_tokens))


def _name_and_identity(student: Model | str | Path) -> tuple[str, str]:
    """What the student's folder is called after, and what its weights are: other weights in the same place are another student."""
    if isinstance(student, str | Path):
        name, weights = str(student), identity(Path(student)) if Path(student).exists() else str(student)
    else:
        name, weights = student.name, student.identity
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).name) or "student", weights


def _start_of(student: Model | str | Path, folder: Path) -> WeightsSpec:
    """Weights to start from; a model in memory is saved first, so that it stays as it is."""
    if isinstance(student, str | Path):
        return WeightsSpec(model=str(student))
    module, tokenizer = getattr(student, "module", None), getattr(student, "tokenizer", None)
    if module is None or tokenizer is None:
        raise CapabilityError(f"{student.name}: only local models can be trained; an endpoint or the echo has no weights here")
    from potstill.training.folders import replace_folder

    start = folder / "start"
    with replace_folder(start) as part:
        module.save_pretrained(part)
        tokenizer.save_pretrained(part)
    return WeightsSpec(model=str(start.absolute()))


def _claim(folder: Path, digest: str) -> None:
    """Make a training's folder, or find it; raises StoreError where it belongs to another training."""
    _make(folder)
    record = folder / "inputs.json"
    if not record.exists():
        write_json(record, {"inputs": digest})
    elif read_json(record)["inputs"] != digest:
        raise StoreError(f"{folder}: holds a training of another student, other rows or settings; name another folder, or remove this one")


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error(folder, error) from None
