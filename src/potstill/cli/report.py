"""`potstill report`: the report of a spec's run, after what comes before it, or that of an evaluated run anew; and a browser to read it."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.run import DryRunOption, RunsOption, SetOption, go, show_result
from potstill.cli.show import open_view
from potstill.errors import UsageError
from potstill.spec import load_spec

SubjectArgument = Annotated[
    Path, typer.Argument(metavar="SPEC|RUN", help="The run spec, a YAML file; or the folder of an evaluated run, or its name.")
]
OpenOption = Annotated[bool, typer.Option("--open", help="Show the report in the browser.")]


def report(
    subject: SubjectArgument,
    overrides: SetOption = None,
    runs: RunsOption = Path("runs"),
    dry_run: DryRunOption = False,
    opened: OpenOption = False,
) -> None:
    """Write the report, of a SPEC after what comes before it, of an evaluated RUN anew from what is there; show the comparison."""
    if subject.is_file() or subject.suffix in (".yaml", ".yml"):
        spec = load_spec(subject, overrides or ())
        go(spec, runs, "report", dry_run)
        folder = runs / spec.name
    else:
        folder = _remake(subject, runs, [*(["--set"] if overrides else []), *(["--dry-run"] if dry_run else [])])
    if opened and not dry_run:
        show_in_browser(folder / "report.html")


def _remake(subject: Path, runs: Path, not_here: list[str]) -> Path:
    from potstill.pipeline.evaluated import find_run
    from potstill.pipeline.remake import remake_report

    folder = find_run(subject, runs)
    if not_here:
        raise UsageError(f"{not_here[0]} goes with a SPEC; the report of a run is made anew of what stands in {folder}")
    with open_view() as view:
        finished = remake_report(folder, listeners=(view,))
    show_result(finished)
    return folder


def show_in_browser(page: Path) -> None:
    """Open a page in the user's browser, or say where it is where none can be started."""
    if not webbrowser.open(page.absolute().as_uri()):
        typer.echo(f"no browser could be started here; open {page.absolute()} in one")
