"""New prompts, written by the teacher from training rows: each knows the row that it was made from, and repeats no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from potstill.data.near import NearIndex
from potstill.data.text import shingles
from potstill.models.ask import ask
from potstill.models.budget import Budget
from potstill.models.questions import request_key
from potstill.models.talk import Ask, Seat
from potstill.records import Example, Message, Request
from potstill.spec.sections import ExpandSpec
from potstill.store.atomic import fingerprint
from potstill.store.events import EventLog
from potstill.store.ledger import Ledger
from potstill.tasks.prompting.base import separate_thinking

VERSION = "expand/1"
_EXAMPLES = 3
_SURPLUS = 1.3
"""So many times the wanted prompts are asked for, since some repeat others."""
_SHORTEST = 8
_SYSTEM = "You write realistic requests, as different users would type them. Answer with the request alone: no quotes, no comment."
_WORDS = {
    "paraphrase": "Say the following request in other words, as another user would: same meaning, same facts, other phrasing and length.",
    "harder": (
        "Write a harder request of the same kind as the following one: more steps, more detail, or a rarer case, but still one that can be "
        "answered from what it says."
    ),
    "rare": "Here are requests of one kind. Write one more of this kind that is about something else and phrased otherwise.",
}

Repeats = Callable[[Example], bool]
"""Whether a prompt stands, nearly, in validation or test."""


@dataclass(frozen=True, slots=True)
class Wish:
    """So many new prompts wanted of some rows; `kind` is what they have in common."""

    count: int
    rows: tuple[Example, ...]
    kind: str = ""


@dataclass(frozen=True, slots=True)
class _Draft:
    seed: Example
    number: int
    kind: str
    ask: Ask


def wishes_of(spec: ExpandSpec, rows: Sequence[Example], kind_of: Callable[[Example], str]) -> list[Wish]:
    """What a spec wants: prompts like any rows, or of the kinds that have fewest, so many that these come level."""
    if spec.how != "rare":
        return [Wish(spec.rows, tuple(rows))]
    counts = Counter(kind_of(row) for row in rows)
    counts.pop("", None)
    wanted: Counter[str] = Counter()
    for _ in range(spec.rows if counts else 0):
        kind = min(counts, key=lambda name: (counts[name] + wanted[name], name))
        wanted[kind] += 1
    return [Wish(count, tuple(row for row in rows if kind_of(row) == kind), kind) for kind, count in sorted(wanted.items())]


class Expansion:
    """Asks a teacher for new prompts, and takes those that are new.

    `name` stands in the ids of the new rows (by default how they are written), and its questions are its own: a run that expands twice
    needs two, or the second pass is answered what the first was.
    """

    def __init__(self, seat: Seat, spec: ExpandSpec, ledger: Ledger, log: EventLog, budget: Budget, *, name: str = "") -> None:
        self._seat, self._spec, self._ledger, self._log, self._budget = seat, spec, ledger, log, budget
        self._name = name or spec.how
        # In the seed, since an endpoint, or local weights, told the very same would write the very same.
        self._seed = seat.sampling.seed + (int(fingerprint(["pass", name])[:6], 16) if name else 0)

    def write(self, wishes: Sequence[Wish], known: Sequence[Example], repeats: Repeats, *, threshold: float) -> list[Example]:
        """New rows in the order of the wishes: at most as many as are wished for, none that nearly equals a known or new one.

        The same rows and ledger give the same result. Raises as `ask`.
        """
        drafts = [draft for wish in wishes for draft in self._drafts(wish)]
        with self._log.progress("new prompts", len(drafts), "prompts") as progress:
            ask(self._seat.model, (draft.ask.request for draft in drafts), self._ledger, progress, self._budget)
        left = Counter({wish.kind: wish.count for wish in wishes})
        texts = _Texts(known, threshold)
        fresh: list[Example] = []
        for draft in drafts:
            if left[draft.kind] <= 0:
                continue
            row = self._row(draft)
            if row is not None and texts.is_new(row) and not repeats(row):
                fresh.append(row)
                left[draft.kind] -= 1
        return fresh

    def _drafts(self, wish: Wish) -> Iterator[_Draft]:
        seeds = sorted(wish.rows, key=lambda row: fingerprint([VERSION, row.id]))
        for number in range(round(wish.count * _SURPLUS + 0.5) if seeds else 0):
            seed = seeds[number % len(seeds)]
            nth = number // len(seeds)
            shown = [seeds[(number + step) % len(seeds)] for step in range(_EXAMPLES)] if self._spec.how == "rare" else [seed]
            yield _Draft(seed, nth + 1, wish.kind, Ask(self._seat, self._request(shown, nth)))

    def _request(self, shown: Sequence[Example], sample: int) -> Request:
        words = self._spec.instruction or _WORDS[self._spec.how]
        texts = "\n\n".join(f"---\n{_last_user(row).content}" for row in {row.id: row for row in shown}.values())
        sampling = replace(self._seat.sampling, temperature=self._spec.temperature, max_new_tokens=self._room(shown), seed=self._seed)
        return Request((Message("system", _SYSTEM), Message("user", f"{words}\n\n{texts}")), sampling, sample, prompt_version=VERSION)

    def _room(self, shown: Sequence[Example]) -> int:
        return max(64, max(len(_last_user(row).content) for row in shown) // 2)

    def _row(self, draft: _Draft) -> Example | None:
        completion = self._ledger.get(request_key(self._seat.model, draft.ask.request))
        if completion is None or completion.finish_reason != "stop":
            return None
        text = separate_thinking(completion).text.strip().strip('"').removeprefix("---").strip()
        if len(text) < _SHORTEST:
            return None
        seed = draft.seed
        kept = self._spec.how == "paraphrase"  # the same meaning has the same answer; another request has another
        return Example(
            id=f"{seed.id}~{self._name}-{draft.number}",
            messages=(*_history(seed), Message("user", text)),
            reference=seed.reference if kept else (),
            group=seed.group or seed.id,
            tags=seed.tags,
            source=seed.id,
        )


class _Texts:
    """Prompts that are there already; new ones are added as they are taken."""

    def __init__(self, known: Sequence[Example], threshold: float) -> None:
        self._shingles = [shingles(_last_user(row).content) for row in known]
        self._index = NearIndex(threshold, self._shingles.__getitem__)
        self._index.add(self._shingles)
        self._threshold = threshold
        self._fresh: list[frozenset[str]] = []

    def is_new(self, row: Example) -> bool:
        """Whether nothing like it is there; it is there from now on."""
        found = shingles(_last_user(row).content)
        if next(self._index.search([found])):
            return False
        if any(len(found & other) >= self._threshold * len(found | other) for other in self._fresh):
            return False
        self._fresh.append(found)
        return True


def _last_user(row: Example) -> Message:
    return row.messages[len(_history(row))]


def _history(row: Example) -> tuple[Message, ...]:
    """What stands before the last user turn; an answer after it is not the new prompt's."""
    last = max(number for number, message in enumerate(row.messages) if message.role == "user")
    return row.messages[:last]
