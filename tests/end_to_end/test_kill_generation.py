"""`potstill generate`, killed at random moments: nothing that was paid for is lost, and no cap is passed, as the server counts."""

from pathlib import Path

from killed_generation import kill_again_and_again


def test_a_generation_that_is_killed_again_and_again_loses_nothing_and_pays_no_more_than_its_cap(tmp_path: Path) -> None:
    tally = kill_again_and_again(tmp_path, kills=8, rows=200, seed=20)
    assert tally.kills == 8
    assert 0 < tally.asked_twice <= tally.in_flight
    assert (tally.lost, tally.duplicates) == (0, 0)
    assert all(tally.charged[kind] <= most for kind, most in tally.capped.items())
