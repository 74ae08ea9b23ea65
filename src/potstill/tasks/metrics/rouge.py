"""ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), as F-measures, by Google's `rouge-score`.

Words are stemmed by Porter (`use_stemmer=True`, the `-m` of ROUGE-1.5.5, as summarization papers report it). A row's score is
the best over its references; a system's is the mean over rows. On ASCII text the figures equal `rouge-score`'s own.
Its tokenizer drops every other letter, so that a perfect Russian summary scores 0; ours keeps them with their marks (कि is not
की), and takes each ideograph or kana as a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache, partial
from typing import Any

from potstill.tasks.letters import MARKS
from potstill.tasks.metrics.base import Mean

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = rf"[{_IDEOGRAPHS}]|[^\W_{_IDEOGRAPHS}]+(?:[{MARKS}]+[^\W_{_IDEOGRAPHS}]*)*"


def rouge_1(labels: Sequence[str] = ()) -> Mean:
    """Overlap of single words, F-measure in 0..1."""
    del labels
    return Mean("rouge_1", "ROUGE-1", partial(_f_measure, "rouge1"))


def rouge_2(labels: Sequence[str] = ()) -> Mean:
    """Overlap of word pairs, F-measure in 0..1."""
    del labels
    return Mean("rouge_2", "ROUGE-2", partial(_f_measure, "rouge2"))


def rouge_l(labels: Sequence[str] = ()) -> Mean:
    """Longest common subsequence of words, F-measure in 0..1; the text is one sequence, line breaks aside."""
    del labels
    return Mean("rouge_l", "ROUGE-L", partial(_f_measure, "rougeL"))


class _Words:
    """What `rouge-score` asks of a tokenizer."""

    def __init__(self) -> None:
        self._word = re.compile(_WORD)  # not at import, for every command would wait for it

    def tokenize(self, text: str) -> list[str]:
        return [_stem(word) for word in self._word.findall(_lower(text))]


def _lower(text: str) -> str:
    # The lower case of İ is an i with one dot more.
    return unicodedata.normalize("NFC", text).lower().replace("i\u0307", "i")


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    # Porter's rules are for English. Short words are left alone by rouge-score itself.
    return "".join(_english().tokenize(word)) if word.isascii() else word


@cache
def _english() -> Any:
    from rouge_score.tokenizers import DefaultTokenizer

    return DefaultTokenizer(use_stemmer=True)


@cache
def _scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], tokenizer=_Words())


def _f_measure(kind: str, answer: str, reference: str) -> float:
    return float(_scorer(kind).score(reference, answer)[kind].fmeasure)
