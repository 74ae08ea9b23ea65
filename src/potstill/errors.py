"""Every error that Potstill raises on purpose.

PotstillError                  a user can act on it; the CLI prints its message alone and exits with 1
├── UsageError                 the command line cannot be understood; exit 2
├── SpecError                  the run spec, or a file that it names, is not acceptable
├── DataError                  a row or a data file is not acceptable
│   └── SealedTestError        somebody other than evaluation or export parity opened the test split
├── ModelError                 a model cannot be loaded, or asked
│   ├── CapabilityError        the model cannot do what a stage needs of it
│   ├── EndpointError          an endpoint broke the contract (key, address, model name): the run stops
│   └── BudgetError            a cap on dollars, tokens, calls or minutes is reached, or cannot be kept
├── StoreError                 a file or folder cannot be read or written (disk full, read-only, locked)
├── EngineError                a cluster cannot be reached, or its workers cannot do their work
├── TrainingError              training cannot go on (loss not finite, nothing to train on)
└── JobError                   a job or a registered model is not there, or not in the needed state

A message says what was found, what is allowed, and what to do. Broken invariants are `assert`s, not errors.
"""

from __future__ import annotations

from collections.abc import Sequence


class PotstillError(Exception):
    """The root: anything that a user can act on."""

    exit_code = 1


class UsageError(PotstillError):
    """The command line cannot be understood."""

    exit_code = 2


class SpecError(PotstillError):
    """The run spec, or a file that it names, is not acceptable."""


class DataError(PotstillError):
    """Rows or a data file are not acceptable; `problems` holds each of them, one line a problem."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems) or (message,)


class SealedTestError(DataError):
    """Somebody other than evaluation or export parity opened the test split."""


class ModelError(PotstillError):
    """A model cannot be loaded, or asked."""


class CapabilityError(ModelError):
    """The model cannot do what a stage needs of it."""


class EndpointError(ModelError):
    """An endpoint broke the contract (key, address, model name): asking again cannot help."""


class BudgetError(ModelError):
    """A cap on dollars, tokens, calls or minutes is reached, or cannot be kept: nothing more is asked."""


class StoreError(PotstillError):
    """A file or folder cannot be read or written."""


class EngineError(PotstillError):
    """A cluster cannot be reached, or its workers cannot do their work."""


class TrainingError(PotstillError):
    """Training cannot go on."""


class JobError(PotstillError):
    """A job or a registered model is not there, or not in the needed state."""
