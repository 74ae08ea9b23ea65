"""The splits of a run, and the seal on its test set."""

from __future__ import annotations

from typing import Literal

from potstill.data.contamination import HeldOut
from potstill.data.ondisk import Dataset
from potstill.errors import DataError, SealedTestError
from potstill.store.run import Run

Split = Literal["train", "validation", "test"]

TEST_PURPOSES = ("evaluation", "parity")
"""The only purposes for which the test rows may be read."""
HELD_OUT_FILE = "contamination.npz"


def open_split(run: Run, split: Split, purpose: str) -> Dataset:
    """The rows of a split, for a stated purpose.

    Raises SealedTestError where the test split is wanted for anything but evaluation or export parity, DataError where the
    data stage has not been run.
    """
    if split == "test" and purpose not in TEST_PURPOSES:
        raise SealedTestError(
            f"the test rows are sealed until evaluation: {purpose!r} may not read them (only {' and '.join(TEST_PURPOSES)} may)"
        )
    path = run.path("data", f"{split}.jsonl")
    if not path.exists():
        raise DataError(f"{path}: the {split} rows have not been prepared; `potstill run` does it")
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
