"""The `potstill` command: one verb a file; mistakes of users end in one message, without a traceback."""

from __future__ import annotations

import gc
import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from potstill import __version__
from potstill.cli import check, compare, data, demo, doctor, gates, init, models, report, run, schema, targets, verify
from potstill.errors import PotstillError

app = typer.Typer(
    name="potstill",
    help="Distil a large language model into a small one that you own, and know what was kept.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(demo.demo)
app.command()(init.init)
app.command()(check.check)
app.command()(run.run)
app.command()(run.adapt)
app.command()(run.generate)
app.command()(gates.gates)
app.command()(data.data)
app.command()(targets.targets)
app.command()(run.train)
app.command()(run.evaluate)
app.command()(report.report)
app.command()(compare.compare)
app.command()(verify.verify)
app.add_typer(models.models_app, name="models")
app.command()(doctor.doctor)
app.command()(schema.schema)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"potstill {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Options before the verb."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line (by default this process's); exit with 0, 1 (a user can act on the message), 2 (usage) or 130 (stopped)."""
    signal.signal(signal.SIGTERM, _stop)
    # What is imported stays: looking it through for garbage, again with each further import, is a part of every start.
    gc.freeze()
    try:
        app(arguments)
    except PotstillError as error:
        typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
        typer.echo(str(error), err=True)
        sys.exit(error.exit_code)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
