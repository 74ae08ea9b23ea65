"""What the terminal shows of an event."""

from potstill.cli.show import PlainView, progress_text, seconds_text
from potstill.store.events import Progressed, StageFinished


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
