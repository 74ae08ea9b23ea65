"""What a ledger adds up to: calls, tokens, dollars and seconds, of the run that it is open for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from potstill.records import Cost, Usage
from potstill.store.ledger_file import LedgerFile
from potstill.store.ledger_rows import marks


@dataclass(frozen=True, slots=True)
class Totals:
    """What a ledger has seen in all its life.

    `calls` = `answered` + `failed` + `orphaned` (killed or stopped) + those in flight. `dollars` is None where the price of some
    call is unknown. `seconds` is the time in which at least one call was in flight.
    """

    calls: int
    answered: int
    failed: int
    orphaned: int
    usage: Usage
    dollars: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Recent:
    """Calls to a model (its identity) within a second: when the last one left, how many, and their tokens."""

    model: str
    at: float
    calls: int
    tokens: float


class LedgerSums(LedgerFile):
    """The figures. They read no answers, so that they take no time to speak of."""

    def note_asking(self, since: float, seconds: float, dollars: float) -> None:
        """Write down how long a stretch of asking took that began then (seconds since 1970); the last word on it counts.

        `dollars` are what machines paid by the hour have cost meanwhile, less what the recorded answers were charged with.
        """
        with self._in_our_words():
            self._db.execute("INSERT OR REPLACE INTO asked VALUES (?, ?, ?, ?)", (self.run, since, seconds, dollars))

    def stretches(self) -> list[tuple[float, float]]:
        """Every stretch of asking that was written down: when it began (seconds since 1970), and its seconds."""
        with self._in_our_words():
            return self._db.execute(f"SELECT since, seconds FROM asked WHERE {self._own} ORDER BY since").fetchall()

    def seconds_in_flight(self, keys: Sequence[str]) -> float:
        """Seconds in which at least one answered call for these questions was in flight."""
        with self._in_our_words():
            spans = self._db.execute(
                f"SELECT started, finished FROM attempt WHERE state = 'answered' AND key IN ({marks(keys)}) ORDER BY started", keys
            )
            return covered(spans)

    def seconds_asked(self) -> float:
        """Seconds that were spent asking; at least those in which calls were in flight, which other processes may have made."""
        with self._in_our_words():
            noted = self._db.execute(f"SELECT total(seconds) FROM asked WHERE {self._own}").fetchone()[0]
        return max(float(noted), self.usage().seconds)

    def dollars(self) -> float | None:
        """Dollars spent in all; None where the price of some call is unknown."""
        with self._in_our_words():
            spent, unpriced = self._db.execute(
                f"SELECT total(dollars) + {self._by_the_hour}, total(dollars IS NULL) FROM attempt"
                f" WHERE state IN ('answered', 'failed') AND {self._own}"
            ).fetchone()
        return None if unpriced else float(spent)

    def dollars_for(self, keys: Iterable[str]) -> float | None:
        """Dollars spent on some questions, all their calls together; None where the price of some call is unknown."""
        total: float | None = 0.0
        for key in keys:
            with self._in_our_words():
                spent, unpriced = self._db.execute(
                    "SELECT total(dollars), total(dollars IS NULL) FROM attempt WHERE key = ? AND state IN ('answered', 'failed')", (key,)
                ).fetchone()
            total = None if total is None or unpriced else total + spent
        return total

    def spent(self) -> Cost:
        """What counts against a budget: what was charged, and what may have been (its most, as it was held)."""
        unsure = "(state = 'intent' OR uncertain)"
        with self._in_our_words():
            calls, tokens, dollars, unpriced = self._db.execute(
                f"SELECT count(*), total(iif({unsure}, held_tokens, input_tokens + output_tokens)),"
                f" total(iif({unsure}, held_dollars, dollars)) + {self._by_the_hour}, total(iif({unsure}, held_dollars, dollars) IS NULL)"
                f" FROM attempt WHERE NOT (state = 'orphaned' AND NOT uncertain) AND {self._own}"
            ).fetchone()
        return Cost(int(calls), int(tokens), None if unpriced else float(dollars))

    def usage(self) -> Totals:
        """Calls, tokens, dollars and seconds of all attempts, those of earlier processes included."""
        with self._in_our_words():
            counts = dict(self._db.execute(f"SELECT state, count(*) FROM attempt WHERE {self._own} GROUP BY state"))
            tokens = self._db.execute(f"SELECT total(input_tokens), total(output_tokens) FROM attempt WHERE {self._own}").fetchone()
            spans = self._db.execute(
                f"SELECT started, finished FROM attempt WHERE state IN ('answered', 'failed') AND {self._own} ORDER BY started"
            )
            seconds = covered(spans)
        return Totals(
            calls=sum(counts.values()),
            answered=counts.get("answered", 0),
            failed=counts.get("failed", 0),
            orphaned=counts.get("orphaned", 0),
            usage=Usage(int(tokens[0]), int(tokens[1])),
            dollars=self.dollars(),
            seconds=seconds,
        )

    def recent(self, since: float) -> list[Recent]:
        """Calls since then (seconds since 1970), those of a second together, oldest first: what counts for rates.

        Questions of a provider's batch do not.
        """
        unsure = "(state = 'intent' OR uncertain)"
        with self._in_our_words():
            found = self._db.execute(
                "SELECT question.model, max(started), count(*), total("
                f"iif({unsure}, held_tokens, input_tokens + output_tokens)) FROM attempt JOIN question USING (key)"
                f" WHERE started >= ? AND batch IS NULL AND {self._own} GROUP BY question.model, CAST(started AS INTEGER) ORDER BY 2",
                (since,),
            ).fetchall()
        return [Recent(*row) for row in found]

    @property
    def _by_the_hour(self) -> str:
        """Dollars that no attempt was charged with, as part of a sum."""
        return f"(SELECT total(dollars) FROM asked WHERE {self._own})"


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans that come in the order of their starts."""
    seconds, end = 0.0, float("-inf")
    for start, finish in spans:
        seconds += max(0.0, finish - max(start, end))
        end = max(end, finish)
    return seconds
