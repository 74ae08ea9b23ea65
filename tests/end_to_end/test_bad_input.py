"""Whatever a user gets wrong ends in one clear message, exit code 1 or 2, no traceback, and nothing lost.

Each case takes a job that works, breaks one thing in it, and says which words the message must hold.
"""

import json
import os
import random
import shutil
import string
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from potstill.cli.main import main
from potstill.models.testing import HALF_A_BODY, HTML, Fault, OpenAIStub, answered, refused
from tiny import without

Words = tuple[str, ...]
LABELS = ("refund", "delivery", "account")


@dataclass
class Job:
    """A job in a folder; a case changes it before the command runs."""

    folder: Path
    teacher: Path
    open_later: ExitStack
    command: str = "check"

    @property
    def spec(self) -> Path:
        return self.folder / "potstill.yaml"

    def rows(self, split: str = "train") -> list[str]:
        return (self.folder / f"{split}.jsonl").read_text().splitlines()

    def write(self, data: str | bytes, split: str = "train") -> None:
        (self.folder / f"{split}.jsonl").write_bytes(data if isinstance(data, bytes) else data.encode())

    def replace_line(self, number: int, line: str) -> None:
        lines = self.rows()
        lines[number - 1] = line
        self.write("\n".join(lines) + "\n")

    def replace_row(self, number: int, **changes: object) -> None:
        self.replace_line(number, json.dumps(json.loads(self.rows()[number - 1]) | changes))

    def set(self, **sections: dict[str, object]) -> None:
        spec = yaml.safe_load(self.spec.read_text())
        for name, changes in sections.items():
            spec[name] = {**spec.get(name, {}), **changes}
        self.spec.write_text(yaml.safe_dump(spec))

    def model_copy(self, name: str = "model") -> Path:
        return Path(shutil.copytree(self.teacher, self.folder / name))

    def student(self, folder: Path) -> None:
        self.set(student={"model": str(folder)})
        self.command = "train"

    def over_http(self, *faults: Fault | None, always: Fault | None = None) -> OpenAIStub:
        stub = self.open_later.enter_context(OpenAIStub(faults=faults, always=always))
        self.set(teacher={"model": "tiny", "base_url": stub.base_url, "max_attempts": 2}, generation={"concurrency": 1})
        self.command = "generate"
        return stub


def message_row(*turns: tuple[object, object]) -> str:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in turns], "reference": "refund"})


def edit(change: Callable[[Job], object]) -> Callable[[Job], None]:
    def apply(job: Job) -> None:
        change(job)

    return apply


def broken_line_among_thousands(job: Job) -> None:
    rows = [json.dumps({"prompt": f"row {i} of very many", "completion": LABELS[i % 3]}) for i in range(5000)]
    rows[3332] = '{"prompt": "row 3332'
    job.write("\n".join(rows))


def truncate_weights(job: Job) -> None:
    folder = job.model_copy()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    job.student(folder)


def pickled_weights(job: Job) -> None:
    folder = without(job.model_copy(), "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    job.student(folder)


def duplicate_in_test(job: Job) -> None:
    job.write("\n".join([*job.rows("test"), job.rows()[0].replace("train-0", "test-x")]), "test")


def read_only_run_folder(job: Job) -> None:
    # A file where a folder is needed: root may write into read-only folders, but nobody makes folders in a file.
    (job.folder / "runs").write_text("in the way")
    job.command = "generate"


def full_disk(job: Job) -> None:
    job.command = "generate"
    (job.folder / "runs" / "job" / "data").mkdir(parents=True)
    (job.folder / "runs" / "job" / "events.jsonl").symlink_to("/dev/full")


def damaged_ledger(job: Job) -> None:
    ledger = job.folder / "runs" / "job" / "generation" / "ledger.sqlite"
    ledger.parent.mkdir(parents=True)
    ledger.write_text("not a ledger, but somebody's notes")
    job.command = "generate"


CASES: dict[str, tuple[Callable[[Job], None], Words]] = {
    # the spec
    "spec missing": (lambda job: job.spec.unlink(), ("no such file", "potstill init")),
    "spec empty": (lambda job: job.spec.write_text("") and None, ("is empty", "potstill init")),
    "spec not YAML": (edit(lambda job: job.spec.write_text("name: [x\ntask: y")), ("potstill.yaml:2", "not YAML")),
    "spec not UTF-8": (edit(lambda job: job.spec.write_bytes(b"name: caf\xe9")), ("not UTF-8",)),
    "spec a list": (edit(lambda job: job.spec.write_text("- a\n- b\n")), ("a spec is a mapping",)),
    "spec key twice": (edit(lambda job: job.spec.write_text(job.spec.read_text() + "\nseed: 1\nseed: 2\n")), ("`seed` stands twice",)),
    "unknown key": (edit(lambda job: job.set(training={"epoch": 2})), ("`training.epoch` is not a key", "did you mean `epochs`?")),
    "unknown task": (edit(lambda job: job.set(task={"type": "chat"})), ("`task.type`", "'nli'", 'found "chat"')),
    "labels for a summary": (edit(lambda job: job.set(task={"type": "summarization"})), ("labels belong to nli tasks",)),
    "negative epochs": (edit(lambda job: job.set(training={"epochs": -1})), ("`training.epochs`", "greater than 0", "found -1")),
    "a batch of nothing": (edit(lambda job: job.set(training={"batch_size": 0})), ("`training.batch_size`", "at least 1", "found 0")),
    "endless epochs": (edit(lambda job: job.set(training={"epochs": float("inf")})), ("`training.epochs`", "finite")),
    "a rate of nothing": (edit(lambda job: job.set(training={"learning_rate": 0})), ("`training.learning_rate`", "greater than 0")),
    "a rate that is no number": (
        edit(lambda job: job.set(training={"learning_rate": float("nan")})),
        ("`training.learning_rate`", "finite"),
    ),
    "no systems": (edit(lambda job: job.set(evaluation={"systems": []})), ("`evaluation.systems`", "must not be empty")),
    "no metrics": (edit(lambda job: job.set(evaluation={"metrics": []})), ("`evaluation.metrics`", "must not be empty")),
    "a seed too large": (
        edit(lambda job: job.spec.write_text(job.spec.read_text() + "\nseed: 4294967296")),
        ("`seed`", "less than 4294967296"),
    ),
    "an endless integer": (
        edit(lambda job: job.spec.write_text(job.spec.read_text() + "\nseed: " + "1" * 5000)),
        ("cannot be read as int",),
    ),
    "a spec inside itself": (edit(lambda job: job.spec.write_text("task: &t {type: *t}")), ("contains itself",)),
    "brackets without end": (edit(lambda job: job.spec.write_text("task: " + "[" * 5000)), ("nested too deep",)),
    "a key that is a number": (edit(lambda job: job.spec.write_text("1: x")), ("the key `1` is not text",)),
    "carved from an endpoint": (edit(lambda job: job.over_http()), ("carved out of a local model",)),
    "unknown metric": (edit(lambda job: job.set(evaluation={"metrics": ["acuracy"]})), ("acuracy", "accuracy")),
    # the rows
    "file missing": (edit(lambda job: (job.folder / "train.jsonl").unlink()), ("train.jsonl", "no such file")),
    "file a folder": (edit(lambda job: job.set(data={"train": "."})), ("folder",)),
    "file empty": (edit(lambda job: job.write("")), ("train.jsonl", "is empty")),
    "broken line among thousands": (broken_line_among_thousands, ("train.jsonl:3333", "not JSON")),
    "Latin-1": (
        edit(lambda job: job.write("\n".join(job.rows()).replace("Order", "Ördre").encode("latin-1"))),
        ("train.jsonl:1", "not UTF-8"),
    ),
    "UTF-16": (edit(lambda job: job.write("\n".join(job.rows()).encode("utf-16"))), ("UTF-16",)),
    "NUL bytes": (edit(lambda job: job.replace_line(4, "\0\0\0")), ("train.jsonl:4", "NUL")),
    "a JSON list": (edit(lambda job: job.write("[" + ",".join(job.rows()) + "]")), ("JSON list", "one object a line")),
    "a line that is no object": (edit(lambda job: job.replace_line(2, "[1, 2]")), ("train.jsonl:2", "a list")),
    "10 MB line": (edit(lambda job: job.replace_row(2, rationale="x" * 11_000_000)), ("train.jsonl:2", "longer than 10 MB")),
    "wrong role": (edit(lambda job: job.replace_line(3, message_row(("asistant", "hi")))), ("train.jsonl:3", '"asistant" is not one of')),
    "roles out of order": (
        edit(lambda job: job.replace_line(3, message_row(("user", "a"), ("user", "b")))),
        ("train.jsonl:3", "alternate"),
    ),
    "system turn last": (
        edit(lambda job: job.replace_line(3, message_row(("user", "a"), ("system", "b")))),
        ("train.jsonl:3", "system turn stands first"),
    ),
    "assistant first": (
        edit(lambda job: job.replace_line(3, message_row(("assistant", "a"), ("user", "b")))),
        ("train.jsonl:3", "must be the user's"),
    ),
    "empty content": (edit(lambda job: job.replace_line(5, message_row(("user", " ")))), ("train.jsonl:5", "is empty")),
    "content a number": (edit(lambda job: job.replace_line(5, message_row(("user", 7)))), ("train.jsonl:5", "is a number, must be text")),
    "no messages": (edit(lambda job: job.replace_line(5, '{"text": "x"}')), ("train.jsonl:5", 'neither "messages" nor "prompt"')),
    "misspelt key": (edit(lambda job: job.replace_row(5, refernce="refund")), ("train.jsonl:5", 'did you mean "reference"?')),
    "label outside the set": (edit(lambda job: job.replace_row(6, reference="refnud")), ("train.jsonl:6", "refnud", "refund")),
    "duplicate ids": (edit(lambda job: job.replace_row(6, id="train-0")), ("train.jsonl:6", "train-0")),
    "row stands in test too": (duplicate_in_test, ("test", "test_duplicates")),
    "CSV without the column": (
        edit(lambda job: ((job.folder / "a.csv").write_text("question,answer\nx,refund\n"), job.set(data={"train": "a.csv"}))),
        ("prompt", "question, answer"),
    ),
    "no references for labels_from": (
        edit(lambda job: (job.set(task={"labels": None, "labels_from": "data"}), job.write('{"prompt": "x"}\n{"prompt": "y"}\n'))),
        ("labels",),
    ),
    # models on disk
    "no such model": (
        edit(lambda job: job.set(teacher={"model": "smolm2-135m-instruct"})),
        ("smolm2-135m-instruct", "smollm2-135m-instruct"),
    ),
    "model folder missing": (edit(lambda job: job.set(teacher={"model": "./nowhere"})), ("nowhere",)),
    "no tokenizer": (edit(lambda job: job.student(without(job.model_copy(), "tokenizer.json"))), ("no tokenizer",)),
    "no config": (edit(lambda job: job.student(without(job.model_copy(), "config.json"))), ("config.json",)),
    "no weights": (edit(lambda job: job.student(without(job.model_copy(), "model.safetensors"))), ("no weights",)),
    "a pickle": (pickled_weights, ("pickle", "safetensors")),
    "cut weights": (truncate_weights, ("model.safetensors",)),
    "no chat template": (edit(lambda job: job.student(without(job.model_copy(), "chat_template.jinja"))), ("chat_template",)),
    "more layers than there are": (
        edit(lambda job: (job.set(student={"carve": {"layers": 9}}), setattr(job, "command", "train"))),
        ("`student.carve.layers` is 9", "has 4"),
    ),
    # endpoints
    "key variable not set": (
        edit(lambda job: (job.over_http(), job.set(student={"model": str(job.teacher)}, teacher={"api_key_env": "NO_SUCH_KEY"}))),
        ("NO_SUCH_KEY",),
    ),
    "nobody listens": (
        edit(lambda job: (job.over_http(), job.set(student={"model": str(job.teacher)}, teacher={"base_url": "http://127.0.0.1:9/v1"}))),
        ("127.0.0.1:9",),
    ),
}

HTTP_FAULTS: dict[str, tuple[Fault, Words]] = {
    "401": (refused(401, "Incorrect API key provided"), ("401", "Incorrect API key provided")),
    "404": (refused(404, "The model `tiny` does not exist"), ("404", "The model `tiny` does not exist")),
    "429": (refused(429, "slow down", retry_after="0"), ("429",)),
    "500": (Fault(500, "oops"), ("500",)),
    "HTML": (HTML, ("a web page instead of JSON", "/v1")),
    "half a body": (HALF_A_BODY, ("the connection broke",)),
    "empty answer": (answered(""), ("empty",)),
}


def prompt(split: str, number: int) -> str:
    words = random.Random(f"{split}{number}").sample(string.ascii_lowercase, 8)
    return f"Order {number}: {' '.join(words)}?"


@pytest.fixture
def job(tmp_path: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    for split, count in (("train", 12), ("validation", 6), ("test", 6)):
        rows = [
            {
                "id": f"{split}-{i}",
                "messages": [{"role": "user", "content": prompt(split, i)}],
                "reference": LABELS[i % 3],
            }
            for i in range(count)
        ]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {
        "name": "job",
        "task": {"type": "nli", "labels": list(LABELS), "max_new_tokens": 4},
        "data": {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"},
        "teacher": {"model": str(tiny_teacher)},
        "student": {"carve": {"layers": 2}},
        "gates": {"format": False, "truncation": False},
        "training": {"epochs": 1, "batch_size": 4, "evaluations": 1},
    }
    (tmp_path / "potstill.yaml").write_text(yaml.safe_dump(spec))
    monkeypatch.chdir(tmp_path)
    with ExitStack() as open_later:
        yield Job(tmp_path, tiny_teacher, open_later)


def complaint(job: Job, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says when it refuses; its inputs must be as they were."""
    before = {path: path.read_bytes() for path in job.folder.rglob("*") if path.is_file() and "runs" not in path.parts}
    with pytest.raises(SystemExit) as stopped:
        main([job.command, str(job.spec)])
    printed = capsys.readouterr()
    text = printed.out + printed.err
    assert stopped.value.code in (1, 2), text
    assert "Traceback" not in text
    assert {path: path.read_bytes() for path in before} == before
    return text


def test_the_job_that_all_cases_break_is_sound(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["check", str(job.spec)])
    assert not stopped.value.code, capsys.readouterr()


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_gets_one_clear_message(name: str, job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    change, words = CASES[name]
    change(job)
    text = complaint(job, capsys)
    assert [word for word in words if word not in text] == [], text


@pytest.mark.parametrize("name", HTTP_FAULTS)
def test_an_endpoint_that_misbehaves_is_told(name: str, job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    fault, words = HTTP_FAULTS[name]
    job.over_http(always=fault)
    job.set(student={"carve": None, "model": str(job.teacher)})
    text = complaint(job, capsys)
    assert [word for word in words if word not in text] == [], text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (read_only_run_folder, ("runs", "file")),
        (full_disk, ("disk is full", "run the same command again")),
        (damaged_ledger, ("ledger.sqlite", "not a ledger")),
    ],
)
def test_a_place_that_cannot_be_written_is_told(
    change: Callable[[Job], None], words: Words, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    change(job)
    text = complaint(job, capsys)
    assert [word for word in words if word not in text] == [], text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    (job.folder / "runs").mkdir(mode=0o500)
    job.command = "generate"
    assert "permission denied" in complaint(job, capsys)


def test_an_unwritable_cache_is_told(job: Job, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (job.folder / "cache").write_text("a file")
    monkeypatch.setenv("POTSTILL_CACHE", str(job.folder / "cache" / "inner"))
    with pytest.raises(SystemExit) as stopped:
        main(["models", "pull", "smollm2-135m-instruct"])
    printed = capsys.readouterr().err
    assert stopped.value.code == 1
    assert "cache" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("arguments", [["run"], ["rnu"], ["run", "x.yaml", "--nope"], ["check", "potstill.yaml", "--set", "x"]])
def test_a_command_line_that_cannot_be_understood_exits_with_two(arguments: list[str], job: Job, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_what_was_answered_before_the_endpoint_failed_is_kept(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    stub = job.over_http(*[None] * 5, refused(401, "expired"))
    job.set(student={"carve": None, "model": str(job.teacher)})
    complaint(job, capsys)
    asked = len(stub.calls)
    with pytest.raises(SystemExit) as stopped:
        main(["generate", str(job.spec)])
    assert not stopped.value.code, capsys.readouterr()
    assert (asked, len(stub.calls) - asked) == (6, 12 - 5)
