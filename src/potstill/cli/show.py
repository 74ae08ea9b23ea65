"""What the terminal shows of a run: bars and colours for people, plain lines for pipes. It only listens to events."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from potstill.store.events import (
    Event,
    Measured,
    Noticed,
    Progressed,
    RunFailed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageSkipped,
    StageStarted,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

TITLES = {"data": "Data", "generate": "Generate", "train": "Train", "evaluate": "Evaluate", "report": "Report"}
_PLAIN_SECONDS = 10.0


def seconds_text(seconds: float | None) -> str:
    """Seconds in the shape `2:05` or `1:02:05`; empty where unknown."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def progress_text(event: Progressed) -> str:
    """`120/892 answers · 4.1/s · 3:08 left · $0.12 · loss 1.23`."""
    done = f"{event.done:,.0f}"
    parts = [f"{done}/{event.total:,.0f} {event.unit}" if event.total is not None else f"{done} {event.unit}"]
    if event.rate > 0:
        parts.append(f"{event.rate:,.0f}/s" if event.rate >= 10 else f"{event.rate:.2g}/s")
    if event.eta_s is not None and (event.total is None or event.done < event.total):
        parts.append(f"{seconds_text(event.eta_s)} left")
    if event.dollars:
        parts.append(f"${event.dollars:,.4f}")
    if event.note:
        parts.append(event.note)
    return " · ".join(parts)


def _line(event: Event) -> str | None:
    """One line for an event that is worth one."""
    match event:
        case RunStarted():
            return f"{event.name} → {shorten(Path(event.folder))}"
        case StageStarted():
            return f"{TITLES[event.stage]}{' (goes on where it was cut)' if event.resumed else ''}"
        case StageSkipped():
            return f"{TITLES[event.stage]}: stands already"
        case StageFinished():
            return f"  {event.summary} [{seconds_text(event.seconds)}]" if event.summary else None
        case Measured(values={"validation": value}):
            return f"  validation after step {event.step}: {value:.4f}"
        case Noticed():
            return f"  {'warning: ' if event.level == 'warning' else ''}{event.text}"
        case RunFinished():
            return f"Done in {seconds_text(event.seconds)}"
        case RunFailed(interrupted=True):
            return "Stopped. The same command goes on from here."
    return None


def shorten(path: Path) -> Path:
    """A path below the working folder without its beginning."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


class PlainView:
    """Lines for pipes and logs: a line an event, and one every ten seconds of long work."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, event: Event) -> None:
        """Listen to one event."""
        if isinstance(event, Progressed):
            now = time.monotonic()
            if now - self._last < _PLAIN_SECONDS:
                return
            self._last = now
            text: str | None = f"  {event.task}: {progress_text(event)}"
        else:
            text = _line(event)
        if text is not None:
            print(text, flush=True)


class RichView:
    """A bar for what is going on, lines for what is done."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self._console = console
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[text]}"))
        self._progress = Progress(*columns, console=console, transient=True)
        self._task: TaskID | None = None
        self._name = ""

    def __enter__(self) -> RichView:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Listen to one event."""
        if isinstance(event, Progressed):
            self._show(event)
            return
        if isinstance(event, StageStarted | StageFinished | RunFinished | RunFailed) and self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
            # Else what is printed next stands above the bar as it last was.
            self._progress.refresh()
        text = _line(event)
        if text is not None:
            self._progress.console.print(text, style=_style(event), highlight=False, markup=False)
        if isinstance(event, StageStarted):
            # Models are loaded, files read: seconds in which nothing can be counted yet.
            self._task, self._name = self._progress.add_task("getting ready", total=None, text=""), ""

    def _show(self, event: Progressed) -> None:
        if self._task is None or self._name != event.task:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(event.task, total=event.total, text="")
            self._name = event.task
        self._progress.update(self._task, completed=event.done, total=event.total, text=progress_text(event))


def _style(event: Event) -> str:
    if isinstance(event, StageStarted | RunFinished):
        return "bold"
    if isinstance(event, Noticed) and event.level == "warning":
        return "yellow"
    return "dim" if isinstance(event, StageSkipped | Measured) else "none"


def open_view() -> PlainView | RichView:
    """The view that fits: bars where a person looks, lines where a pipe or a log does."""
    if not sys.stdout.isatty():
        return PlainView()
    from rich.console import Console

    return RichView(Console())
