"""Calls that others made count for an endpoint's rates, each of them once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from minute import leave_calls
from potstill.models.openai_http import OpenAIModel
from potstill.models.recall import recall_calls, recall_ledger
from potstill.spec.sections import TeacherSpec
from potstill.store.ledger import Ledger
from potstill.store.ledger_sums import Recent


def endpoint(name: str, **rates: int) -> OpenAIModel:
    return OpenAIModel(TeacherSpec.model_validate({"model": name, "base_url": "http://127.0.0.1:1/v1"} | rates))


def admitted(model: OpenAIModel) -> int:
    """How many calls may leave at once."""

    async def count() -> int:
        for number in range(20):
            try:
                async with asyncio.timeout(0.05):
                    await model.throttle.admit(1)
            except TimeoutError:
                return number
        return 20

    return asyncio.run(count())


def test_calls_of_the_minute_before_count_for_whoever_asks_next() -> None:
    model, other = endpoint("a", requests_per_minute=12, tokens_per_minute=1200), endpoint("b")
    past = [Recent(model.identity, 950.0, 20, 2000.0), Recent(model.identity, 990.0, 8, 800.0), Recent(other.identity, 999.0, 50, 10.0)]
    recall_calls((model, other), past, 1000.0, workers=4)
    assert admitted(model) == 12 - 20 // 4 - 8 // 4


def test_a_model_is_told_of_a_ledger_once_and_of_each(tmp_path: Path) -> None:
    model = endpoint("a", requests_per_minute=12)
    for name, count in (("first", 3), ("second", 4)):
        leave_calls(tmp_path / name, "run", model.identity, count)
        for _ in range(2):
            with Ledger(tmp_path / name, run="run") as ledger:
                recall_ledger([model], ledger)
    assert admitted(model) == 12 - 3 - 4


def test_of_two_models_of_one_endpoint_each_is_told(tmp_path: Path) -> None:
    models = [endpoint("a", requests_per_minute=12) for _ in range(2)]
    leave_calls(tmp_path / "ledger", "run", models[0].identity, 5)
    with Ledger(tmp_path / "ledger", run="run") as ledger:
        recall_ledger(models, ledger)
    assert [admitted(model) for model in models] == [7, 7]
