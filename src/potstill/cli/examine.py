"""What `potstill check` looks at: data, models, whether they fit together, whether the teacher answers, what it all takes."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from dataclasses import dataclass, field

from potstill.cli.estimate import Bill, SplitSize, asking_seconds, measure_split, student_parameters, teacher_bill, training_seconds
from potstill.cli.fit import LocalModel, look_up, same_tokens
from potstill.data.inspect import inspect_data
from potstill.errors import PotstillError, SpecError
from potstill.generation.stage import lacks_references
from potstill.models.base import Model
from potstill.models.load import endpoint_of, load_teacher, weights_of
from potstill.models.locate import is_local
from potstill.records import Completion, Message, Request, Sampling
from potstill.spec import RunSpec, WeightsSpec
from potstill.tasks import build_task
from potstill.tasks.base import Task
from potstill.tasks.metrics import build_metric

_PROBE_SECONDS = 30.0
_SPLITS = ("train", "validation", "test")


@dataclass
class Findings:
    """`problems` stop a run, `notes` do not, `facts` are titled lines that sum it up."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


class Examination:
    """Looks at everything that a spec names. Nothing is fetched, written or spent, but one tiny call to an endpoint unless `offline`."""

    def __init__(self, spec: RunSpec, *, offline: bool) -> None:
        self._spec, self._offline = spec, offline
        self._found = Findings()
        self._local_teacher = is_local(spec.teacher)
        self._teacher: LocalModel | None = None
        self._student: LocalModel | None = None
        self._call_seconds: float | None = None

    def findings(self) -> Findings:
        """Do it all. What is wrong is gathered, not raised; raises StoreError where the temporary folder is full."""
        self._look_at_data()
        self._look_at_teacher()
        self._look_at_student()
        self._check_objective()
        self._check_engine()
        task = self._build_task()
        if task is not None and all(self._data.counts.get(split) for split in _SPLITS):
            reader = self._teacher or self._student
            sizes = {split: measure_split(self._data.splits[split], task, reader) for split in _SPLITS}
            self._check_lengths(sizes, exactly=reader is not None and reader.tokenizer is not None)
            self._estimate(task, sizes)
        return self._found

    def _look_at_data(self) -> None:
        data = self._data = inspect_data(self._spec)
        self._found.problems += data.problems
        if data.problem_count > len(data.problems):
            self._found.problems.append(f"... and {data.problem_count - len(data.problems):,} more problems in the data")
        self._found.notes += data.notices
        for split, count in data.counts.items():
            typical = data.prompt_characters.get(split)
            lengths = f", prompts of {typical[50]:,} characters (the longest {typical[100]:,})" if typical else ""
            self._fact(split, f"{count:,} rows, {data.with_reference[split]:,} with a reference{lengths}")
        if data.label_counts:
            rarest = min(data.label_counts, key=lambda label: data.label_counts[label])
            self._fact("labels", f'{len(data.label_counts)}; the rarest, "{rarest}", has {data.label_counts[rarest]:,} training rows')

    def _look_at_teacher(self) -> None:
        if self._local_teacher:
            self._teacher = self._look_up("teacher", weights_of(self._spec.teacher))
            return
        try:
            self._probe()
        except PotstillError as error:
            self._found.problems.append(f"teacher: {error}")

    def _probe(self) -> None:
        teacher = endpoint_of(self._spec.teacher)
        hasty = self._spec.teacher.model_copy(update={"max_attempts": 1, "timeout_s": min(self._spec.teacher.timeout_s, _PROBE_SECONDS)})
        model = load_teacher(hasty, self._spec.generation)
        where = f"{teacher.model} at {teacher.base_url}" if teacher.base_url else "the shipped echo"
        if self._offline:
            self._fact("teacher", f"{where}, not asked (--offline)")
            return
        started = time.monotonic()
        answer = asyncio.run(_ask_once(model))
        seconds = time.monotonic() - started
        if answer.finish_reason == "error" and not _ran_out(answer):
            self._found.problems.append(f"teacher: {where} does not answer: {answer.error}")
            return
        self._call_seconds = seconds
        self._fact("teacher", f"{where}, answers ({seconds:.2f} s)")

    def _look_at_student(self) -> None:
        """The model that the student is, or that it is carved out of."""
        student, carve = self._spec.student, self._spec.student.carve
        if student.model is not None:
            self._student = self._look_up("student", student)
        elif self._local_teacher:
            self._student = self._teacher
        else:
            self._found.problems.append(
                "student: is carved out of a local model, but the teacher is an endpoint: name one in `student.model`"
            )
        if carve is not None and self._student is not None and self._student.layers is not None:
            self._fact("carved", f"{carve.layers} of {self._student.layers} layers, vocabulary: {carve.vocabulary}")
            if carve.layers > self._student.layers:
                self._found.problems.append(
                    f"`student.carve.layers` is {carve.layers}, but {self._student.name} has {self._student.layers}"
                )

    def _look_up(self, role: str, weights: WeightsSpec) -> LocalModel | None:
        try:
            model = look_up(weights)
        except PotstillError as error:
            self._found.problems.append(f"{role}: {error}")
            return None
        size = f"{model.parameters / 1e6:,.1f} M parameters" if model.parameters else "size not known yet"
        self._fact(role, f"{model.name}, {size}, {'on this machine' if model.folder else 'fetched when it is first used'}")
        return model

    def _check_objective(self) -> None:
        spec = self._spec
        if spec.targets.positions != "all" and spec.training.objective != "logits":
            return
        key = "targets.positions: all" if spec.targets.positions == "all" else "training.objective: logits"
        if not self._local_teacher:
            self._found.problems.append(
                f"`{key}` needs the teacher's probabilities, but the teacher is an endpoint: take a local one, or `training.objective: sft`"
            )
        elif self._teacher and self._student and same_tokens(self._teacher, self._student) is False:
            names = f"{self._teacher.name} and {self._student.name}"
            self._found.problems.append(f"`{key}` needs teacher and student to share a tokenizer, but {names} have different ones")

    def _build_task(self) -> Task | None:
        spec, data = self._spec, self._data
        labels = spec.task.labels or tuple(data.label_counts)
        if spec.task.type == "nli" and not labels:
            return None  # the data's own problems say why
        try:
            task = build_task(spec.task, labels)
            if spec.evaluation.metrics != "auto":
                for name in spec.evaluation.metrics:
                    build_metric(name, labels)
        except SpecError as error:
            self._found.problems.append(str(error))
            return None
        if data.counts.get("test") and task.type != "conversation" and not data.with_reference["test"]:
            if spec.evaluation.metrics == "auto":
                self._found.notes.append("no test row has a reference: agreement with the teacher is all that can be scored")
            else:
                self._found.problems.append(
                    "`evaluation.metrics` compare with references, but no test row has one: add `reference` to them"
                )
        return task

    def _check_engine(self) -> None:
        if self._spec.engine.kind == "ray" and importlib.util.find_spec("ray") is None:
            self._found.problems.append("`engine: ray` needs the package ray: pip install 'potstill[ray]'")

    def _check_lengths(self, sizes: dict[str, SplitSize], *, exactly: bool) -> None:
        how = "" if exactly else ", four characters counted as one"
        limits = [("train", "`training.max_length`", self._spec.training.max_length)]
        for role, model in (("teacher", self._teacher), ("student", self._student)):
            if model is not None and model.context is not None and not (role == "student" and model is self._teacher):
                limits += [(split, f"the {role}'s context", model.context) for split in _SPLITS]
        for split, what, limit in limits:
            lengths = sizes[split].lengths
            over = sum(length > limit for length in lengths)
            if over == len(lengths):
                self._found.problems.append(f"{split}: every row is longer than {what} ({limit:,} tokens{how})")
            elif over:
                looked_at = f"{over} of {len(lengths)} rows looked at are longer than {what} ({limit:,} tokens{how})"
                self._found.notes.append(f"{split}: {looked_at}; the longest has {max(lengths):,}")

    def _estimate(self, task: Task, sizes: dict[str, SplitSize]) -> None:
        spec = self._spec
        bill = teacher_bill(spec, sizes, validation_asked=lacks_references(task, self._data.splits["validation"]))
        most = "" if bill.counted else "at most "
        self._fact("calls", f"about {bill.calls:,} to the teacher, {bill.read:,} tokens read, {most}{bill.written:,} written")
        if not self._local_teacher:
            self._fact("price", self._price_text(bill))
        self._fact("time", f"asking {self._asking_text(bill)}, training {self._training_text(sizes['train'])}")

    def _price_text(self, bill: Bill) -> str:
        endpoint = endpoint_of(self._spec.teacher)
        if endpoint.base_url is None:
            return "nothing: the echo is free"
        dollars = bill.dollars(endpoint.price)
        if dollars is None:
            return f"unknown: nobody says what {endpoint.model} costs; give `teacher.price` to have it estimated"
        return f"{'about' if bill.counted else 'at most about'} ${dollars:,.2f}"

    def _asking_text(self, bill: Bill) -> str:
        if self._teacher is not None:
            return _seconds_text(asking_seconds(bill, self._teacher))
        if self._call_seconds is None:
            return _seconds_text(None)
        calls_in_turn = bill.calls / self._spec.generation.concurrency
        return f"at least {_seconds_text(calls_in_turn * self._call_seconds)}"

    def _training_text(self, train: SplitSize) -> str:
        if self._student is None:
            return _seconds_text(None)
        on_probabilities = self._spec.training.objective != "sft" and self._teacher is not None
        teacher = self._teacher.parameters if on_probabilities and self._teacher is not None else None
        return _seconds_text(training_seconds(self._spec, train, student_parameters(self._spec, self._student), teacher))

    def _fact(self, title: str, text: str) -> None:
        self._found.facts.append((title, text))


async def _ask_once(model: Model) -> Completion:
    question = Request((Message("user", "Say OK."),), Sampling(max_new_tokens=8))
    try:
        [answer] = await model.complete([question])
    finally:
        await model.close()
    return answer


def _ran_out(answer: Completion) -> bool:
    """Whether the probe's few tokens all went into thinking: that is an answer, of a model that thinks."""
    return "tokens went into thinking" in (answer.error or "")


def _seconds_text(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"about {seconds / size:,.1f} {unit}"
    return f"about {max(seconds, 1):.0f} s"
