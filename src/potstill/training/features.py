"""What goes on inside the student, held against what goes on inside its teacher: the part of a loss that the head does not see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from potstill.errors import CapabilityError, SpecError
from potstill.spec.sections import FeaturesSpec
from potstill.training.batches import Batch
from potstill.training.capture import Capture, Part, States, show_attention, try_out
from potstill.training.carve import evenly_spaced
from potstill.training.layer_map import layers_out_of_range
from potstill.training.losses import attention_kl, attention_mse, hidden_cosine, hidden_mse, relation_kl
from potstill.training.targets.live_teacher import LiveTeacher

_HIDDEN = {"mse": hidden_mse, "cosine": hidden_cosine}
_ATTENTION = {"mse": attention_mse, "kl": attention_kl}

Pairs = Sequence[tuple[int, int]]
"""Layers of the student, each with the one of the teacher that it learns from."""


class FeatureMatching(nn.Module):
    """Σ over kinds of weight · mean over matched layers of a sum over positions, in the units of each kind's loss.

    Its only weights are the projections from the student's hidden states to the teacher's, where there are any: in float32, without bias,
    one a layer. They are learnt, saved and resumed with whatever this is a part of, and are no part of the student. At first they keep
    lengths and angles: the identity where the widths are equal, else a semi-orthogonal matrix drawn by `seed`.

    Attention is shown by both models from now on. Raises CapabilityError where the two cannot be matched so.
    """

    def __init__(self, student: Any, teacher: LiveTeacher, spec: FeaturesSpec, pairs: Pairs, *, seed: int = 0) -> None:
        super().__init__()
        self._spec, self._teacher, self._pairs, parts = spec, teacher, pairs, _parts(spec)
        seen, wanted, self._relation_heads = look_inside(student, teacher.module, spec, pairs)
        self._capture = Capture(student, [layer for layer, _ in pairs], parts)
        teacher.watch([layer for _, layer in pairs], parts)
        generator = torch.Generator().manual_seed(seed)
        self.projections = nn.ModuleList(
            _projection(seen[own, "hidden"].shape[-1], wanted[other, "hidden"].shape[-1], generator, always=spec.project == "always")
            for own, other in pairs
            if spec.hidden != "none"
        )

    def watching(self) -> AbstractContextManager[States]:
        """What the student's matched layers do until the block ends."""
        return self._capture.watching()

    def forward(self, seen: States, batch: Batch) -> Tensor:
        """The sum over a batch's positions: a scalar, differentiable by what was seen of the student and by the projections."""
        wanted, places = self._teacher.states(batch), Places.of(batch, self._spec.positions)
        total = torch.zeros((), device=places.device)
        with torch.autocast(places.device.type, enabled=False):
            for number in range(len(self._pairs)):
                total = total + self._pair(number, seen, wanted, places)
        return total / len(self._pairs)

    def _pair(self, number: int, seen: States, wanted: States, places: Places) -> Tensor:
        spec, (own, other) = self._spec, self._pairs[number]

        def both(part: Part) -> tuple[Tensor, Tensor]:
            return seen[own, part], wanted[other, part].to(places.device)

        total = torch.zeros((), device=places.device)
        if spec.hidden != "none":
            states_ND, wanted_ND = (places.of_states(found) for found in both("hidden"))
            total = total + spec.hidden_weight * _HIDDEN[spec.hidden](
                self.projections[number](states_ND.float()), wanted_ND, places.weights_N
            )
        if spec.attention != "none":
            maps_NHK, wanted_NHK = (self._heads(places.of_maps(found)) for found in both("attention"))
            total = total + spec.attention_weight * _ATTENTION[spec.attention](maps_NHK, wanted_NHK, places.weights_N)
        for part in spec.relations:
            relations = relation_kl(*both(part), places.positions_N, places.weights_N, heads=self._relation_heads)
            total = total + spec.relations_weight * relations
        return total

    def _heads(self, maps_NHK: Tensor) -> Tensor:
        return maps_NHK if self._spec.attention_heads == "each" else maps_NHK.float().mean(dim=1, keepdim=True)


@dataclass(frozen=True)
class Places:
    """Where two models are held against each other: places in the flattened (B·T) batch, in rising order, and what each counts."""

    positions_N: Tensor
    weights_N: Tensor | None

    @classmethod
    def of(cls, batch: Batch, positions: str) -> Places:
        """The trained positions as the objective weighs them, or all, where a row's positions share what its trained ones count."""
        if positions == "trained":
            return cls(batch.positions_N, batch.weights_N)
        device, (rows, longest) = batch.labels_N.device, batch.input_ids_BT.shape
        trained_N = torch.from_numpy(np.repeat(np.arange(rows), batch.counts_B)).to(device)
        weights_N = torch.ones(len(trained_N), device=device) if batch.weights_N is None else batch.weights_N
        counts_B = torch.zeros(rows, device=device).index_add(0, trained_N, weights_N) / torch.from_numpy(batch.lengths_B).to(device)
        where = np.concatenate([row * longest + np.arange(length) for row, length in enumerate(batch.lengths_B)])
        all_N = torch.from_numpy(where).to(device)
        return cls(all_N, counts_B[all_N // longest])

    @property
    def device(self) -> torch.device:
        """Where the batch is."""
        return self.positions_N.device

    def of_states(self, states_BTD: Tensor) -> Tensor:
        """(N, D) of them."""
        return states_BTD.flatten(0, 1).index_select(0, self.positions_N)

    def of_maps(self, maps_BHTT: Tensor) -> Tensor:
        """(N, H, T): where each of them looks."""
        return maps_BHTT.transpose(1, 2).flatten(0, 1).index_select(0, self.positions_N)


def look_inside(student: Any, teacher: Any, spec: FeaturesSpec, pairs: Pairs) -> tuple[States, States, int]:
    """What is matched in student and teacher, over a few tokens, and in how many heads relations are cut.

    Both models show their attention afterwards, where that is matched. What their weights say does not matter. Raises CapabilityError
    where the two cannot be matched so.
    """
    parts = _parts(spec)
    if spec.attention != "none":
        show_attention(student)
        show_attention(teacher)
    seen = try_out(student, [layer for layer, _ in pairs], parts)
    wanted = try_out(teacher, [layer for _, layer in pairs], parts)
    if spec.attention != "none" and spec.attention_heads == "each":
        _check_heads(seen, wanted, pairs)
    widths = [found.shape[-1] for states in (seen, wanted) for (_, part), found in states.items() if part in spec.relations]
    return seen, wanted, _relation_heads(spec, teacher.config.get_text_config().num_attention_heads, widths)


def matched_layers(spec: FeaturesSpec, student: int, teacher: int, cut_from: Sequence[int] | None) -> Pairs:
    """Which layers are matched, of models with so many; `cut_from` names the teacher's layers that a student was carved out of.

    `auto` are those, else as many evenly spaced pairs as the shallower model has layers, the last with the last. Raises SpecError where
    a layer is asked for that there is not.
    """
    if spec.layers != "auto":
        problem = layers_out_of_range(spec.layers, student, teacher)
        if problem is not None:
            raise SpecError(problem)
        return sorted(spec.layers.items())
    if cut_from is not None:
        return list(enumerate(cut_from))
    count = min(student, teacher)
    return list(zip(_evenly(student, count), _evenly(teacher, count), strict=True))


def layer_count(module: Any) -> int:
    """How many layers a language model has."""
    return int(module.config.get_text_config().num_hidden_layers)


def _evenly(layers: int, count: int) -> tuple[int, ...]:
    # One alone is the last: what is matched there, all layers below are trained for.
    return evenly_spaced(layers, count) if count > 1 else (layers - 1,)


def _parts(spec: FeaturesSpec) -> list[Part]:
    parts: list[Part] = list(spec.relations)
    if spec.hidden != "none":
        parts.append("hidden")
    if spec.attention != "none":
        parts.append("attention")
    return parts


def _projection(width: int, wanted: int, generator: torch.Generator, *, always: bool) -> nn.Module:
    if width == wanted and not always:
        return nn.Identity()
    # Drawn apart: the usual first weights would come from the random numbers that training goes by.
    weight_ED = torch.empty(wanted, width)
    linear = nn.Linear(width, wanted, bias=False, device="meta")
    linear.weight = nn.Parameter(nn.init.eye_(weight_ED) if width == wanted else nn.init.orthogonal_(weight_ED, generator=generator))
    return linear


def _check_heads(seen: States, wanted: States, pairs: Pairs) -> None:
    for own, other in pairs:
        heads, others = seen[own, "attention"].shape[1], wanted[other, "attention"].shape[1]
        if heads != others:
            raise CapabilityError(
                f"the student's layer {own} has {heads} attention heads, the teacher's layer {other} has {others}: set "
                "`training.features.attention_heads: mean`, or match `relations`, whose heads may differ"
            )


def _relation_heads(spec: FeaturesSpec, teacher_heads: int, widths: Sequence[int]) -> int:
    """In how many heads all of these widths can be cut."""
    if spec.relation_heads == "auto":
        return math.gcd(teacher_heads, *widths)
    odd = sorted({width for width in widths if width % spec.relation_heads})
    if odd:
        raise CapabilityError(
            f"`training.features.relation_heads` is {spec.relation_heads}, but queries, keys or values {odd[0]} wide cannot be cut in as "
            f"many parts; take a divisor of {math.gcd(*widths)}, or `auto`"
        )
    return spec.relation_heads
