"""The output head of a language model as a function of chosen hidden states: no logits for positions that nobody trains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from potstill.errors import CapabilityError, ModelError
from potstill.training.batches import Batch

_EXACT, _ROUNDED = 1e-4, 3e-2
"""How far two ways to the same logits may lie apart, relative to the largest: in float32, and in 16 bits."""


@dataclass(frozen=True)
class Head:
    """logits = cap · tanh(scale · (W h + b) / cap), the cap where there is one."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    cap: float | None = None

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """(N, V) logits of (N, D) final hidden states."""
        logits_NV = nn.functional.linear(hidden_ND, self.weight_VD, self.bias_V)
        if self.scale != 1.0:
            logits_NV = logits_NV * self.scale
        return logits_NV if self.cap is None else torch.tanh(logits_NV / self.cap) * self.cap

    def rows(self, ids_V: Tensor) -> Head:
        """The head of these tokens alone, in this order."""
        return replace(self, weight_VD=self.weight_VD[ids_V], bias_V=None if self.bias_V is None else self.bias_V[ids_V])

    def cast(self, dtype: torch.dtype) -> Head:
        """The head with its numbers in another format."""
        return replace(self, weight_VD=self.weight_VD.to(dtype), bias_V=None if self.bias_V is None else self.bias_V.to(dtype))

    def before_cap(self, gradient_NV: Tensor, logits_NV: Tensor) -> Tensor:
        """From the derivative by logits to that by W h + b."""
        if self.cap is not None:
            gradient_NV = gradient_NV * (1.0 - (logits_NV / self.cap).square())
        return gradient_NV if self.scale == 1.0 else gradient_NV * self.scale

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """What is trained of it."""
        return (self.weight_VD,) if self.bias_V is None else (self.weight_VD, self.bias_V)


def head_of(module: Any) -> Head:
    """The head of a causal language model of transformers, proven on a few tokens against the model's own logits.

    Raises what `output_head` and `prove_head` raise.
    """
    prove_head(module)
    return output_head(module)


def output_head(module: Any) -> Head:
    """The head as the model holds it now: what shards a model swaps its weights.

    Known are plain linear heads, capped ones (Gemma), and scaled ones (Cohere, Granite). Raises CapabilityError for others.
    """
    config, linear = module.config.get_text_config(), module.get_output_embeddings()
    if not isinstance(linear, nn.Linear):
        raise CapabilityError(f"{type(module).__name__} has no linear output head that training could use; choose another student")
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    return Head(linear.weight, linear.bias, scale, getattr(config, "final_logit_softcapping", None))


def product_dtype(hidden_ND: Tensor) -> torch.dtype:
    """The number format in which these hidden states are multiplied: their own, or autocast's."""
    kind = hidden_ND.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_ND.dtype


def backbone(module: Any) -> Any:
    """What turns tokens into final hidden states; adapters (PEFT) are inside it."""
    plain = module.get_base_model() if hasattr(module, "get_base_model") else module
    return plain.base_model


def trained_hidden(module: Any, batch: Batch) -> Tensor:
    """(N, D) final hidden states of a batch's trained positions.

    No attention mask is passed: rows are padded on the right, and causal attention never looks there.
    """
    hidden_BTD: Tensor = backbone(module)(input_ids=batch.input_ids_BT, use_cache=False).last_hidden_state
    return hidden_BTD.flatten(0, 1).index_select(0, batch.positions_N)


def prove_head(module: Any) -> None:
    """Hold hidden states through the head against the model's own logits, on a few tokens.

    Raises CapabilityError where they differ, ModelError where logits are not finite.
    """
    head, was_training = output_head(module), module.training
    module.eval()
    ids_1T = torch.arange(min(4, head.weight_VD.shape[0]), device=head.weight_VD.device)[None]
    with torch.no_grad():
        expected = module(input_ids=ids_1T, use_cache=False).logits.float()
        found = head.logits(backbone(module)(input_ids=ids_1T, use_cache=False).last_hidden_state).float()
    module.train(was_training)
    if not expected.isfinite().all():
        raise ModelError(
            f"{type(module).__name__}: the model answers with numbers that are not finite; its weights are damaged: fetch it again"
        )
    tolerance = _EXACT if head.weight_VD.dtype == torch.float32 else _ROUNDED
    if expected.shape != found.shape or (expected - found).abs().max() > tolerance * expected.abs().max():
        raise CapabilityError(
            f"{type(module).__name__} turns hidden states into logits in a way that training does not know; choose another model"
        )
