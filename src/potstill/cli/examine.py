"""What `potstill check` looks at: data, models, whether they fit together, whether the teacher answers, what it all takes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from potstill.cli.estimate import SplitSize, measure_split, teacher_bill
from potstill.cli.forecast import Forecast
from potstill.data.inspect import DataReport, inspect_data
from potstill.errors import PotstillError, SpecError
from potstill.models.base import Model
from potstill.models.load import endpoint_of, load_teacher
from potstill.models.look_up import LocalModel
from potstill.records import Completion, Message, Request, Sampling
from potstill.spec import RunSpec
from potstill.tasks import build_task
from potstill.tasks.base import Task
from potstill.tasks.metrics import build_metric
from potstill.training.foresee import foresee

_PROBE_SECONDS = 30.0
_SPLITS = ("train", "validation", "test")


@dataclass
class Findings:
    """`problems` stop a run, `notes` do not, `facts` are titled lines that sum it up."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


def examine_data(spec: RunSpec, found: Findings) -> DataReport:
    """What the data holds, and what is wrong with it."""
    data = inspect_data(spec)
    found.problems += data.problems
    if data.problem_count > len(data.problems):
        found.problems.append(f"... and {data.problem_count - len(data.problems):,} more problems in the data")
    found.notes += data.notices
    for split, count in data.counts.items():
        typical = data.prompt_characters.get(split)
        lengths = f", prompts of {typical[50]:,} characters (the longest {typical[100]:,})" if typical else ""
        found.facts.append((split, f"{count:,} rows, {data.with_reference[split]:,} with a reference{lengths}"))
    if data.label_counts:
        rarest = min(data.label_counts, key=lambda label: data.label_counts[label])
        text = f'{len(data.label_counts)}; the rarest, "{rarest}", has {data.label_counts[rarest]:,} training rows'
        found.facts.append(("labels", text))
    return data


class Examination:
    """Looks at everything that a spec names. Nothing is fetched, written or spent, but one tiny call to an endpoint unless `offline`."""

    def __init__(self, spec: RunSpec, *, offline: bool) -> None:
        self._spec, self._offline = spec, offline
        self._found = Findings()
        self._call_seconds: float | None = None

    def findings(self) -> Findings:
        """Do it all. What is wrong is gathered, not raised; raises StoreError where the temporary folder is full."""
        self._data = examine_data(self._spec, self._found)
        self._look_at_models()
        task = self._build_task()
        self._check_metrics(task)
        if task is not None and all(self._data.counts.get(split) for split in _SPLITS):
            readers = [model.tokenizer for model in (self._teacher, self._student) if model is not None and model.tokenizer is not None]
            tokenizer = readers[0] if readers else None
            sizes = {split: measure_split(self._data.splits[split], task, tokenizer) for split in _SPLITS}
            self._check_lengths(sizes, exactly=tokenizer is not None)
            forecast = Forecast(self._spec, self._teacher, self._student, self._call_seconds)
            self._found.facts += forecast.facts(sizes, teacher_bill(self._spec, sizes))
        return self._found

    def _look_at_models(self) -> None:
        seen = foresee(self._spec)
        self._teacher, self._student = seen.teacher, seen.origin
        if self._teacher is None:
            self._probe()
        else:
            self._present("teacher", self._teacher)
        if self._student is not None and self._student is not self._teacher:
            self._present("student", self._student)
        carve = self._spec.student.carve
        if carve is not None and self._student is not None and self._student.layers is not None:
            self._fact("carved", f"{carve.layers} of {self._student.layers} layers, vocabulary: {carve.vocabulary}")
        self._found.problems += seen.problems
        known = [model for model in (self._teacher, self._student) if model is not None]
        self._found.notes += dict.fromkeys(note for model in known for note in model.notes)

    def _present(self, role: str, model: LocalModel) -> None:
        if model.problems and model.place is None:
            return
        size = f"{model.parameters / 1e6:,.1f} M parameters" if model.parameters else "size not known yet"
        self._fact(role, f"{model.name}, {size}, {'on this machine' if model.place else 'fetched when it is first used'}")

    def _probe(self) -> None:
        """Ask an endpoint, and the echo, one tiny question."""
        import asyncio

        teacher = endpoint_of(self._spec.teacher)
        hasty = self._spec.teacher.model_copy(update={"max_attempts": 1, "timeout_s": min(self._spec.teacher.timeout_s, _PROBE_SECONDS)})
        where = f"{teacher.model} at {teacher.base_url}" if teacher.base_url else "the shipped echo"
        try:
            model = load_teacher(hasty, self._spec.generation)
            if self._offline:
                self._fact("teacher", f"{where}, not asked (--offline)")
                return
            started = time.monotonic()
            answer = asyncio.run(_ask_once(model))
        except PotstillError as error:
            self._found.problems.append(f"teacher: {error}")
            return
        if answer.finish_reason == "error" and not _ran_out(answer):
            self._found.problems.append(f"teacher: {where} does not answer: {answer.error}")
            return
        self._call_seconds = time.monotonic() - started
        self._fact("teacher", f"{where}, answers ({self._call_seconds:.2f} s)")

    def _labels(self) -> tuple[str, ...]:
        return self._spec.task.labels or tuple(self._data.label_counts)

    def _build_task(self) -> Task | None:
        if self._spec.task.type == "nli" and not self._labels():
            return None  # the data's own problems say why
        try:
            return build_task(self._spec.task, self._labels())
        except SpecError as error:
            self._found.problems.append(str(error))
            return None

    def _check_metrics(self, task: Task | None) -> None:
        asked, data = self._spec.evaluation.metrics, self._data
        for name in asked if asked != "auto" else ():
            try:
                build_metric(name, self._labels())
            except SpecError as error:
                self._found.problems.append(str(error))
        if task is None or task.type == "conversation" or not data.counts.get("test") or data.with_reference["test"]:
            return
        if asked == "auto":
            self._found.notes.append("no test row has a reference: agreement with the teacher is all that can be scored")
        else:
            self._found.problems.append("`evaluation.metrics` compare with references, but no test row has one: add `reference` to them")

    def _check_lengths(self, sizes: dict[str, SplitSize], *, exactly: bool) -> None:
        how = "" if exactly else ", four characters counted as one"
        limits = [("train", "`training.max_length`", self._spec.training.max_length)]
        for role, model in (("teacher", self._teacher), ("student", self._student)):
            if model is not None and model.context is not None and not (role == "student" and model is self._teacher):
                limits += [(split, f"the {role}'s context", model.context) for split in _SPLITS]
        for split, what, limit in limits:
            self._check_length(sizes[split], split, f"{what} ({limit:,} tokens{how})", limit)
        if self._student is not None and self._student.context is not None and self._student.context < self._spec.training.max_length:
            self._found.notes.append(
                f"`training.max_length` is {self._spec.training.max_length:,}, but {self._student.name} reads {self._student.context:,} "
                "tokens: longer rows are left out"
            )

    def _check_length(self, size: SplitSize, split: str, limit_text: str, limit: int) -> None:
        over, possible = (sum(length > limit for length in lengths) for lengths in (size.lengths, size.longest))
        looked_at = len(size.lengths)
        if over == looked_at:
            self._found.problems.append(f"{split}: every row is longer than {limit_text}")
        elif over:
            text = f"{over} of {looked_at} rows looked at are longer than {limit_text}; the longest has {max(size.lengths):,}"
            self._found.notes.append(f"{split}: {text}")
        elif possible:
            text = f"{possible} of {looked_at} rows looked at grow longer than {limit_text} where the answer is as long as it may be"
            self._found.notes.append(f"{split}: {text} (`task.max_new_tokens`)")

    def _fact(self, title: str, text: str) -> None:
        self._found.facts.append((title, text))


async def _ask_once(model: Model) -> Completion:
    question = Request((Message("user", "Say OK."),), Sampling(max_new_tokens=8))
    try:
        [answer] = await model.complete([question])
        if answer.fault is not None and answer.fault.kind == "short":  # now it is known how this endpoint wants to be asked
            [answer] = await model.complete([question])
    finally:
        await model.close()
    return answer


def _ran_out(answer: Completion) -> bool:
    """Whether the probe's few tokens all went into thinking: that is an answer, of a model that thinks."""
    return "tokens went into thinking" in (answer.error or "")
