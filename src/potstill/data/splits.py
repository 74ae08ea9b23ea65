"""The splits of a run, and the one door to its test rows."""

from __future__ import annotations

from typing import Literal

from potstill.data.contamination import HeldOut
from potstill.data.ondisk import Dataset
from potstill.errors import DataError, SealedTestError
from potstill.store.run import Run
from potstill.store.seal import break_seal, require_purpose

Split = Literal["train", "validation"]
"""What a run may learn from, and choose by."""

_OPEN: tuple[str, ...] = ("train", "validation")
HELD_OUT_FILE = "contamination.npz"


def open_split(run: Run, split: Split, purpose: str) -> Dataset:
    """The training or validation rows, for a stated purpose.

    Raises SealedTestError where the test rows are wanted, by this name or as a link under another; DataError where the data stage has
    not been run.
    """
    if split not in _OPEN:
        require_purpose(purpose)
        raise SealedTestError(f"the test rows are sealed: {purpose} opens them with `open_test`, which writes down for which weights")
    path, test = run.path("data", f"{split}.jsonl"), run.path("data", "test.jsonl")
    if not path.exists():
        raise DataError(f"{path}: the {split} rows have not been prepared; `potstill run` does it")
    if test.exists() and path.samefile(test):
        raise SealedTestError(f"the test rows are sealed until evaluation: {path} is a link to them, and {purpose!r} may not read them")
    return Dataset(path)


def open_test(run: Run, purpose: str, *, artefact: str, settings: object) -> Dataset:
    """The test rows, for evaluation or export parity alone; every opening is written down first (`store.seal`).

    `artefact` is the hash of the weights that are to answer them, `settings` all else that the figures depend on. Raises
    SealedTestError where the purpose is another, DataError where the data stage has not been run, StoreError where the opening cannot be
    written down.
    """
    require_purpose(purpose)
    path = run.path("data", "test.jsonl")
    if not path.exists():
        raise DataError(f"{path}: the test rows have not been prepared; `potstill run` does it")
    break_seal(run, purpose, artefact, settings)
    return Dataset(path)


def open_held_out(run: Run) -> HeldOut | None:
    """Hashes of the validation and test rows, which any stage may compare with; None where the spec allows test rows in training.

    Raises DataError where the data stage has not been run, StoreError where the file is damaged.
    """
    if run.spec.data.test_duplicates == "allow":
        return None
    path = run.path("data", HELD_OUT_FILE)
    if not path.exists():
        raise DataError(f"{path}: the held-out rows have not been hashed; `potstill run` does it")
    return HeldOut.load(path)
