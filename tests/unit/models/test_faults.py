"""Whatever an endpoint does ends in a kept reason for that row, or in one clear stop; the ledger knows each try, and the key is nowhere."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sqlite3
import time
import traceback
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from potstill.errors import EndpointError
from potstill.models.ask import ask_async
from potstill.models.batch import ask_batched
from potstill.models.openai_http import OpenAIModel
from potstill.models.testing import (
    HALF_A_BODY,
    HTML,
    MEGABYTE,
    NEGATIVE_USAGE,
    NO_CHOICES,
    NO_USAGE,
    ONE_CHOICE_LESS,
    ONE_CHOICE_MORE,
    RESET,
    SAME_INDEX,
    TORN_JSON,
    Fault,
    OpenAIStub,
    answered,
    at_date,
    dripping,
    edited,
    refused,
    storm,
)
from potstill.models.testing_batches import BatchPlan
from potstill.records import Completion, Message, Request, Sampling
from potstill.spec.sections import PriceSpec, TeacherSpec
from potstill.store.events import EventLog
from potstill.store.ledger import Ledger

KEY = "sk-planted-0123456789"
PRICE = PriceSpec(input_per_million=1e6, output_per_million=2e6)  # a dollar a token read, two a token written
GOOD = 2 + 2 * 2.0  # dollars of an answer: "hello there" is two words, and comes back


def hello(sample: int = 0) -> Request:
    return Request((Message("user", "hello there"),), Sampling(16, temperature=1.0), sample)


SAMPLES = (hello(0), hello(1), hello(2))


@dataclass(frozen=True)
class Ledgered:
    """What a ledger holds: tries by their state, how many of them may have cost their most, and the dollars of the others."""

    answered: int = 0
    failed: int = 0
    orphaned: int = 0
    uncertain: int = 0
    dollars: float = 0.0


@dataclass(frozen=True)
class Case:
    """An endpoint's misbehaviour, what the rows end as (their text, or `!` and the beginning of the reason) or why all stops, and the tries."""

    faults: Sequence[Fault | None] = ()
    always: Fault | None = None
    rows: tuple[str, ...] = ()
    stop: str = ""
    ledger: Ledgered = Ledgered()
    requests: tuple[Request, ...] = (hello(),)
    settings: dict[str, object] = field(default_factory=dict)
    known: tuple[str, ...] = ("small",)
    address: Callable[[OpenAIStub], str] = lambda stub: stub.base_url
    key: str = KEY


ONCE = Ledgered(1, 0, 0, 0, GOOD)
THRICE_MAYBE = Ledgered(0, 3, 0, 3, 0.0)
TOLD_OFF = f"no, not with {KEY}"  # a server that repeats the key


def passing(fault: Fault, *, uncertain: bool = False) -> Case:
    """It is there twice, and then gone."""
    return Case([fault, fault], None, ("hello there",), ledger=Ledgered(1, 2, 0, 2 * uncertain, GOOD))


def lasting(fault: Fault, reason: str, *, uncertain: bool = False) -> Case:
    """It stays: three attempts, and that row has failed."""
    return Case((), fault, (f"!after 3 attempts: {reason}",), ledger=Ledgered(0, 3, 0, 3 * uncertain))


def final(fault: Fault, reason: str) -> Case:
    """Asking again would not help that row."""
    return Case((), fault, (f"!{reason}",), ledger=Ledgered(0, 1))


def stopping(fault: Fault, words: str) -> Case:
    """It would be the same for every row, and nobody has charged for it."""
    return Case((), fault, stop=words, ledger=Ledgered(orphaned=1))


def accepted(fault: Fault, text: str, *, uncertain: int = 0, dollars: float = GOOD) -> Case:
    """It is an answer all the same."""
    return Case([fault], None, (text,), ledger=Ledgered(1, 0, 0, uncertain, dollars))


CASES = {
    "nothing wrong": Case(rows=("hello there",), ledger=ONCE),
    # 429: with and without advice
    "a storm that passes": Case(storm(2), None, ("hello there",), ledger=Ledgered(1, 2, 0, 0, GOOD)),
    "a storm that lasts": lasting(refused(429, TOLD_OFF), "429: no, not with [key]"),
    "a storm that says how long": passing(refused(429, retry_after="0.05")),
    "a storm with senseless advice": passing(refused(429, retry_after="nan")),
    "a storm whose advice is past": passing(refused(503, retry_after="Sun, 06 Nov 1994 08:49:37 GMT")),
    "a storm at 200": passing(Fault(body='{"error": {"message": "slow down", "code": 429}}')),
    "no credit": stopping(refused(429, TOLD_OFF, code="insufficient_quota"), r"429: no, not with \[key\]; the account has no credit left"),
    # other statuses
    **{f"{status} that passes": passing(refused(status, TOLD_OFF)) for status in (409, 425, 500, 503, 529)},
    **{f"{status} that passes": passing(refused(status, TOLD_OFF), uncertain=True) for status in (408, 499, 502, 504, 520, 524)},
    **{f"{status} that lasts": lasting(refused(status, TOLD_OFF), f"{status}: no, not with [key]") for status in (500, 503)},
    "408 that lasts": lasting(refused(408, TOLD_OFF), "408: no, not with [key]", uncertain=True),
    **{f"{status} at once": final(refused(status, TOLD_OFF), f"{status}: no, not with [key]") for status in (400, 413, 422)},
    **{f"{status} stops": stopping(refused(status, TOLD_OFF), rf"{status}: no, not with \[key\]") for status in (401, 402, 403, 404, 405)},
    "redirected": stopping(Fault(302, headers={"Location": f"https://elsewhere/?key={KEY}"}), r"302: .*https://elsewhere/"),
    "the content is refused": accepted(refused(400, TOLD_OFF, code="content_filter"), "", dollars=0.0),
    # connections
    "a reset that passes": passing(RESET, uncertain=True),
    "resets that last": lasting(RESET, "the connection broke", uncertain=True),
    "half a body that passes": passing(HALF_A_BODY, uncertain=True),
    "half bodies that last": lasting(HALF_A_BODY, "the connection broke", uncertain=True),
    "not what its encoding says": lasting(
        Fault(body="plain", headers={"Content-Encoding": "gzip"}), "the connection broke", uncertain=True
    ),
    "a slow drip that comes to its end": accepted(dripping(0.01), "hello there"),
    "a slow drip that does not": Case(
        always=dripping(0.2),
        rows=("!after 2 attempts: no whole answer within 0.1 s",),
        ledger=Ledgered(0, 2, 0, 2),
        settings={"timeout_s": 0.1, "max_attempts": 2},
    ),
    "TLS with a server that speaks none": Case(
        address=lambda stub: stub.secure_url, stop=r"no secure connection.*http against https", ledger=Ledgered(orphaned=1)
    ),
    "nobody there": Case(
        address=lambda stub: "http://127.0.0.1:1/v1", stop=r"after 3 attempts: cannot connect .*server running", ledger=Ledgered(failed=3)
    ),
    # bodies
    "a web page from the start": Case(always=HTML, stop=r"after 3 attempts: a web page instead of JSON", ledger=THRICE_MAYBE),
    "a web page later": Case(
        [None, HTML, HTML, HTML],
        rows=("hello there", "!after 3 attempts: a web page instead of JSON"),
        ledger=Ledgered(1, 3, 0, 3, GOOD),
        requests=(hello(0), hello(1)),
        settings={"several": False},
    ),
    "a web page that repeats the key": passing(Fault(body=f"<html><title>{KEY}</title></html>"), uncertain=True),
    "torn JSON that passes": passing(TORN_JSON, uncertain=True),
    "torn JSON that lasts": lasting(TORN_JSON, "the answer is not JSON, or only half of it", uncertain=True),
    "JSON of no end of depth": lasting(Fault(body="[" * 100_000), "the answer is not JSON, or only half of it", uncertain=True),
    "an empty body": lasting(Fault(), "the answer is not JSON, or only half of it", uncertain=True),
    "a list": Case(always=Fault(body="[]"), rows=("!the answer is a JSON list, not an object",), ledger=Ledgered(0, 1, 0, 1)),
    "a megabyte": accepted(MEGABYTE, "x" * 1_000_000),
    "an answer that repeats the key": accepted(edited(lambda body: body["choices"][0]["message"].update(content=KEY)), "[key]"),
    "half a surrogate pair": accepted(edited(lambda body: body["choices"][0]["message"].update(content="\ud83d!")), "\ufffd!"),
    "no text": Case([answered(None)], rows=("!the answer is empty",), ledger=Ledgered(0, 1, 0, 1, 0.0)),
    "cut off by the provider": Case(
        [edited(lambda body: body["choices"][0].update(finish_reason="error"))] * 2,
        rows=("hello there",),
        ledger=Ledgered(1, 2, 0, 2, GOOD),
    ),
    # how many answers
    "no answer": Case([NO_CHOICES], rows=("!the endpoint answered without a choice",), ledger=Ledgered(0, 1, 0, 1, 0.0)),
    "one answer too few": Case(
        [ONE_CHOICE_LESS], rows=("hello there",) * 3, ledger=Ledgered(3, 1, 0, 0, 2 + 2 * 6 + GOOD), requests=SAMPLES
    ),
    "one answer too many": Case([ONE_CHOICE_MORE], rows=("hello there",) * 3, ledger=Ledgered(3, 0, 0, 0, 2 + 2 * 6), requests=SAMPLES),
    "one index for all": Case([SAME_INDEX], rows=("hello there",) * 3, ledger=Ledgered(3, 0, 0, 0, 2 + 2 * 6), requests=SAMPLES),
    # usage
    "no usage": accepted(NO_USAGE, "hello there", uncertain=1, dollars=0.0),
    "negative usage": accepted(NEGATIVE_USAGE, "hello there", uncertain=1, dollars=0.0),
    "usage in words": accepted(edited(lambda body: body.update(usage="a lot")), "hello there", uncertain=1, dollars=0.0),
    "usage beyond sense": accepted(
        edited(lambda body: body.update(usage={"prompt_tokens": 10**30, "completion_tokens": True})),
        "hello there",
        uncertain=1,
        dollars=0.0,
    ),
    # names and keys
    "a model that is not there": Case(
        known=("large",), stop=r"404: The model `small` does not exist .*check the model name", ledger=Ledgered(orphaned=1)
    ),
    "another model answers": accepted(edited(lambda body: body.update(model="large")), "hello there"),
    "a wrong key": Case(key="sk-another", stop=r"401: Incorrect API key .*variable SOME_KEY", ledger=Ledgered(orphaned=1)),
}


@dataclass
class Outcome:
    """What asking came to, and all that was written or said on the way."""

    folder: Path
    completions: list[Completion] = field(default_factory=list)
    stop: EndpointError | None = None
    told: list[str] = field(default_factory=list)
    spent: float | None = None
    most: float | None = None

    @property
    def ledger(self) -> Ledgered:
        database = sqlite3.connect(self.folder / "ledger.sqlite")
        tries = database.execute("SELECT state, uncertain, coalesce(dollars, 0) FROM attempt").fetchall()
        database.close()
        states = [state for state, _, _ in tries]
        assert set(states) <= {"answered", "failed", "orphaned"}, "something is still in flight"
        return Ledgered(
            *(states.count(state) for state in ("answered", "failed", "orphaned")),
            uncertain=sum(unsure for _, unsure, _ in tries),
            dollars=sum(dollars for _, unsure, dollars in tries if not unsure),
        )

    def everything(self) -> str:
        """Every byte that was written, compressed ones unpacked, and every word that was said."""
        written = [path.read_bytes().decode("latin-1") for path in sorted(self.folder.iterdir())]
        database = sqlite3.connect(self.folder / "ledger.sqlite")
        written += [zlib.decompress(raw).decode() for (raw,) in database.execute("SELECT raw FROM attempt WHERE raw IS NOT NULL")]
        database.close()
        return "\n".join([*written, *self.told, repr(self.completions)])


Ask = Callable[..., Outcome]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Ask:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SOME_KEY", KEY)

    def run(stub: OpenAIStub, requests: Sequence[Request], *, batched: bool = False, base_url: str = "", **settings: object) -> Outcome:
        spec = {"model": "small", "base_url": base_url or stub.base_url, "api_key_env": "SOME_KEY", "max_attempts": 3, "price": PRICE}
        model = OpenAIModel(TeacherSpec.model_validate({**spec, **settings}), concurrency=1, backoff_s=0.001)
        outcome = Outcome(tmp_path)
        log = EventLog(tmp_path / "events.jsonl", listeners=(lambda event: outcome.told.append(repr(event)),))

        async def answers(ledger: Ledger) -> list[Completion]:
            with log.progress("teacher answers", len(requests), "answers") as progress:
                try:
                    if batched:
                        found = await ask_batched(model, requests, ledger, progress, poll_s=0.001)
                    else:
                        found = await ask_async(model, requests, ledger, progress)
                    return [found.of(request) for request in requests]
                finally:
                    await model.close()

        try:
            with Ledger(tmp_path / "ledger.sqlite") as ledger:
                outcome.completions = asyncio.run(answers(ledger))
        except EndpointError as error:
            outcome.stop = error
            outcome.told += [repr(error), *traceback.format_exception(error)]
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            outcome.spent, outcome.most = ledger.spent().dollars, model.most(requests[0]).dollars
        outcome.told += [caplog.text, *capfd.readouterr(), repr(model), repr(vars(model.endpoint))]
        return outcome

    return run


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_fault_ends_in_a_kept_reason_or_one_clear_stop(case: Case, ask: Ask) -> None:
    with OpenAIStub(faults=case.faults, always=case.always, key=case.key, models=case.known) as stub:
        outcome = ask(stub, case.requests, base_url=case.address(stub), **case.settings)
    if case.stop:
        assert re.search(case.stop, str(outcome.stop)), outcome.stop
        assert len(str(outcome.stop).splitlines()) == 1
    else:
        assert outcome.stop is None
        found = [f"!{answer.error}" if answer.finish_reason == "error" else answer.text for answer in outcome.completions]
        assert all(
            text.startswith(wanted) if wanted[:1] == "!" else text == wanted for text, wanted in zip(found, case.rows, strict=True)
        ), found
    assert outcome.ledger == case.ledger
    assert outcome.spent == case.ledger.dollars + case.ledger.uncertain * outcome.most
    assert KEY not in outcome.everything()


BATCH_CASES = {
    "row errors": (BatchPlan(line_errors={0: (400, TOLD_OFF)}), {}, "!400: no, not with [key]", ""),
    "row errors that last": (BatchPlan(line_errors={0: (500, TOLD_OFF)}), {}, "!after 1 attempt: 500: no, not with [key]", ""),
    "a refused batch": (
        BatchPlan(("failed",), errors=(("bad", TOLD_OFF),)),
        {},
        "",
        r"batch batch_0 was refused: bad: no, not with \[key\]",
    ),
    "a refused file": (BatchPlan(), {"upload": [refused(400, TOLD_OFF)]}, "", r"/files: 400: no, not with \[key\]"),
    "a refused key": (BatchPlan(), {"create": [refused(403, TOLD_OFF)]}, "", r"403: no, not with \[key\]; check the key in .* SOME_KEY"),
    "a page": (BatchPlan(), {"poll": [HTML]}, "", r"nothing but failures .* the answer is not JSON"),
    "a file gone": (BatchPlan(), {"content": [refused(404, TOLD_OFF)]}, "", r"404: no, not with \[key\]; is the key that of the account"),
    "a redirect": (
        BatchPlan(),
        {"list": [], "create": [Fault(307, headers={"Location": f"http://x/{KEY}"})]},
        "",
        r"307: .*http://x/\[key\]",
    ),
}


@pytest.mark.parametrize(("plan", "faults", "row", "stop"), BATCH_CASES.values(), ids=BATCH_CASES)
def test_batches_end_so_as_well(plan: BatchPlan, faults: dict[str, list[Fault | None]], row: str, stop: str, ask: Ask) -> None:
    with OpenAIStub(key=KEY, batches=[plan], batch_faults=faults) as stub:
        outcome = ask(stub, [hello()], batched=True, max_attempts=1, patience_minutes=0.0)
    if stop:
        assert re.search(stop, str(outcome.stop)), outcome.stop
    else:
        assert f"!{outcome.completions[0].error}" == row
    assert KEY not in outcome.everything()


@pytest.mark.parametrize(("advice", "seconds"), [(lambda: "0.4", 0.4), (lambda: at_date(2), 1.0)], ids=["seconds", "date"])
def test_advice_to_wait_is_taken_in_seconds_and_as_a_date(advice: Callable[[], str], seconds: float, ask: Ask) -> None:
    started = time.monotonic()
    with OpenAIStub(faults=storm(1, retry_after=advice()), key=KEY) as stub:  # a date knows whole seconds: in two is more than one away
        assert ask(stub, [hello()]).completions[0].text == "hello there"
    assert time.monotonic() - started >= seconds


def test_the_search_for_the_key_would_find_it(ask: Ask, tmp_path: Path) -> None:
    with OpenAIStub(key=KEY) as stub:
        outcome = ask(stub, [hello()])
    assert "hello there" in outcome.everything()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.intend(["k"], [hello()], "teacher")
        ledger.record(["k"], [Completion("x", "stop", raw=f"{{{KEY}}}")], [0.0])
    assert KEY in outcome.everything()


def test_a_storm_over_all_rows_stops_when_patience_ends_and_uses_up_no_row(ask: Ask) -> None:
    rows = [hello(number) for number in range(20)]
    with OpenAIStub(always=refused(429, TOLD_OFF), key=KEY) as stub:
        outcome = ask(stub, rows, several=False, max_attempts=99, patience_minutes=0.0)
    assert re.search(r"nothing but failures for .*, 8 calls in all; the last: 429: no, not with \[key\]", str(outcome.stop))
    assert outcome.ledger == Ledgered(failed=8)
    assert KEY not in outcome.everything()


def test_a_storm_that_ends_loses_no_row(ask: Ask) -> None:
    rows = [hello(number) for number in range(20)]
    with OpenAIStub(faults=storm(9), key=KEY) as stub:
        outcome = ask(stub, rows, several=False, max_attempts=99)
    assert [answer.text for answer in outcome.completions] == ["hello there"] * 20
    assert outcome.ledger == Ledgered(20, 9, 0, 0, 20 * GOOD)


def test_the_log_of_what_happened_can_be_read_after_each(ask: Ask, tmp_path: Path) -> None:
    with OpenAIStub(always=HTML, key=KEY) as stub:
        ask(stub, [hello()])
    assert all(json.loads(line)["event"] for line in (tmp_path / "events.jsonl").read_text().splitlines())
