"""Who answers better, student or teacher, by a judge's word: each pair is shown in both orders, so that a love of first places cancels.

A pair is won by who is preferred in both orders; a preference that follows the place, and `neither`, are ties (Zheng et al. 2023, arXiv
2306.05685, §3.4). Where the judge's words name no verdict, the pair counts for nobody: it abstained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from potstill.errors import ModelError
from potstill.evaluation.compare import STUDENT, TEACHER, score_to_json
from potstill.evaluation.human import PREFERRED, Preference
from potstill.evaluation.intervals import cluster_rows, percentile_interval, ratio
from potstill.evaluation.predict import Question, Reply
from potstill.evaluation.resampling import Bootstrap, Column, resample_figures
from potstill.evaluation.score import Replies
from potstill.evaluation.sums import FloatArray
from potstill.models.ask import ask_async
from potstill.models.base import Model
from potstill.models.budget import Budget
from potstill.models.questions import request_key
from potstill.models.talk import Answered, Ask, Seat
from potstill.records import Sampling, Score
from potstill.spec.sections import JudgeSpec
from potstill.store.events import Progress
from potstill.store.ledger import Ledger
from potstill.tasks.judging import Better, compare, read_better
from potstill.tasks.metrics import Metric, row_scores

NAME = "judge"
Outcome = Literal["student", "teacher", "tie", "abstain"]
_TOKENS = 256
_NO_ANSWER = "(no answer)"
_SAID: dict[tuple[Better, bool], str] = {
    ("A", True): STUDENT,
    ("B", True): TEACHER,
    ("A", False): TEACHER,
    ("B", False): STUDENT,
    ("NEITHER", True): "tie",
    ("NEITHER", False): "tie",
}
"""Whom a verdict names, where the student stands first or not."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One question's answers before the judge: what it said with the student's first (`first`) and second (None: nothing that can be read).

    `reason` is what it wrote, or why it wrote nothing. Equal answers are a tie that nobody was asked about.
    """

    question: Question
    place: int
    """Which of the questions it is."""
    first: str | None
    second: str | None
    reason: str
    asked: bool = True

    @property
    def outcome(self) -> Outcome:
        """Who won."""
        if self.first is None or self.second is None:
            return "abstain"
        if self.first == self.second == STUDENT:
            return "student"
        return "teacher" if self.first == self.second == TEACHER else "tie"

    @property
    def flipped(self) -> bool:
        """Whether the preference went with the place."""
        return {self.first, self.second} == {STUDENT, TEACHER}

    def to_json(self) -> dict[str, Any]:
        """A line of `evaluation/judge.jsonl`."""
        return {"id": self.question.id, "first": self.first, "second": self.second, "outcome": self.outcome, "reason": self.reason}


async def judge_pairs(
    model: Model,
    spec: JudgeSpec,
    questions: Sequence[Question],
    replies: Replies,
    ledger: Ledger,
    *,
    progress: Progress | None = None,
    budget: Budget | None = None,
) -> list[Pair]:
    """Have the judge compare student and teacher on `spec.rows` questions, evenly spaced. Raises as `ask_async` does.

    Raises ModelError where there is no question that both answered, or every call fails.
    """
    both = [place for place in range(len(questions)) if not (replies[STUDENT][place].failed or replies[TEACHER][place].failed)]
    if not both:
        raise ModelError("evaluation.judge: there is no question to which student and teacher both gave an answer")
    count = min(spec.rows, len(both))
    chosen = [both[index * len(both) // count] for index in range(count)]
    seat = Seat(NAME, model, Sampling(max_new_tokens=_TOKENS))
    asks = {place: _asks(seat, spec.rubric, questions[place], replies[STUDENT][place], replies[TEACHER][place]) for place in chosen}
    answers = await ask_async(model, [ask.request for pair in asks.values() for ask in pair], ledger, progress, budget)

    def answered(ask: Ask) -> Answered:
        return Answered(ask, request_key(model, ask.request), answers.of(ask.request))

    pairs = [_pair(questions[place], place, [answered(ask) for ask in pair]) for place, pair in asks.items()]
    failed = [said for pair in asks.values() for ask in pair if (said := answered(ask).completion).finish_reason == "error"]
    if failed and len(failed) == sum(map(len, asks.values())):
        raise ModelError(f"{model.name}: all {len(failed)} calls to the judge failed; the first: {failed[0].error}")
    return pairs


def _asks(seat: Seat, rubric: str | None, question: Question, student: Reply, teacher: Reply) -> tuple[Ask, ...]:
    """The pair in both orders; nothing where there is no difference to judge."""
    one, other = (reply.answer or _NO_ANSWER for reply in (student, teacher))
    if one.strip() == other.strip():
        return ()
    asked = seat, question.messages, question.references
    return compare(*asked, one, other, rubric=rubric), compare(*asked, other, one, rubric=rubric)


def _pair(question: Question, place: int, answered: Sequence[Answered]) -> Pair:
    if not answered:
        return Pair(question, place, "tie", "tie", "the answers are the same", asked=False)
    said = [read_better(one) for one in answered]
    first, second = (None if word is None else _SAID[word, order == 0] for order, word in enumerate(said))
    completion = answered[0].completion
    return Pair(question, place, first, second, completion.text.strip() or completion.error or "")


def judged_to_json(
    model: str,
    spec: JudgeSpec,
    pairs: Sequence[Pair],
    replies: Replies,
    metric: Metric | None,
    *,
    settings: Bootstrap,
    dollars: float | None,
) -> dict[str, Any]:
    """The judgement as `scores.json` holds it; `metric` is what the references are compared by."""
    outcomes = [pair.outcome for pair in pairs]
    counts = {name: outcomes.count(name) for name in ("student", "tie", "teacher", "abstain")}
    asked = [pair for pair in pairs if pair.asked and pair.outcome != "abstain"]
    worth = {"student": 1.0, "tie": 0.5, "teacher": 0.0}
    decided = [(pair.question.group, worth[pair.outcome]) for pair in pairs if pair.outcome != "abstain"]
    return {
        "model": model,
        "rubric": spec.rubric,
        "pairs": len(pairs),
        "wins": counts["student"],
        "ties": counts["tie"],
        "losses": counts["teacher"],
        "abstained": counts["abstain"],
        "win_rate": _rate("win_rate", decided, settings),
        "position_flips": sum(pair.flipped for pair in asked) / len(asked) if asked else None,
        "agreement_with_references": _agreement(pairs, replies, metric, settings) if metric is not None else None,
        "dollars": dollars,
    }


def human_to_json(pairs: Sequence[Pair], preferences: Mapping[str, Preference], replies: Replies, settings: Bootstrap) -> dict[str, Any]:
    """How far the judge prefers whom people prefer, as `scores.json` holds it.

    Counted are pairs that the judge was asked about and decided, and people, too; not those whose answers have changed since people saw
    them (`other_answers`). `agreement` is the share of equal words (student, tie, teacher), `kappa` Cohen's: what of it is more than
    chance (Cohen 1960, eq. 1). Both None where there is no such pair.
    """
    known = [(pair, preferences[pair.question.id]) for pair in pairs if pair.question.id in preferences]
    known = [(pair, said) for pair, said in known if pair.asked and pair.outcome != "abstain"]
    same = [(pair, said) for pair, said in known if _saw(said, pair, replies)]
    counts = {"labelled": len(preferences), "pairs": len(same), "other_answers": len(known) - len(same)}
    if not same:
        return {**counts, "agreement": None, "kappa": None}
    clusters = cluster_rows([pair.question.group for pair, _ in same])
    places = [PREFERRED.index(pair.outcome) * 3 + PREFERRED.index(said.preferred) for pair, said in same]
    columns = [Column(np.eye(9), value, np.array(places)) for value in (_share, _kappa)]
    draws, units = resample_figures(columns, clusters, settings), int(clusters.max()) + 1
    scores = [
        Score(name, column.figure(), len(same), percentile_interval(drawn, units, settings))
        for name, column, drawn in zip(("agreement", "kappa"), columns, draws.T, strict=True)
    ]
    return {**counts, **{score.metric: score_to_json(score) for score in scores}}


def _saw(said: Preference, pair: Pair, replies: Replies) -> bool:
    """Whether people saw the answers that stand there now, as far as their file tells."""
    now = {system: replies[system][pair.place] for system in said.seen}
    return all(
        text.strip() in ((now[system].answer or "").strip(), now[system].completion.text.strip()) for system, text in said.seen.items()
    )


def _share(totals: FloatArray) -> FloatArray:
    """(..., 9) counts of the judge's word by people's -> (...): how often they are the same."""
    return ratio(totals[..., ::4].sum(axis=-1), totals.sum(axis=-1))


def _kappa(totals: FloatArray) -> FloatArray:
    """(..., 9) -> (...): (observed − expected) / (1 − expected) of that share; undefined where both always say one and the same."""
    table = totals.reshape(*totals.shape[:-1], 3, 3) / totals.sum(axis=-1)[..., None, None]
    expected = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1)
    return ratio(_share(totals) - expected, 1.0 - expected)


def _agreement(pairs: Sequence[Pair], replies: Replies, metric: Metric, settings: Bootstrap) -> dict[str, object] | None:
    """How often the judge prefers whom the references prefer, over the pairs on which both prefer one; None where there is none."""
    known = [pair for pair in pairs if pair.question.references and pair.outcome in (STUDENT, TEACHER)]
    if not known:
        return None
    student, teacher = (
        row_scores(metric, [replies[system][pair.place].prediction(pair.question.references) for pair in known])
        for system in (STUDENT, TEACHER)
    )
    if student is None or teacher is None:
        return None
    agreed = [
        (pair.question.group, float((own > other) == (pair.outcome == STUDENT)))
        for pair, own, other in zip(known, student, teacher, strict=True)
        if own != other
    ]
    return _rate("agreement_with_references", agreed, settings) if agreed else None


def _rate(name: str, rows: Sequence[tuple[str | None, float]], settings: Bootstrap) -> dict[str, object] | None:
    """The mean of (group, value) rows with its interval; None of no rows."""
    if not rows:
        return None
    clusters = cluster_rows([group for group, _ in rows])
    statistics = np.array([[value, 1.0] for _, value in rows])
    column = Column(statistics, lambda totals: ratio(totals[..., 0], totals[..., 1]))
    draws = resample_figures([column], clusters, settings)[:, 0]
    return score_to_json(Score(name, column.figure(), len(rows), percentile_interval(draws, int(clusters.max()) + 1, settings)))
