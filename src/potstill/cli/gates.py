"""`potstill gates`: the gates once more, over the answers that are there."""

from __future__ import annotations

from pathlib import Path

import typer

from potstill.cli.run import RunsOption, SetOption, SpecArgument
from potstill.cli.show import open_view
from potstill.pipeline import judge_again
from potstill.spec import load_spec
from potstill.store.atomic import read_json


def gates(spec: SpecArgument, overrides: SetOption = None, runs: RunsOption = Path("runs")) -> None:
    """Run all gates again over the answers that are there, without a call, and show what they keep and drop."""
    loaded = load_spec(spec, overrides or ())
    with open_view() as view:
        run, waiting = judge_again(loaded, runs / loaded.name, listeners=(view,))
    usage = read_json(run.path("generation", "usage.json"))
    for code, count in sorted(usage["codes"].items(), key=lambda item: -item[1]):
        typer.echo(f"  dropped  {code:<32}{count:>8,}")
    for code, count in sorted(usage["read_leniently"].items(), key=lambda item: -item[1]):
        typer.echo(f"  kept as  {code:<32}{count:>8,}")
    if waiting:
        typer.echo(f"{waiting:,} rows need further answers with these gates: `potstill generate {spec}` asks for them")
