"""What every chart shares: how systems look, the theme, and the way from a Vega-Lite specification to SVG.

Colours are CSS variables of the page, so that one drawing suits light, dark and print. Vega (BSD-3-Clause) draws while the report is
written; the page itself loads and runs nothing of it.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup

WIDTH = 380
"""Pixels: a phone shows this without shrinking the letters, a desk shows several side by side."""

_SHAPES = {"teacher": "square", "baseline": "triangle-up", "student": "circle", "sft": "diamond"}
_EXTRA_SHAPES = ("cross", "triangle-down", "triangle-right", "triangle-left")
_FONT = "Arial, Helvetica, Liberation Sans, sans-serif"  # of one width on every system, so that letters fit where they were measured to
_CONFIG = {
    "background": None,
    "padding": {"left": 8, "right": 8, "top": 4, "bottom": 4},
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "titleFontWeight": "normal",
        "titleFontSize": 11.5,
        "labelFontSize": 11.5,
        "titlePadding": 8,
        "labelLimit": 150,
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "tickCount": 5,
        "labelPadding": 4,
    },
    "legend": {
        "labelColor": "var(--ink)",
        "labelFontSize": 11.5,
        "symbolSize": 70,
        "symbolOpacity": 1,
        "orient": "top",
        "title": None,
        "columns": 3,
        "columnPadding": 14,
    },
}

Spec = dict[str, Any]
Cells = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture with its words: `svg` is None where nothing can draw it, and the page shows the table (`columns`, `rows`) in its place."""

    title: str
    summary: str
    svg: Markup | None
    columns: Cells
    rows: tuple[Cells, ...]
    words: int = 1
    """How many of the table's columns, from the left, hold words."""
    table: str = "As a table"
    opened: bool = False
    """Whether the table is shown with the picture from the start."""


def draw(title: str, summary: str, spec: Spec, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Chart:
    """A chart of a Vega-Lite specification without its theme; the width is `WIDTH` where it says none.

    Text from data may stand in the specification's `values`, never in its field names or expressions.
    """
    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": WIDTH,
        "autosize": {"type": "fit", "contains": "padding"},
        "config": _CONFIG,
        **spec,
    }
    return Chart(title, summary, _svg(whole), tuple(columns), tuple(tuple(row) for row in rows))


def can_draw() -> bool:
    """Whether the library that draws is installed."""
    return _drawer() is not None


def values(rows: Iterable[dict[str, Any]]) -> Spec:
    """Rows of data as a specification holds them."""
    return {"values": list(rows)}


def by_system(systems: Sequence[tuple[str, str]]) -> Spec:
    """Colour and shape of each system, by the field `system`; `systems` are (key, title), and the field holds titles."""
    titles = [title for _, title in systems]
    looks = [_look(key, index) for index, (key, _) in enumerate(_extras_first(systems))]
    look = dict(zip((key for key, _ in _extras_first(systems)), looks, strict=True))
    legend = {"legend": None} if len(titles) < 2 else {}
    color = {"field": "system", "type": "nominal", "scale": {"domain": titles, "range": [look[key][0] for key, _ in systems]}, **legend}
    shape = {"field": "system", "type": "nominal", "scale": {"domain": titles, "range": [look[key][1] for key, _ in systems]}, **legend}
    return {"color": color, "shape": shape}


def without_legend(encoding: Spec) -> Spec:
    """The same colours and shapes, for a chart that names its systems otherwise."""
    return {channel: {**found, "legend": None} for channel, found in encoding.items()}


def nominal(field: str, **more: Any) -> Spec:
    """A channel of names, in the order of the data."""
    return {"field": field, "type": "nominal", "sort": None, **more}


def quantity(field: str, title: str | None = None, **more: Any) -> Spec:
    """A channel of numbers."""
    return {"field": field, "type": "quantitative", "title": title, **more}


def axis_of(field: str, title: str, numbers: Sequence[float], unit: Literal["s", "B"]) -> Spec:
    """A channel of seconds or bytes: from zero where they are of one size, logarithmic where they span more than a factor of eight."""
    label = {"labelExpr": f"format(datum.value, '~s') + '{unit}'", "labelOverlap": "greedy"}
    if max(numbers) <= 8 * min(numbers):
        return quantity(field, title, scale={"domain": [0, max(numbers) * 1.15], "nice": False}, axis=label)
    low, high = min(numbers) / 1.6, max(numbers) * 1.6
    return quantity(
        field, title, scale={"type": "log", "domain": [low, high], "nice": False}, axis={**label, "values": log_ticks(low, high)}
    )


def count_axis(most: float) -> Spec:
    """An axis of whole numbers, in thousands and millions where they are large."""
    return {"format": ",d" if most < 1e5 else "~s"}


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between two that are above zero: powers of ten over two decades and more, else 1, 2 and 5 times those."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if math.log10(high / low) > 2 else (1, 2, 5)
    return [tick for tick in (step * 10.0**decade for decade in decades for step in steps) if low <= tick <= high]


def _look(key: str, index: int) -> tuple[str, str]:
    if key in _SHAPES:
        return f"var(--{key})", _SHAPES[key]
    return f"var(--extra-{index % 4})", _EXTRA_SHAPES[index % 4]


def _extras_first(systems: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Extra systems first, so that the first of them has the first extra colour whatever stands before it."""
    return sorted(systems, key=lambda system: system[0] in _SHAPES)


def _svg(spec: Spec) -> Markup | None:
    drawer = _drawer()
    return None if drawer is None else Markup(drawer.vegalite_to_svg(json.dumps(spec)))


@functools.cache
def _drawer() -> Any:
    try:
        import vl_convert
    except ImportError:  # the base install: no run is made with it, but a report can be written again
        return None
    return vl_convert
