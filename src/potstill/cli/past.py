"""What a run's ledgers tell before it goes on: answers that stand, what was spent, how fast answers came. They are left as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.errors import PotstillError, StoreError
from potstill.generation.panel import Panel, Silent, judge_sampling, scorer_of, scorer_seat, teacher_seat
from potstill.models.echo import EchoModel
from potstill.models.load import endpoint_identity
from potstill.models.locate import ECHO, is_local
from potstill.models.talk import Ask, Seat
from potstill.records import Completion, Cost, Example
from potstill.spec.sections import RunSpec, TeacherSpec
from potstill.store.atomic import read_object
from potstill.store.events import EventLog
from potstill.store.look import LedgerView
from potstill.store.run import Run
from potstill.tasks.base import Task
from potstill.tasks.prompting.examples import Worked

if TYPE_CHECKING:
    from potstill.generation.interview import Interview

_RATE_NEEDS = 16
"""Answers of which a rate is taken, at least."""


class Past:
    """The ledgers of a run, as far as they are there; `trouble` says why one cannot be read.

    `spent` counts against the budget; `rate` is answers a second, None where there are too few to tell; `qualified` says that the
    teachers have passed their examination. `examples` are those that stand before each question.
    """

    def __init__(self, spec: RunSpec, task: Task, folder: Path, examples: Sequence[Worked] = ()) -> None:
        self._run = Run(spec, folder, EventLog())
        self.trouble: str | None = None
        self.spent = Cost()
        self.rate: float | None = None
        self.qualified = self._run.path("generation", "qualification.json").is_file()
        self._noted = self._read_noted()
        self.panel = silent_panel(spec, task, self._identity)
        self._ledger = self._open(self._run.ledger_path, spec.name)
        self._interview = self._build_interview(spec, task, examples)
        self._add_up()

    def find(self, ask: Ask) -> Completion | None:
        """The answer that stands."""
        if self._ledger is None:
            return None
        from potstill.models.questions import request_key  # brings the event loop

        return self._ledger.get(request_key(ask.seat.model, ask.request))

    def answers_of(self, row: Example) -> int | None:
        """How many answers a row has that lacks none; None where some, or what they are scored, are to be asked for."""
        outcome = None if self._interview is None else self._interview.outcome(row)
        if outcome is None or self._interview is None:
            return None
        answers = sum(max(len(candidate.reply.rounds), 1) for candidate in outcome.candidates)
        if self._interview.scorer is None:
            return answers
        from potstill.generation.interview import learnt_rows
        from potstill.generation.scoring import lacks_scores

        learnt = learnt_rows(outcome, self._interview.generation.prompting.learn)
        if any(lacks_scores(self._interview, row) for row in learnt):
            return None
        return answers + sum(len(row.trained_turns) for row in learnt)

    def _open(self, path: Path, run: str) -> LedgerView | None:
        if not path.is_file():
            return None
        try:
            return LedgerView(path, run)
        except StoreError as error:
            self.trouble = str(error)
            return None

    def _add_up(self) -> None:
        if self._ledger is not None:
            totals = self._ledger.usage()
            self.spent += self._ledger.spent()
            if totals.answered >= _RATE_NEEDS and totals.seconds:
                self.rate = totals.answered / totals.seconds
        for name in ("teacher", "judge", *(other.key for other in self._run.spec.evaluation.compare if other.model is not None)):
            evaluated = self._open(self._run.path("evaluation", "ledger.sqlite"), name)
            if evaluated is not None:
                with evaluated:
                    self.spent += evaluated.spent()

    def _build_interview(self, spec: RunSpec, task: Task, examples: Sequence[Worked]) -> Interview | None:
        if self._ledger is None:
            return None
        from potstill.generation.interview import Interview  # brings the event loop

        panel = self.panel
        return Interview(
            task,
            panel.teachers,
            self._ledger,
            generation=spec.generation,
            gates=spec.gates,
            judge=panel.judge,
            scorer=panel.scorer,
            examples=examples,
        )

    def _read_noted(self) -> dict[str, str]:
        """Names in the ledger of those who answered: a local model's is a hash of its weights, which nobody wants to take again."""
        path = self._run.path("generation", "panel.json")
        if not path.is_file():
            return {}
        with suppress(StoreError):
            noted = read_object(path, "teachers")
            names: dict[str, str] = noted["teachers"]
            return names | ({"judge": noted["judge"]} if noted.get("judge") else {})
        return {}

    def _identity(self, teacher: TeacherSpec, role: str) -> str:
        if teacher.replay is None and not is_local(teacher):
            if teacher.model == ECHO and teacher.base_url is None:
                return EchoModel().identity
            with suppress(PotstillError):
                return endpoint_identity(teacher)
        return self._noted.get(role, role)


def silent_panel(spec: RunSpec, task: Task, identity: Callable[[TeacherSpec, str], str] | None = None) -> Panel:
    """The teachers of a spec, and the judge where one is needed, of whom nobody is asked or loaded.

    `identity` names a teacher (its title, or `judge`) as the ledger does.
    """
    named = identity or (lambda _teacher, role: role)
    seats = tuple(teacher_seat(spec, task, t, Silent(t.title, named(t, t.title))) for t in spec.all_teachers)
    judge, scorer = judge_of(spec), scorer_of(spec)
    return Panel(
        seats,
        None if judge is None else Seat("judge", Silent(judge.title, named(judge, "judge")), judge_sampling(spec)),
        None if scorer is None else scorer_seat(spec, scorer, Silent(scorer.title, named(scorer, "scorer"))),
    )


def judge_of(spec: RunSpec) -> TeacherSpec | None:
    """Who judges, where answers are to be judged; None where nobody does, or nobody is named who could."""
    if not spec.generation.chosen_by_judge and spec.gates.judge is None:
        return None
    if spec.generation.judge is not None:
        return spec.generation.judge
    return spec.all_teachers[-1] if len(spec.all_teachers) > 1 else None
