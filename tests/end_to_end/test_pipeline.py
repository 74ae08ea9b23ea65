"""One command from rows to report; what stands is skipped; a run that is told to stop says so."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from potstill.pipeline import plan_run, run_pipeline
from potstill.spec import load_spec
from tiny import tiny_llama

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
    for name, count in (("train", 24), ("validation", 6), ("test", 8)):
        rows = [
            {
                "id": f"{name}-{i}",
                "messages": [{"role": "user", "content": f"{name} {i}: which animal is this, a {ANIMALS[i % 4]} of size {i * 7}?"}],
                "reference": ANIMALS[i % 4],
            }
            for i in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
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
