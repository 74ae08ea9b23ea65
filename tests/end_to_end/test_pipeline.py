"""One command from rows to report; what stands is skipped; a run that is told to stop says so."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from potstill.pipeline import plan_run, run_pipeline
from potstill.report.manifest import code_fingerprint
from potstill.report.verify import verify_run
from potstill.spec import load_spec
from tiny import tiny_llama, write_splits

ANIMALS = ("cat", "dog", "bird", "fish")

SPEC = """\
name: animals
task: {{type: nli, labels_from: data, max_new_tokens: 6}}
data: {{train: train.jsonl, validation: validation.jsonl, test: test.jsonl}}
teacher: {{model: {teacher}}}
student: {{carve: {{layers: 2, vocabulary: data}}}}
gates: {{format: false, truncation: false}}
targets: {{positions: all}}
generation: {{batch_size: 4}}
training: {{epochs: 3, batch_size: 4, learning_rate: 0.01, evaluations: 2}}
evaluation: {{latency_rows: 2, resamples: 200}}
"""


def write_job(folder: Path, teacher: Path) -> Path:
    def row(split: str, i: int) -> dict[str, Any]:
        question = f"{split} {i}: which animal is this, a {ANIMALS[i % 4]} of size {i * 7}?"
        return {"id": f"{split}-{i}", "messages": [{"role": "user", "content": question}], "reference": ANIMALS[i % 4]}

    write_splits(folder, row, train=24, validation=6, test=8)
    spec = folder / "potstill.yaml"
    spec.write_text(SPEC.format(teacher=teacher))
    return spec


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    return write_job(folder, tiny_llama(folder / "teacher", layers=3))


@pytest.fixture(scope="module")
def whole_run(job: Path) -> Path:
    folder = job.parent / "runs" / "whole"
    run_pipeline(load_spec(job), folder)
    return folder


def test_every_promised_file_is_there(whole_run: Path) -> None:
    promised = """spec.yaml events.jsonl data/train.jsonl data/manifest.json generation/ledger.sqlite generation/accepted.jsonl
        generation/rejected.jsonl generation/usage.json training/metrics.jsonl training/best/model.safetensors
        training/best/tokenizer.json evaluation/scores.json report.json report.html model_card.md manifest.json"""
    assert [name for name in promised.split() if not (whole_run / name).exists()] == []


def test_a_second_run_has_nothing_to_do(job: Path, whole_run: Path) -> None:
    before = (whole_run / "report.json").read_bytes()
    run_pipeline(load_spec(job), whole_run)
    events = [json.loads(line) for line in (whole_run / "events.jsonl").read_text().splitlines()]
    last_start = max(i for i, event in enumerate(events) if event["event"] == "RunStarted")
    kinds = [event["event"] for event in events[last_start:]]
    assert kinds == ["RunStarted", *["StageSkipped"] * 5, "RunFinished"]
    assert (whole_run / "report.json").read_bytes() == before


def test_the_manifest_tells_the_lineage_and_the_run_stands_by_it(whole_run: Path) -> None:
    manifest = json.loads((whole_run / "manifest.json").read_text())
    report = json.loads((whole_run / "report.json").read_text())
    weights = manifest["files"]["training/best/model.safetensors"]
    assert manifest["student"]["weights"] == {"training/best/model.safetensors": weights}
    assert [(opening["purpose"], opening["artefact"]) for opening in report["seal"]["openings"]] == [("evaluation", weights)]
    assert manifest["data"]["sources"]["test"]["path"] == "test.jsonl"
    assert manifest["teachers"][0]["model"] == "teacher"
    assert len(manifest["teachers"][0]["identity"]) == 64
    assert manifest["gates"]["on"].keys() == {"refusal", "verifier", "contamination"}
    assert "contamination" in manifest["gates"]["versions"]
    assert manifest["made_with"]["code"] == code_fingerprint()
    assert manifest["seeds"] == {"run": 0, "bootstrap": 0}
    assert report["leaks"].keys() == {"train_test", "answers_references"}
    assert {"spec.yaml", "seal.json", "data/test.jsonl", "generation/usage.json", "evaluation/leaks.json"} <= set(manifest["files"])
    found = verify_run(whole_run)
    assert (found.stands, found.counts["not listed"]) == (True, 0)


def test_a_run_that_was_changed_does_not_stand_until_it_is_made_again(job: Path, whole_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(whole_run, folder)
    path = folder / "generation" / "usage.json"
    path.write_text(path.read_text() + " ")
    assert {name for name, status in verify_run(folder).files.items() if status != "ok"} == {"generation/usage.json"}
    assert [plan.action for plan in plan_run(load_spec(job), folder)] == [*["skip"] * 4, "run"]
    run_pipeline(load_spec(job), folder)
    assert verify_run(folder).stands


def test_the_student_loads_without_potstill(whole_run: Path) -> None:
    code = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1]); tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "ids = tokenizer.apply_chat_template([{'role': 'user', 'content': 'a cat'}], add_generation_prompt=True, return_tensors='pt')\n"
        "model.generate(**ids, max_new_tokens=3, do_sample=False)\n"
        "assert 'potstill' not in sys.modules and model.config.num_hidden_layers == 2\n"
        "assert tokenizer.decode(tokenizer('Zebra äü 漢字 🙂').input_ids) == 'Zebra äü 漢字 🙂'\n"
    )
    command = [sys.executable, "-c", code, str(whole_run / "training" / "best")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_plan_names_what_a_change_touches_and_writes_nothing(job: Path, whole_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole_run.rglob("*")}
    assert [plan.action for plan in plan_run(load_spec(job), whole_run)] == ["skip"] * 5
    longer = plan_run(load_spec(job, ["training.epochs=4"]), whole_run)
    assert [plan.action for plan in longer] == ["skip", "skip", "run", "run", "run"]
    assert [plan.action for plan in plan_run(load_spec(job), whole_run.parent / "fresh", until="train")] == ["run"] * 3
    assert {path: path.stat().st_mtime_ns for path in whole_run.rglob("*")} == before


@pytest.mark.parametrize(("number", "shell"), [(signal.SIGINT, ""), (signal.SIGTERM, ""), (signal.SIGTERM, "trap '' INT; ")])
def test_a_run_that_is_told_to_stop_says_that_it_can_go_on(job: Path, number: signal.Signals, shell: str, tmp_path: Path) -> None:
    # Shells have background jobs ignore SIGINT, as `trap` does here: SIGTERM must work all the same.
    command = ["sh", "-c", shell + 'exec "$@"', "sh", sys.executable, "-m", "potstill", "run", str(job), "--runs", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Generate"):
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "The same command goes on from here" in out
    assert "Traceback" not in err
