"""Step-by-step distillation: to answer, and to say why, as two tasks of one student."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def task_weights(tokens_R: NDArray[np.int64], is_rationale_R: NDArray[np.bool_], *, rationale_weight: float) -> NDArray[np.float32]:
    """What each of R rows counts, so that the loss is (answer + λ · rationale) / (1 + λ), each the mean over its own tokens.

    Hsieh et al. 2023, arXiv 2305.02301, §3.2: L = L_label + λ L_rationale, where each is a mean over tokens: reasons are many times as
    long as labels, and would else drown them. `tokens_R` are trained tokens; means are taken over all rows, not batch by batch. Divided
    by 1 + λ the weights of all tokens have the mean 1, so that rate and clipping act as they do elsewhere. Both tasks need a row.
    """
    answers, reasons = int(tokens_R[~is_rationale_R].sum()), int(tokens_R[is_rationale_R].sum())
    assert answers, "no answer to learn"
    assert reasons, "no rationale to learn"
    share = (answers + reasons) / (1.0 + rationale_weight)
    return np.where(is_rationale_R, share * rationale_weight / reasons, share / answers).astype(np.float32)
