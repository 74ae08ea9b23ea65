"""The line that every closed label set is held against: logistic regression on TF-IDF, learnt from the student's own rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from potstill.errors import ModelError
from potstill.evaluation.problems import INSTALL_BASELINES, has_baselines
from potstill.models.base import Capabilities
from potstill.records import Completion, Example, Message, Request, Usage
from potstill.store.atomic import fingerprint
from potstill.tasks.base import Task
from potstill.tasks.rationales import asks_why

_VERSION = 1


class TfidfModel:
    """Chooses one of the labels that its rows carry, by the words and word pairs of what the user says.

    TF-IDF with sublinear term frequencies, L2-regularised multinomial logistic regression (C = 10), no tuning: a line, not a contender.
    """

    capabilities = Capabilities(sampling=False)
    batch_size = 256
    concurrency = 1

    def __init__(self, rows: Sequence[tuple[str, str]], name: str = "tfidf") -> None:
        """Fit to (text, label) pairs. Raises ModelError where scikit-learn is not installed, or the rows have fewer than two labels."""
        if not has_baselines():
            raise ModelError(f"{name}: {INSTALL_BASELINES}")
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        texts, labels = [text for text, _ in rows], [label for _, label in rows]
        if len(set(labels)) < 2:
            raise ModelError(f"{name}: the {len(rows)} accepted rows carry {len(set(labels))} label, and a choice needs two: remove it")
        self.name = name
        self.identity = f"tfidf/{_VERSION}:{fingerprint(list(rows))[:32]}"
        words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
        self._line: Any = make_pipeline(words, LogisticRegression(C=10.0, max_iter=1_000))
        self._line.fit(texts, labels)

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """The likeliest label of each request."""
        found = self._line.predict([asked_text(request.messages) for request in requests])
        return [Completion(str(label), "stop", Usage(), model=self.name) for label in found]

    def dollars(self, completion: Completion) -> float | None:  # noqa: ARG002 (the protocol's signature)
        """Nothing."""
        return 0.0

    async def close(self) -> None:
        """Let go of the weights."""
        self._line = None


def asked_text(messages: Iterable[Message]) -> str:
    """What the user says."""
    return "\n".join(message.content for message in messages if message.role == "user")


def labelled_texts(task: Task, rows: Iterable[Example]) -> list[tuple[str, str]]:
    """What the user said, and the label that was learnt as the answer, of each accepted row that has one."""
    found = []
    for row in rows:
        if not row.trained_turns or asks_why(row):
            continue
        turn = row.trained_turns[-1]
        label = task.parse(row.messages[turn].content)
        if label is not None:
            found.append((asked_text(row.messages[:turn]), label))
    return found
