"""What the teacher is asked, turn by turn, and what has been answered: both follow from the rows and the ledger alone.

A turn is asked when the turns before it were answered and kept. So a turn's requests are the same whether they are asked for
the first time or after a kill, and nothing but the ledger has to be remembered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from potstill.generation.gates import GateContext, pass_gates
from potstill.models.ask import request_key
from potstill.models.base import Model
from potstill.records import Completion, Example, Message, Request, Sampling, Verdict
from potstill.spec import RunSpec
from potstill.spec.sections import GatesSpec
from potstill.store.ledger import Ledger
from potstill.tasks.base import Task


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """One answer, and what the gates said of it, up to the first that dropped it."""

    key: str
    completion: Completion
    verdicts: tuple[Verdict, ...]

    @property
    def kept(self) -> bool:
        """True where no gate dropped it."""
        return self.verdicts[-1].keep


@dataclass(frozen=True, slots=True)
class Transcript:
    """A row as far as it has been answered: `messages` end with the last kept answer, and are empty where there is none."""

    example: Example
    answers: tuple[JudgedAnswer, ...]
    messages: tuple[Message, ...]
    trained_turns: tuple[int, ...]

    @property
    def dropped(self) -> JudgedAnswer | None:
        """The answer that a gate dropped, and that so ended the row."""
        return self.answers[-1] if self.answers and not self.answers[-1].kept else None

    @property
    def replies(self) -> list[str]:
        """The kept answers, as the student learns them and the teacher sees them in its history."""
        return [self.messages[turn].content for turn in self.trained_turns]


@dataclass(frozen=True, slots=True)
class Interview:
    """How one teacher is asked about the rows of one task, and how its answers are judged."""

    task: Task
    model: Model
    ledger: Ledger
    sampling: Sampling
    gates: GatesSpec

    def request(self, example: Example, replies: list[str]) -> Request | None:
        """What is asked after `replies`; None where nothing is left to ask."""
        messages = self.task.render(example, replies)
        return None if messages is None else Request(messages, self.sampling)

    def transcript(self, example: Example, *, before: int | None = None) -> Transcript:
        """The row's answers that are on record, judged: all, or those of the turns `before` one. Each must have been asked."""
        answers: list[JudgedAnswer] = []
        messages: tuple[Message, ...] = ()
        trained_turns: list[int] = []
        replies: list[str] = []
        while before is None or len(replies) < before:
            request = self.request(example, replies)
            if request is None:
                break
            answers.append(self._judged(example, request))
            if not answers[-1].kept:
                break
            replies.append(answers[-1].completion.text.strip())
            trained_turns.append(len(request.messages))
            messages = (*request.messages, Message("assistant", replies[-1]))
        return Transcript(example, tuple(answers), messages, tuple(trained_turns))

    def _judged(self, example: Example, request: Request) -> JudgedAnswer:
        key = request_key(self.model, request)
        completion = self.ledger.get(key)
        assert completion is not None, f"{example.id}: this turn has not been asked"
        verdicts = pass_gates(GateContext(example, self.task, request.messages, completion), self.gates)
        return JudgedAnswer(key, completion, tuple(verdicts))


class Round:
    """One turn of all rows. `going_on` counts, as the requests are taken, the rows that have another turn after this one."""

    def __init__(self, interview: Interview, turn: int) -> None:
        self.going_on = 0
        self._interview, self._turn = interview, turn

    def requests(self, rows: Iterable[Example]) -> Iterator[Request]:
        """This turn's request of every row whose earlier turns were kept, in the rows' order."""
        for example in rows:
            before = self._interview.transcript(example, before=self._turn)
            if before.dropped is not None:
                continue
            request = self._interview.request(example, before.replies)
            if request is None:
                continue
            # Which turns a row has does not hang on what is answered, so any answer tells whether one follows.
            self.going_on += self._interview.request(example, [*before.replies, "-"]) is not None
            yield request


def teacher_sampling(spec: RunSpec, task: Task) -> Sampling:
    """How the spec wants the teacher's answers drawn."""
    return Sampling(
        max_new_tokens=spec.task.max_new_tokens or task.max_new_tokens,
        temperature=spec.teacher.temperature,
        top_p=spec.teacher.top_p,
        seed=spec.seed,
    )


def lacks_references(task: Task, rows: Iterable[Example]) -> bool:
    """True where some question of these rows has no gold answer to be scored on."""
    return any(not question.reference for row in rows for question in task.expand(row))
