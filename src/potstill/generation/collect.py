"""From answers in the ledger to the files that training reads, with a reason for everything that was left out."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

from potstill.data.earlier import EarlierRows
from potstill.data.rows import quote
from potstill.errors import ModelError
from potstill.generation.balance import kinds, surplus
from potstill.generation.candidate import Candidate
from potstill.generation.describe import Description
from potstill.generation.gates import GateContext, is_on, pass_gates
from potstill.generation.interview import Interview, Outcome, Turn, learnt_rows
from potstill.generation.logprobs import are_asked, said_of
from potstill.generation.scoring import scores_of
from potstill.models.said import SAID
from potstill.records import Example, Message, Verdict
from potstill.store.atomic import write_atomic, write_json, write_jsonl
from potstill.store.ledger import Ledger
from potstill.store.ledger_sums import Totals

SplitName = Literal["train", "validation"]
_ROWS_A_TRANSACTION = 500
_QUOTED = 3
_TEMPLATE_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Judged:
    """A row's outcome, what the row gates said of each chosen answer, the rows that are learnt. `outcome` is None for rows never asked."""

    example: Example
    outcome: Outcome | None
    said: tuple[tuple[Candidate, tuple[Verdict, ...]], ...] = ()
    rows: tuple[Example, ...] = ()

    @property
    def drop(self) -> tuple[Verdict, Candidate] | None:
        """Why nothing is learnt of the row, or why its last turn is not, and the answer that is to blame."""
        if self.outcome is None:
            return None
        if self.said and not any(_keep(verdicts) for _, verdicts in self.said):
            candidate, verdicts = self.said[0]
            return verdicts[-1], candidate
        last = self.outcome.dropped
        return None if last is None else (_verdict(last), last)

    @property
    def drops(self) -> Iterator[tuple[int, Verdict, Candidate]]:
        """Every answer that was dropped: its turn, and why."""
        if self.outcome is None:
            return
        row_said = {id(candidate): verdicts for candidate, verdicts in self.said}
        for number, turn in enumerate(self.outcome.turns):
            for candidate in turn.candidates:
                verdicts = row_said.get(id(candidate), ())
                if not _keep(verdicts):
                    yield number, verdicts[-1], candidate
                elif not candidate.kept or candidate is turn.dropped:
                    yield number, _verdict(candidate), candidate


@dataclass
class Tally:
    """Counts of one split: rows, rows that gave something, answers, drops by gate and by code, teachers; the first drops in words."""

    rows: int = 0
    accepted: int = 0
    answers: int = 0
    unasked: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    lenient: Counter[str] = field(default_factory=Counter)
    teachers: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, judged: Judged) -> None:
        """One more row."""
        self.rows += 1
        self.accepted += bool(judged.rows)
        if judged.outcome is None:
            self.unasked += 1
            return
        self.answers += len(judged.outcome.candidates)
        self.teachers.update(row.teacher for row in judged.rows[:1] if row.teacher)
        self.lenient.update(said.code for c in judged.outcome.candidates for said in c.verdicts if said.keep and said.code)
        if judged.drop is not None:
            verdict, candidate = judged.drop
            self.dropped[verdict.gate] += 1
            self.codes[f"{verdict.gate}/{verdict.code or 'other'}"] += 1
            if len(self.examples) < _QUOTED:
                said = "" if verdict.gate == "error" else f"; it said {quote(candidate.reply.completion.text)}"
                self.examples.append(f"row {judged.example.id}: {verdict.gate}: {verdict.reason}{said}")


def judge_rows(interview: Interview, rows: Sequence[Example], *, note: bool = True, validation: bool = False) -> Iterator[Judged]:
    """Every row with what came of it, in order; what the gates said goes into the ledger on the way, unless that is read-only.

    Without `note` nothing is written: for gates that are not the run's own. `validation` rows are compared with test rows alone.
    """
    judge = _Judge(interview, rows, validation)
    judged = map(judge.judge, rows)
    while some := list(itertools.islice(judged, _ROWS_A_TRANSACTION)):
        if note and interview.ledger.read_only is None:
            _note_verdicts(interview.ledger, some)
        yield from some


class _Judge:
    """The gates that judge rows, and what they need of other rows; each row is judged once, in order."""

    def __init__(self, interview: Interview, rows: Sequence[Example], validation: bool) -> None:
        self._interview, self._validation = interview, validation
        asked = (_questions(row) for row in itertools.islice(rows, _TEMPLATE_ROWS)) if is_on("duplicates", interview.gates) else ()
        self._earlier = EarlierRows(interview.near_duplicate, list(asked))

    def judge(self, example: Example) -> Judged:
        """What came of one row."""
        interview = self._interview
        outcome = interview.outcome(example)
        if outcome is None or not outcome.answered:
            return Judged(example, outcome)
        turn = outcome.answered[-1]
        said = tuple((one, tuple(pass_gates(self._context(example, turn, one), interview.gates, "row"))) for one in turn.chosen.candidates)
        survivors = tuple(candidate for candidate, verdicts in said if _keep(verdicts))
        learnt = learnt_rows(outcome.learning(survivors), interview.generation.prompting.learn) if survivors else ()
        return Judged(example, outcome, said, tuple(learnt))

    def _context(self, example: Example, turn: Turn, candidate: Candidate) -> GateContext:
        interview = self._interview
        return GateContext(
            example,
            interview.task,
            turn.messages,
            replace(candidate.reply.completion, text=candidate.text),
            agreement=turn.chosen.agreement,
            mark=candidate.mark,
            schema=interview.task.schema,
            held_out=interview.held_out,
            validation=self._validation,
            earlier=self._earlier,
            rationale=None if interview.generation.prompting.learn == "answer" else candidate.reply.rationale,
        )


def _keep(verdicts: Sequence[Verdict]) -> bool:
    return not verdicts or verdicts[-1].keep


def _questions(row: Example) -> str:
    return "\n".join(message.content for message in row.messages if message.role == "user")


def collect_answers(folder: Path, interview: Interview, train: Sequence[Example], validation: Sequence[Example], asked: bool) -> str:
    """Write `accepted`, `rejected` and `validation` (`.jsonl`) and `usage.json` into `folder`; returns a line for people.

    Rows keep their order. A conversation of which a turn was dropped is accepted up to that turn; as a validation row it is left
    out. Validation rows that were not `asked` are copied as they are. Raises ModelError where a split comes out empty.
    """
    tallies: dict[SplitName, Tally] = {"train": Tally(), "validation": Tally()}
    before, after = Description(interview.task, len(train)), Description(interview.task, len(train))
    left_out = balanced_away(interview, train)
    with contextlib.ExitStack() as files:
        rejected, accepted = (files.enter_context(write_atomic(folder / name)) for name in ("rejected.jsonl", "accepted.jsonl"))
        scored = interview.scorer is not None
        said = files.enter_context(write_atomic(folder / SAID)) if scored or are_asked(interview) else None
        for judged in judge_rows(interview, train):
            if said is not None:
                _write(said, said_of(judged.outcome), escaped=True)
            for candidate in judged.outcome.candidates[-1:] if judged.outcome is not None else ():
                before.add(_as_answered(judged.example, candidate))
            kept = _left_out(judged) if judged.example.id in left_out else judged
            for row in kept.rows:
                after.add(row)
                if said is not None and scored:
                    _write(said, scores_of(interview, row), escaped=True)
            tallies["train"].add(kept)
            _write(accepted, (row.to_json() for row in kept.rows))
            _write(rejected, _rejected(kept, "train"))
        if asked:
            with write_atomic(folder / "validation.jsonl") as answered:
                for judged in judge_rows(interview, validation, validation=True):
                    whole = judged if judged.drop is None else replace(judged, rows=())
                    tallies["validation"].add(whole)
                    _write(answered, (row.to_json() for row in whole.rows[:1]))
                    _write(rejected, _rejected(judged, "validation"))
    write_json(folder / "description.json", {"before_the_gates": before.to_json(), "after_the_gates": after.to_json()})
    if not asked:
        write_jsonl(folder / "validation.jsonl", (example.to_json() for example in validation))
    spent = interview.ledger.usage()
    write_json(folder / "usage.json", _usage(tallies, spent))
    for split, tally in tallies.items():
        if tally.rows and not tally.accepted:
            raise ModelError(_nothing_accepted(split, tally))
    return summarise(tallies, spent)


def _as_answered(example: Example, candidate: Candidate) -> Example:
    asked = candidate.reply.messages
    return replace(example, messages=(*asked, Message("assistant", candidate.text)), trained_turns=(len(asked),))


def balanced_away(interview: Interview, train: Sequence[Example]) -> frozenset[str]:
    """Ids of rows that balance leaves out; another pass over the rows, where the spec asks for balance."""
    spec = interview.generation.balance
    if spec is None:
        return frozenset()
    kind_of = kinds(interview.task)[spec.by]
    return surplus(((one.example.id, kind_of(one.rows[0])) for one in judge_rows(interview, train) if one.rows), spec)


def _left_out(judged: Judged) -> Judged:
    verdict = Verdict("balance", False, "its kind has more rows than `generation.balance.to` wants", code="surplus")
    return replace(judged, said=tuple((one, (*said, verdict) if _keep(said) else said) for one, said in judged.said), rows=())


def summarise(tallies: dict[SplitName, Tally], spent: Totals) -> str:
    """A line such as `892 rows: 880 kept, 12 dropped (truncation 10, refusal 2), 41.2k tokens, $0.00`."""
    dropped = _dropped(tallies)
    rows = sum(tally.rows for tally in tallies.values())
    unasked = sum(tally.unasked for tally in tallies.values())
    reasons = f" ({_reasons(dropped)})" if dropped else ""
    tokens = spent.usage.input_tokens + spent.usage.output_tokens
    price = "price unknown" if spent.dollars is None else f"${spent.dollars:,.2f}"
    kept = sum(tally.accepted for tally in tallies.values())
    left_out = tallies["validation"].rows - tallies["validation"].accepted
    shorter = f"; {left_out:,} validation rows left out" if left_out else ""
    waiting = f", {unasked:,} not asked" if unasked else ""
    return f"{rows:,} rows: {kept:,} kept, {dropped.total():,} dropped{reasons}{waiting}, {_short(tokens)} tokens, {price}{shorter}"


def failed_share(interview: Interview, rows: Iterable[Example]) -> tuple[int, int]:
    """How many rows lack an answer, or a judge's word, for a call that failed for the moment, and how many rows there are."""
    failed = total = 0
    for example in rows:
        total += 1
        outcome = interview.outcome(example)
        needed = outcome.needed if outcome is not None else []
        failed += any(said.finish_reason == "error" and interview.ledger.may_pass(key) for key, said in needed)
    return failed, total


def _note_verdicts(ledger: Ledger, some: Sequence[Judged]) -> None:
    ledger.judge(
        (candidate.reply.key, judged.example.id, verdict)
        for judged in some
        if judged.outcome is not None
        for candidate in judged.outcome.candidates
        for verdict in candidate.verdicts
    )
    ledger.judge(
        (candidate.reply.key, judged.example.id, verdict) for judged in some for candidate, verdicts in judged.said for verdict in verdicts
    )


def _verdict(candidate: Candidate) -> Verdict:
    """Why a candidate was not chosen: the gate's word, or, where all gates kept it, that no answer could be chosen."""
    last = candidate.verdicts[-1]
    return (
        last if not last.keep else Verdict("choice", False, "no answer could be chosen: none can be parsed, or none is right", code="none")
    )


def _rejected(judged: Judged, split: SplitName) -> Iterator[dict[str, Any]]:
    """Every answer that was dropped; the one for whose reason the row, or the rest of it, was dropped is `decided`."""
    deciding = judged.drop[1] if judged.drop is not None else None
    for turn, verdict, candidate in judged.drops:
        yield {
            "id": judged.example.id,
            "split": split,
            "turn": turn,
            "gate": verdict.gate,
            "code": verdict.code,
            "reason": verdict.reason,
            "decided": candidate is deciding,
            "teacher": candidate.reply.seat.title,
            "text": candidate.reply.completion.text,
        }


def _write(file: IO[Any], rows: Iterable[dict[str, Any]], *, escaped: bool = False) -> None:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=escaped) + "\n")


def _usage(tallies: dict[SplitName, Tally], spent: Totals) -> dict[str, Any]:
    """`usage.json`. Counts are of the rows as they are now; calls, tokens, dollars and seconds are all that the ledger has seen.

    Calls that a kill cut off count nowhere, so that a resumed run's figures are those of an uninterrupted one, `seconds` aside.
    """
    dropped = _dropped(tallies)
    kept = sum(tally.accepted for tally in tallies.values())
    return {
        "rows": {split: {"asked": tally.rows - tally.unasked, "accepted": tally.accepted} for split, tally in tallies.items()},
        "answers": sum(tally.answers for tally in tallies.values()),
        "kept": kept,
        "dropped": dict(sorted(dropped.items())),
        "codes": dict(sorted(sum((tally.codes for tally in tallies.values()), Counter[str]()).items())),
        "read_leniently": dict(sorted(sum((tally.lenient for tally in tallies.values()), Counter[str]()).items())),
        "teachers": dict(sorted(sum((tally.teachers for tally in tallies.values()), Counter[str]()).items())),
        "not_asked": sum(tally.unasked for tally in tallies.values()),
        "failed": dropped["error"],
        "calls": spent.answered + spent.failed,
        "input_tokens": spent.usage.input_tokens,
        "output_tokens": spent.usage.output_tokens,
        "dollars": spent.dollars,
        "dollars_per_accepted_row": None if spent.dollars is None or not kept else spent.dollars / kept,
        "seconds": spent.seconds,
    }


def _dropped(tallies: dict[SplitName, Tally]) -> Counter[str]:
    return sum((tally.dropped for tally in tallies.values()), Counter[str]())


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
