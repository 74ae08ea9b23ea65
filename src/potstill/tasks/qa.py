"""Questions: the answer is a span of the passage, free text, or the letter of a choice."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from potstill.records import Example
from potstill.spec.sections import TaskSpec
from potstill.tasks.base import SingleTurn
from potstill.tasks.choices import chosen_letter, listed_options
from potstill.tasks.replies import answer_part

_PREFIX = re.compile(r"[*_\s]*(?:the\s+)?(?:final\s+|correct\s+|short\s+)?answer[*_]*\s*(?::|is\b)[*_:\s]*", re.IGNORECASE)
_PAIRS = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`", "**": "**", "*": "*"}
_STRAIGHT = str.maketrans("“”„‘’‚«»", '"""' + "'''" + '""')


@dataclass(frozen=True)
class OpenAnswer(SingleTurn):
    """Free text."""

    def parse(self, text: str) -> str | None:
        """The text without `Answer:` before it and quotes or markdown around it."""
        answer = _PREFIX.sub("", answer_part(text), count=1) if _PREFIX.match(answer_part(text)) else answer_part(text)
        return _unquoted(answer.strip()) or None


@dataclass(frozen=True)
class Extractive(OpenAnswer):
    """A span of the passage, which stands in the prompt."""

    def verify(self, example: Example, text: str) -> str | None:
        """Refuses an answer that is neither in the prompt nor a reference; case, white space and a final full stop aside."""
        answer = self.parse(text)
        if answer is None:
            return None
        allowed = [_plain(message.content) for message in example.messages if message.role != "assistant"]
        gold = {_plain(self.parse(reference) or reference) for reference in example.reference}
        forms = {_plain(answer), _plain(answer).rstrip(".")}
        if forms & gold or any(form in passage for form in forms for passage in allowed):
            return None
        return f'"{_shortened(answer)}" is not a span of the passage'


@dataclass(frozen=True)
class Choice(SingleTurn):
    """The letter of a choice."""

    def parse(self, text: str) -> str | None:
        """The chosen letter in upper case: `B`, `(b)`, `B. Paris`, `The answer is B`; None where there is none, or several."""
        return chosen_letter(answer_part(text))

    def verify(self, example: Example, text: str) -> str | None:
        """Refuses a letter that is not among the options, where the last message of the prompt lists them."""
        letter, options = self.parse(text), self.options(example)
        if letter is None or not options or letter in options:
            return None
        return f"{letter} is not among the options {', '.join(options)}"

    def options(self, example: Example) -> tuple[str, ...]:
        """The letters that the last message of the prompt lists."""
        return listed_options(example.messages[-1].content)


def qa(spec: TaskSpec, labels: Sequence[str]) -> SingleTurn:
    """The qa task with the spec's kind of answer."""
    del labels
    build, metrics, agreement, longest = _ANSWERS[spec.answer]
    return build(
        type=spec.type,
        metrics=metrics,
        agreement=agreement,
        max_new_tokens=spec.max_new_tokens or longest,
        instruction=spec.instruction,
    )


# Two free texts are hardly ever equal word by word, so F1 leads there.
_ANSWERS: dict[str, tuple[Callable[..., SingleTurn], tuple[str, ...], str, int]] = {
    "extractive": (Extractive, ("exact_match", "token_f1"), "exact_match", 64),
    "open": (OpenAnswer, ("token_f1", "exact_match"), "token_f1", 256),
    "choice": (Choice, ("accuracy",), "accuracy", 64),
}


def _unquoted(answer: str) -> str:
    for opening, closing in _PAIRS.items():
        inner = answer[len(opening) : -len(closing)]
        if len(answer) > len(opening + closing) and answer.startswith(opening) and answer.endswith(closing) and closing not in inner:
            return _unquoted(inner.strip())
    return answer


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).translate(_STRAIGHT).casefold().split())


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
