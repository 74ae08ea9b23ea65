"""`potstill compare`: evaluated runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.run import RunsOption

RunsArgument = Annotated[list[Path], typer.Argument(metavar="RUN RUN ...", help="Folders of evaluated runs, or their names.")]
SystemOption = Annotated[str, typer.Option("--system", metavar="NAME", help="Which system of each run: student, sft, baseline, teacher.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print all that was found as JSON.")]


def compare(folders: RunsArgument, system: SystemOption = "student", as_json: JsonOption = False, runs: RunsOption = Path("runs")) -> None:
    """Hold evaluated runs against each other: scores, time, memory, cost, settings. The first is the one that others are compared with."""
    from potstill.pipeline.compare_runs import compare_runs
    from potstill.pipeline.compare_table import remarks, runs_table
    from potstill.pipeline.evaluated import find_run
    from potstill.report.table import show_table

    found = compare_runs([find_run(folder, runs) for folder in folders], system=system)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    show_table(runs_table(found))
    for line in remarks(found):
        typer.echo(line)
