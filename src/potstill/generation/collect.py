"""From answers in the ledger to the files that training reads, with a reason for everything that was left out."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from potstill.data.rows import quote
from potstill.errors import ModelError
from potstill.generation.plan import Interview, JudgedAnswer, Transcript
from potstill.records import Example
from potstill.store.atomic import write_atomic, write_json, write_jsonl
from potstill.store.ledger import Ledger, Totals

SplitName = Literal["train", "validation"]
_ROWS_A_TRANSACTION = 500
_QUOTED = 3


@dataclass
class Tally:
    """Counts of one split: rows, rows that gave something, answers, and drops by gate; the first drops in words."""

    rows: int = 0
    accepted: int = 0
    answers: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, transcript: Transcript, accepted: bool) -> None:
        """One more row."""
        self.rows += 1
        self.accepted += accepted
        self.answers += len(transcript.answers)
        drop = transcript.dropped
        if drop is not None:
            verdict = drop.verdicts[-1]
            self.dropped[verdict.gate] += 1
            if len(self.examples) < _QUOTED:
                said = "" if verdict.gate == "error" else f"; it said {quote(drop.completion.text)}"
                self.examples.append(f"row {transcript.example.id}: {verdict.gate}: {verdict.reason}{said}")


def collect_answers(folder: Path, interview: Interview, train: Sequence[Example], validation: Sequence[Example], asked: bool) -> str:
    """Write `accepted`, `rejected` and `validation` (`.jsonl`) and `usage.json` into `folder`; returns a line for people.

    Rows keep their order. A conversation of which a turn was dropped is accepted up to that turn; as a validation row it is left
    out. Validation rows that were not `asked` are copied as they are. Raises ModelError where a split comes out empty.
    """
    tallies: dict[SplitName, Tally] = {"train": Tally(), "validation": Tally()}
    with write_atomic(folder / "rejected.jsonl") as rejected, write_atomic(folder / "accepted.jsonl") as accepted:
        for transcript in _judged(interview, train):
            row = _accepted_row(transcript)
            tallies["train"].add(transcript, row is not None)
            _write(accepted, row)
            _write(rejected, _rejected_row(transcript, "train"))
        if asked:
            with write_atomic(folder / "validation.jsonl") as answered:
                for transcript in _judged(interview, validation):
                    row = _accepted_row(transcript) if transcript.dropped is None else None
                    tallies["validation"].add(transcript, row is not None)
                    _write(answered, row)
                    _write(rejected, _rejected_row(transcript, "validation"))
    if not asked:
        write_jsonl(folder / "validation.jsonl", (example.to_json() for example in validation))
    spent = interview.ledger.usage()
    write_json(folder / "usage.json", _usage(tallies, spent))
    for split, tally in tallies.items():
        if tally.rows and not tally.accepted:
            raise ModelError(_nothing_accepted(split, tally))
    return summarise(tallies, spent)


def summarise(tallies: dict[SplitName, Tally], spent: Totals) -> str:
    """A line such as `892 answers: 880 kept, 12 dropped (truncation 10, refusal 2), 41.2k tokens, $0.00`."""
    answers, dropped = _added(tallies)
    reasons = f" ({_reasons(dropped)})" if dropped else ""
    tokens = spent.usage.input_tokens + spent.usage.output_tokens
    price = "price unknown" if spent.dollars is None else f"${spent.dollars:,.2f}"
    kept = answers - dropped.total()
    left_out = tallies["validation"].rows - tallies["validation"].accepted
    shorter = f"; {left_out:,} validation rows left out" if left_out else ""
    return f"{answers:,} answers: {kept:,} kept, {dropped.total():,} dropped{reasons}, {_short(tokens)} tokens, {price}{shorter}"


def _judged(interview: Interview, rows: Iterable[Example]) -> Iterator[Transcript]:
    """Every row's transcript, in order; what the gates said goes into the ledger on the way."""
    transcripts = (interview.transcript(example) for example in rows)
    while some := list(itertools.islice(transcripts, _ROWS_A_TRANSACTION)):
        _note_verdicts(interview.ledger, some)
        yield from some


def _note_verdicts(ledger: Ledger, transcripts: Sequence[Transcript]) -> None:
    ledger.judge(
        (answer.key, transcript.example.id, verdict)
        for transcript in transcripts
        for answer in transcript.answers
        for verdict in answer.verdicts
    )


def _accepted_row(transcript: Transcript) -> dict[str, Any] | None:
    if not transcript.trained_turns:
        return None
    return dataclasses.replace(transcript.example, messages=transcript.messages, trained_turns=transcript.trained_turns).to_json()


def _rejected_row(transcript: Transcript, split: SplitName) -> dict[str, Any] | None:
    drop: JudgedAnswer | None = transcript.dropped
    if drop is None:
        return None
    verdict = drop.verdicts[-1]
    return {
        "id": transcript.example.id,
        "split": split,
        "turn": len(transcript.answers) - 1,
        "gate": verdict.gate,
        "reason": verdict.reason,
        "text": drop.completion.text,
    }


def _write(file: IO[Any], row: dict[str, Any] | None) -> None:
    if row is not None:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _usage(tallies: dict[SplitName, Tally], spent: Totals) -> dict[str, Any]:
    """`usage.json`. Counts are of the rows as they are now; calls, tokens, dollars and seconds are all that the ledger has seen.

    Calls that a kill cut off count nowhere, so that a resumed run's figures are those of an uninterrupted one, `seconds` aside.
    """
    answers, dropped = _added(tallies)
    return {
        "rows": {split: {"asked": tally.rows, "accepted": tally.accepted} for split, tally in tallies.items()},
        "answers": answers,
        "kept": answers - dropped.total(),
        "dropped": dict(sorted(dropped.items())),
        "failed": dropped["error"],
        "calls": spent.answered + spent.failed,
        "input_tokens": spent.usage.input_tokens,
        "output_tokens": spent.usage.output_tokens,
        "dollars": spent.dollars,
        "seconds": spent.seconds,
    }


def _added(tallies: dict[SplitName, Tally]) -> tuple[int, Counter[str]]:
    dropped = sum((tally.dropped for tally in tallies.values()), Counter[str]())
    return sum(tally.answers for tally in tallies.values()), dropped


def _nothing_accepted(split: SplitName, tally: Tally) -> str:
    first = "".join(f"\n  {line}" for line in tally.examples)
    advice = "look at the reasons, change the task's instruction or the teacher, or turn a gate off in `gates`"
    if set(tally.dropped) == {"error"}:
        advice = "see to the endpoint, and run the same command again"
    return (
        f"the teacher gave no usable answer to any of {tally.rows:,} {split} rows: {tally.answers:,} answers, "
        f"dropped by {_reasons(tally.dropped)}; {advice}. The first:{first}"
    )


def _reasons(dropped: Counter[str]) -> str:
    return ", ".join(f"{gate} {count:,}" for gate, count in dropped.most_common())


def _short(number: int) -> str:
    """41213 as `41.2k`."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)
