"""What generation asks, found by playing it: the talk about each row is held with made-up answers, short ones, likely ones, long ones.

Strategies, samples, routes and judges are those of the run itself, so what a spec asks for is what is counted. Where the run's ledger
has an answer already, it is that one which goes on, and nothing is counted for it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from potstill.cli.past import Past, judge_of, silent_panel
from potstill.generation.choosing.base import Situation
from potstill.generation.choosing.label_scores import ask_scores
from potstill.generation.panel import scorer_of
from potstill.generation.routing import ROUTES
from potstill.generation.scoring import ask_score
from potstill.models.locate import ECHO, is_local
from potstill.models.talk import Answered, Ask, Reply, Seat, Step, Talk, together
from potstill.pipeline.estimate import Bill, count_tokens, latency_bill, sample_rows, throughput_bill
from potstill.records import Completion, Example, Message, Sampling, question_of
from potstill.spec.sections import ExpandSpec, PromptingSpec, RunSpec, TeacherSpec
from potstill.tasks import answer_tokens
from potstill.tasks.base import Task
from potstill.tasks.judging import compare, mark
from potstill.tasks.prompting import build_strategy
from potstill.tasks.prompting.examples import Worked, with_examples, with_others

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Case = Literal["low", "likely", "high"]
CASES: tuple[Case, ...] = ("low", "likely", "high")
_SHARE = {"low": 0.25, "likely": 0.5, "high": 1.0}
"""Of the longest answer that is allowed: what is written where no reference tells."""
_SAMPLES_A_CALL = 8
"""So many samples share one reading of their prompt, where the endpoint gives several at once."""
_NEW_ROWS = 100
"""Rows on which it is measured what a row takes that is not written yet."""
_SURPLUS = 1.3
"""So many times the wanted prompts are asked for, as in `generation.expand`."""
_WORDS_OF_A_WISH = Message("user", " the" * 60)
TRAINING, VALIDATION, QUALIFYING, WRITING = "training rows", "validation rows", "qualification", "new prompts"
EVALUATION, LATENCY, THROUGHPUT, JUDGING = "the evaluation", "latency", "throughput", "the judge"
AFTERWARDS = (EVALUATION, LATENCY, THROUGHPUT, JUDGING)
"""Parts that come after generation."""
T = TypeVar("T")


@dataclass
class Takes:
    """What is asked, by part of the run, by model (its place among `models`), and by case; `stands`: answers that are there already.

    `unknown` are parts whose size nobody can know beforehand.
    """

    models: Sequence[TeacherSpec]
    bills: dict[tuple[str, int, Case], Bill] = field(default_factory=lambda: defaultdict(Bill))
    stands: int = 0
    unknown: list[str] = field(default_factory=list)

    def total(self, case: Case, *, part: str | None = None, model: int | None = None) -> Bill:
        """The sum of a case, of one part or model alone where these are given."""
        wanted = (bill for (p, m, c), bill in self.bills.items() if c == case and part in (None, p) and model in (None, m))
        return sum(wanted, Bill())

    def add(self, part: str, model: int, case: Case, bill: Bill) -> None:
        """Count something in."""
        if bill.calls:
            self.bills[part, model, case] += bill


class Rehearsal:
    """Plays a run's generation, and what its teacher is asked after that; `past` is what its ledger holds."""

    def __init__(
        self,
        spec: RunSpec,
        task: Task,
        tokenizer: Tokenizer | None = None,
        past: Past | None = None,
        examples: Sequence[Worked] = (),
    ) -> None:
        self.spec, self.task, self._past, self._examples = spec, task, past, examples
        self._strategy = build_strategy(spec.generation.prompting, task.schema)
        self._sizes: dict[str, int] = {}
        self._tokenizer = tokenizer
        judge = judge_of(spec)
        own = judge is not None and judge not in spec.all_teachers
        scorer = [named] if (named := scorer_of(spec)) is not None else []
        asking = [*spec.all_teachers, *([judge] if judge is not None and own else []), *scorer]
        self._others = [
            other.model.model_copy(update={"name": other.title}) for other in spec.evaluation.compare if other.model is not None
        ]
        self._others = [model for model in self._others if is_endpoint(model)]
        court = spec.evaluation.judge
        self._court = court.model if court is not None and is_endpoint(court.model) else None
        self.takes = Takes([*asking, *self._others, *([self._court] if self._court is not None else [])])
        panel = past.panel if past is not None else silent_panel(spec, task)
        self.teachers, self.judge, self.scorer = panel.teachers, panel.judge, panel.scorer
        self._seats: list[Seat] = []
        self._places = {id(seat): place for place, seat in enumerate(self.teachers)}
        if self.judge is not None:
            self._places[id(self.judge)] = len(asking) - 1 - len(scorer)
        if self.scorer is not None:
            self._places[id(self.scorer)] = len(asking) - 1

    def generation(self, train: Sequence[Example], validation: Sequence[Example]) -> None:
        """Count what the stage `generate` asks."""
        self._rows(TRAINING, train)
        if any(not question.reference for row in sample_rows(validation) for question in self.task.expand(row)):
            self._rows(VALIDATION, validation)
        self._qualification(validation)
        spec = self.spec.generation
        if spec.expand is not None:
            self._new_prompts(train, spec.expand, spec.expand.rows)
        self._top_up(train)

    def evaluation(self, test: Sequence[Example]) -> None:
        """Count what the teacher, and endpoints to compare with, are asked by the stage `evaluate`."""
        if "teacher" in self.spec.evaluation.systems:
            self._examine(test, 0, as_taught=self.spec.examined_as_taught)
        first = len(self.takes.models) - len(self._others) - (self._court is not None)
        for place in range(first, first + len(self._others)):
            self._examine(test, place, as_taught=False)
        if self._court is not None:
            self._judge(test, len(self.takes.models) - 1)

    def _judge(self, test: Sequence[Example], place: int) -> None:
        """Count what the judge is asked: each pair in both orders."""
        court = self.spec.evaluation.judge
        assert court is not None
        seat, sample = self._seat_at(place, 256), sample_rows(test)
        questions = [question for row in sample for question in self.task.expand(row)]
        for case in CASES:
            play = _Play(self, case, None)
            for question in questions:
                messages = self.task.render(question) or question.messages
                text = self.answer(question.reference, self.task.max_new_tokens, case)[1]
                play.ask(compare(seat, messages, question.reference, text, text, rubric=court.rubric))
            whole = len(questions) * len(test) / max(len(sample), 1)
            self.takes.add(JUDGING, place, case, play.bills[place].times(2 * min(court.rows, whole) / max(len(questions), 1)))

    def _seat_at(self, place: int, room: int) -> Seat:
        """A seat of one of `takes.models`, greedy, with so much room."""
        seat = replace(self.teachers[0], sampling=Sampling(max_new_tokens=room))
        self._seats.append(seat)  # as long as it is known by its id
        self._places[id(seat)] = place
        return seat

    def _examine(self, test: Sequence[Example], place: int, *, as_taught: bool) -> None:
        strategy = self._strategy if as_taught else build_strategy(PromptingSpec(), self.task.schema)
        room = answer_tokens(self.task) if as_taught else self.task.max_new_tokens
        seat, sample = self._seat_at(place, room), sample_rows(test)
        for case in CASES:
            play = _Play(self, case, None)
            for question in (question for row in sample for question in self.task.expand(row)):
                messages = self.task.render(question) or question.messages
                told = with_others(messages, self._examples) if as_taught else messages
                play.hear(strategy.talk(seat, told, 0), question.reference)
            whole = play.bills[place].times(len(test) / max(len(sample), 1))
            self.takes.add(EVALUATION, place, case, whole)
            self.takes.add(LATENCY, place, case, latency_bill(self.spec, whole, strategy.steps))
            if is_endpoint(self.takes.models[place]):
                self.takes.add(THROUGHPUT, place, case, throughput_bill(self.spec, self.takes.models[place], whole, strategy.steps))

    def _rows(self, part: str, rows: Sequence[Example]) -> None:
        sample = sample_rows(rows)
        scale = len(rows) / max(len(sample), 1)
        done = [None if self._past is None else self._past.answers_of(row) for row in sample]
        for case in CASES:
            play = _Play(self, case, self._past, scored=part == TRAINING)
            for row, answers in zip(sample, done, strict=True):
                if answers is None:
                    play.row(row)
            self._take(part, play, scale)
            if case == "likely":
                self.takes.stands += round((play.stands + sum(answers or 0 for answers in done)) * scale)

    def _take(self, part: str, play: _Play, scale: float = 1.0) -> None:
        for model, bill in play.bills.items():
            self.takes.add(part, model, play.case, bill.times(scale))

    def _qualification(self, validation: Sequence[Example]) -> None:
        spec = self.spec.generation.qualify
        if spec is None or (self._past is not None and self._past.qualified):
            return
        count = min(spec.rows, len(validation))
        questions = [self.task.expand(validation[index * len(validation) // count])[-1] for index in range(count)]
        known = [question for question in questions if question.reference]
        for case in CASES:
            play = _Play(self, case, self._past)
            for question in known or [*questions, *questions]:  # without references, each is asked again
                for seat in self.teachers:
                    messages = self.task.render(question) or question.messages
                    play.hear(self._strategy.talk(seat, with_examples(messages, self._examples, question), 0), question.reference)
            self._take(QUALIFYING, play)

    def _new_prompts(self, train: Sequence[Example], spec: ExpandSpec, wanted: int) -> None:
        """New prompts, and the answers to them; at worst none of them is new, so the low case answers none."""
        some = sample_rows(train)[:_NEW_ROWS]
        shown = 3 if spec.how == "rare" else 1
        for case in CASES:
            play = _Play(self, case, None)
            for row in some:
                play.row(row)
            for model, bill in play.bills.items():
                self.takes.add(TRAINING, model, case, bill.times(0.0 if case == "low" else wanted / len(some)))
            asks = Bill()
            for row in some:
                asked = next(message for message in reversed(row.messages) if message.role == "user")
                room = max(64, len(asked.content) // 2)
                written = {"low": room // 4, "likely": min(self.count([asked]), room), "high": room}[case]
                asks += Bill(1, self.count([_WORDS_OF_A_WISH]) + shown * self.count([asked]), written)
            self.takes.add(WRITING, 0, case, asks.times(round(wanted * _SURPLUS + 0.5) / len(some)))

    def _top_up(self, train: Sequence[Example]) -> None:
        """New prompts of the kinds that have too few rows, as far as labels and tags tell before there are answers."""
        balance = self.spec.generation.balance
        if balance is None or balance.how != "ask":
            return
        if balance.by not in ("label", "tag"):
            self.takes.unknown.append(f"what `balance: {{by: {balance.by}}}` tops up: that hangs on the answers")
            return
        from potstill.generation.balance import kinds, wanted_of

        sample = sample_rows(train)
        counts = Counter(kind for row in sample if (kind := kinds(self.task)[balance.by](row)))
        scaled = Counter({kind: round(count * len(train) / len(sample)) for kind, count in counts.items()})
        short = sum(max(0, wanted_of(scaled, balance.to) - count) for count in scaled.values()) if scaled else 0
        if short:
            self._new_prompts(train, ExpandSpec(rows=short, how="rare"), short)

    def count(self, messages: Iterable[Message]) -> int:
        """Tokens of a chat; each text is counted once."""
        total = 0
        for message in messages:
            if message.content not in self._sizes:
                self._sizes[message.content] = count_tokens(self._tokenizer, [message])
            total += self._sizes[message.content]
        return total

    def answer(self, gold: Sequence[str], limit: int, case: Case) -> tuple[int, str]:
        """Tokens and text of a made-up answer of at most `limit` tokens: a reference, where there is one, unless it is to be long."""
        known = sorted(gold, key=lambda text: self.count([Message("assistant", text)]))
        if known and case != "high":
            text = known[0] if case == "low" else known[-1]
            return min(self.count([Message("assistant", text)]), limit), text
        size = math.ceil(limit * _SHARE[case])
        return size, ("the " * size).strip()

    def place(self, seat: Seat) -> int:
        """Which of `takes.models` this is."""
        return self._places[id(seat)]

    def talks(self, group: Sequence[Seat], row: Example, messages: tuple[Message, ...]) -> list[Talk[Reply]]:
        """What the strategy says to each of a group, for each sample."""
        told = with_examples(messages, self._examples, row)
        return [self._strategy.talk(seat, told, sample) for seat in group for sample in range(self.spec.generation.samples)]


class _Play:
    """One case, played over rows: `bills` by model, `stands` answers that were found in the ledger."""

    def __init__(self, rehearsal: Rehearsal, case: Case, past: Past | None, *, scored: bool = True) -> None:
        self._rehearsal, self.case, self._past = rehearsal, case, past
        self._scorer = rehearsal.scorer if scored else None
        self.bills: defaultdict[int, Bill] = defaultdict(Bill)
        self.stands = 0

    def row(self, row: Example) -> None:
        """All turns of a row."""
        task, generation = self._rehearsal.task, self._rehearsal.spec.generation
        questions = task.expand(row)
        asked = row
        if generation.turns == "last":
            asked, questions = questions[-1], questions[-1:]
        replies: list[str] = []
        while (messages := task.render(asked, replies)) is not None:
            gold = questions[min(len(replies), len(questions) - 1)].reference
            replies.append(self._turn(row, messages, gold))

    def _turn(self, row: Example, messages: tuple[Message, ...], gold: Sequence[str]) -> str:
        """One turn; that the gates keep the first teacher's answer is likely, that they drop all but the last one's is the worst."""
        rehearsal = self._rehearsal
        groups = ROUTES[rehearsal.spec.generation.route](row, rehearsal.teachers)
        text, texts = "", [""]
        for group in groups if self.case == "high" else groups[:1]:
            texts = [reply.answer for reply in self.hear(together(rehearsal.talks(group, row, messages), last=False), gold)]
            text = texts[0]
            if rehearsal.spec.generation.choose == "judge" and rehearsal.judge is not None and self.case != "low":
                judge = rehearsal.judge
                for other in texts[1:]:
                    asked = judge, messages, row.reference
                    self._answer(Step((compare(*asked, text, other), compare(*asked, other, text))), ())
        options = rehearsal.task.options(row)
        if rehearsal.spec.generation.choose == "label_scores" and rehearsal.judge is not None and options:
            self._answer(Step((ask_scores(Situation(row, rehearsal.task, messages), options, rehearsal.judge),)), ())
        if rehearsal.spec.gates.judge is not None and rehearsal.judge is not None:
            marked = texts if rehearsal.spec.generation.choose == "all" and self.case != "low" else [text]
            self._answer(Step(tuple(mark(rehearsal.judge, messages, row.reference, one) for one in marked)), ())
        if self._scorer is not None:
            self._answer(Step((ask_score(self._scorer, messages, text.strip()),)), ())
        return text

    def hear(self, talk: Talk[T], gold: Sequence[str]) -> T:
        """Hold a talk to its end."""
        try:
            step = next(talk)
            while True:
                step = talk.send(self._answer(step, gold))
        except StopIteration as end:
            result: T = end.value
            return result

    def ask(self, ask: Ask) -> None:
        """One question by itself."""
        self._answer(Step((ask,)), ())

    def _answer(self, step: Step, gold: Sequence[str]) -> list[Answered]:
        asked: Counter[object] = Counter()
        answers = []
        for ask in step.asks:
            found = None if self._past is None else self._past.find(ask)
            if found is None:
                question = (ask.seat.title, question_of(ask.request))
                found = self._made_up(ask, gold, read_with_others=bool(asked[question] % _SAMPLES_A_CALL))
                asked[question] += 1
            else:
                self.stands += 1
            answers.append(Answered(ask, "", found))
        return answers

    def _made_up(self, ask: Ask, gold: Sequence[str], *, read_with_others: bool) -> Completion:
        rehearsal = self._rehearsal
        place, limit = rehearsal.place(ask.seat), ask.request.sampling.max_new_tokens
        extra = max(0, limit - ask.seat.sampling.max_new_tokens)  # room for reasons
        written, text = rehearsal.answer(gold, limit - extra, self.case)
        shares = self.case != "high" and read_with_others and self._gives_several(place)
        read = 0 if shares else rehearsal.count(ask.request.messages)
        self.bills[place] += Bill(1, read, written + math.ceil(extra * _SHARE[self.case]))
        return Completion(f"Reasons.\n\nAnswer: {text}" if extra else text, "stop")

    def _gives_several(self, place: int) -> bool:
        teacher = self._rehearsal.takes.models[place]
        return is_endpoint(teacher) and teacher.several and self._rehearsal.spec.generation.mode == "live"


def is_endpoint(teacher: TeacherSpec) -> bool:
    """Whether a teacher is asked over HTTP: not loaded here, not the echo, not replayed."""
    return teacher.replay is None and not is_local(teacher) and (teacher.base_url is not None or teacher.model != ECHO)
