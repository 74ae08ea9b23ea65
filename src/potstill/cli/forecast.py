"""What a run will take, in lines for people: calls, tokens, price, time, what stands already, and whether the budget holds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from potstill.cli.past import Past
from potstill.cli.rehearse import AFTERWARDS, CASES, EVALUATION, JUDGING, LATENCY, THROUGHPUT, Case, Takes, is_endpoint
from potstill.models.load import endpoint_of
from potstill.models.locate import is_local
from potstill.models.look_up import LocalModel
from potstill.pipeline.estimate import (
    Bill,
    SplitSize,
    adapting_seconds,
    assumed_machine,
    bill_of,
    latency_bill,
    student_parameters,
    throughput_seconds,
    training_seconds,
)
from potstill.records import Cost
from potstill.spec import BudgetSpec, PriceSpec, RunSpec
from potstill.spec.sections import OtherSpec, TeacherSpec

_CALL_SECONDS = 1.0
_TOKENS_A_SECOND = 50.0
"""What an endpoint is assumed to take to begin an answer, and to write at, until it has shown its own pace."""
Line = tuple[str, str]


@dataclass(frozen=True)
class Forecast:
    """A run by its models: what `takes` counts of them, local ones by title, and what its ledgers tell.

    `call_seconds` is how long the slowest endpoint took for one tiny question; None: nobody was asked.
    """

    spec: RunSpec
    takes: Takes
    local: dict[str, LocalModel]
    past: Past | None = None
    call_seconds: float | None = None

    def asking(self) -> list[Line]:
        """What the teachers are asked: titled lines."""
        lines = [("calls", self._calls_text()), ("tokens", self._tokens_text()), ("dollars", self._dollars_text())]
        lines.append(("time", f"asking {self.asking_text()}"))
        return [*lines, *self.standing()]

    def whole(self, student: LocalModel | None, sizes: dict[str, SplitSize]) -> list[Line]:
        """The same with the time that training and evaluation take."""
        training = self._training_seconds(student, sizes["train"])
        evaluating = self._evaluating_seconds(student, sizes["test"])
        *lines, (title, asking) = self.asking()[:4]
        rest = f"training {seconds_text(training)}, evaluating {seconds_text(evaluating)}"
        if self.spec.teacher.adapt is not None:
            rest = f"adapting the teacher {seconds_text(self._adapting_seconds(sizes))}, {rest}"
        return [*lines, (title, f"{asking}, {rest}"), *self.standing()]

    def standing(self) -> list[Line]:
        """What is there already, and what the budget says."""
        lines = []
        if self.takes.stands:
            lines.append(("ledger", f"{self.takes.stands:,} answers stand already, and are not asked for again"))
        if self.past is not None and self.past.trouble is not None:
            lines.append(("ledger", f"not counted: {self.past.trouble}"))
        lines += [("unknown", text) for text in self.takes.unknown]
        if (budget := self._budget_text()) is not None:
            lines.append(("budget", budget))
        return lines

    def _calls_text(self) -> str:
        parts = dict.fromkeys(part for part, _, _ in self.takes.bills)
        named = [f"{self.takes.total('likely', part=part).calls:,} for {part}" for part in parts]
        models = [f"{self.takes.total('likely', model=place).calls:,} to {title}" for place, title in enumerate(self._titles())]
        told = [", ".join(some) for some in (named, models) if len(some) > 1]
        return "; ".join([_three(lambda case: f"{self.takes.total(case).calls:,}"), *told])

    def _tokens_text(self) -> str:
        likely = self.takes.total("likely")
        return f"{_three(lambda case: f'{self.takes.total(case).tokens:,}')}; likely {likely.read:,} read, {likely.written:,} written"

    def _dollars_text(self) -> str:
        if not any(is_endpoint(model) or model.price is not None for model in self.takes.models):
            return "nothing: no endpoint is asked"
        unpriced = [title for place, title in enumerate(self._titles()) if self._dollars("likely", place) is None]
        if unpriced:
            return f"unknown: nobody says what {' and '.join(unpriced)} costs; give its `price` to have it estimated"
        half = ", at half price in batches" if self.spec.generation.mode == "batch" else ""
        return _three(lambda case: dollars_text(self._all_dollars(case) or 0.0)) + half

    def _titles(self) -> list[str]:
        return [model.title for model in self.takes.models]

    def _all_dollars(self, case: Case) -> float | None:
        each = [self._dollars(case, place) for place in range(len(self.takes.models))]
        return None if None in each else sum(one or 0.0 for one in each)

    def _dollars(self, case: Case, place: int) -> float | None:
        """What one model costs; None where nobody says."""
        model = self.takes.models[place]
        bought = is_endpoint(model)
        price = endpoint_of(model).price if bought else model.price
        whole = self.takes.total(case, model=place)
        if price is None or not whole.calls:
            return None if bought and whole.calls else 0.0
        if price.per_gpu_hour is not None:
            seconds = self._seconds(place, whole)
            return None if seconds is None else seconds / 3600 * price.per_gpu_hour * price.gpus
        later = sum((self.takes.total(case, part=part, model=place) for part in AFTERWARDS), Bill())
        generating = _token_dollars(whole, price) - _token_dollars(later, price)
        if bought and self.spec.generation.mode == "batch":
            from potstill.models.batch_parts import PRICE  # brings the event loop

            generating *= PRICE
        return generating + _token_dollars(later, price)

    def asking_text(self) -> str:
        """Time of generation, and whose speed it is."""
        if self.spec.generation.mode == "batch" and any(map(is_endpoint, self.takes.models)):
            return "by the provider's batches: within 24 hours at most providers"
        if self.past is not None and self.past.rate is not None:
            return f"{self._range()} (measured: {self.past.rate:,.1f} answers a second, as this run's ledger shows)"
        if not any(is_endpoint(model) for model in self.takes.models):
            return f"{self._range()} (assumed: this machine's usual speed)" if self.local else "no time: the answers are at hand"
        began = "assumed" if self.call_seconds is None else "as it was just now"
        took = _CALL_SECONDS if self.call_seconds is None else self.call_seconds
        pace = f"{took:.1f} s to begin an answer ({began}), {_TOKENS_A_SECOND:.0f} tokens/s (assumed)"
        return f"{self._range()} ({self.spec.generation.concurrency} calls at once, {pace})"

    def _range(self) -> str:
        texts = [seconds_text(self._generating_seconds(case)) for case in CASES]
        return texts[0] if len(set(texts)) == 1 else f"{texts[1]}, {texts[2].removeprefix('about ')} at most"

    def _generating_seconds(self, case: Case) -> float | None:
        each = [self._before_evaluation(case, place) for place in range(len(self.takes.models))]
        if self.past is not None and self.past.rate is not None:
            return sum(bill.calls for bill in each) / self.past.rate
        seconds = [self._seconds(place, bill) for place, bill in enumerate(each)]
        if any(one is None for one in seconds):
            return None
        known = [one or 0.0 for one in seconds]
        # Models of one step are asked side by side; whoever waits for another's word comes after it.
        return sum(known) if self.spec.generation.route == "cascade" else max(known)

    def _before_evaluation(self, case: Case, place: int) -> Bill:
        parts = dict.fromkeys(part for part, _, _ in self.takes.bills if part not in AFTERWARDS)
        return sum((self.takes.total(case, part=part, model=place) for part in parts), Bill())

    def _seconds(self, place: int, bill: Bill) -> float | None:
        model = self.takes.models[place]
        if is_local(model):
            found, machine = self.local.get(model.title), assumed_machine()
            if found is None or found.parameters is None or machine is None:
                return None
            return machine.asking(bill, found.parameters)
        return self._endpoint_seconds(model, bill) if is_endpoint(model) else 0.0

    def _endpoint_seconds(self, model: TeacherSpec, bill: Bill, *, alone: bool = False) -> float:
        begun = bill.calls * (_CALL_SECONDS if self.call_seconds is None else self.call_seconds)
        seconds = (begun + bill.written / _TOKENS_A_SECOND) / (1 if alone else self.spec.generation.concurrency)
        calls, tokens = model.requests_per_minute, model.tokens_per_minute
        return max(seconds, bill.calls / calls * 60 if calls else 0.0, bill.tokens / tokens * 60 if tokens else 0.0)

    def _budget_text(self) -> str | None:
        if self.spec.generation.budget == BudgetSpec(when_reached=self.spec.generation.budget.when_reached):
            return None
        from potstill.models.budget import Caps  # brings the event loop

        caps = Caps.of(self.spec.generation.budget)
        spent = self.past.spent if self.past is not None else Cost()
        high = self.takes.total("high")
        whole = spent + Cost(high.calls, high.tokens, self._all_dollars("high"))
        seconds = self._generating_seconds("high")
        passed = caps.passed_by(whole)
        if passed is None and caps.minutes is not None and seconds is not None and seconds > caps.minutes * 60:
            passed = f"{caps.minutes:g} minutes"
        used = f", of which {_cost_text(spent)} are used" if spent.calls else ""
        end = "stops" if self.spec.generation.budget.when_reached == "stop" else "takes what was answered and goes on"
        verdict = "holds the high estimate" if passed is None else f"the high estimate passes {passed}; there the run {end}"
        return f"{', '.join(_caps_texts(self.spec.generation.budget))}{used}: {verdict}"

    def _training_seconds(self, student: LocalModel | None, train: SplitSize) -> float | None:
        live = self.local.get(self.spec.teacher.title) if self.spec.training.objective != "sft" else None
        weights, machine = None if student is None else student_parameters(self.spec, student), assumed_machine()
        if weights is None or machine is None:
            return None
        teacher = (live.parameters if live is not None else None) or 0.0
        return training_seconds(self.spec, bill_of(train), weights, teacher, machine)

    def _adapting_seconds(self, sizes: dict[str, SplitSize]) -> float | None:
        teacher, machine = self.local.get(self.spec.teacher.title), assumed_machine()
        if teacher is None or teacher.parameters is None or machine is None:
            return None
        train = sizes["train"]
        validation = bill_of(train).times(min(self.spec.training.validation_rows, train.questions) / max(train.questions, 1))
        return adapting_seconds(self.spec, bill_of(train), validation, teacher.parameters, machine)

    def _evaluating_seconds(self, student: LocalModel | None, test: SplitSize) -> float | None:
        weights = None if student is None else student_parameters(self.spec, student)
        own = _answering_seconds(self.spec, weights, bill_of(test), latency_bill(self.spec, bill_of(test)))
        plain = ["sft"] if self.spec.training.compare_with_sft else []
        each = [self._examining_seconds(test) if system == "teacher" else own for system in (*self.spec.evaluation.systems, *plain)]
        each += [self._other_seconds(other, own) for other in self.spec.evaluation.compare]
        judged = self.takes.total("likely", part=JUDGING)
        each += [self._endpoint_seconds(self.takes.models[-1], judged)] if judged.calls else []
        return None if None in each else sum(seconds or 0.0 for seconds in each)

    def _other_seconds(self, other: OtherSpec, own: float | None) -> float | None:
        """Of something to compare with; a local model, of whose size nothing is known here, is taken to be like the student."""
        if other.baseline is not None:
            return 0.0
        if other.model is None or is_local(other.model):
            return own
        places = [place for place, model in enumerate(self.takes.models) if model.title == other.title]
        if not places:
            return 0.0
        return self._endpoint_examined(places[-1])

    def _examining_seconds(self, test: SplitSize) -> float | None:
        teacher = self.spec.teacher
        if is_local(teacher):
            found = self.local.get(teacher.title)
            together, alone = (self.takes.total("likely", part=part, model=0) for part in (EVALUATION, LATENCY))
            steps = max(1, together.calls // max(test.questions, 1))
            return None if found is None else _answering_seconds(self.spec, found.parameters, together, alone, steps)
        return self._endpoint_examined(0) if is_endpoint(teacher) else 0.0

    def _endpoint_examined(self, place: int) -> float:
        together, alone, throughput = (self.takes.total("likely", part=part, model=place) for part in (EVALUATION, LATENCY, THROUGHPUT))
        model = self.takes.models[place]
        return self._endpoint_seconds(model, together + throughput) + self._endpoint_seconds(model, alone, alone=True)


def _answering_seconds(spec: RunSpec, parameters: float | None, test: Bill, alone: Bill, steps: int = 1) -> float | None:
    """Seconds of a local model that answers in batches, and some questions once more one by one, and several at once."""
    machine = assumed_machine()
    if parameters is None or machine is None:
        return None
    throughput = throughput_seconds(spec, test, parameters, machine, steps)
    return machine.asking(test, parameters) + machine.timing(alone, parameters) + throughput


def _token_dollars(bill: Bill, price: PriceSpec) -> float:
    return (bill.read * (price.input_per_million or 0.0) + bill.written * (price.output_per_million or 0.0)) / 1e6


def _three(text: Callable[[Case], str]) -> str:
    """The three cases in words, or one where they are the same."""
    texts = [text(case) for case in CASES]
    return texts[0] if len(set(texts)) == 1 else ", ".join(f"{case} {found}" for case, found in zip(CASES, texts, strict=True))


def dollars_text(dollars: float) -> str:
    """Dollars and cents; of less than one, more digits."""
    return f"${dollars:,.2f}" if dollars >= 1 or dollars == 0 else f"${dollars:.4f}"


def _caps_texts(caps: BudgetSpec) -> Iterator[str]:
    if caps.dollars is not None:
        yield f"${caps.dollars:,.2f}"
    for count, unit in ((caps.tokens, "tokens"), (caps.calls, "calls")):
        if count is not None:
            yield f"{count:,} {unit}"
    if caps.minutes is not None:
        yield f"{caps.minutes:g} minutes"


def _cost_text(cost: Cost) -> str:
    dollars = "" if cost.dollars is None else f", {dollars_text(cost.dollars)}"
    return f"{cost.calls:,} calls, {cost.tokens:,} tokens{dollars}"


def seconds_text(seconds: float | None) -> str:
    """About how long."""
    if seconds is None:
        return "unknown"
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"about {seconds / size:,.1f} {unit}"
    return f"about {max(seconds, 1):.0f} s"
