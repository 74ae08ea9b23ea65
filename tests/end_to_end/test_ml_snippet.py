"""Code in the manner of Azure Machine Learning's SDK, as people have it, runs as it stands.

Once quickly, with a stub that teaches a tiny student; once with small real models: SmolLM2 behind a llama.cpp server teaches a
student that is cut out of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llama_server import llama_cpp_server
from potstill.errors import PotstillError
from potstill.ml import MLClient
from potstill.models.embedded import embedded_gguf, fetch_embedded
from potstill.models.testing import OpenAIStub
from potstill.models.weights import load_weights
from potstill.spec import WeightsSpec
from potstill.spec.sections import CarveSpec
from potstill.training.student import build_student
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


ROWS = [conversation(colour, thing) for colour in COLOURS for thing in THINGS]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a working folder below it, where the snippet runs."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.fixture(scope="module")
def smollm2() -> tuple[Path, Path]:
    """Folder and GGUF file of SmolLM2: the demo's, from the user's cache, and fetched there where they are missing."""
    try:
        return fetch_embedded(), embedded_gguf()
    except PotstillError as error:
        pytest.skip(f"the embedded teacher cannot be had: {error}")


def prepare(workplace: Path, base_url: str, train: int, validation: int, test: int, **settings: object) -> None:
    """The snippet's three files, and the config that says what its two models are."""
    ends = {"training": train, "validation": train + validation, "test": train + validation + test}
    start = 0
    for name, end in ends.items():
        (workplace / "work" / f"{name}_data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[start:end]))
        start = end
    config = {
        "workspace_folder": "workspace",
        "catalogue": {"deepseek-v3": {"base_url": base_url, "api_model": "teacher"}, "phi-4-mini": {"path": "models/small"}},
        "settings": SETTINGS | {key.replace("__", "."): value for key, value in settings.items()},
    }
    (workplace / "config.json").write_text(json.dumps(config))


def carve_student(origin: Path, folder: Path) -> None:
    """Two of the thirty layers, and the tokens of the rows."""

    def token_use(tokenizer: Any) -> list[list[int]]:
        return [tokenizer(message["content"])["input_ids"] for row in ROWS for message in row["messages"]]

    build_student(load_weights(WeightsSpec(model=str(origin))), CarveSpec(layers=2, vocabulary="data"), token_use, folder)


def test_the_snippet_runs_with_nothing_but_its_imports_changed(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    tiny_llama(workplace / "models" / "small", layers=1)
    with OpenAIStub(lambda payload: f"Surely: {payload['messages'][-1]['content']}") as stub:
        prepare(workplace, stub.base_url, train=24, validation=4, test=6)
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


def test_the_snippet_distils_small_real_models(workplace: Path, smollm2: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    folder, gguf = smollm2
    carve_student(folder, workplace / "models" / "small")
    with llama_cpp_server(gguf, "teacher") as base_url:
        prepare(workplace, base_url, train=6, validation=2, test=3, gates__truncation=False)
        exec(compile(SNIPPET, "snippet.py", "exec"), names)
    assert "Performance improvement: " in capsys.readouterr().out
    assert list(names["evaluation_results"]) == ["accuracy", "bleu_score", "inference_time"]
    job = names["ml_client"].jobs.get(names["job"].name)
    assert job.status == "Completed"
    taught = [json.loads(line) for line in (job.folder / "generation" / "accepted.jsonl").read_text().splitlines()]
    answers = [message["content"] for row in taught for message in row["messages"] if message["role"] == "assistant"]
    assert len(set(answers)) > 1
    assert all(any(letter.isalpha() for letter in answer) for answer in answers), "a real teacher writes words"
    student = names["ml_client"].models.get("phi-4-mini-distilled")
    before = (workplace / "models" / "small" / "model.safetensors").read_bytes()
    assert (student.path / "model.safetensors").read_bytes() != before
