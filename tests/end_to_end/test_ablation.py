"""`potstill gates --ablate`: what each gate does for a real, tiny student, from the answers that are there, through stops and repeats."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from potstill.cli.main import app
from potstill.errors import DataError
from potstill.pipeline.ablation import ablate_gates
from potstill.spec import load_spec
from potstill.store.events import Noticed
from tiny import tiny_llama

SPEC = """
name: job
task: {{type: summarization, max_new_tokens: 4}}
data: {{train: train.jsonl, validation: validation.jsonl, test: test.jsonl, near_duplicate: 1.0}}
teacher: {{model: echo}}
student: {{model: {student}, device: cpu}}
training: {{epochs: 1, batch_size: 4, learning_rate: 0.01}}
evaluation: {{metrics: [chrf], resamples: 200}}
"""
WORDS = ("amber", "bronze", "coral", "denim", "ebony", "fawn", "ginger", "hazel", "ivory", "jade", "khaki", "lilac")
TOWNS = ("Genoa", "Cadiz", "Riga", "Odessa", "Tromso", "Galway", "Split", "Bergen", "Haifa", "Ostend", "Malmo", "Porto")


def write_rows(path: Path, texts: list[str], *, gold: bool) -> None:
    rows = [{"prompt": text} | ({"reference": text.split()[-1]} if gold else {}) for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten short answers are kept; four are longer than the task allows."""
    folder = tmp_path_factory.mktemp("ablation")
    short = [f"Say {word}" for word in WORDS[:10]]
    long = [f"Words that never come to an end, {word}" for word in WORDS[:4]]
    write_rows(folder / "train.jsonl", [*short, *long], gold=False)
    write_rows(folder / "validation.jsonl", [f"Name the sea near {town}" for town in TOWNS], gold=True)
    write_rows(folder / "test.jsonl", ["Something else altogether"], gold=True)
    (folder / "potstill.yaml").write_text(SPEC.format(student=tiny_llama(folder / "student", layers=1, hidden=16)))
    call(folder, "generate")
    return folder


def call(job: Path, verb: str, *arguments: str) -> str:
    result = CliRunner().invoke(app, [verb, str(job / "potstill.yaml"), "--runs", str(job / "runs"), *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def ablate(job: Path) -> str:
    return call(job, "gates", "--ablate", "--seeds", "2")


def generation(job: Path) -> Path:
    return job / "runs" / "job" / "generation"


def results(job: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in generation(job).glob("ablation/*/result.json")}


@pytest.fixture(scope="module")
def printed(job: Path) -> str:
    return ablate(job)


@pytest.fixture(scope="module")
def found(job: Path, printed: str) -> dict:
    return json.loads((generation(job) / "ablation.json").read_text())


def test_a_gate_that_dropped_rows_is_compared_with_its_absence_and_with_chance(found: dict) -> None:
    assert list(found["gates"]) == ["truncation"]
    assert {"format", "refusal", "verifier"} <= set(found["without_effect"])
    truncation = found["gates"]["truncation"]
    assert (found["on"]["rows"], truncation["dropped"], truncation["off"]["rows"], truncation["random"]["rows"]) == (10, 4, 14, 10)
    assert len(set(found["on"]["scores"])) == 2  # the students do answer, and differ
    assert (found["questions"], found["units"], found["seeds"]) == (12, 12, [0, 1])
    for key, other in (("on_minus_off", "off"), ("on_minus_random", "random")):
        effect = truncation[key]
        assert effect["value"] == pytest.approx(found["on"]["score"] - truncation[other]["score"])
        assert effect["interval"]["low"] <= effect["value"] <= effect["interval"]["high"]


def test_all_students_take_as_many_steps(found: dict, job: Path) -> None:
    courses = [json.loads(path.read_text())["training"] for path in generation(job).glob("ablation/*/result.json")]
    assert len(courses) == 2 * 3
    assert all(course == {"objective": "sft", "steps": 3, "batch_size": 4, "learning_rate": 0.01} for course in courses)


def test_the_table_is_plain_in_a_pipe(printed: str) -> None:
    lines = printed.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("gate "))
    assert lines[head].split("  ")[0].strip() == "gate"
    assert lines[head + 1].split()[:2] == ["truncation", "4"]
    assert "mean of seeds 0 to 1, on 12 validation questions" in printed
    assert "ablation.json" in lines[-1]


def test_no_weights_are_left_behind(printed: str, job: Path) -> None:
    assert list(generation(job).glob("ablation/**/*.safetensors")) == []


def test_what_was_trained_is_not_trained_again(found: dict, job: Path) -> None:
    before = results(job)
    ablate(job)
    assert results(job) == before
    assert json.loads((generation(job) / "ablation.json").read_text()) == found


def test_a_stopped_ablation_keeps_its_students_and_ends_as_one_that_was_not_stopped(found: dict, job: Path) -> None:
    spec, folder = load_spec(job / "potstill.yaml"), job / "runs" / "job"
    shutil.rmtree(generation(job) / "ablation")

    def stop(event: object) -> None:
        if isinstance(event, Noticed) and event.text.startswith("off truncation, seed 0"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ablate_gates(spec, folder, seeds=2, listeners=(stop,))
    before = results(job)
    assert len(before) == 2
    assert ablate_gates(spec, folder, seeds=2) == found
    assert before.items() <= results(job).items()


def test_other_settings_train_other_students(found: dict, job: Path) -> None:
    spec = load_spec(job / "potstill.yaml", ["training.learning_rate=0.02", "gates.refusal=false"])
    again = ablate_gates(spec, job / "runs" / "job", seeds=2)
    assert "refusal" not in again["without_effect"]
    assert again["training"]["learning_rate"] == 0.02
    assert again["on"]["scores"] != found["on"]["scores"]


def test_where_no_gate_keeps_a_row_out_nothing_is_trained(job: Path) -> None:
    before = results(job)
    printed = call(job, "gates", "--ablate", "--set", "gates.truncation=false")
    assert "no gate keeps a row out that the others let pass" in printed
    assert results(job) == before


def test_without_an_answer_to_compare_with_that_is_told(job: Path, tmp_path: Path) -> None:
    for path in job.glob("*.jsonl"):
        shutil.copy(path, tmp_path)
    shutil.copy(job / "potstill.yaml", tmp_path)
    write_rows(tmp_path / "validation.jsonl", [f"The sea, {town}" for town in TOWNS], gold=False)
    call(tmp_path, "generate", "--set", "gates.truncation=false")
    run = tmp_path / "runs" / "job"
    (run / "generation" / "validation.jsonl").unlink()
    with pytest.raises(DataError, match="add `reference` to validation rows"):
        ablate_gates(load_spec(tmp_path / "potstill.yaml"), run, seeds=2)
