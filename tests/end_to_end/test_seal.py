"""Whatever a run tries out, tunes or chooses by never sees a test row: not when it reaches for them, and not by a way around the door."""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import yaml

from potstill.errors import SealedTestError
from potstill.generation import stage as generation
from potstill.models.testing import OpenAIStub
from potstill.pipeline import judge_again, run_pipeline
from potstill.pipeline.ablation import ablate_gates
from potstill.pipeline.targets import make_targets
from potstill.spec import RunSpec, load_spec
from potstill.store.events import EventLog, Noticed
from potstill.store.run import Run, open_run
from potstill.store.seal import SEAL_FILE, seal_to_json
from potstill.training import adaptation
from potstill.training import stage as training
from tiny import tiny_llama, write_splits

LABELS = ("warm", "cold")


def write_job(folder: Path, **sections: Any) -> Path:
    def row(split: str, i: int) -> dict[str, Any]:
        return {"prompt": f"{split} {i}: is {i * 37} {split[::-1]} {i} warm?", "completion": LABELS[i % 2], "rationale": f"because {i}"}

    write_splits(folder, row, train=12, validation=4, test=4)
    spec = {
        "name": "job",
        "task": {"type": "nli", "labels": list(LABELS), "max_new_tokens": 3},
        "data": {split: f"{split}.jsonl" for split in ("train", "validation", "test")},
        "teacher": {"model": str(tiny_llama(folder / "teacher", layers=2))},
        "student": {"carve": {"layers": 1, "vocabulary": "data"}},
        "gates": {"format": False, "truncation": False},
        "training": {"epochs": 2, "batch_size": 4, "evaluations": 1},
        "evaluation": {"systems": ["student"], "latency_rows": 1, "resamples": 100},
    }
    (folder / "potstill.yaml").write_text(yaml.safe_dump(spec | sections))
    return folder / "potstill.yaml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec, and beside it its run as far as training."""
    spec = write_job(tmp_path_factory.mktemp("seal"))
    run_pipeline(load_spec(spec), spec.parent / "run", until="train")
    return spec


def at(work: Callable[[Run], object]) -> Callable[[RunSpec, Path], object]:
    """Call the entry point of a stage on a run."""
    return lambda spec, folder: work(open_run(spec, folder))


def generate(run: Run) -> object:
    return generation.work(run, resumed=False)


def train(run: Run) -> object:
    for name in ("summary.json", "baseline", "best", "student.json", "vocabulary.npy"):
        path = run.path("training", name)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return training.work(run, resumed=False)


Loop = tuple[str, tuple[str, ...], Callable[[RunSpec, Path], object]]
REMOTE = ("student={model: a/b}", "teacher.model=m", "teacher.base_url=http://127.0.0.1:9/v1")
LOOPS: dict[str, Loop] = {
    "gates": ("train", (), at(generate)),
    "gates on validation rows": ("validation", (), at(generate)),
    "worked examples": ("train", ("generation.prompting.examples=2",), at(generate)),
    "prompt wording": ("validation", ("generation.prompting.instruction=Think.", "generation.qualify={}"), at(generate)),
    "pilot": ("train", ("generation.pilot.rows=2", *REMOTE), at(generate)),
    "qualification": ("validation", ("generation.qualify={}",), at(generate)),
    "new prompts": ("train", ("generation.expand={rows: 2}",), at(generate)),
    "new prompts against known ones": ("validation", ("generation.expand={rows: 2}",), at(generate)),
    "balance": ("train", ("generation.balance={by: label}",), at(generate)),
    "routing": ("train", ("generation.route=cascade",), at(generate)),
    "gates again": ("train", (), judge_again),
    "gates again on validation rows": ("validation", (), judge_again),
    "ablation": ("validation", (), lambda spec, folder: ablate_gates(spec, folder, seeds=2)),
    "ablation's training rows": ("train", (), lambda spec, folder: ablate_gates(spec, folder, seeds=2)),
    "adaptation": ("train", ("teacher.adapt={}",), at(lambda run: adaptation.work(run, resumed=False))),
    "adaptation's checkpoint": ("validation", ("teacher.adapt={}",), at(lambda run: adaptation.work(run, resumed=False))),
    "checkpoint choice": ("validation", (), at(train)),
    "checkpoint choice of plain fine-tuning": ("validation", ("training.objective=sft",), at(train)),
    "vocabulary": ("train", (), at(train)),
    "on-policy": ("validation", ("training.objective=on_policy",), at(train)),
    "on-policy prompts": ("train", ("training.objective=on_policy",), at(train)),
    "reasons of one's own": ("train", ("training.objective=step_by_step", "targets.weights.reference=0.5"), at(train)),
    "targets": ("train", (), at(lambda run: (shutil.rmtree(run.path("training")), training.keep_targets(run)))),
}


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_that_reaches_for_the_test_rows_is_refused(trained: Path, tmp_path: Path, name: str) -> None:
    split, overrides, loop = LOOPS[name]
    folder = tmp_path / "run"
    shutil.copytree(trained.parent / "run", folder)
    rows = folder / "data" / f"{split}.jsonl"
    rows.unlink()
    os.link(folder / "data" / "test.jsonl", rows)
    with pytest.raises(SealedTestError, match="sealed until evaluation"):
        loop(load_spec(trained, list(overrides)), folder)
    assert not (folder / SEAL_FILE).exists()


@dataclass
class Watch:
    """Who opens some files, by whatever call: Python itself tells (PEP 578). A hook cannot be taken away: without files it sleeps."""

    files: frozenset[str] = frozenset()
    seen: list[list[str]] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and self.files and isinstance(arguments[0], str | os.PathLike):
            path = os.fspath(arguments[0])
            if path.endswith(".jsonl") and os.path.realpath(path) in self.files:
                self.seen.append(list(callers(sys._getframe(1))))

    @contextlib.contextmanager
    def over(self, *files: Path) -> Iterator[None]:
        """Listen while the block runs."""
        self.files, self.seen = frozenset(map(os.path.realpath, files)), []
        try:
            yield
        finally:
            self.files = frozenset()

    def readers(self) -> list[list[str]]:
        """Openings that are neither the data stage's, which looks whether the user's file changed, nor for the hash of a stage's record."""
        return [found for found in self.seen if not any(caller in ("atomic.py:hash_file", "data/stage.py:inputs") for caller in found)]


def callers(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        yield f"{path.name}:{frame.f_code.co_name}"
        yield f"{path.parent.name}/{path.name}:{frame.f_code.co_name}"
        frame = frame.f_back


@pytest.fixture(scope="module")
def watch() -> Watch:
    watch = Watch()
    sys.addaudithook(watch)
    return watch


EVERYTHING = {
    "gates": {"format": False, "truncation": False, "gold": True},
    "generation": {
        "pilot": {"rows": 2, "pass_rate": 0.0},
        "qualify": {"rows": 2},
        "expand": {"rows": 2},
        "prompting": {"examples": 2},
        "samples": 2,
    },
}


def always_warm(payload: dict[str, Any]) -> str:
    """Right for half of the rows, so that a gate has something to drop."""
    return "warm"


def test_a_run_with_every_loop_on_opens_the_file_of_the_test_rows_in_no_way_before_it_is_evaluated(tmp_path: Path, watch: Watch) -> None:
    with OpenAIStub(always_warm) as stub:
        teacher = {"model": "m", "base_url": stub.base_url, "temperature": 0.5}
        student = {"model": str(tiny_llama(tmp_path / "student", layers=1))}
        path = write_job(tmp_path, teacher=teacher, student=student, **EVERYTHING)
        spec, folder, heard = load_spec(path), tmp_path / "run", []
        run_pipeline(spec, folder, until="data")
        with watch.over(folder / "data" / "test.jsonl", tmp_path / "test.jsonl"):
            run_pipeline(spec, folder, until="train", listeners=(heard.append,))
            judge_again(spec, folder)
            found = ablate_gates(spec, folder, seeds=2)
            assert not (folder / SEAL_FILE).exists()
            assert watch.readers() == []
            assert watch.seen, "the hook hears nothing"
            run_pipeline(spec, folder, until="evaluate")
    assert watch.readers()
    assert all("splits.py:open_test" in callers for callers in watch.readers())
    assert found["gates"], "no gate was ablated"
    said = " ".join(event.text for event in heard if isinstance(event, Noticed))
    assert "qualification:" in said
    assert "pilot:" in said
    assert "new prompts" in said


def test_a_teacher_that_is_adapted_and_targets_that_are_kept_open_it_neither(trained: Path, tmp_path: Path, watch: Watch) -> None:
    spec, folder = load_spec(trained, ["teacher.adapt={epochs: 1, batch_size: 4}"]), tmp_path / "run"
    run_pipeline(spec, folder, until="data")
    with watch.over(folder / "data" / "test.jsonl", trained.parent / "test.jsonl"):
        make_targets(spec, folder)
    assert (folder / "adaptation" / "best").exists()
    assert watch.readers() == []
    assert watch.seen


def test_a_killed_evaluation_that_goes_on_is_one_opening_and_another_student_is_another(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained.parent / "run", folder)

    def stop(event: object) -> None:
        if getattr(event, "task", "") == "student answers":
            raise KeyboardInterrupt

    def opened(*overrides: str, listeners: tuple[Callable[[object], None], ...] = ()) -> list[str]:
        spec = load_spec(trained, list(overrides))
        with contextlib.suppress(KeyboardInterrupt):
            run_pipeline(spec, folder, until="evaluate", listeners=listeners)
        return [opening["artefact"] for opening in seal_to_json(Run(spec, folder, EventLog()))["openings"]]

    first = opened(listeners=(stop,))
    assert len(first) == 1
    assert not (folder / "evaluation" / "scores.json").exists()
    assert opened() == first
    assert (folder / "evaluation" / "scores.json").exists()
    second = opened("training.learning_rate=0.01", listeners=(stop,))
    assert (second[:1], len(set(second))) == (first, 2)
    assert len(opened("training.learning_rate=0.01", "evaluation.metrics=[macro_f1]", listeners=(stop,))) == 3
