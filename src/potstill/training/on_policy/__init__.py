"""Rows that the student writes itself while it is trained: how it writes them, how long they are kept, which of them a step takes."""

from potstill.training.on_policy.buffer import ReplayBuffer, Rollout
from potstill.training.on_policy.source import RolloutSource
from potstill.training.on_policy.write import Writing, write

__all__ = ["ReplayBuffer", "Rollout", "RolloutSource", "Writing", "write"]
