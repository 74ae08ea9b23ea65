"""An evaluated run as it stands in its folder: its figures, its test questions, what its systems answered. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from potstill.data.labels import load_labels
from potstill.errors import StoreError, UsageError
from potstill.evaluation.compare import TEACHER
from potstill.evaluation.sums import FloatArray
from potstill.pipeline.run import inputs_of
from potstill.report.gather import gather_report
from potstill.spec import load_spec
from potstill.store.atomic import canonical, read_json, read_jsonl, read_object
from potstill.store.events import EventLog, StageName
from potstill.store.run import Run
from potstill.tasks.metrics import build_metric
from potstill.tasks.metrics.base import Metric, Prediction

AGREEMENT = "agreement"
"""Names the agreement with the teacher among the metrics."""

_STAGES: tuple[StageName, ...] = ("data", "generate", "train", "evaluate")
_BY_SPEC: tuple[StageName, ...] = ("generate", "train", "evaluate")


@dataclass(frozen=True, slots=True)
class Marked:
    """A system's answers to n questions as one metric takes them: additive `statistics_NS`, and the `value` of sums of them.

    A question's key is equal where two runs asked and marked the same.
    """

    keys: tuple[str, ...]
    groups: tuple[str | None, ...]
    statistics_NS: FloatArray
    value: Callable[[FloatArray], FloatArray]

    def __len__(self) -> int:
        return len(self.keys)

    def of(self, keys: Sequence[str]) -> Marked:
        """The same of these questions alone, in this order."""
        places = {key: place for place, key in enumerate(self.keys)}
        chosen = [places[key] for key in keys]
        return Marked(tuple(keys), tuple(self.groups[place] for place in chosen), self.statistics_NS[chosen], self.value)


@dataclass(frozen=True)
class EvaluatedRun:
    """A run whose evaluation stands; `title` is what a table calls it."""

    title: str
    run: Run
    report: dict[str, Any] = field(repr=False)
    _marked: dict[tuple[str, str], Marked | None] = field(default_factory=dict, repr=False)

    @property
    def evaluation(self) -> dict[str, Any]:
        """`evaluation/scores.json`, its timings aside."""
        found: dict[str, Any] = self.report["evaluation"]
        return found

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels of its task, none where it has none."""
        return load_labels(self.run)

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """What was measured, by name; agreement with the teacher last, where it was."""
        found = {name: build_metric(name, self.labels) for name in self.evaluation["metrics"]}
        agreed = self.evaluation["agreement"]
        return found if agreed is None else {**found, AGREEMENT: build_metric(agreed["metric"], self.labels)}

    def marked(self, metric: str, system: str) -> Marked | None:
        """What `metric` of `system` is made of: questions to mark by, on which no system of the run failed; None where there are none.

        Marked by the references, or for AGREEMENT by the teacher's answer.
        """
        if (metric, system) not in self._marked:
            self._marked[metric, system] = self._mark(metric, system)
        return self._marked[metric, system]

    def _mark(self, metric: str, system: str) -> Marked | None:
        failed = {row["id"] for rows in self._answers.values() for row in rows if row["finish_reason"] == "error"}
        teacher = self._answers[TEACHER] if metric == AGREEMENT else self._questions
        found: list[tuple[str, str | None, Prediction]] = []
        for question, answer, right in zip(self._questions, self._answers[system], teacher, strict=True):
            references = tuple(question["references"] if metric != AGREEMENT else filter(None, [right["answer"]]))
            if references and question["id"] not in failed:
                found.append((_key(question), question["group"], Prediction(answer["answer"], references)))
        if not found:
            return None
        keys, groups, predictions = zip(*found, strict=True)
        return Marked(keys, groups, self.metrics[metric].statistics(predictions), self.metrics[metric].value)

    @cached_property
    def spec_stands(self) -> bool:
        """Whether `spec.yaml` is what the figures were made by."""
        return spec_stands(self.run)

    @cached_property
    def _questions(self) -> list[dict[str, Any]]:
        return list(read_jsonl(self.run.path("evaluation", "questions.jsonl")))

    @cached_property
    def _answers(self) -> dict[str, list[dict[str, Any]]]:
        systems = self.evaluation["systems"]
        return {system: list(read_jsonl(self.run.path("evaluation", "predictions", f"{system}.jsonl"))) for system in systems}


def find_run(name: Path, runs: Path = Path("runs")) -> Path:
    """The folder of a run that is named by its folder, or by its name in `runs`. Raises UsageError where there is none."""
    if name.is_file():
        raise UsageError(f"{name}: is a file; name the folder of a run, as in {runs / 'NAME'}")
    for folder in (name, runs / name):
        if (folder / "spec.yaml").is_file():
            return folder
    there = sorted(path.parent.name for path in runs.glob("*/spec.yaml")) if runs.is_dir() else []
    known = f"in {runs} there are {', '.join(there[:8])}{', …' if len(there) > 8 else ''}" if there else f"there are no runs in {runs}"
    what = "is no run (it holds no spec.yaml)" if name.is_dir() else "there is no such run"
    raise UsageError(f"{name}: {what}; {known}")


def open_evaluated(folder: Path) -> Run:
    """A run to read from, whose stages up to its evaluation are finished. Raises StoreError where one is not."""
    run = Run(load_spec(folder / "spec.yaml"), folder, EventLog())
    adapt: tuple[StageName, ...] = ("adapt",) if run.spec.teacher.adapt is not None else ()
    for stage in (*adapt, *_STAGES):
        record = run.stage(stage).folder / "stage.json"
        if not record.is_file() or read_object(record, "state")["state"] != "finished":
            raise StoreError(
                f"{folder}: has not been evaluated: its stage `{stage}` is not finished; `potstill evaluate SPEC`, or the `potstill run` "
                "that began it, goes on from there"
            )
    return run


def spec_stands(run: Run) -> bool:
    """Whether an evaluated run's `spec.yaml` is what its figures were made by: a spec that came to nothing may have been left there.

    Its report's record tells so wherever the run was copied to; without one, the files that the spec names must be as they were.
    """
    if run.stage("report").was_finished_on(inputs_of(run, "report")):
        return True
    return all(run.stage(stage).was_finished_on(inputs_of(run, stage)) for stage in _BY_SPEC)


def read_evaluated(folders: Sequence[Path]) -> list[EvaluatedRun]:
    """The runs in these folders, under titles that tell them apart. Raises UsageError where one is named twice."""
    places = [folder.resolve() for folder in folders]
    for place, folder in zip(places, folders, strict=True):
        if places.count(place) > 1:
            raise UsageError(f"{folder}: is named twice; a run is compared with others")
    opened = [open_evaluated(folder) for folder in folders]
    return [EvaluatedRun(title, run, gather_report(run)) for title, run in zip(_titles(places), opened, strict=True)]


def unlike(first: EvaluatedRun, other: EvaluatedRun) -> str | None:
    """How the tasks of two runs differ; None where they are the same."""
    kinds = first.run.spec.task.type, other.run.spec.task.type
    if kinds[0] != kinds[1]:
        return f"{first.title} is {kinds[0]}, {other.title} is {kinds[1]}"
    apart = sorted(set(first.labels) ^ set(other.labels))
    if apart:
        return f"they do not have the same labels: only one has {', '.join(apart[:5])}{', …' if len(apart) > 5 else ''}"
    return None


def machine_of(run: EvaluatedRun) -> dict[str, Any] | None:
    """The machine that its report was made on; None where it has none."""
    path = run.run.path("report.json")
    return read_json(path).get("machine") if path.is_file() else None


def _titles(places: Sequence[Path]) -> Iterator[str]:
    """The folders' names, with as much of what stands above as tells them apart."""
    for place in places:
        alike = [other for other in places if other.name == place.name and other != place]
        depth = 1
        while any(other.parts[-depth:] == place.parts[-depth:] for other in alike):
            depth += 1
        yield "/".join(place.parts[-depth:] if depth < 3 else (place.parts[-depth], "…", place.name))


def _key(question: dict[str, Any]) -> str:
    """The question itself, whatever system prompt the run put in front of it."""
    said = [message for message in question["messages"] if message["role"] != "system"]
    return canonical([question["id"], said, question["references"]])
