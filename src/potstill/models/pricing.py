"""What an answer costs, and who says so. The unknown is None, never 0."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from potstill.records import Completion
from potstill.spec.sections import PriceSpec

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

# A dated release of a model costs what the model costs.
_RELEASE = r"(?:[-@]\d{4}-?\d{2}-?\d{2}|-latest)?"
# A host that is a bare number or a single word is a machine of one's own.
_OWN_ADDRESS = re.compile(r"https?://(?:[\d.]+|[^./]+)(?::\d+)?(?:/.*)?")


def dollars(completion: Completion, price: PriceSpec | None) -> float | None:
    """Dollars for one answer: for its tokens, or for its share of the machine's time; None where the price is unknown."""
    if price is None:
        return None
    if price.per_gpu_hour is not None:
        return completion.busy_s / 3600 * price.per_gpu_hour * price.gpus
    usage = completion.usage
    return (usage.input_tokens * (price.input_per_million or 0.0) + usage.output_tokens * (price.output_per_million or 0.0)) / 1e6


def price_of(base_url: str | None, model: str) -> PriceSpec | None:
    """What the provider at this address asks for this very model, as the installed `genai-prices` lists it; nothing is fetched.

    Prices that rise with the prompt's length are those of short prompts, prices that change with the hour those of the dearest.
    None for another address, another model, or a price that is not by tokens alone.
    """
    if base_url is None or _OWN_ADDRESS.fullmatch(base_url):
        return None  # no provider's: the list, which takes a while to import, need not be read
    from genai_prices import Usage, calc_price

    try:
        found = calc_price(Usage(input_tokens=0, output_tokens=0), model_ref=model, provider_api_url=base_url)
    except LookupError:
        return None
    # The snapshot guesses: by the beginning of a name, and at other providers where this one lists no such model.
    if not (_is_called(found.model, model) and any(known is found.model for known in found.provider.models)):
        return None
    now = datetime.now(UTC)
    offers = [_by_tokens(found.model.get_prices(now.replace(hour=hour))) for hour in range(24)]
    return max((offer for offer in offers if offer is not None), key=lambda offer: offer.output_per_million or 0.0, default=None)


def price_source() -> str:
    """Where `price_of` has its prices from."""
    return f"genai-prices {metadata.version('genai-prices')}, for short prompts"


def _is_called(model: ModelInfo, name: str) -> bool:
    return any(re.fullmatch(re.escape(known) + _RELEASE, name, re.IGNORECASE) for known in (model.id, *_aliases(model.match)))


def _aliases(clause: Any) -> Iterator[str]:
    """The names that a rule of the snapshot spells out."""
    if hasattr(clause, "equals"):
        yield clause.equals
    for inner in getattr(clause, "or_", ()):
        yield from _aliases(inner)


def _by_tokens(price: ModelPrice) -> PriceSpec | None:
    sides: list[Any] = [getattr(side, "base", side) for side in (price.input_mtok, price.output_mtok)]
    if None in sides or price.requests_kcount is not None:
        return None
    reads, writes = map(float, sides)
    return PriceSpec(input_per_million=reads, output_per_million=writes)
