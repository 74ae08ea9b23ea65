"""What the terminal shows of an event."""

import io
from dataclasses import replace

from rich.console import Console

from potstill.cli.show import Outlook, PlainView, RichView, progress_text, rough_text, seconds_text
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


BEGUN = StageStarted("train", place=3, places=5, expected_s=300.0, after_s=90.0, at=1000.0)


def moment(at: float, eta_s: float | None) -> Progressed:
    return Progressed("training", 10, 84, "steps", 0.5, eta_s, at=at)


def test_a_stage_is_headed_by_its_place_and_by_the_time_that_is_left(capsys) -> None:
    with PlainView() as view:
        view(BEGUN)
        view(replace(BEGUN, resumed=True))
        view(StageStarted("report", place=5, places=5))
        view(StageStarted("data"))
    assert capsys.readouterr().out.splitlines() == [
        "Train (3 of 5, about 6 min left in all)",
        "Train (3 of 5, goes on where it was cut, at most about 6 min left in all)",
        "Report (5 of 5)",
        "Data",
    ]


def test_what_is_left_is_what_was_foretold_less_what_has_passed_but_never_less_than_the_work_at_hand() -> None:
    outlook = Outlook()
    assert outlook.left(moment(1000.0, 5.0)) is None
    outlook.hear(BEGUN)
    assert outlook.left(moment(1100.0, 150.0)) == 200.0 + 90.0
    assert outlook.left(moment(1100.0, 250.0)) == 250.0 + 90.0
    assert outlook.left(moment(1500.0, None)) == 90.0
    assert outlook.text(moment(1100.0, 250.0)).endswith("4:10 left · 6 min left in all")
    outlook.hear(StageStarted("report"))
    assert outlook.left(moment(1600.0, 5.0)) is None


def test_guesses_are_told_roughly() -> None:
    assert [rough_text(s) for s in (0, 14, 54, 59, 400, 5399, 5400, 36000)] == [
        "10 s",
        "10 s",
        "50 s",
        "1 min",
        "7 min",
        "90 min",
        "1.5 h",
        "10.0 h",
    ]


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
