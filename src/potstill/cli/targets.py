"""`potstill targets`: the teacher's probabilities for the training rows, written to disk so that training needs no teacher."""

from __future__ import annotations

from pathlib import Path

import typer

from potstill.cli.run import DryRunOption, RunsOption, SetOption, SpecArgument, go
from potstill.cli.show import open_view, shorten
from potstill.spec import load_spec


def targets(spec: SpecArgument, overrides: SetOption = None, runs: RunsOption = Path("runs"), dry_run: DryRunOption = False) -> None:
    """Write down the teacher's probabilities for the training rows, after what comes before it; training then needs no teacher."""
    loaded = load_spec(spec, overrides or ())
    if dry_run:
        go(loaded, runs, "generate", dry_run=True)
        return
    from potstill.pipeline.targets import make_targets

    with open_view() as view:
        kept = make_targets(loaded, runs / loaded.name, listeners=(view,))
    typer.echo(f"rows     {kept.rows:,}, {kept.new:,} of them new")
    typer.echo(f"tokens   {kept.tokens:,}")
    typer.echo(f"size     {kept.bytes_per_token:.1f} bytes a token, {kept.bytes / 1e6:,.1f} MB in all")
    typer.echo(f"folder   {shorten(kept.folder)}")
