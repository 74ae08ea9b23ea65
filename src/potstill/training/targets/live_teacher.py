"""The distribution of a teacher in memory that reads the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.training.batches import Batch
from potstill.training.capture import Capture, Part, States
from potstill.training.distributions import Dense, Distribution
from potstill.training.head import Head, head_of, product_dtype, trained_hidden
from potstill.training.kernel import ChunkTarget
from potstill.training.machine import round_products


class LiveTeacher:
    """A teacher's logits (n, V) of the student's V tokens, at the student's positions, divided by `temperature`.

    `teacher_ids[i]` is the teacher's id of the student's token i (None: the same ids, and one model's table may end earlier
    than the other's: padding of vocabularies), −1 where the teacher has no such token; such a token must not stand in a row. Tokens that
    the student lacks get no column: the loss's softmax renormalises over what the student can say; tokens that the teacher lacks get
    −∞. The teacher runs without gradients, without a cache of keys and values, and its head sees the trained positions alone.
    Where autocast rounds its products, the weights that it would round in each pass are rounded once, and stay so: the same numbers, in
    half the memory. `vocabulary` is V, `device` where the teacher runs.
    """

    def __init__(self, module: Any, vocabulary: int, teacher_ids: NDArray[np.int64] | None = None, *, temperature: float = 1.0) -> None:
        self._temperature = temperature
        self.module = module.eval().requires_grad_(False)
        head = head_of(module)
        known, device = head.weight_VD.shape[0], head.weight_VD.device
        self.vocabulary, self.device = vocabulary, device
        self._ids_V: Tensor | None = None
        self._lacks_V: Tensor | None = None
        if teacher_ids is not None:
            assert len(teacher_ids) == vocabulary
            ids_V = torch.from_numpy(np.asarray(teacher_ids, dtype=np.int64)).to(device)
            self._lacks_V = ids_V < 0 if (ids_V < 0).any() else None
            # What rows are padded with may be a token that the teacher lacks: any other does there.
            self._ids_V = ids_V.clamp_min(0)
            head = head.rows(self._ids_V)
        elif vocabulary < known:
            head = head.rows(torch.arange(vocabulary, device=device))
        self._head = self._cast = head
        self._rounded: torch.dtype | None = None
        self._capture: Capture | None = None
        self._seen: tuple[Batch, States] | None = None

    def at(self, batch: Batch) -> ChunkTarget:
        """Run the teacher's backbone on the batch; its head follows chunk by chunk."""
        student_device = batch.labels_N.device
        hidden_ND = self._run(batch)
        hidden_ND = hidden_ND.to(product_dtype(hidden_ND))
        head = self._head_in(hidden_ND.dtype)

        def logits(part: slice) -> Distribution:
            with torch.no_grad():
                known_nV = head.logits(hidden_ND[part])
                if self._lacks_V is not None:
                    known_nV = known_nV.masked_fill(self._lacks_V, -torch.inf)
                known_nV = known_nV.to(student_device)
                if self._temperature != 1.0:
                    known_nV /= self._temperature
                missing = self.vocabulary - known_nV.shape[1]
                return Dense(nn.functional.pad(known_nV, (0, missing), value=-torch.inf) if missing else known_nV)

        return logits

    @property
    def unknown(self) -> NDArray[np.int64] | None:
        """Ids of the student's tokens that this teacher cannot read: it has none for them, or its table ends earlier."""
        if self._lacks_V is not None:
            return self._lacks_V.nonzero()[:, 0].cpu().numpy()
        known = self.module.get_input_embeddings().weight.shape[0]
        return np.arange(known, self.vocabulary) if self._ids_V is None and known < self.vocabulary else None

    def watch(self, layers: Sequence[int], parts: Sequence[Part]) -> None:
        """Remember, of each batch from now on, what goes on in these layers, until `states` is asked for it. Raises what Capture raises."""
        self._capture = Capture(self.module, layers, parts)

    def states(self, batch: Batch) -> States:
        """What goes on in the watched layers over this batch. The pass of `at` serves, where it was over this batch; else one is made."""
        if self._seen is None or self._seen[0] is not batch:
            self._run(batch)
        assert self._seen is not None, "nobody watches this teacher"
        states, self._seen = self._seen[1], None
        return states

    def _head_in(self, dtype: torch.dtype) -> Head:
        """The head in the number format of the products; made once, since it does not change."""
        if self._cast.weight_VD.dtype != dtype:
            self._cast = self._head.cast(dtype)
        return self._cast

    def _run(self, batch: Batch) -> Tensor:
        """(N, D) final hidden states."""
        own = batch.to(self.device)
        if self._ids_V is not None:
            own = replace(own, input_ids_BT=self._ids_V[own.input_ids_BT])
        self._round_products()
        with torch.no_grad(), torch.autocast(self.device.type, self._rounded, enabled=self._rounded is not None):
            if self._capture is None:
                return trained_hidden(self.module, own)
            with self._capture.watching() as states:
                hidden_ND = trained_hidden(self.module, own)
            self._seen = batch, states
        return hidden_ND

    def _round_products(self) -> None:
        kind = self.device.type
        if self._rounded is None and torch.is_autocast_enabled(kind):
            self._rounded = torch.get_autocast_dtype(kind)
            round_products(self.module, self._rounded)
