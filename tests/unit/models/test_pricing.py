"""Prices are those of this very model at this very endpoint, or unknown."""

from __future__ import annotations

import socket
from datetime import time
from decimal import Decimal

import genai_prices.types as snapshot
import pytest
from genai_prices.data_snapshot import DataSnapshot, set_custom_snapshot

from potstill.models.load import endpoint_of
from potstill.models.pricing import price_of
from potstill.spec.sections import PriceSpec, TeacherSpec

URL = "https://api.example.com/v1"


def tokens(read: str, written: str) -> snapshot.ModelPrice:
    return snapshot.ModelPrice(input_mtok=Decimal(read), output_mtok=Decimal(written))


MODELS = {
    "plain": tokens("2", "8"),
    "tiered": snapshot.ModelPrice(
        input_mtok=snapshot.TieredPrices(Decimal(1), [snapshot.Tier(200_000, Decimal(3))]), output_mtok=Decimal(4)
    ),
    "cheaper-at-night": [
        snapshot.ConditionalPrice(prices=tokens("0.5", "1")),
        snapshot.ConditionalPrice(snapshot.TimeOfDateConstraint(time(6), time(22)), prices=tokens("1", "2")),
    ],
    "by-the-call-too": snapshot.ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(1), requests_kcount=Decimal(5)),
    "without-a-price": snapshot.ModelPrice(),
}


@pytest.fixture
def _example_prices():
    models = [snapshot.ModelInfo(name, snapshot.ClauseStartsWith(name), prices=price) for name, price in MODELS.items()]
    other = snapshot.ModelInfo("elsewhere", snapshot.ClauseEquals("elsewhere"), prices=tokens("1", "1"))
    aliases = snapshot.ClauseOr([snapshot.ClauseEquals("aka"), snapshot.ClauseStartsWith("renamed")])
    models.append(snapshot.ModelInfo("renamed", aliases, prices=tokens("3", "9")))
    providers = [
        snapshot.Provider("example", "Example", r"https://api\.example\.com", models=models, fallback_model_providers=["another"]),
        snapshot.Provider("another", "Another", r"https://another\.example\.com", models=[other]),
    ]
    set_custom_snapshot(DataSnapshot(providers, from_auto_update=False))
    yield
    set_custom_snapshot(None)


@pytest.mark.usefixtures("_example_prices")
@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("plain", (2, 8)),
        ("Plain", (2, 8)),
        ("plain-2026-03-01", (2, 8)),
        ("plain-20260301", (2, 8)),
        ("plain-latest", (2, 8)),
        ("plain-turbo", None),
        ("plain-2026", None),
        ("aka", (3, 9)),
        ("renamed", (3, 9)),
        ("tiered", (1, 4)),
        ("cheaper-at-night", (1, 2)),
        ("by-the-call-too", None),
        ("without-a-price", None),
        ("elsewhere", None),
        ("nobody", None),
    ],
)
def test_a_price_is_this_models_for_short_prompts_at_the_dearest_hour(model: str, price: tuple[float, float] | None) -> None:
    found = price_of(URL, model)
    assert (found and (found.input_per_million, found.output_per_million)) == price


@pytest.mark.usefixtures("_example_prices")
@pytest.mark.parametrize("base_url", [None, "http://127.0.0.1:8000/v1", "https://proxy.example.org/v1"])
def test_an_address_of_nobody_has_no_price(base_url: str | None) -> None:
    assert price_of(base_url, "plain") is None


@pytest.mark.usefixtures("_example_prices")
def test_the_specs_price_wins_over_the_listed_one() -> None:
    mine = PriceSpec(input_per_million=7, output_per_million=7)
    assert endpoint_of(TeacherSpec(model="plain", base_url=URL, price=mine)).price == mine
    assert endpoint_of(TeacherSpec(model="plain", base_url=URL)).price == PriceSpec(input_per_million=2, output_per_million=8)


@pytest.mark.parametrize("name", ["deepseek-v3", "llama-3.1-405b-instruct"])
def test_a_teacher_that_the_catalogue_does_not_price_takes_the_installed_list_without_the_network(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", None)
    price = endpoint_of(TeacherSpec(model=name)).price
    assert price is not None
    assert 0 < price.input_per_million <= price.output_per_million < 100
