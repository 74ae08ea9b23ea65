"""The rows of a file as a list that stays on disk."""

from __future__ import annotations

from pathlib import Path

from potstill.data.intake import take_in
from potstill.data.ondisk import Dataset, DatasetWriter
from potstill.spec.sections import ColumnsSpec

__all__ = ["Dataset", "DatasetWriter", "load_dataset"]


def load_dataset(path: str | Path, columns: ColumnsSpec | None = None, conversation: bool = False) -> Dataset:
    """Read a JSONL, CSV or Parquet file, check every row, and open it as a Dataset.

    Rows are `{"messages": [...]}` with `reference`, `rationale`, `id`, `group` and `tags`; `{"prompt", "completion"}`; OpenAI
    fine-tuning rows; Azure ML distillation rows; or tables with named `columns`. A final assistant turn becomes the row's
    reference, except in a `conversation`, where the dialogue stays whole. The checked rows are kept in a private temporary
    file: memory stays flat, and the source may change meanwhile. Raises DataError with the problems of all rows.
    """
    source = Path(path)
    intake = take_in(source, split=source.stem, columns=columns or ColumnsSpec(), conversation=conversation)
    if intake.problems.count:
        raise intake.problems.error()
    return intake.rows
