"""Training on cached targets: the teacher is read once, by whatever run comes first, and not needed after."""

# ruff: noqa: F811 (a fixture is imported, and asked for by its name)

import json
import os
import shutil

import pytest
from test_training_stage import make_run, summary, work  # noqa: F401 (a fixture)

from potstill.errors import CapabilityError, ModelError, SpecError
from potstill.models.folder import identity
from potstill.spec import RunSpec
from potstill.store.events import Progressed
from potstill.training import stage
from potstill.training.settings import targets_kind

CARVE = {"carve": {"layers": 2, "vocabulary": "data"}}
ALL = {"k": 10**6, "dtype": "float32"}


def first_losses(run):
    return [json.loads(line)["loss"] for line in run.path("training", "metrics.jsonl").read_text().splitlines() if "loss" in line]


def start_anew(run):
    """As after other inputs: all that belongs to one set of them goes."""
    for name in stage.DISCARD:
        path = run.path("training", name)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def test_all_tokens_cached_train_as_a_live_teacher_does(make_run):
    run = make_run(CARVE, targets={"kind": "live"})
    work(run)
    live = first_losses(run)
    start_anew(run)
    run = make_run(CARVE, targets={"kind": "top_k", **ALL})
    work(run)
    assert first_losses(run) == pytest.approx(live, rel=1e-3)


@pytest.mark.parametrize("kind", ["top_k", "sampled"])
def test_once_the_cache_stands_the_teacher_is_not_loaded(make_run, tiny_teacher, tmp_path, kind):
    teacher = shutil.copytree(tiny_teacher, tmp_path / "teacher")
    run = make_run(CARVE, teacher={"model": str(teacher), "device": "cpu"}, targets={"kind": kind})
    run.path("training").mkdir()
    kept = stage.keep_targets(run)
    assert (kept.rows, kept.new) == (12, 12)
    # All that is looked at stays as it was, but no weights can be read any more.
    weights = teacher / "model.safetensors"
    times = weights.stat()
    weights.write_bytes(bytes(times.st_size))
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    work(run, resumed=True)
    assert summary(run)["objective"] == "logits"
    assert stage.keep_targets(run).new == 0


def test_a_run_of_its_own_finds_what_another_has_cached(make_run, tmp_path):
    seen = []
    targets = {"kind": "top_k", "cache": str(tmp_path / "shared")}
    work(make_run(CARVE, targets=targets))
    shutil.rmtree(tmp_path / "run")
    work(make_run(CARVE, {"epochs": 1.0}, targets=targets, listeners=(seen.append,)))
    assert not [event for event in seen if isinstance(event, Progressed) and event.task == "teacher targets"]
    assert len(list((tmp_path / "shared").iterdir())) == 1


@pytest.mark.parametrize("change", [{"teacher_temperature": 2.0}, {"k": 4}, {"dtype": "float32"}, {"kind": "sampled"}])
def test_what_targets_depend_on_is_read_anew(make_run, change):
    for targets in ({"kind": "top_k"}, {"kind": "top_k"} | change):
        run = make_run(CARVE, targets=targets)
        run.path("training").mkdir(exist_ok=True)
        assert stage.keep_targets(run).new == 12
    assert len(list(run.path("training", "targets").iterdir())) == 2


def test_where_targets_are_kept_changes_nothing_that_is_learnt(make_run, tmp_path):
    assert stage.inputs(make_run(CARVE)) == stage.inputs(make_run(CARVE, targets={"cache": str(tmp_path / "shared")}))


def test_a_training_resumed_on_cached_targets_ends_with_the_same_weights(make_run):
    run = make_run(CARVE)
    work(run)
    expected = identity(run.path("training", "best"))
    for name in ("summary.json", "metrics.jsonl"):
        run.path("training", name).unlink()
    shutil.rmtree(run.path("training", "best"))
    shutil.rmtree(run.path("training", "targets"))
    work(run, resumed=True)
    assert identity(run.path("training", "best")) == expected


def spec(targets, **training) -> RunSpec:
    sections = {"task": {"type": "summarization"}, "data": {"train": "t"}, "teacher": {"model": "t"}, "student": {"carve": {"layers": 1}}}
    return RunSpec.model_validate({"name": "x", **sections, "targets": targets, "training": training})


@pytest.mark.parametrize(
    ("kind", "epochs", "chosen"), [("auto", 1, "live"), ("auto", 1.5, "top_k"), ("live", 3, "live"), ("top_k", 1, "top_k")]
)
def test_auto_caches_where_rows_are_read_more_than_once(kind, epochs, chosen):
    assert targets_kind(spec({"kind": kind}, epochs=epochs)) == chosen


@pytest.mark.parametrize("kind", ["live", "top_k", "sampled"])
def test_probabilities_are_not_asked_for_where_text_is_learnt(kind):
    with pytest.raises(ValueError, match=rf"`targets\.kind: {kind}` needs the teacher's probabilities: set `training\.objective: logits`"):
        spec({"kind": kind}, objective="sft")


@pytest.mark.parametrize("divergence", ["reverse_kl", "jensen_shannon", "total_variation"])
def test_draws_are_refused_for_a_divergence_that_is_not_linear_in_them(divergence):
    with pytest.raises(ValueError, match=rf"`targets\.kind: sampled` is right on average .* not for {divergence}"):
        spec({"kind": "sampled"}, divergence=divergence)


def test_probabilities_of_an_endpoint_cannot_be_cached(make_run, tmp_path):
    run = make_run({"model": str(tmp_path)}, teacher={"model": "m", "base_url": "http://127.0.0.1:1/v1"}, targets={"kind": "top_k"})
    with pytest.raises(CapabilityError, match=r"targets\.kind: top_k needs the teacher's probabilities, but the teacher m is an endpoint"):
        work(run)
    with pytest.raises(ModelError, match=r"`targets\.kind: top_k` needs the teacher's probabilities"):
        stage.preflight(run)


def test_there_is_nothing_to_keep_of_a_live_teacher_or_of_text(make_run):
    for targets, training, words in (
        ({"kind": "live"}, {}, r"`targets\.kind` is live; set `targets\.kind: top_k`"),
        ({}, {"epochs": 1.0}, r"is live, which `auto` is where `training\.epochs` is not above 1"),
    ):
        with pytest.raises(SpecError, match=words):
            stage.check_cached(make_run(CARVE, training, targets=targets))
    with pytest.raises(CapabilityError, match="the student learns the teacher's text"):
        stage.check_cached(make_run(CARVE, {"objective": "sft"}))
