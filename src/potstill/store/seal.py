"""The seal on a run's test rows: who opened them, for which weights, and when; written down before the rows are handed out.

`seal.json` stands in the run folder itself, so that what a stage discards does not take the count with it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from potstill.errors import SealedTestError, StoreError
from potstill.store.atomic import fingerprint, hash_file, read_object, write_json
from potstill.store.run import Run

SEAL_FILE = "seal.json"
PURPOSES = ("evaluation", "parity")
"""The only purposes for which the test rows may be read."""
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Opening:
    """One opening: `artefact` is the hash of the weights that were to answer, `rows` that of the test file, `at` is in UTC.

    `settings` is a fingerprint of all else that the figures depend on. An opening for the same four is the same opening.
    """

    purpose: str
    artefact: str
    rows: str
    settings: str
    at: str

    def tells_what(self, other: Opening) -> bool:
        """Whether the other can tell nothing that this one has not told."""
        return (self.purpose, self.artefact, self.rows, self.settings) == (other.purpose, other.artefact, other.rows, other.settings)


def require_purpose(purpose: str) -> None:
    """Raise SealedTestError unless this is what test rows are for."""
    if purpose not in PURPOSES:
        raise SealedTestError(
            f"the test rows are sealed until evaluation: {purpose!r} may not read them (only {' and '.join(PURPOSES)} may)"
        )


def break_seal(run: Run, purpose: str, artefact: str, settings: object) -> None:
    """Write down that the test rows are opened, unless this very opening is on record.

    So an evaluation that was killed and goes on is one opening, and one of other weights, of other rows or with other settings is
    another. Hold the run's lock. Raises SealedTestError where the purpose is another, StoreError where the record cannot be kept.
    """
    require_purpose(purpose)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    opening = Opening(purpose, artefact, hash_file(run.path("data", "test.jsonl")), fingerprint(settings), now)
    known = openings_of(run)
    if not any(opening.tells_what(earlier) for earlier in known):
        write_json(run.path(SEAL_FILE), {"schema_version": _VERSION, "openings": [asdict(one) for one in [*known, opening]]})


def openings_of(run: Run) -> list[Opening]:
    """Every opening on record, the first one first. Raises StoreError where the record is damaged."""
    path = run.path(SEAL_FILE)
    if not path.exists():
        return []
    try:
        return [Opening(**found) for found in read_object(path, "openings")["openings"]]
    except (StoreError, TypeError):
        raise StoreError(
            f"{path}: does not hold what Potstill wrote any more, so nobody knows how often the test rows were opened; put it back, or "
            "start a run of another name"
        ) from None


def seal_to_json(run: Run) -> dict[str, Any]:
    """What `report.json` holds under `seal`.

    `opened` counts the openings of the rows that are the test now, `openings` are these; `of_other_rows` counts those of earlier test rows.
    """
    path, openings = run.path("data", "test.jsonl"), openings_of(run)
    rows = hash_file(path) if path.exists() else None
    mine = [one for one in openings if one.rows == rows]
    return {
        "opened": len(mine),
        "of_other_rows": len(openings) - len(mine),
        "openings": [{"purpose": one.purpose, "artefact": one.artefact, "at": one.at} for one in mine],
    }


def weights_hash(run: Run) -> str:
    """The hash of the student's weights: of the file, as `sha256sum` prints it; of several, one of them all.

    Raises StoreError where no student has been trained.
    """
    folder = "training/best/"
    made = {path: digest for path, digest in run.stage("train").outputs().items() if path.startswith(folder)}
    weights = [digest for path, digest in sorted(made.items()) if path.endswith(".safetensors")]
    return weights[0] if len(weights) == 1 else fingerprint(weights or made)
