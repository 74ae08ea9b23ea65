"""What the terminal shows of an event."""

import io

from rich.console import Console

from potstill.cli.show import PlainView, RichView, progress_text, seconds_text
from potstill.store.events import Event, Progressed, StageFinished, StageStarted


def test_seconds_read_as_a_clock() -> None:
    assert [seconds_text(s) for s in (0, 59.6, 125, 3725, None)] == ["0:00", "1:00", "2:05", "1:02:05", ""]


def test_progress_says_how_far_how_fast_how_long_and_how_dear() -> None:
    event = Progressed("generate", 120, 892, "answers", 4.13, 187.0, 0.12, "loss 1.2")
    assert progress_text(event) == "120/892 answers · 4.1/s · 3:07 left · $0.1200 · loss 1.2"


def test_progress_of_unknown_length_makes_no_promises() -> None:
    assert progress_text(Progressed("download", 5, None, "MB", 0.0, None)) == "5 MB"


def test_piped_output_is_plain(capsys) -> None:
    with PlainView() as view:
        view(StageFinished("data", 61, "12 rows"))
    assert capsys.readouterr().out == "  12 rows [1:01]\n"


def on_a_terminal(*events: Event) -> str:
    """All that a terminal is sent while these events come."""
    sent = io.StringIO()
    with RichView(Console(file=sent, force_terminal=True, width=120)) as view:
        for event in events:
            view(event)
    return sent.getvalue()


def test_something_moves_from_the_start_of_a_stage_to_its_first_progress() -> None:
    assert "getting ready" in on_a_terminal(StageStarted("train"))
    shown = on_a_terminal(StageStarted("train"), Progressed("training", 1, 9, "steps", 1.0, 8.0))
    assert "getting ready" not in shown.rpartition("training")[2]
    assert "getting ready" not in on_a_terminal(StageStarted("train"), StageFinished("train", 1.0, "done")).rpartition("[0:01]")[2]
