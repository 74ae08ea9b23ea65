"""What `potstill check` looks at: data, models, whether they fit together, whether the teacher answers, what it all takes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.cli.demands import notes_on, problems_of
from potstill.cli.forecast import Forecast
from potstill.cli.past import Past, judge_of
from potstill.cli.rehearse import Rehearsal, Takes
from potstill.data.inspect import DataReport, inspect_data
from potstill.data.ondisk import Dataset
from potstill.errors import PotstillError, SpecError
from potstill.generation.panel import scorer_of, scorer_problem
from potstill.models.base import Model
from potstill.models.load import endpoint_of, load_teacher, weights_of
from potstill.models.locate import is_local
from potstill.models.look_up import LocalModel, look_up
from potstill.pipeline.estimate import SplitSize, measure_split
from potstill.records import Completion, Message, Request, Sampling
from potstill.spec import RunSpec, TeacherSpec
from potstill.tasks import build_task
from potstill.tasks.base import Task
from potstill.tasks.metrics import build_metric
from potstill.tasks.prompting import build_strategy
from potstill.tasks.prompting.examples import choose_examples
from potstill.training.foresee import foresee

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PROBE_SECONDS = 30.0
_SPLITS = ("train", "validation", "test")
_FATES = {"drop": "left out", "cut_left": "cut from the left", "refuse": "refused"}


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
    """Looks at everything that a spec names. Nothing is fetched, written or spent, but one tiny call to each endpoint unless `offline`.

    `folder` is the run's, whose ledger is looked at.
    """

    def __init__(self, spec: RunSpec, folder: Path, *, offline: bool) -> None:
        self._spec, self._folder, self._offline = spec, folder, offline
        self._found = Findings()
        self._call_seconds: float | None = None
        self._local: dict[str, LocalModel] = {}

    def findings(self) -> Findings:
        """Do it all. What is wrong is gathered, not raised; raises StoreError where the temporary folder is full."""
        self._data = examine_data(self._spec, self._found)
        self._look_at_models()
        task = self._build_task()
        self._check_metrics(task)
        if task is not None and all(self._data.counts.get(split) for split in _SPLITS):
            self._found.problems += problems_of(self._spec, self._data.splits["train"])
            self._found.notes += notes_on(self._spec, self._data.splits["train"], self._data.splits["validation"])
            self._foresee(task)
        return self._found

    def _foresee(self, task: Task) -> None:
        tokenizer, splits = _tokenizer_of(self._teacher, self._student), self._data.splits
        sizes = {split: measure_split(splits[split], task, tokenizer) for split in _SPLITS}
        self._check_lengths(sizes, exactly=tokenizer is not None)
        try:
            takes, past = _rehearse(self._spec, self._folder, task, splits, tokenizer, evaluates=True)
        except PotstillError as error:
            if str(error) not in self._found.problems:
                self._found.problems.append(str(error))
            return
        forecast = Forecast(self._spec, takes, self._local, past, self._call_seconds)
        self._found.facts += forecast.whole(self._student, sizes)

    def _look_at_models(self) -> None:
        seen = foresee(self._spec)
        self._teacher, self._student = seen.teacher, seen.origin
        self._found.problems += seen.problems
        for number, teacher in enumerate(self._spec.all_teachers):
            self._look_at("teacher", teacher, self._teacher if number == 0 else None)
        judge = judge_of(self._spec)
        if judge is not None and judge not in self._spec.all_teachers:
            self._look_at("judge", judge, None)
        scorer = scorer_of(self._spec)
        if scorer is not None and scorer_problem(self._spec) is None:
            self._probe("scorer", scorer)
        if self._student is not None and self._student is not self._teacher:
            self._present("student", self._student)
        carve = self._spec.student.carve
        if carve is not None and self._student is not None and self._student.layers is not None:
            self._fact("carved", f"{carve.layers} of {self._student.layers} layers, vocabulary: {carve.vocabulary}")
        known = [*self._local.values(), *([self._student] if self._student is not None else [])]
        self._found.notes += dict.fromkeys(note for model in known for note in model.notes)

    def _look_at(self, role: str, teacher: TeacherSpec, seen: LocalModel | None) -> None:
        """Look up a local model (unless it is `seen` already), open a recording, ask an endpoint."""
        if not is_local(teacher):
            self._probe(role, teacher)
            return
        found = seen or look_up(weights_of(teacher))
        if seen is None:
            self._found.problems += (f"{role} {teacher.title}: {problem}" for problem in found.problems)
        self._local[teacher.title] = found
        self._present(role, found)

    def _present(self, role: str, model: LocalModel) -> None:
        if model.problems and model.place is None:
            return
        size = f"{model.parameters / 1e6:,.1f} M parameters" if model.parameters else "size not known yet"
        self._fact(role, f"{model.name}, {size}, {'on this machine' if model.place else 'fetched when it is first used'}")

    def _probe(self, role: str, teacher: TeacherSpec) -> None:
        """Open a recording; ask an endpoint, and the echo, one tiny question."""
        import asyncio

        named = endpoint_of(teacher)
        hasty = teacher.model_copy(update={"max_attempts": 1, "timeout_s": min(teacher.timeout_s, _PROBE_SECONDS)})
        where = f"{named.model} at {named.base_url}" if named.base_url else "the shipped echo"
        # Of one model the role says who it is; of several, the name.
        who = role if role in ("judge", "scorer") or len(self._spec.all_teachers) == 1 else f"{role} {teacher.title}"
        try:
            model = load_teacher(hasty, self._spec.generation)
            if teacher.replay is not None:
                self._fact(role, f"{teacher.title}, as recorded in {teacher.replay}")
                return
            if self._offline:
                self._fact(role, f"{where}, not asked (--offline)")
                return
            started = time.monotonic()
            answer = asyncio.run(_ask_once(model))
        except PotstillError as error:
            self._found.problems.append(f"{who}: {error}")
            return
        if answer.finish_reason == "error" and not _ran_out(answer):
            self._found.problems.append(f"{who}: {where} does not answer: {answer.error}")
            return
        seconds = time.monotonic() - started
        if named.base_url:
            self._call_seconds = max(self._call_seconds or 0.0, seconds)
        self._fact(role, f"{where}, answers ({seconds:.2f} s)")

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
        taken = list(task.metrics if task is not None and asked == "auto" else ())
        for name in asked if asked != "auto" else ():
            try:
                taken.append(build_metric(name, self._labels()).name)
            except SpecError as error:
                self._found.problems.append(str(error))
        if task is not None:
            self._found.problems += self._spec.goals.misfits(taken)
        if task is None or task.type == "conversation" or not data.counts.get("test") or data.with_reference["test"]:
            return
        if asked == "auto":
            self._found.notes.append("no test row has a reference: agreement with the teacher is all that can be scored")
        else:
            self._found.problems.append("`evaluation.metrics` compare with references, but no test row has one: add `reference` to them")

    def _check_lengths(self, sizes: dict[str, SplitSize], *, exactly: bool) -> None:
        fate = self._spec.training.too_long
        how = "" if exactly else ", four characters counted as one"
        limits = [("train", "`training.max_length`", self._spec.training.max_length)]
        for role, model in (("teacher", self._teacher), ("student", self._student)):
            if model is not None and model.context is not None and not (role == "student" and model is self._teacher):
                limits += [(split, f"the {role}'s context", model.context) for split in _SPLITS]
        for split, what, limit in limits:
            self._check_length(sizes[split], split, f"{what} ({limit:,} tokens{how})", limit, fate if "training" in what else "drop")
        if self._student is not None and self._student.context is not None and self._student.context < self._spec.training.max_length:
            self._found.notes.append(
                f"`training.max_length` is {self._spec.training.max_length:,}, but {self._student.name} reads {self._student.context:,} "
                f"tokens: longer rows are {_FATES[self._spec.training.too_long]}"
            )

    def _check_length(self, size: SplitSize, split: str, limit_text: str, limit: int, fate: str) -> None:
        over, possible = (sum(length > limit for length in lengths) for lengths in (size.lengths, size.longest))
        looked_at = len(size.lengths)
        text = f"{over} of {looked_at} rows looked at are longer than {limit_text}; the longest has {max(size.lengths, default=0):,}"
        if over and fate == "refuse":
            self._found.problems.append(f"{split}: {text}, and `training.too_long: refuse` forbids that")
        elif over == looked_at and fate == "drop":
            self._found.problems.append(f"{split}: every row is longer than {limit_text}")
        elif over:
            self._found.notes.append(f"{split}: {text}{', and is cut' if fate == 'cut_left' else ''}")
        elif possible:
            text = f"{possible} of {looked_at} rows looked at grow longer than {limit_text} where the answer is as long as it may be"
            self._found.notes.append(f"{split}: {text} (`task.max_new_tokens`)")

    def _fact(self, title: str, text: str) -> None:
        self._found.facts.append((title, text))


def foresee_asking(spec: RunSpec, folder: Path, found: Findings, *, evaluates: bool) -> None:
    """The lines on what the teachers are asked, into `found.facts`; nobody is asked.

    With problems in the data, which go into `found`, there are none. Raises DataError where worked examples are missing, and StoreError.
    """
    data = inspect_data(spec)
    found.problems += data.problems
    labels = spec.task.labels or tuple(data.label_counts)
    if found.problems or not all(data.counts.get(split) for split in _SPLITS):
        return
    task = build_task(spec.task, labels)
    seen = foresee(spec)
    local = {
        teacher.title: seen.teacher if number == 0 and seen.teacher is not None else look_up(weights_of(teacher))
        for number, teacher in enumerate(spec.all_teachers)
        if is_local(teacher)
    }
    takes, past = _rehearse(spec, folder, task, data.splits, _tokenizer_of(seen.teacher, seen.origin), evaluates=evaluates)
    found.facts += Forecast(spec, takes, local, past).asking()


def _rehearse(
    spec: RunSpec, folder: Path, task: Task, splits: Mapping[str, Dataset], tokenizer: Tokenizer | None, *, evaluates: bool
) -> tuple[Takes, Past]:
    prompting = spec.generation.prompting
    examples = choose_examples(prompting.examples, build_strategy(prompting), task, splits["train"])
    past = Past(spec, task, folder, examples)
    rehearsal = Rehearsal(spec, task, tokenizer, past, examples)
    rehearsal.generation(splits["train"], splits["validation"])
    if evaluates:
        rehearsal.evaluation(splits["test"])
    return rehearsal.takes, past


def _tokenizer_of(*models: LocalModel | None) -> Tokenizer | None:
    """Whose tokens count: the teacher's, else the student's."""
    return next((model.tokenizer for model in models if model is not None and model.tokenizer is not None), None)


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
