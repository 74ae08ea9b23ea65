"""`potstill gates`: the gates once more, over the answers that are there; and what each of them does for the student."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from potstill.cli.run import RunsOption, SetOption, SpecArgument
from potstill.cli.show import open_view, shorten
from potstill.pipeline import judge_again
from potstill.spec import RunSpec, load_spec
from potstill.store.atomic import read_json

AblateOption = Annotated[
    bool, typer.Option("--ablate", help="Train the student with and without each gate that drops rows, and compare on validation rows.")
]
SeedsOption = Annotated[int, typer.Option("--seeds", min=2, help="With --ablate: how many students of each kind.")]


def gates(
    spec: SpecArgument,
    overrides: SetOption = None,
    runs: RunsOption = Path("runs"),
    ablate: AblateOption = False,
    seeds: SeedsOption = 3,
) -> None:
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
    if ablate:
        _ablate(loaded, run.folder, seeds)


def _ablate(spec: RunSpec, folder: Path, seeds: int) -> None:
    from potstill.pipeline.ablation import ablate_gates
    from potstill.pipeline.ablation_table import ablation_table, conclusions
    from potstill.report.table import show_table

    with open_view() as view:
        found = ablate_gates(spec, folder, seeds=seeds, listeners=(view,))
    show_table(ablation_table(found), bold=("on − off", "on − random"))
    for line in conclusions(found):
        typer.echo(line)
    typer.echo(f"ablation  {shorten(folder / 'generation' / 'ablation.json')}")
