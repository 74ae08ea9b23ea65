"""`potstill check`: every problem that can be known before anything is spent, and what the run will take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.run import RunsOption
from potstill.errors import SpecError
from potstill.spec import load_data_sections, load_spec


def check(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="The run spec, a YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the spec, as in training.epochs=5.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the teachers whether they answer.")] = False,
    runs: RunsOption = Path("runs"),
) -> None:
    """Find all mistakes in spec, data and models before anything is spent, and estimate what the run takes. Exits with 1 for any."""
    # Imported here, as in the other verbs: what one verb needs shall not slow down the others, nor `--help`.
    from potstill.cli.examine import Examination, Findings, examine_data

    try:
        loaded = load_spec(spec, overrides or ())
        found = Examination(loaded, runs / loaded.name, offline=offline).findings()
    except SpecError as error:
        found = Findings(problems=str(error).splitlines())
        data_sections = load_data_sections(spec, overrides or ())
        if data_sections is not None:
            examine_data(data_sections, found)
    for title, text in found.facts:
        typer.echo(f"{title:<12}{text}")
    for note in found.notes:
        typer.secho(f"{'note':<12}", fg="yellow", nl=False)
        typer.echo(note)
    for problem in found.problems:
        typer.secho(f"{'problem':<12}", fg="red", nl=False)
        typer.echo(problem)
    if found.problems:
        typer.echo(f"\n{len(found.problems)} problem{'' if len(found.problems) == 1 else 's'}; nothing was spent.")
        raise typer.Exit(1)
    typer.echo(f"\nNo problem found. `potstill run {spec}` starts it.")
