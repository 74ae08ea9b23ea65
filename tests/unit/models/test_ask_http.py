"""Asking over HTTP as the server sees it: every call is in the ledger, and what one refusal teaches serves all calls in flight."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest
from billing_server import BillingServer

from potstill.models.ask import ask_async
from potstill.models.openai_http import OpenAIModel
from potstill.models.questions import Answers
from potstill.records import Message, Request, Sampling
from potstill.spec.sections import TeacherSpec
from potstill.store.ledger import Ledger

WIDTH = 12


def ask(server: BillingServer, ledger: Ledger, requests: list[Request]) -> Answers:
    async def run() -> Answers:
        model = OpenAIModel(TeacherSpec(model="billing", base_url=server.base_url), concurrency=WIDTH, backoff_s=0.001)
        try:
            return await ask_async(model, requests, ledger)
        finally:
            await model.close()

    return asyncio.run(run())


@pytest.fixture
def ledger_file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_a_model_that_served_several_event_loops_leaves_no_connection_behind(ledger_file, caplog):
    with BillingServer(0) as server, Ledger(ledger_file) as ledger:
        model = OpenAIModel(TeacherSpec(model="billing", base_url=server.base_url))
        before = len(os.listdir("/proc/self/fd"))
        for number in range(8):
            asyncio.run(ask_async(model, rows(80)[10 * number : 10 * (number + 1)], ledger))
        # Those of some loops, whose other ends the server has yet to close, but not of all eight: each call has two ends in this process.
        assert len(os.listdir("/proc/self/fd")) < before + 4 * 2 * 10
        asyncio.run(model.close())
        del model
        gc.collect()
    assert [record.getMessage() for record in caplog.records] == []


def rows(count: int, samples: int = 1) -> list[Request]:
    sampling = Sampling(12, temperature=1.0)
    return [Request((Message("user", f"row {number}"),), sampling, sample) for number in range(count) for sample in range(samples)]


def test_samples_of_a_question_cost_one_call(ledger_file):
    with BillingServer(0) as server, Ledger(ledger_file) as ledger:
        assert ask(server, ledger, rows(5, samples=8)).failed == 0
        assert server.bill.calls == 5
        assert ledger.usage().usage.input_tokens + ledger.usage().usage.output_tokens == server.bill.tokens


@pytest.mark.parametrize("refuses", ["max_tokens", "n"])
def test_a_refused_way_of_asking_costs_no_row_and_each_call_is_in_the_ledger(ledger_file, refuses):
    with BillingServer(0, refuses=refuses) as server, Ledger(ledger_file) as ledger:
        answers = ask(server, ledger, rows(50, samples=4))
        assert (answers.asked, answers.failed) == (200, 0)
        # Those that were in flight when the first refusal came were refused as well, and no others.
        refused = server.bill.calls - (50 if refuses == "max_tokens" else 200)
        assert 1 <= refused <= 2 * WIDTH
        assert ledger.usage().calls >= server.bill.calls
