"""Events as lines of a log."""

from __future__ import annotations

from potstill.store.events import Event, Measured, Noticed, Progressed, RunFailed, RunStarted, StageFinished, StageSkipped, StageStarted


def event_line(event: Event) -> str | None:
    """One line for people; None for events that the lines around them tell already."""
    match event:
        case RunStarted():
            return f"{event.name}: started"
        case StageStarted():
            return _stage_line(event)
        case StageSkipped():
            return f"{event.stage}: stands already"
        case StageFinished():
            return f"{event.stage}: done in {event.seconds:.0f} s{f'; {event.summary}' if event.summary else ''}"
        case Progressed():
            return _progress_line(event)
        case Measured():
            return f"{event.task}, step {event.step}: " + ", ".join(f"{name} {value:.4g}" for name, value in event.values.items())
        case Noticed():
            return f"{event.level}: {event.text}"
        case RunFailed():
            return event.message
    return None


def _stage_line(event: StageStarted) -> str:
    place = f" ({event.place} of {event.places})" if event.places else ""
    known = event.expected_s is not None and event.after_s is not None
    left = f", about {(event.expected_s or 0) + (event.after_s or 0):.0f} s left in all" if known else ""
    return f"{event.stage}{place}: {'goes on where it was cut' if event.resumed else 'started'}{left}"


def _progress_line(event: Progressed) -> str:
    total = "" if event.total is None else f"/{event.total:,.0f}"
    left = "" if event.eta_s is None else f", {event.eta_s:.0f} s left"
    dollars = f", ${event.dollars:.4f}" if event.dollars else ""
    return f"{event.task}: {event.done:,.0f}{total} {event.unit}{left}{dollars}{f', {event.note}' if event.note else ''}"
