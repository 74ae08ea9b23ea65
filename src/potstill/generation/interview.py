"""How the panel is asked about a row, and how its answers are judged and chosen: the row's talk, and where it stands in the ledger."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from potstill.data.contamination import HeldOut
from potstill.generation.candidate import Candidate
from potstill.generation.choosing import CHOICES, Chosen, Situation
from potstill.generation.choosing.base import kept
from potstill.generation.gates import GateContext
from potstill.generation.gates.judge import judge as judge_mark
from potstill.generation.learnable import judge_reply
from potstill.generation.routing import ROUTES
from potstill.models.questions import request_key
from potstill.models.talk import Answered, Ask, Seat, Step, Talk, together
from potstill.records import Completion, Example, Message
from potstill.spec.sections import GatesSpec, GenerationSpec
from potstill.store.ledger import Ledger
from potstill.tasks.base import Task
from potstill.tasks.judging import mark, read_mark
from potstill.tasks.prompting import Strategy, build_strategy
from potstill.tasks.prompting.examples import Worked, with_examples
from potstill.tasks.rationales import rationale_row


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a row: every candidate in the order in which it was asked for, and what was chosen of them."""

    messages: tuple[Message, ...]
    candidates: tuple[Candidate, ...]
    chosen: Chosen

    @property
    def dropped(self) -> Candidate | None:
        """The candidate whose reason stands for all, where none was chosen: the first with a mark, else the last teacher's last."""
        if self.chosen.candidates or not self.candidates:
            return None
        return next((candidate for candidate in self.candidates if candidate.mark is not None), self.candidates[-1])


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row as far as it was answered: its turns, of which only the last may have nothing chosen."""

    example: Example
    turns: tuple[Turn, ...]

    @property
    def answered(self) -> tuple[Turn, ...]:
        """The turns with an answer that is learnt."""
        return tuple(turn for turn in self.turns if turn.chosen.candidates)

    @property
    def dropped(self) -> Candidate | None:
        """The candidate that ended the row before its end."""
        return self.turns[-1].dropped if self.turns else None

    @property
    def candidates(self) -> list[Candidate]:
        """All answers."""
        return [candidate for turn in self.turns for candidate in turn.candidates]

    @property
    def needed(self) -> list[tuple[str, Completion]]:
        """What was said that the row hangs on, with its keys: all candidates of a turn without an answer, and what the judges said.

        Where a turn has its answer, another sample or teacher has stood in for those that failed.
        """
        replies = [candidate.reply for turn in self.turns if not turn.chosen.candidates for candidate in turn.candidates]
        judged = [answered for turn in self.turns for answered in turn.chosen.judged]
        return [*((reply.key, reply.completion) for reply in replies), *((said.key, said.completion) for said in judged)]

    def learning(self, survivors: tuple[Candidate, ...]) -> Outcome:
        """The same, with these alone chosen of the last turn with an answer."""
        last = len(self.answered) - 1
        turn = self.turns[last]
        turns = (*self.turns[:last], replace(turn, chosen=replace(turn.chosen, candidates=survivors)), *self.turns[last + 1 :])
        return replace(self, turns=turns)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far this process is with a row: the key of its first question, those that are answered, and whether it has no other."""

    first: str
    answered: tuple[str, ...]
    done: bool


class Interview:
    """One task's rows put to a panel of teachers. What a row is asked next follows from the ledger alone."""

    def __init__(
        self,
        task: Task,
        teachers: Sequence[Seat],
        ledger: Ledger,
        *,
        generation: GenerationSpec | None = None,
        gates: GatesSpec | None = None,
        judge: Seat | None = None,
        scorer: Seat | None = None,
        examples: Sequence[Worked] = (),
        held_out: HeldOut | None = None,
        near_duplicate: float = 0.8,
    ) -> None:
        self.examples, self.held_out, self.near_duplicate = tuple(examples), held_out, near_duplicate
        self.task, self.teachers, self.ledger, self.judge, self.scorer = task, tuple(teachers), ledger, judge, scorer
        self.generation, self.gates = generation or GenerationSpec(), gates or GatesSpec()
        self._strategy: Strategy = build_strategy(self.generation.prompting, task.schema)
        self._route = ROUTES[self.generation.route]
        self._choice = choice_name(self.generation, task)
        self._one_step = self._strategy.steps == 1 and not self.generation.chosen_by_judge and self.gates.judge is None

    def under(self, gates: GatesSpec) -> Interview:
        """The same answers, judged by other gates."""
        return Interview(
            self.task,
            self.teachers,
            self.ledger,
            generation=self.generation,
            gates=gates,
            judge=self.judge,
            scorer=self.scorer,
            examples=self.examples,
            held_out=self.held_out,
            near_duplicate=self.near_duplicate,
        )

    @property
    def seats(self) -> tuple[Seat, ...]:
        """Everybody who may be asked."""
        return self.teachers if self.judge is None else (*self.teachers, self.judge)

    @property
    def first_asks(self) -> int:
        """About how many questions a row begins with."""
        return self.generation.samples * (len(self.teachers) if self.generation.route == "vote" else 1)

    def step(self, example: Example, number: int) -> Step | None:
        """What a row is asked in its step of this number (from 1), answered already or not; None where it ended before.

        The same whenever it is called, so that a run which goes on makes the same batches as one that was never stopped.
        """
        found = self._replay(example, number, settled=True)
        return found if isinstance(found, Step) else None

    def is_left(self, example: Example, number: int) -> bool:
        """Whether an answer to a row's step of this number lacks."""
        step = self.step(example, number)
        return step is not None and bool(self.ledger.missing([request_key(ask.seat.model, ask.request) for ask in step.asks]))

    def standing(self, example: Example) -> Standing:
        """How far a row is, in the eyes of this process: a call that failed before its time is asked again."""
        talk = self._talk(example)
        step = next(talk)
        first = request_key(step.asks[0].seat.model, step.asks[0].request)
        known: list[str] = []
        while True:
            answers = [self._answered(ask, settled=True) for ask in step.asks]
            found = [answer for answer in answers if answer is not None]
            known += [answer.key for answer in found if answer.completion.finish_reason != "error"]
            if len(found) < len(answers):
                return Standing(first, tuple(known), done=False)
            try:
                step = talk.send(found)
            except StopIteration:
                return Standing(first, tuple(known), done=True)

    def outcome(self, example: Example) -> Outcome | None:
        """What came of a row; None where questions are left that were never answered."""
        found = self._replay(example, None, settled=False)
        return found if isinstance(found, Outcome) else None

    def _replay(self, example: Example, number: int | None, *, settled: bool) -> Step | Outcome | None:
        """The row's talk over what the ledger holds, up to a step, or to its end; None where an answer before that is missing."""
        talk = self._talk(example)
        step = next(talk)
        for reached in itertools.count(1):
            if reached == number:
                return step
            answers = [self._answered(ask, settled) for ask in step.asks]
            if not all(answers):
                return None
            try:
                step = talk.send([answer for answer in answers if answer is not None])
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
        raise AssertionError("a talk ends")

    def _answered(self, ask: Ask, settled: bool) -> Answered | None:
        key = request_key(ask.seat.model, ask.request)
        completion = self.ledger.get(key, settled=settled)
        return None if completion is None else Answered(ask, key, completion)

    def _talk(self, example: Example) -> Talk[Outcome]:
        turns: list[Turn] = []
        replies: list[str] = []
        asked = self._row_to_ask(example)
        while (messages := self.task.render(asked, replies)) is not None:
            last = self._one_step and self.task.render(asked, [*replies, "-"]) is None
            turns.append((yield from self._turn(asked, messages, last)))
            if not turns[-1].chosen.candidates:
                break
            replies.append(turns[-1].chosen.candidates[0].text.strip())
        return Outcome(example, tuple(turns))

    def _row_to_ask(self, example: Example) -> Example:
        """The row, or, where only the last turn is answered anew, that turn with the row's own history."""
        return self.task.expand(example)[-1] if self.generation.turns == "last" else example

    def _turn(self, example: Example, messages: tuple[Message, ...], last: bool) -> Talk[Turn]:
        situation = Situation(example, self.task, messages, self._judges)
        candidates: list[Candidate] = []
        chosen = Chosen(())
        groups = self._route(example, self.teachers)
        told = with_examples(messages, self.examples, example)
        for number, group in enumerate(groups):
            talks = [self._strategy.talk(seat, told, sample) for seat in group for sample in range(self.generation.samples)]
            replies = yield from together(talks, last=last and number == len(groups) - 1)
            fresh = [judge_reply(example, self.task, messages, reply, self.gates) for reply in replies]
            candidates += fresh
            chosen = yield from CHOICES[self._choice](situation, fresh)
            if chosen.candidates:
                break
        if self.gates.judge is None or not chosen.candidates:
            return Turn(messages, tuple(candidates), chosen)
        answers = yield Step(tuple(mark(situation.judge_of(one), messages, example.reference, one.text) for one in chosen.candidates))
        marked = [self._marked(situation, one, read_mark(answered)) for one, answered in zip(chosen.candidates, answers, strict=True)]
        places = {id(before): after for before, after in zip(chosen.candidates, marked, strict=True)}
        chosen = replace(chosen, candidates=tuple(kept(marked)), judged=(*chosen.judged, *answers))
        return Turn(messages, tuple(places.get(id(candidate), candidate) for candidate in candidates), chosen)

    def _marked(self, situation: Situation, candidate: Candidate, found: float | None) -> Candidate:
        """The candidate with its mark; dropped where that is too low, so that no later turn builds upon it."""
        completion = candidate.reply.completion
        verdict = judge_mark(GateContext(situation.example, self.task, situation.messages, completion, mark=found, gates=self.gates))
        return replace(candidate, mark=found, verdicts=(*candidate.verdicts, verdict))

    @property
    def _judges(self) -> tuple[Seat, ...]:
        """Whom the spec names, alone; where it names nobody, the teachers, the last first."""
        if self.judge is None:
            return ()
        known = {seat.model.identity for seat in self.teachers}
        if self.generation.judge is not None or self.judge.model.identity not in known:
            return (self.judge,)
        others = (seat for seat in reversed(self.teachers) if seat.model.identity != self.judge.model.identity)
        return (self.judge, *(replace(seat, sampling=self.judge.sampling) for seat in others))


def choice_name(generation: GenerationSpec, task: Task) -> str:
    """The way to choose that `auto` stands for, else the spec's."""
    if generation.choose != "auto":
        return generation.choose
    several = generation.samples > 1 or generation.route == "vote"
    countable = task.agreement in {"accuracy", "math_accuracy", "exact_match"}
    return "vote" if several and countable else "first"


def learnt_rows(outcome: Outcome, learn: str) -> list[Example]:
    """The training rows of an outcome: one, or one for each answer of the last turn that was chosen, or none.

    The student sees the row's own messages, never what the teacher was told besides. `rationale_then_answer` puts the reasons
    before the answer; `both` adds a row that asks for the reasons alone, `<id>#why`.
    """
    turns = outcome.answered
    if not turns:
        return []
    rows: list[Example] = []
    for number, candidate in enumerate(turns[-1].chosen.candidates):
        answers = [*(turn.chosen.candidates[0] for turn in turns[:-1]), candidate]
        messages = (*turns[-1].messages, Message("assistant", _learnt_text(candidate, learn)))
        row = replace(
            outcome.example,
            id=outcome.example.id if number == 0 else f"{outcome.example.id}#{number + 1}",
            messages=messages,
            trained_turns=tuple(len(turn.messages) for turn in turns),
            rationale=candidate.reply.rationale or outcome.example.rationale,
            teacher=" + ".join(dict.fromkeys(answer.reply.seat.title for answer in answers)),
            distribution=turns[-1].chosen.distribution if number == 0 else (),
            rounds=candidate.reply.rounds,
        )
        rows.append(row)
        if learn == "both" and candidate.reply.rationale:
            rows.append(rationale_row(row, turns[-1].messages, candidate.reply.rationale))
    return rows


def _learnt_text(candidate: Candidate, learn: str) -> str:
    answer, rationale = candidate.text.strip(), candidate.reply.rationale
    return f"{rationale}\n\nAnswer: {answer}" if learn == "rationale_then_answer" and rationale else answer
