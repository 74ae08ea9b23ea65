"""Group commit: calls that were written down together leave a little apart, where there is time for it."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
from fake_endpoint import question
from virtual_time import Clock, run

from potstill.models.budget import Budget, Caps
from potstill.models.questions import Question
from potstill.models.stretch import Stretch
from potstill.models.writing import Writer
from potstill.records import Cost
from potstill.store.ledger import Ledger


def gaps_after(between_s: float, folder: Path, together: int = 8) -> list[float]:
    """Seconds between calls that are written down together, where calls usually come `between_s` apart."""

    async def story(clock: Clock) -> list[float]:
        with Ledger(folder / "ledger.sqlite") as ledger:
            writer = Writer(ledger, "fake", Stretch(ledger, Budget(Caps(), clock=clock)), by_the_hour=False)
            writing = asyncio.create_task(writer.run())
            for number in range(500):
                await asyncio.sleep(between_s)
                await writer.intend([Question(f"alone {number}", question("alone"))], [Cost(1)])
            times: list[float] = []

            async def call(number: int) -> None:
                await writer.intend([Question(f"together {number}", question("together"))], [Cost(1)])
                assert ledger.spent().calls == 500 + together, "it left before its intent was on disk"
                times.append(clock())

            await asyncio.gather(*(call(number) for number in range(together)))
            writing.cancel()
        return [later - before for before, later in itertools.pairwise(times)]

    return run(story)


@pytest.mark.parametrize(("between_s", "apart_s"), [(0.003, 0.0015), (5.0, 0.002), (0.0002, 0.0)])
def test_calls_that_are_written_down_together_leave_half_the_usual_time_apart(tmp_path, between_s, apart_s):
    assert gaps_after(between_s, tmp_path) == pytest.approx([apart_s] * 7, rel=0.15)


def test_who_is_cancelled_before_it_may_leave_is_let_go_in_silence(tmp_path):
    errors: list[dict[str, object]] = []

    async def story(clock: Clock) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            writer = Writer(ledger, "fake", Stretch(ledger, Budget(Caps(), clock=clock)), by_the_hour=False)
            writing = asyncio.create_task(writer.run())
            for start in range(0, 30, 3):
                await asyncio.sleep(1.0)
                calls = [asyncio.create_task(writer.intend([Question(str(start + n), question("a"))], [Cost(1)])) for n in range(3)]
                await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                calls[1].cancel()
                await calls[2]
            writing.cancel()

    run(story)
    assert not errors
