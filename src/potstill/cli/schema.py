"""`potstill schema`: the spec's JSON Schema, so that editors complete a spec."""

from __future__ import annotations

import typer

from potstill.spec import spec_schema


def schema() -> None:
    """Print the JSON Schema of the run spec."""
    typer.echo(spec_schema())
