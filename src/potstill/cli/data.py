"""`potstill data`: the rows that the gates kept and dropped, to look at and to take along."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from potstill.cli.run import RunsOption, SetOption, SpecArgument
from potstill.errors import DataError, UsageError
from potstill.spec import load_spec
from potstill.store.atomic import read_jsonl

Row = dict[str, Any]
_DIM = "bright_black"


def data(  # noqa: PLR0917 (each is an option of the command line)
    spec: SpecArgument,
    overrides: SetOption = None,
    runs: RunsOption = Path("runs"),
    rejected: Annotated[bool, typer.Option("--rejected", help="Show what was dropped, with the reasons.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Of the dropped rows, those of this gate, or gate/code.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Of the kept rows, those with this tag.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many rows to show.")] = 10,
    export: Annotated[Path | None, typer.Option("--export", metavar="FILE", help="Write the rows to a file instead.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="jsonl, openai or parquet; by default by the file's ending.")] = None,
) -> None:
    """Show the rows that the gates kept, or dropped; or export them (JSONL, Parquet, OpenAI fine-tuning rows)."""
    dropped = rejected or reason is not None
    if dropped and tag is not None:
        raise UsageError("--tag goes with kept rows, --rejected and --reason with dropped ones: choose one")
    folder = runs / load_spec(spec, overrides or ()).name / "generation"
    path = folder / ("rejected.jsonl" if dropped else "accepted.jsonl")
    if not path.exists():
        raise DataError(f"{path}: nothing was generated yet; `potstill generate {spec}` does it")
    rows = (row for row in read_jsonl(path) if row.get("decided", True) and _wanted(row, reason, tag))
    if export is not None:
        from potstill.generation.export import export_rows

        typer.echo(f"{export_rows(rows, export, form):,} rows written to {export}")
        return
    _show(rows, limit, _show_dropped if dropped else _show_kept)


def _wanted(row: Row, reason: str | None, tag: str | None) -> bool:
    if reason is not None:
        return reason in (row["gate"], f"{row['gate']}/{row.get('code', '')}")
    return tag is None or tag in row.get("tags", ())


def _show(rows: Iterator[Row], limit: int, show: Any) -> None:
    shown = 0
    for row in islice(rows, limit):
        show(row)
        shown += 1
    more = sum(1 for _ in rows)
    typer.echo(f"{shown:,} rows shown" + (f", {more:,} more (--limit)" if more else ""))


def _show_kept(row: Row) -> None:
    facts = [row.get("teacher"), " ".join(row.get("tags", ())), _votes(row)]
    typer.secho(f"── {row['id']}  {' · '.join(fact for fact in facts if fact)}", bold=True)
    for turn in row["messages"]:
        typer.secho(f"{turn['role']:>10}  ", nl=False, fg=_DIM)
        typer.echo(_indented(turn["content"]))
    for title, text in (("reference", " | ".join(row.get("reference", ()))), ("rationale", row.get("rationale"))):
        if text:
            typer.secho(f"{title:>10}  ", nl=False, fg=_DIM)
            typer.echo(_indented(text))
    typer.echo()


def _show_dropped(row: Row) -> None:
    code = f"/{row['code']}" if row.get("code") else ""
    typer.secho(f"── {row['id']}  {row['gate']}{code}", bold=True, nl=False)
    typer.secho(f"  {row['split']}, {row.get('teacher', '')}", fg=_DIM)
    typer.echo(f"{'reason':>10}  {_indented(row['reason'])}\n{'answer':>10}  {_indented(row['text'])}\n")


def _votes(row: Row) -> str:
    return ", ".join(f"{answer} {share:.0%}" for answer, share in row.get("distribution", {}).items())


def _indented(text: str) -> str:
    return text.replace("\n", "\n" + " " * 12)
