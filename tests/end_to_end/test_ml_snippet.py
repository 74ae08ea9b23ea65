"""Code in the manner of Azure Machine Learning's SDK, as people have it, runs as it stands: in process, on real tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from potstill.ml import MLClient
from potstill.models.testing import OpenAIStub
from tiny import tiny_llama

SNIPPET = """
from potstill.ml import MLClient, DistillationJob

ml_client = MLClient.from_config()          # config.json / potstill config found upwards from the working folder, else a default workspace folder
distillation_job = DistillationJob(
    teacher_model="deepseek-v3", student_model="phi-4-mini",
    training_data="./training_data.jsonl", validation_data="./validation_data.jsonl",
    task_type="conversation",
    hyperparameters={"learning_rate": 2e-5, "batch_size": 2, "num_epochs": 3, "temperature": 0.7},
)
job = ml_client.jobs.create_or_update(distillation_job)     # returns at once; the job runs in a process of its own
job_status = ml_client.jobs.get(job.name)
print(f"Job status: {job_status.status}")
evaluation_results = ml_client.models.evaluate(model_name="phi-4-mini-distilled", test_data="./test_data.jsonl",
                                               metrics=["accuracy", "bleu_score", "inference_time"])
baseline_results = ml_client.models.evaluate(model_name="phi-4-mini-baseline", test_data="./test_data.jsonl")
print(f"Performance improvement: {evaluation_results['accuracy'] - baseline_results['accuracy']}")
"""

COLOURS = ["red", "green", "blue", "black", "white", "brown", "pink", "grey", "teal", "gold"]
THINGS = ["hat", "car", "door", "ship"]
# What a small machine needs, and a test does not: the job itself stays the snippet's.
SETTINGS = {"task.max_new_tokens": 8, "evaluation.latency_rows": 1, "evaluation.resamples": 100, "data.test_duplicates": "allow"}


def conversation(colour: str, thing: str) -> dict[str, Any]:
    turns = [
        ("system", "You keep a shop."),
        ("user", f"Do you have a {colour} {thing}?"),
        ("assistant", f"Yes, one {colour} {thing} is left."),
        ("user", f"And what does the {thing} cost in {colour}?"),
        ("assistant", f"The {colour} {thing} costs {len(colour)} coins."),
    ]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the snippet's three files, in a project whose config stands above it."""
    tiny_llama(tmp_path / "models" / "tiny", layers=1)
    folder = tmp_path / "work"
    folder.mkdir()
    rows = [conversation(colour, thing) for colour in COLOURS for thing in THINGS]
    for name, part in (("training", rows[:24]), ("validation", rows[24:28]), ("test", rows[28:34])):
        (folder / f"{name}_data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    monkeypatch.chdir(folder)
    return tmp_path


def configure(workplace: Path, stub: OpenAIStub) -> None:
    config = {
        "workspace_folder": "workspace",
        "catalogue": {"deepseek-v3": {"base_url": stub.base_url, "api_model": "stub"}, "phi-4-mini": {"path": "models/tiny"}},
        "settings": SETTINGS,
    }
    (workplace / "config.json").write_text(json.dumps(config))


def test_the_snippet_runs_with_nothing_but_its_imports_changed(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    with OpenAIStub(lambda payload: f"Surely: {payload['messages'][-1]['content']}") as stub:
        configure(workplace, stub)
        exec(compile(SNIPPET, "snippet.py", "exec"), names)
        assert {call["temperature"] for call in stub.calls} == {0.7, 0.0}, "the job's own when it teaches, greedy when it is measured"
    output = capsys.readouterr().out
    assert "Job status: Running" in output
    assert "Performance improvement: " in output
    assert list(names["evaluation_results"]) == ["accuracy", "bleu_score", "inference_time"]
    assert all(isinstance(figure, float) for figure in names["evaluation_results"].values())
    assert "rouge_l" in names["baseline_results"]
    client: MLClient = names["ml_client"]
    job = client.jobs.stream(names["job"].name, lambda _: None)
    assert job.status == "Completed"
    assert [found.name for found in client.jobs.list()] == [job.name]
    assert {model.name for model in client.models.list()} == {"phi-4-mini-distilled", "phi-4-mini-baseline"}
    model = client.models.get("phi-4-mini-distilled")
    assert (model.version, model.job, model.task_type) == (1, job.name, "conversation")
    assert (model.path / "model.safetensors").is_file()
    learnt = json.loads((job.folder / "training" / "summary.json").read_text())
    assert (learnt["learning_rate"], learnt["batch_size"], learnt["epochs"]) == (2e-5, 2, 3.0)
