"""What an answer cost. The unknown is None, never 0."""

from __future__ import annotations

from potstill.records import Completion
from potstill.spec.sections import PriceSpec


def dollars(completion: Completion, price: PriceSpec | None) -> float | None:
    """Dollars for one answer: for its tokens, or for its share of the machine's time; None where the price is unknown."""
    if price is None:
        return None
    if price.per_gpu_hour is not None:
        return completion.busy_s / 3600 * price.per_gpu_hour * price.gpus
    usage = completion.usage
    return (usage.input_tokens * (price.input_per_million or 0.0) + usage.output_tokens * (price.output_per_million or 0.0)) / 1e6
