"""The cache of targets: found by content, whole or not there, the same after a kill, and never mistaken for another."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from families import module

from limits import files_of_at_most
from potstill.errors import StoreError, TrainingError
from potstill.store.events import EventLog, Progressed
from potstill.training.batches import TokenRows, collate
from potstill.training.head import output_head, trained_hidden
from potstill.training.kernel import Pull, pulled_loss
from potstill.training.losses import forward_kl
from potstill.training.targets import LiveTeacher, StoredTargets
from potstill.training.targets.cache import TargetCache, row_keys
from potstill.training.targets.filling import Filling, fill
from potstill.training.targets.packing import SampledPacking, TopKPacking
from potstill.training.targets.reduce import Sampled, TopK

VOCABULARY = 512


def token_rows(count=12, seed=0) -> TokenRows:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(5, 20, count)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    trained = np.concatenate([np.arange(length) >= length // 2 for length in lengths])
    return TokenRows(generator.integers(0, VOCABULARY, starts[-1]).astype(np.int32), trained, starts, np.arange(count))


def some(rows: TokenRows, places) -> TokenRows:
    chosen = [rows[place] for place in places]
    starts = np.concatenate([[0], np.cumsum([len(row.ids) for row in chosen])])
    ids, trained = (np.concatenate([getattr(row, name) for row in chosen]) for name in ("ids", "trained"))
    return TokenRows(ids, trained, starts, np.arange(len(chosen)))


def whole(folder, **contents) -> TargetCache:
    return TargetCache(folder, {"teacher": "t", **contents}, TopKPacking(VOCABULARY, "float32"))


def filling(reduction=None, loaded=None, events=None, shard_positions=30, seed=0) -> Filling:
    def load():
        if loaded is not None:
            loaded.append(1)
        return LiveTeacher(module("smollm"), VOCABULARY)

    return Filling(load, reduction or TopK(VOCABULARY), seed, events or EventLog(), shard_positions)


def refuse():
    raise AssertionError("the teacher is not needed")


NOBODY = Filling(refuse, TopK(VOCABULARY), 0, EventLog())


def loss_and_gradients(targets, rows: TokenRows, places):
    student = module("smollm", seed=1)
    batch = collate([rows[place] for place in places], 0)
    loss = pulled_loss(trained_hidden(student, batch), output_head(student), [Pull(targets.at(batch), forward_kl)], chunk=7)
    loss.backward()
    gradients = [parameter.grad.clone() for parameter in student.parameters()]
    student.zero_grad()
    return [loss.detach(), *gradients]


def test_a_cache_of_all_tokens_gives_the_live_teachers_loss_and_gradients(tmp_path):
    rows, cache = token_rows(), whole(tmp_path)
    assert fill(cache, rows, filling()) == 12
    stored, live = StoredTargets(cache.rows(rows)), LiveTeacher(module("smollm"), VOCABULARY)
    for places in ([3, 0, 11, 7], [5], [1, 2]):
        pairs = zip(loss_and_gradients(stored, rows, places), loss_and_gradients(live, rows, places), strict=True)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_rows_in_another_order_and_run_are_found_and_only_new_ones_ask_the_teacher(tmp_path):
    rows, loaded, seen = token_rows(), [], []
    fill(whole(tmp_path), some(rows, range(8)), filling(loaded=loaded))
    cache = whole(tmp_path)
    assert fill(cache, some(rows, [7, 3, 3, 0]), NOBODY) == 0
    files = {path: path.read_bytes() for path in cache.folder.glob("shard-*")}
    assert fill(cache, rows, filling(loaded=loaded, events=EventLog(None, (seen.append,)))) == 4
    assert len(loaded) == 2
    assert all(path.read_bytes() == content for path, content in files.items()), "what stood is not written again"
    progress = [event for event in seen if isinstance(event, Progressed)]
    assert (progress[0].done, progress[-1].done, progress[-1].total, progress[-1].unit) == (8, 12, 12, "rows")
    assert "tokens/s" in progress[-1].note
    shuffled = some(rows, [7, 3, 11, 3, 0])
    alone, among = cache.rows(some(rows, [3])), cache.rows(shuffled)
    for name in ("ids_PK", "logp_PK", "tail_logp_P"):
        one, other = (
            getattr(store.take(np.arange(store.starts[row], store.starts[row + 1])), name) for store, row in ((alone, 0), (among, 3))
        )
        assert (one == other).all()


def test_equal_rows_are_kept_once(tmp_path):
    rows, cache = some(token_rows(), [4, 4, 4]), whole(tmp_path)
    assert fill(cache, rows, filling()) == 1
    assert cache.positions == int(rows[0].trained[1:].sum())


def test_a_row_is_known_by_its_tokens_and_by_which_of_them_are_trained():
    rows = token_rows(1)
    other = TokenRows(rows.ids, rows.trained.copy(), rows.starts, rows.examples)
    other.trained[-1] = False
    first = TokenRows(rows.ids, rows.trained.copy(), rows.starts, rows.examples)
    first.trained[0] = True
    assert row_keys(rows) != row_keys(other)
    assert row_keys(rows) == row_keys(first), "a first token is never trained"


@pytest.mark.parametrize("change", [{"teacher": "other"}, {"temperature": 2.0}, {"k": 8}])
def test_whatever_targets_depend_on_makes_another_cache(tmp_path, change):
    fill(whole(tmp_path), token_rows(), filling())
    other = whole(tmp_path, **change)
    assert len(other.missing(row_keys(token_rows()))) == 12
    assert other.folder != whole(tmp_path).folder


def test_draws_are_the_same_for_a_row_wherever_it_stands_and_others_with_another_seed(tmp_path):
    rows = token_rows()

    def drawn(name, places, seed=0):
        cache = TargetCache(tmp_path / name, {}, SampledPacking(VOCABULARY, 20))
        fill(cache, some(rows, places), filling(Sampled(20), seed=seed))
        store = cache.rows(some(rows, [3]))
        found = store.take(np.arange(store.starts[1]))
        return [set(zip(ids[ids >= 0], logp[ids >= 0], strict=True)) for ids, logp in zip(found.ids_PK, found.logp_PK, strict=True)]

    assert drawn("one", [3]) == drawn("two", [0, 1, 3, 2])
    assert drawn("one", [3]) != drawn("three", [3], seed=1)


def test_a_cache_under_the_name_of_another_is_refused(tmp_path):
    one, other = whole(tmp_path), whole(tmp_path, teacher="other")
    os.replace(other.folder / "cache.json", one.folder / "cache.json")
    with pytest.raises(StoreError, match=r"holds targets of another kind than its name says \(other teacher\).*Remove it"):
        whole(tmp_path)


def test_a_shard_of_another_cache_is_refused(tmp_path):
    one, other = whole(tmp_path), whole(tmp_path, teacher="other")
    fill(other, token_rows(), filling())
    os.replace(other.folder / "shard-00000.safetensors", one.folder / "shard-00000.safetensors")
    with pytest.raises(StoreError, match=r"shard-00000.*remove it and run the same command again"):
        whole(tmp_path)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def flip_a_number(path: Path) -> None:
    flip(path, 2000)


def flip_a_key(path: Path) -> None:
    flip(path, -20)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("damage", [flip_a_number, flip_a_key, cut])
def test_a_damaged_shard_is_named_and_made_anew_once_it_is_removed(tmp_path, damage):
    rows, cache = token_rows(), whole(tmp_path)
    fill(cache, rows, filling())
    path = cache.folder / "shard-00001.safetensors"
    sound = path.read_bytes()
    damage(path)
    with pytest.raises(StoreError, match=r"shard-00001.*remove it and run the same command again"):
        whole(tmp_path).rows(rows)
    path.unlink()
    again = whole(tmp_path)
    fill(again, rows, filling())
    assert path.read_bytes() == sound
    assert again.rows(rows).take(np.array([0])).known_P.all()


def test_a_full_disk_is_told_and_what_was_finished_stays(tmp_path):
    rows, cache = token_rows(), whole(tmp_path)
    fill(cache, some(rows, range(6)), filling())
    standing = sorted(cache.folder.glob("shard-*"))
    with files_of_at_most(10_000), pytest.raises(StoreError, match="larger than the file system or `ulimit -f` allows"):
        fill(cache, rows, filling())
    assert sorted(cache.folder.glob("shard-*")) == standing
    assert fill(whole(tmp_path), rows, filling()) == 6


def test_memory_that_runs_out_is_told_with_what_to_do(tmp_path):
    def too_large(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    with pytest.raises(
        TrainingError, match=r"memory ran out while the teacher read \d+ rows of up to \d+ tokens .*lower `training\.max_length`"
    ):
        fill(whole(tmp_path), token_rows(), filling(too_large))


DRIVER = """\
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_target_cache import fill, filling, token_rows, whole

last = int(sys.argv[2])

def look(request, arguments):
    if request == "os.rename" and str(arguments[1]).endswith(f"shard-{{last:05d}}.safetensors"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(look)
fill(whole(Path(sys.argv[1])), token_rows(), filling())
"""


def test_a_cache_that_was_killed_goes_on_and_ends_the_same_byte_by_byte(tmp_path):
    here = Path(__file__)
    script = DRIVER.format(paths=[str(here.parent), str(here.parents[2])])
    process = subprocess.run([sys.executable, "-c", script, str(tmp_path / "cut"), "1"], capture_output=True, text=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr
    killed, undisturbed = whole(tmp_path / "cut"), whole(tmp_path / "whole")
    assert [path.name for path in sorted(killed.folder.glob("shard-*"))] == ["shard-00000.safetensors"]
    assert 0 < len(killed.missing(row_keys(token_rows()))) < 12
    fill(undisturbed, token_rows(), filling())
    fill(killed, token_rows(), filling())
    names = [path.name for path in sorted(undisturbed.folder.glob("shard-*"))]
    assert len(names) == 3
    assert names == [path.name for path in sorted(killed.folder.glob("shard-*"))]
    for name in names:
        assert (killed.folder / name).read_bytes() == (undisturbed.folder / name).read_bytes()
