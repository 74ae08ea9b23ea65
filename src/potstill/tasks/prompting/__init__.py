"""What the teacher is told besides the row's own messages: one small file a strategy, and the dict that lists them."""

from __future__ import annotations

from potstill.spec.sections import PromptingSpec
from potstill.tasks.prompting.base import Strategy
from potstill.tasks.prompting.chain_of_density import ChainOfDensity
from potstill.tasks.prompting.chain_of_thought import ChainOfThought
from potstill.tasks.prompting.direct import Direct

STRATEGIES: dict[str, type[Strategy]] = {
    "direct": Direct,
    "chain_of_thought": ChainOfThought,
    "chain_of_density": ChainOfDensity,
}


def build_strategy(spec: PromptingSpec, schema: str | None = None) -> Strategy:
    """The strategy that the spec names, for answers that obey `schema`, a JSON Schema as canonical text."""
    return STRATEGIES[spec.strategy](spec, schema)


__all__ = ["STRATEGIES", "Strategy", "build_strategy"]
