"""Drops answers in another language than the wanted one.

py3langid (Lui & Baldwin 2012, ACL system demonstrations; retrained) tells 140 languages from each other. A few words tell too little,
and neighbours are hard to tell apart: an answer is dropped only where the wanted language is all but excluded.
"""

from __future__ import annotations

import difflib
import functools
import re
from typing import Any

from potstill.errors import SpecError
from potstill.generation.gates.base import GateContext
from potstill.records import Verdict
from potstill.tasks.replies import answer_part

NAME = "language"
VERSION = 1
LEAST_LETTERS = 24
"""Shorter texts are too short to tell; a character of Chinese, Japanese or Korean counts as four."""
MOST_CHARACTERS = 10_000
SURE, EXCLUDED = 0.8, 0.05
"""An answer is in another language where that has at least the one probability, and the wanted one at most the other."""
SAME = "same"

_NO_LANGUAGE = re.compile(r"(`{3,}|~{3,}).*?(?:\1|\Z)|`[^`\n]*`|\$[^$\n]+\$|https?://\S+|[\w.+-]{1,64}@\S+|<[^<>\n]*>", re.DOTALL)
_DENSE = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
# Varieties that the identifier takes for each other: whoever wants one is not refused the other.
_NEIGHBOURS = ({"no", "nn", "da"}, {"hr", "sr", "bs"}, {"id", "ms"}, {"zh", "yue", "wuu"}, {"ar", "arz", "ary"}, {"en", "pcm"})
_OTHER_NAMES = {"nb": "no", "iw": "he", "in": "id", "cmn": "zh", "fil": "tl"}


def language(context: GateContext) -> Verdict:
    """Keep answers in `gates.language`, or, where that is `same`, in the prompt's. Codes: `other`; `unsure` for kept ones that are too
    short to tell. Raises SpecError for a language that is not known.
    """
    wanted = context.gates.language or SAME
    if wanted == SAME:
        asked = next((message.content for message in reversed(context.messages) if message.role == "user"), "")
        wanted = sure_language(asked) or ""
        if not wanted:
            return Verdict(NAME, True, "the prompt does not tell its language", VERSION, "unsure")
    wanted = check_language(wanted)
    chances = _chances(answer_part(context.completion.text))
    if not chances:
        return Verdict(NAME, True, "too short to tell", VERSION, "unsure")
    found = max(chances, key=lambda code: chances[code])
    if found in _alike(wanted):
        return Verdict(NAME, True, version=VERSION)
    if chances[found] >= SURE and sum(chances.get(code, 0.0) for code in _alike(wanted)) <= EXCLUDED:
        return Verdict(NAME, False, f'is in "{found}" (probability {chances[found]:.2f}), not in "{wanted}"', VERSION, "other")
    return Verdict(NAME, True, f'"{found}" with probability {chances[found]:.2f} alone', VERSION, "unsure")


def check_language(name: str) -> str:
    """The code by which a language is known (`en` for `en-GB`). Raises SpecError where it is not."""
    if name == SAME:
        return SAME
    code = re.split(r"[-_]", name.strip().lower())[0]
    code = _OTHER_NAMES.get(code, code)
    known = _identifier().labels
    if code in known:
        return str(code)
    close = difflib.get_close_matches(code, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise SpecError(
        f'gates.language: "{name}" is not a language that can be told; {hint}give "{SAME}" or one of {", ".join(sorted(known))}'
    )


def sure_language(text: str) -> str | None:
    """The code of a text's language; None where it is too short or not clear."""
    chances = _chances(text)
    best = max(chances, key=lambda code: chances[code], default=None)
    return best if best is not None and chances[best] >= SURE else None


def _chances(text: str) -> dict[str, float]:
    """The probability of each language; none where the text is too short."""
    plain = _NO_LANGUAGE.sub(" ", text[:MOST_CHARACTERS])
    if sum(map(str.isalpha, plain)) + 3 * len(_DENSE.findall(plain)) < LEAST_LETTERS:
        return {}
    return dict(_identifier().rank(plain))


def _alike(code: str) -> set[str]:
    return next((neighbours for neighbours in _NEIGHBOURS if code in neighbours), {code})


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
