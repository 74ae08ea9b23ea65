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

TITLES = {"data": "Data", "adapt": "Adapt", "generate": "Generate", "train": "Train", "evaluate": "Evaluate", "report": "Report"}
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
            return _heading(event)
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


def _heading(event: StageStarted) -> str:
    """`Train (3 of 5, about 6 min left in all)`."""
    notes = [f"{event.place} of {event.places}"] if event.places else []
    if event.resumed:
        notes.append("goes on where it was cut")
    if event.expected_s is not None and event.after_s is not None:
        # From the beginning of the stage: of one that was cut, some is done.
        notes.append(f"{'at most ' if event.resumed else ''}about {rough_text(event.expected_s + event.after_s)} left in all")
    told = f" ({', '.join(notes)})" if notes else ""
    return f"{TITLES[event.stage]}{told}"


def rough_text(seconds: float) -> str:
    """Seconds as a guess is told: `40 s`, `7 min`, `2.5 h`."""
    if seconds < 55:
        return f"{max(10, round(seconds, -1)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3600:.1f} h"


class Outlook:
    """How long the whole run still takes, as its events tell it."""

    def __init__(self) -> None:
        self._stage: StageStarted | None = None

    def hear(self, event: Event) -> None:
        """Note which stage is at work."""
        if isinstance(event, StageStarted):
            self._stage = event

    def left(self, event: Progressed) -> float | None:
        """Seconds until the last stage ends: what was foretold less what has passed, and never less than the work at hand takes."""
        stage = self._stage
        if stage is None or stage.expected_s is None or stage.after_s is None:
            return None
        return max(stage.expected_s - (event.at - stage.at), event.eta_s or 0.0) + stage.after_s

    def text(self, event: Progressed) -> str:
        """`progress_text`, and how long the whole run still takes where that says more."""
        left = self.left(event)
        return progress_text(event) if left is None else f"{progress_text(event)} · {rough_text(left)} left in all"


def shorten(path: Path) -> Path:
    """A path below the working folder without its beginning."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


class PlainView:
    """Lines for pipes and logs: a line an event, and one every ten seconds of long work."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._outlook = Outlook()

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, event: Event) -> None:
        """Listen to one event."""
        self._outlook.hear(event)
        if isinstance(event, Progressed):
            now = time.monotonic()
            if now - self._last < _PLAIN_SECONDS:
                return
            self._last = now
            text: str | None = f"  {event.task}: {self._outlook.text(event)}"
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
        self._outlook = Outlook()

    def __enter__(self) -> RichView:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Listen to one event."""
        self._outlook.hear(event)
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
        self._progress.update(self._task, completed=event.done, total=event.total, text=self._outlook.text(event))


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
