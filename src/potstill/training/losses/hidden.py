"""Hidden states held against a teacher's: by their distance, or by their direction alone."""

from __future__ import annotations

from torch import Tensor, nn

from potstill.training.losses.base import precise, weighted_sum


def hidden_mse(student_ND: Tensor, teacher_ND: Tensor, weights_N: Tensor | None = None) -> Tensor:
    """Σ_n w_n · (1/D) Σ_d (s_nd − t_nd)²: a sum over N positions, a mean over the width; in squared units of the hidden state.

    Zero exactly where both are the same. Hidden-state matching of TinyBERT (L_hidn in Jiao et al. 2020, arXiv 1909.10351), whose
    learnt projection is the caller's. `weights_N` is what each position counts; None: 1. Computed in float32 at least.
    """
    difference_ND = precise(student_ND) - precise(teacher_ND)
    return weighted_sum(difference_ND.square().mean(dim=-1), weights_N)


def hidden_cosine(student_ND: Tensor, teacher_ND: Tensor, weights_N: Tensor | None = None) -> Tensor:
    """Σ_n w_n · (1 − cos(s_n, t_n)): a sum over N positions, without a unit, between 0 and 2 a position.

    The alignment of DistilBERT (Sanh et al. 2019, arXiv 1910.01108). Taken as ½‖s/‖s‖ − t/‖t‖‖², which is the same, and zero exactly
    where both are the same; PKD's loss on normalised states (Sun et al. 2019, arXiv 1908.09355) is twice it. How long a state is does not
    matter. `weights_N` is what each position counts; None: 1. Computed in float32 at least.
    """
    difference_ND = nn.functional.normalize(precise(student_ND), dim=-1) - nn.functional.normalize(precise(teacher_ND), dim=-1)
    return weighted_sum(0.5 * difference_ND.square().sum(dim=-1), weights_N)
