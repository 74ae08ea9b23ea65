"""`potstill verify`: is a run still what its manifest says?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.show import shorten


def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, such as runs/NAME.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print every file with its status, as JSON.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Files that the manifest does not list are a failure, too.")] = False,
) -> None:
    """Hash every file of a run again, and compare with its manifest; exit with 1 where one was changed or is missing."""
    from potstill.report.verify import verify_run

    found = verify_run(run)
    failed = not found.stands or (strict and found.counts["not listed"] > 0)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
        raise typer.Exit(int(failed))
    for path, status in found.files.items():
        if status != "ok":
            typer.echo(f"{status:<12}{path}")
    told = ", ".join(f"{count:,} {status}" for status, count in found.counts.items() if count)
    typer.echo(f"{shorten(run)}: {told or 'the manifest lists no file'}")
    typer.echo(f"manifest {found.manifest}")
    raise typer.Exit(int(failed))
