"""Exact match and token F1 of SQuAD (Rajpurkar et al. 2016, §6.1; the normalisation of the official script, version 2.0)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from potstill.tasks.metrics.base import Mean

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(labels: Sequence[str] = ()) -> Mean:
    """Share of answers that equal a reference after SQuAD's normalisation."""
    del labels
    return Mean("exact_match", "Exact match", lambda answer, reference: float(normalise(answer) == normalise(reference)))


def token_f1(labels: Sequence[str] = ()) -> Mean:
    """Mean F1 of the words that answer and reference share, after SQuAD's normalisation; the best over the references."""
    del labels
    return Mean("token_f1", "Token F1", _f1)


def normalise(text: str) -> str:
    """`text` in lower case, without ASCII punctuation and the articles a, an, the, its white space collapsed."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def _f1(answer: str, reference: str) -> float:
    found, wanted = normalise(answer).split(), normalise(reference).split()
    if not found or not wanted:
        return float(found == wanted)
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))
