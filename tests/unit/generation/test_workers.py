"""Workers: what is shared out adds up, what they were answered comes back, and what they tell is heard."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Scripted, interview, open_ledger, row, seat

from potstill import __version__
from potstill.errors import BudgetError, EngineError
from potstill.generation.asking import ask_rows, rows_of
from potstill.generation.workers.feed import Feed
from potstill.generation.workers.on_ray import require_ray
from potstill.generation.workers.parts import Part, deal_rows, take_in
from potstill.generation.workers.shares import asked, most_workers, share_budget, share_rates
from potstill.generation.workers.worker import STOP, Job, Worker, ask_part
from potstill.models.budget import Budget, Caps
from potstill.models.testing import OpenAIStub
from potstill.records import Completion, Cost, Example, Message
from potstill.spec import RunSpec
from potstill.spec.sections import TaskSpec
from potstill.store.events import EventLog, Noticed, Progressed
from potstill.store.ledger import Ledger
from potstill.tasks import build_task
from potstill.tasks.prompting.examples import Worked

TASK = build_task(TaskSpec(type="conversation"))


def spec_of(teacher: dict | None = None, generation: dict | None = None, **engine: object) -> RunSpec:
    return RunSpec.model_validate(
        {
            "name": "shared",
            "task": {"type": "conversation"},
            "data": {"train": "x"},
            "teacher": {"model": "stub", "base_url": "http://127.0.0.1:1/v1"} | (teacher or {}),
            "student": {"model": "x"},
            "generation": generation or {},
            "engine": {"kind": "ray"} | engine,
        }
    )


def two_turns(number: int) -> Example:
    turns = (Message("user", f"first {number}"), Message("assistant", "GOLD"), Message("user", f"second {number}"))
    return Example(f"row-{number}", turns)


def deal(folder: Path, talks, rows, workers: int = 2) -> list[Part]:
    return deal_rows(folder, talks, rows_of(rows), workers, EventLog().progress("dealing", len(rows), "rows").__enter__())


@given(
    calls=st.none() | st.integers(1, 1000),
    tokens=st.none() | st.integers(1, 10**6),
    dollars=st.none() | st.floats(0.01, 1000),
    spent=st.builds(Cost, st.integers(0, 1200), st.integers(0, 10**6), st.floats(0, 1200)),
    workers=st.integers(1, 64),
)
def test_shares_of_a_budget_add_up_to_what_is_left_and_no_more(calls, tokens, dollars, spent, workers):
    shares = share_budget(Budget(Caps(dollars, tokens, calls), spent), workers)
    assert len(shares) == workers
    if calls is not None:
        assert sum(share.calls for share in shares) == max(calls - spent.calls, 0)
    if tokens is not None:
        assert sum(share.tokens for share in shares) == max(tokens - spent.tokens, 0)
    if dollars is not None:
        assert sum(share.dollars for share in shares) <= max(dollars - spent.dollars, 0) + 1e-9


def test_where_what_was_spent_is_unknown_nobody_may_spend_dollars():
    shares = share_budget(Budget(Caps(dollars=1.0), Cost(3, 10, None)), 2)
    assert [share.dollars for share in shares] == [0.0, 0.0]


def test_minutes_run_for_all_workers_at_once():
    budget = Budget(Caps(minutes=10.0), seconds=60.0, clock=lambda: 5.0)
    assert [share.minutes for share in share_budget(budget, 3)] == [9.0] * 3


@given(
    rate=st.none() | st.integers(1, 500),
    tokens=st.none() | st.integers(1, 10**5),
    concurrency=st.integers(1, 100),
    a_call=st.integers(1, 10**4),
)
def test_workers_together_pass_no_rate_and_a_share_fits_a_call(rate, tokens, concurrency, a_call):
    teacher = {"requests_per_minute": rate, "tokens_per_minute": tokens}
    spec = spec_of(teacher, {"concurrency": concurrency}, workers=16)
    workers = most_workers(spec, a_call)
    alone = share_rates(spec, workers)
    assert 1 <= workers <= 16
    assert workers * alone.generation.concurrency <= concurrency
    assert rate is None or workers * alone.teacher.requests_per_minute <= rate
    assert tokens is None or workers * alone.teacher.tokens_per_minute <= tokens
    assert tokens is None or workers == 1 or alone.teacher.tokens_per_minute >= a_call


def test_every_teacher_and_the_judge_are_shared_out():
    endpoint = {"base_url": "http://127.0.0.1:1/v1", "requests_per_minute": 60}
    raw = spec_of(generation={"judge": {"model": "c"} | endpoint}).model_dump() | {
        "teacher": {"model": "a"} | endpoint,
        "teachers": [{"model": "a"} | endpoint, {"model": "b"} | endpoint],
    }
    alone = share_rates(RunSpec.model_validate(raw), 3)
    assert {one.requests_per_minute for one in (*alone.all_teachers, alone.generation.judge)} == {20}
    assert RunSpec.model_validate_json(alone.model_dump_json()) == alone


def by_the_hour(**more: object) -> dict:
    return {"price": {"per_gpu_hour": 3.6, "gpus": 2}} | more  # $0.002 a second


@given(workers=st.integers(1, 64), left=st.floats(0.01, 100))
def test_a_machine_behind_an_endpoint_is_paid_once_however_many_workers_ask_it(workers, left):
    spec = spec_of(by_the_hour())
    price = share_rates(spec, workers).teacher.price
    assert workers * price.per_gpu_hour * price.gpus == pytest.approx(7.2)
    shares = share_budget(Budget(Caps(dollars=left + 1.0, minutes=1e6), Cost(dollars=1.0)), workers, asked(spec))
    assert [share.minutes for share in shares] == pytest.approx([left / 0.002 / 60] * workers)
    assert sum(share.dollars for share in shares) == pytest.approx(left)


@pytest.mark.parametrize(
    ("teacher", "generation"),
    [
        ({"base_url": None, "model": "smollm2"} | by_the_hour(), {}),
        (by_the_hour(), {"judge": {"model": "c", "base_url": "http://h/v1", "price": {"input_per_million": 1, "output_per_million": 2}}}),
        (by_the_hour(), {"judge": {"model": "smollm2"} | by_the_hour()}),
    ],
    ids=["its own machine", "beside a price by tokens", "beside a machine of its own"],
)
def test_machines_of_the_workers_own_and_prices_of_two_kinds_are_counted_in_full_by_each(teacher, generation):
    spec = spec_of(teacher, generation)
    assert share_rates(spec, 4).teacher.price == spec.teacher.price
    [share, _] = share_budget(Budget(Caps(dollars=1.0)), 2, asked(spec))
    assert share.minutes is None


@pytest.mark.parametrize(
    ("stretches", "together"),
    [
        ([[(0.0, 60.0)], [(0.01, 59.99)]], 60.0),  # side by side
        ([[(0.0, 60.0)], [(0.01, 20.0)]], 60.0),  # one had less to do
        ([[(0.0, 60.0)], [(60.0, 60.0)]], 120.0),  # there was room for one at a time
        ([[(0.0, 30.0), (50.0, 30.0)], [(0.01, 20.0)]], 60.0),  # one was killed, and lost 20 seconds
    ],
)
def test_what_workers_counted_of_a_machine_s_time_comes_to_what_it_costs_while_any_of_them_asks(tmp_path, stretches, together):
    a_second = 0.002
    with Ledger(tmp_path / "ledger.sqlite", run="shared") as ledger:
        parts = deal(tmp_path / "workers", interview(TASK, ledger, seat(Scripted(str))), [row(f"q {n}", number=n) for n in range(30)])
        for part, own in zip(parts, stretches, strict=True):
            with Ledger(part.ledger, run="shared") as theirs:
                for since, seconds in own:
                    theirs.note_asking(since, seconds, seconds * a_second / len(parts))
        for part in parts:
            ledger.merge(part.ledger)  # as if killed in between
        take_in(tmp_path / "workers", ledger, hours_shared=True)
        assert ledger.dollars() == pytest.approx(together * a_second)


def test_every_row_is_dealt_once_and_equal_questions_to_one_worker(tmp_path):
    rows = [row(f"question {number % 20}", number=number) for number in range(100)]
    with open_ledger(tmp_path) as ledger:
        parts = deal(tmp_path / "workers", interview(TASK, ledger, seat(Scripted(str))), rows, 3)
    dealt = [[example.id for example in part.read()] for part in parts]
    assert sorted(name for ids in dealt for name in ids) == sorted(example.id for example in rows)
    assert [len(ids) for ids in dealt] == [part.count for part in parts]
    assert len(parts) == 3
    texts = [{example.messages[-1].content for example in part.read()} for part in parts]
    assert sum(map(len, texts)) == len(set.union(*texts))


def test_a_row_that_is_answered_is_not_dealt_and_one_half_answered_takes_its_answers_along(tmp_path):
    teacher = Scripted(
        lambda request: "Fine." if "0" in request.messages[-1].content or len(request.messages) < 3 else Completion("", "error")
    )
    rows = [two_turns(0), two_turns(1)]
    with open_ledger(tmp_path) as ledger:
        ask_rows(interview(TASK, ledger, seat(teacher)), rows_of(rows), 2, EventLog())
    with open_ledger(tmp_path) as ledger:  # the next process, which asks again what failed
        [part] = deal(tmp_path / "workers", interview(TASK, ledger, seat(teacher)), rows, 1)
    assert [example.id for example in part.read()] == ["row-1"]
    better = Scripted(lambda _: "Better.")
    with Ledger(part.ledger, run="shared") as theirs:
        assert theirs.spent() == Cost()
        ask_rows(interview(TASK, theirs, seat(better)), part.read, part.count, EventLog())
        assert [request.messages[-1].content for request in better.asked] == ["second 1"]
        assert theirs.spent().calls == 1


def test_what_workers_were_answered_is_taken_in_once_however_often(tmp_path):
    teacher = seat(Scripted(lambda _: "Fine."))
    rows = [row(f"question {number}", number=number) for number in range(30)]
    with open_ledger(tmp_path) as ledger:
        talks = interview(TASK, ledger, teacher)
        parts = deal(tmp_path / "workers", talks, rows)
        for part in parts:
            with Ledger(part.ledger, run="shared") as theirs:
                ask_rows(interview(TASK, theirs, teacher), part.read, part.count, EventLog())
        assert ledger.merge(parts[0].ledger) == parts[0].count  # as if killed in between
        taken = take_in(tmp_path / "workers", ledger)
        assert (taken.answers, taken.cut) == (parts[1].count, 0)
        assert ledger.usage().calls == 30
        assert all(talks.standing(example).done for example in rows)
    assert not (tmp_path / "workers").exists()


def test_calls_in_flight_of_a_killed_worker_count_as_spent_and_are_asked_again(tmp_path):
    rows = [row("question")]
    with open_ledger(tmp_path) as ledger:
        talks = interview(TASK, ledger, seat(Scripted(str)))
        [part] = deal(tmp_path / "workers", talks, rows, 1)
        standing = talks.standing(rows[0])
        with Ledger(part.ledger) as theirs:
            theirs.intend([standing.first], [talks.step(rows[0], 1).asks[0].request], "scripted", [Cost(1, 50, 0.5)])
        taken = take_in(tmp_path / "workers", ledger)
        assert (taken.answers, taken.cut) == (0, 1)
        assert ledger.spent() == Cost(1, 50, 0.5)
        assert not talks.standing(rows[0]).done


def test_progress_of_all_workers_is_told_as_one_and_notices_by_their_names(tmp_path):
    parts = [Part(tmp_path, 0, 10), Part(tmp_path, 2, 30)]
    heard: list = []
    feed = Feed(parts, EventLog(listeners=(heard.append,)), 1.0)
    feed.forward()
    assert heard == []
    logs = [EventLog(part.events) for part in parts]
    logs[0].emit(Progressed("answers", 10, 10, "answers", 5.0, None, 0.25))
    logs[1].emit(Progressed("answers", 6, 30, "answers", 2.0, None, 0.5))
    logs[1].warn("was lost")
    with parts[0].events.open("a") as file:
        file.write('{"event": "Noti')  # a line that is still being written
    feed.forward()
    feed.forward()
    notice, together = heard
    assert (notice.text, notice.level) == ("worker 3: was lost", "warning")
    assert isinstance(together, Progressed)
    assert (together.done, together.total, together.rate, together.eta_s, together.dollars) == (16, 40, 2.0, 12.0, 1.75)
    with parts[0].events.open("a") as file:
        file.write('ced", "at": 1.0, "level": "info", "text": "here"}\n')
    feed.forward()
    assert heard[-1] == Noticed("info", "worker 1: here", at=1.0)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job of one part of ten rows, and its endpoint."""
    monkeypatch.setenv("OF_THE_STUB", "")
    with OpenAIStub(key="secret") as stub, open_ledger(tmp_path) as ledger:
        spec = spec_of({"base_url": stub.base_url, "api_key_env": "OF_THE_STUB"})
        rows = [row(f"question {number}", number=number) for number in range(10)]
        parts = deal(tmp_path / "workers", interview(TASK, ledger, seat(Scripted(str))), rows, 1)
        job = Job(__version__, Path.cwd(), spec.model_dump_json(), (), (), {0: parts[0]}, {0: Caps()}, 0.0, (), {"OF_THE_STUB": "secret"})
        yield job, stub


def changed(job: Job, **fields: object) -> Job:
    return Job(**(vars(job) | fields))


def test_a_worker_asks_its_part_with_the_key_that_the_driver_has(job):
    job, stub = job
    assert Worker(job)({"part": [0]}) == {"part": [0], "error": [""], "message": [""]}
    assert len(stub.calls) == 10
    with Ledger(job.parts[0].ledger, run="shared") as ledger:
        assert ledger.usage().answered == 10


def test_a_worker_asks_with_the_worked_examples_of_the_run(job):
    job, stub = job
    worked, spare = (Worked(name, (Message("user", f"{name}?"), Message("assistant", f"{name}!"))) for name in ("example", "spare"))
    Worker(changed(job, examples=(worked, spare)))({"part": [0]})
    assert len(stub.calls) == 10
    assert all(turn.to_json() in call["messages"] for call in stub.calls for turn in worked.turns)


def test_a_key_of_the_nodes_own_goes_first(job, monkeypatch):
    job, _stub = job
    monkeypatch.setenv("OF_THE_STUB", "another")
    end = Worker(job)({"part": [0]})
    assert end["error"] == ["EndpointError"]
    assert "OF_THE_STUB" in end["message"][0]


def test_a_worker_that_starts_anew_spends_what_is_left_of_its_share(job):
    job, stub = job
    job = changed(job, caps={0: Caps(calls=4)})
    for _ in range(2):
        with pytest.raises(BudgetError):
            ask_part(job, job.parts[0])
    assert len(stub.calls) == 4
    assert not (job.parts[0].folder / STOP).exists()


def test_a_worker_stops_when_all_are_to_stop(job):
    job, stub = job
    (job.parts[0].folder / STOP).touch()
    stub._delay_s = 30.0
    assert Worker(job)({"part": [0]})["error"] == [""]
    with Ledger(job.parts[0].ledger, run="shared") as ledger:
        assert ledger.usage().orphaned == len(stub.calls)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"version": "0.0.1"}, "install one version everywhere"), ({"parts": {0: Part(Path("/nowhere"), 0, 1)}}, "every node mounts")],
)
def test_a_node_that_cannot_do_the_work_says_why(job, change, words):
    job, stub = job
    end = Worker(changed(job, **change))({"part": [0]})
    assert end["error"] == [EngineError.__name__]
    assert words in end["message"][0]
    assert stub.calls == []


def test_a_broken_contract_is_told_to_the_other_workers(job):
    job, _stub = job
    Worker(changed(job, version="0.0.1"))({"part": [0]})
    assert (job.parts[0].folder / STOP).exists()


def test_no_key_stands_in_the_files_of_a_part(job):
    job, _stub = job
    Worker(job)({"part": [0]})
    assert not any(b"secret" in path.read_bytes() for path in job.parts[0].folder.iterdir())
    assert "secret" not in job.spec


def test_without_ray_the_engine_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install 'potstill\[ray\]'"):
        require_ray(spec_of().engine)
