"""`potstill run` and the stages as verbs: the same pipeline, stopped after the stage that is named."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.show import TITLES, open_view, shorten
from potstill.pipeline import plan_run, run_pipeline
from potstill.spec import RunSpec, load_spec
from potstill.store.events import StageName
from potstill.store.run import Run

SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", help="The run spec, a YAML file.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the spec, as in training.epochs=5.")
]
RunsOption = Annotated[Path, typer.Option("--runs", metavar="DIR", envvar="POTSTILL_RUNS", help="Where run folders are kept.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]


def run(spec: SpecArgument, overrides: SetOption = None, runs: RunsOption = Path("runs"), dry_run: DryRunOption = False) -> None:
    """Distil: run what is not yet made of all stages, and show the comparison."""
    go(load_spec(spec, overrides or ()), runs, None, dry_run)


def adapt(spec: SpecArgument, overrides: SetOption = None, runs: RunsOption = Path("runs"), dry_run: DryRunOption = False) -> None:
    """Fine-tune the teacher on your gold rows, where the spec has `teacher.adapt`."""
    go(load_spec(spec, overrides or ()), runs, "adapt", dry_run)


def generate(spec: SpecArgument, overrides: SetOption = None, runs: RunsOption = Path("runs"), dry_run: DryRunOption = False) -> None:
    """Have the teacher answer the prompts, and the gates check the answers."""
    go(load_spec(spec, overrides or ()), runs, "generate", dry_run)


def train(spec: SpecArgument, overrides: SetOption = None, runs: RunsOption = Path("runs"), dry_run: DryRunOption = False) -> None:
    """Train the student, after what comes before it."""
    go(load_spec(spec, overrides or ()), runs, "train", dry_run)


def evaluate(spec: SpecArgument, overrides: SetOption = None, runs: RunsOption = Path("runs"), dry_run: DryRunOption = False) -> None:
    """Measure teacher, baseline and student on the test rows, after what comes before it."""
    go(load_spec(spec, overrides or ()), runs, "evaluate", dry_run)


def go(spec: RunSpec, runs: Path, until: StageName | None, dry_run: bool) -> None:
    """Run the pipeline with a view of it, and end with the table where the report is among the stages."""
    folder = runs / spec.name
    if dry_run:
        plans = plan_run(spec, folder, until=until)
        for plan in plans:
            typer.echo(f"{TITLES[plan.stage]:<10}{plan.action:<8}{plan.reason}")
        todo = {plan.stage for plan in plans if plan.action != "skip"}
        if "generate" in todo:
            show_price(spec, folder, evaluates="evaluate" in todo)
        return
    with open_view() as view:
        finished = run_pipeline(spec, folder, until=until, listeners=(view,))
    if until in (None, "report"):
        show_result(finished)


def show_price(spec: RunSpec, folder: Path, *, evaluates: bool) -> None:
    """Print what the teachers would be asked, and what that costs; nobody is asked, nothing is written."""
    from potstill.cli.examine import Findings, foresee_asking

    found = Findings()
    foresee_asking(spec, folder, found, evaluates=evaluates)
    typer.echo()
    for title, text in found.facts:
        typer.echo(f"{title:<10}{text}")
    if found.problems:
        count = len(found.problems)
        typer.echo(f"unknown   what it takes: {count} problem{'' if count == 1 else 's'} in data or models, which `potstill check` lists")


def show_result(finished: Run) -> None:
    """Print the comparison table, and where report and student are."""
    from potstill.report.table import print_table
    from potstill.store.atomic import read_json

    print_table(read_json(finished.path("report.json")))
    typer.echo(f"report   {shorten(finished.path('report.html'))}")
    typer.echo(f"student  {shorten(finished.path('training', 'best'))}")
