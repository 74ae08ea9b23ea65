"""What an answer cost. The unknown is None, never 0."""

from __future__ import annotations

from potstill.records import Completion
from potstill.spec.sections import PriceSpec


def dollars(completion: Completion, price: PriceSpec | None) -> float | None:
    """Dollars for the tokens of one call at an endpoint's price; None where the price is unknown."""
    if price is None:
        return None
    usage = completion.usage
    return (usage.input_tokens * price.input_per_million + usage.output_tokens * price.output_per_million) / 1e6
