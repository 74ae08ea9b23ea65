"""What one teacher can do without a run around it; the rest is refused before anything is paid for."""

from __future__ import annotations

from potstill.errors import UsageError
from potstill.records import Sampling
from potstill.spec.sections import BudgetSpec, GatesSpec, GenerationSpec


def require_alone(generation: GenerationSpec, gates: GatesSpec, sampling: Sampling) -> None:
    """Raises UsageError where the settings ask for more than rows put to one teacher, or for samples that are all the same."""
    if generation.samples > 1 and not sampling.temperature:
        raise UsageError(
            f"`generation.samples` is {generation.samples}, but greedy answers are all the same: give a `sampling` with a `temperature` "
            "above 0"
        )
    beyond = [name for name, wanted in _beyond(generation, gates).items() if wanted]
    if beyond:
        names = ", ".join(f"`{name}`" for name in beyond)
        raise UsageError(f"{names}: needs a whole run, which `potstill.run` makes; one teacher's answers alone do without")


def _beyond(generation: GenerationSpec, gates: GatesSpec) -> dict[str, bool]:
    """Settings that need a run's stages or other models, and whether they are asked for."""
    return {
        f"generation.choose: {generation.choose}": generation.chosen_by_judge,
        "gates.judge": gates.judge is not None,
        "generation.scorer": generation.scorer is not None,
        "generation.expand": generation.expand is not None,
        "generation.balance": generation.balance is not None,
        "generation.qualify": generation.qualify is not None,
        "generation.mode: batch": generation.mode == "batch",
        "generation.budget.when_reached: go_on": generation.budget.when_reached != BudgetSpec().when_reached,
        "generation.pilot": "pilot" in generation.model_fields_set and generation.pilot.rows > 0,
        "generation.ledger": generation.ledger is not None,
    }
