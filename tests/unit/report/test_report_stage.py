import getpass
import json
import platform

import pytest

from potstill.errors import StoreError
from potstill.report import stage
from potstill.report.gather import gather_report, model_title, public_spec, question_rows, training_series
from potstill.report.machine import describe_machine, package_versions
from potstill.report.table import headline
from potstill.spec import RunSpec, spec_from_dict
from potstill.store.atomic import hash_file, read_json, write_json, write_jsonl
from potstill.store.events import StageFinished
from potstill.store.run import open_run

SYSTEMS = ("teacher", "baseline", "student")


@pytest.fixture
def run(tmp_path, content):
    """A run whose other stages are done; their files are written by hand."""
    raw = {
        "name": "docstrings",
        "task": {"type": "summarization"},
        "data": {"train": "secret-folder/train.jsonl"},
        "teacher": {"model": "gpt-x", "base_url": "https://api.example.org/v1", "headers": {"X-Org": "hunter2"}},
        "student": {"model": "./students/tiny"},
        "generation": {
            "judge": {"model": "j", "base_url": "http://127.0.0.1:9/v1", "headers": {"X-Org": "hunter2"}},
            "scorer": {"model": "s", "base_url": "http://127.0.0.1:9/v1", "headers": {"X-Org": "hunter2"}},
        },
        "targets": {"kind": "logprobs"},
    }
    run = open_run(spec_from_dict(raw, tmp_path), tmp_path / "run")
    sources = {"train": {"path": str(tmp_path / "secret-folder" / "train.jsonl"), "sha256": "0"}}
    write_json(run.path("data", "manifest.json"), {"rows": {"train": 3}, "sources": sources})
    write_json(run.path("generation", "usage.json"), content["generation"] | {"seconds": 1.5})
    steps = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "validation": {"rouge_l": 0.1}}]
    write_jsonl(run.path("training", "metrics.jsonl"), iter(steps))
    write_json(run.path("training", "summary.json"), {"steps": 2, "seconds": 9.0, "tokens_per_s": 100.0})
    write_json(run.path("evaluation", "scores.json"), {**content["evaluation"], "timings": content["timings"]["systems"]})
    questions = [
        {"id": str(index), "group": None, "messages": [{"role": "user", "content": f"q{index}"}], "references": []} for index in range(60)
    ]
    write_jsonl(run.path("evaluation", "questions.jsonl"), iter(questions))
    for system in SYSTEMS:
        replies = [{"id": str(index), "text": f"{system} {index}", "answer": "a", "finish_reason": "stop"} for index in range(60)]
        write_jsonl(run.path("evaluation", "predictions", f"{system}.jsonl"), iter(replies))
    made = {"data": "manifest.json", "generate": "usage.json", "train": "summary.json", "evaluate": "scores.json"}
    for name, file in made.items():
        record = run.stage(name)
        record.finish({}, [record.folder / file])
    run.events.emit(StageFinished("train", 9.5))
    return run


def test_the_four_files_are_written(run):
    summary = stage.work(run, resumed=False)
    assert all(path.exists() for path in stage.outputs(run))
    assert summary == headline(read_json(run.path("report.json")))
    assert headline(read_json(run.path("report.json"))) in run.path("model_card.md").read_text()


def test_manifest_holds_the_hash_of_every_file_that_was_made(run):
    stage.work(run, resumed=False)
    files = read_json(run.path("manifest.json"))["files"]
    assert {"report.json", "report.html", "model_card.md", "data/manifest.json", "evaluation/scores.json"} <= set(files)
    assert all(hash_file(run.path(name)) == digest for name, digest in files.items())


def test_what_the_clock_decides_stands_under_timings_alone(run):
    report = gather_report(run)
    assert report["timings"]["stages"] == {"train": 9.5}
    assert report["timings"]["training"] == {"seconds": 9.0, "tokens_per_s": 100.0}
    assert report["timings"]["generation"] == {"seconds": 1.5}
    rest = json.dumps({key: value for key, value in report.items() if key != "timings"})
    assert "seconds" not in rest
    assert "per_s" not in rest


def test_nothing_that_is_written_names_user_host_folder_or_secret(run, tmp_path):
    stage.work(run, resumed=False)
    written = "".join(path.read_text() for path in stage.outputs(run))
    for private in ("hunter2", "secret-folder", str(tmp_path), f"/{getpass.getuser()}/", f'"{platform.node()}"'):
        assert private not in written


def test_public_addresses_and_models_stay_recognisable(run):
    public = public_spec(run.spec)
    assert public["teacher"]["base_url"] == "https://api.example.org/v1"
    assert public["teacher"]["headers"] == {"X-Org": "…"}
    assert public["student"]["model"] == "tiny"
    assert public["data"]["train"] == "train.jsonl"
    assert model_title("org/name") == "org/name"
    assert model_title(None) is None


def test_whoever_the_spec_names_and_wherever_is_shown_without_headers_keys_and_folders():
    asked = {"model": "/home/someone/model", "base_url": "http://10.0.0.9/v1", "headers": {"X-Key": "hunter2"}, "api_key_env": "MY_KEY"}
    by_file = {key: value for key, value in asked.items() if key != "api_key_env"} | {"api_key_file": "/home/someone/key"}
    sections = {
        "name": "x",
        "task": {"type": "summarization"},
        "data": {"train": "/home/someone/train.jsonl"},
        "teachers": [asked | {"name": "one"}, by_file | {"name": "two"}],
        "student": {"model": "/home/someone/student"},
        "targets": {"kind": "logprobs", "cache": "/home/someone/cache"},
        "generation": {"judge": asked, "scorer": asked, "ledger": "/home/someone/ledger.sqlite"},
        "evaluation": {"compare": [{"model": asked | {"name": "three"}}, {"run": "/home/someone/run"}], "judge": {"model": asked}},
    }
    public = public_spec(RunSpec.model_validate(sections))
    for private in ("hunter2", "MY_KEY", "someone"):
        assert private not in json.dumps(public)
    assert [teacher["model"] for teacher in public["teachers"]] == ["model", "model"]
    assert public["teachers"][1]["headers"] == {"X-Key": "…"}
    assert (public["targets"]["cache"], public["generation"]["ledger"]) == ("cache", "ledger.sqlite")


def test_rows_join_questions_and_replies_line_by_line(run):
    rows = question_rows(run, 50)
    assert len(rows) == 50
    assert rows[7]["messages"][0]["content"] == "q7"
    assert [reply["text"] for reply in rows[7]["replies"].values()] == ["teacher 7", "baseline 7", "student 7"]


def test_training_figures_are_read_by_step(run):
    assert training_series(run) == ([(1, 3.0), (2, 2.0)], {"rouge_l": [(2, 0.1)]})


def test_inputs_follow_the_other_stages_files(run):
    before = stage.inputs(run)
    write_json(run.path("evaluation", "scores.json"), {})
    run.stage("evaluate").finish({}, [run.path("evaluation", "scores.json")])
    assert stage.inputs(run) != before


def test_a_report_before_the_evaluation_says_what_to_run_first(run):
    run.path("evaluation", "stage.json").unlink()
    with pytest.raises(StoreError, match="potstill evaluate"):
        stage.inputs(run)


def test_machine_is_described_without_its_name():
    machine = describe_machine()
    assert set(machine) == {"processor", "cores", "memory_bytes", "system", "python"}
    assert machine["cores"] >= 1
    assert package_versions()["numpy"]
