"""Kinds of rows (label, tag, length, language): counted, topped up, sampled down."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from potstill.generation.expand import Wish
from potstill.records import Example
from potstill.spec.sections import BalanceSpec
from potstill.store.atomic import fingerprint
from potstill.tasks.base import Task

KindOf = Callable[[Example], str]
_LENGTHS = (8, 32, 128, 512)


def kinds(task: Task) -> dict[str, KindOf]:
    """How each kind is read off a row that was answered; an empty text where it has none."""
    return {"label": lambda row: label_of(row, task), "tag": tag_of, "length": length_of, "language": language_of}


def label_of(row: Example, task: Task) -> str:
    """The answer's normal form, else the first reference's."""
    if row.trained_turns:
        return task.parse(row.messages[row.trained_turns[-1]].content) or ""
    return task.expand(row)[-1].reference[0] if row.reference else ""


def tag_of(row: Example) -> str:
    """The first tag."""
    return next(iter(row.tags), "")


def length_of(row: Example) -> str:
    """The answer's words, in steps of four times as many."""
    words = len(row.messages[-1].content.split())
    low = max((bound for bound in _LENGTHS if words >= bound), default=0)
    high = min((bound for bound in _LENGTHS if words < bound), default=None)
    return f"{low} words and more" if high is None else f"{low} to {high - 1} words"


def language_of(row: Example) -> str:
    """The prompt's language, as py3langid sees it."""
    asked = next((message.content for message in reversed(row.messages) if message.role == "user"), "")
    import py3langid

    return str(py3langid.classify(asked)[0])


def wanted_of(counts: Counter[str], to: int | str) -> int:
    """How many rows of each kind are wanted."""
    if isinstance(to, int):
        return to
    return min(counts.values()) if to == "fewest" else int(statistics.median(counts.values()))


def surplus(rows: Iterable[tuple[str, str]], spec: BalanceSpec) -> frozenset[str]:
    """Ids that are left out so that no kind has more rows than wanted; of (id, kind) pairs. The choice hangs on the ids alone.

    Rows of no kind (an empty text) stay, and do not count.
    """
    by_kind: defaultdict[str, list[str]] = defaultdict(list)
    for identity, kind in rows:
        if kind:
            by_kind[kind].append(identity)
    if not by_kind:
        return frozenset()
    wanted = wanted_of(Counter({kind: len(found) for kind, found in by_kind.items()}), spec.to)
    drawn = (sorted(found, key=lambda identity: fingerprint(["balance", identity]))[wanted:] for found in by_kind.values())
    return frozenset(identity for some in drawn for identity in some)


def shortfalls(rows: Sequence[Example], spec: BalanceSpec, kind_of: KindOf) -> list[Wish]:
    """New prompts that would bring every kind up to what is wanted, to be written like the rows of that kind."""
    by_kind: defaultdict[str, list[Example]] = defaultdict(list)
    for row in rows:
        if kind := kind_of(row):
            by_kind[kind].append(row)
    if not by_kind:
        return []
    wanted = wanted_of(Counter({kind: len(found) for kind, found in by_kind.items()}), spec.to)
    return [Wish(wanted - len(found), tuple(found), kind) for kind, found in sorted(by_kind.items()) if len(found) < wanted]
