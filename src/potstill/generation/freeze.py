"""The accepted rows as they stand, frozen: Parquet beside the JSONL, and a manifest that tells each file's hash and rows."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from potstill.generation.export import export_rows
from potstill.spec import RunSpec
from potstill.store.atomic import fingerprint, hash_file, read_jsonl, write_json
from potstill.store.ledger_sums import Totals

MANIFEST, PARQUET = "manifest.json", "accepted.parquet"
_FILES = ("accepted.jsonl", "rejected.jsonl", "validation.jsonl")


def freeze(folder: Path, spec: RunSpec, spent: Totals) -> None:
    """Write `accepted.parquet`, where pyarrow is installed, and `manifest.json` into `folder`, from the JSONL files that stand there.

    The manifest holds of each file its SHA-256 and its count of rows; the SHA-256 of the spec's canonical JSON; and calls, tokens and
    dollars of the ledger's whole life (dollars are None where a price is unknown). Raises StoreError where the disk fails.
    """
    counts = {name: sum(1 for _ in read_jsonl(folder / name)) for name in _FILES}
    if importlib.util.find_spec("pyarrow") is not None:
        counts[PARQUET] = export_rows(read_jsonl(folder / "accepted.jsonl"), folder / PARQUET)
    else:
        (folder / PARQUET).unlink(missing_ok=True)  # one of other rows
    files = {name: {"sha256": hash_file(folder / name), "rows": rows} for name, rows in sorted(counts.items())}
    write_json(folder / MANIFEST, {"files": files, "spec": fingerprint(spec.model_dump(mode="json")), "spent": _spent(spent)})


def _spent(spent: Totals) -> dict[str, Any]:
    """What a resumed run has in common with one that was never stopped: neither seconds nor calls that a kill cut off."""
    return {
        "calls": spent.answered + spent.failed,
        "input_tokens": spent.usage.input_tokens,
        "output_tokens": spent.usage.output_tokens,
        "dollars": spent.dollars,
    }
