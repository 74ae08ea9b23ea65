"""The answer whose label a judge finds likeliest; how likely it finds each is kept as the row's distribution, to learn from.

A distribution over labels teaches more than the label alone (Hinton et al. 2015, arXiv 1503.02531, §1); where a teacher gives no
log-probabilities, asked in words it says how sure it is, which is nearer to the truth than its tokens' probabilities are in some models
(Tian et al. 2023, arXiv 2305.14975).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from potstill.generation.candidate import Candidate
from potstill.generation.choosing.base import Chosen, Situation, kept
from potstill.models.talk import Answered, Ask, Seat, Step, Talk
from potstill.records import Message, Request
from potstill.tasks.judging import request_turns
from potstill.tasks.prompting.base import separate_thinking

VERSION = "label-scores/1"
_SYSTEM = (
    "You are shown a request whose answer is one of some labels. Say how likely each label is to be the right answer: write a JSON object "
    "alone, with labels exactly as they are listed and probabilities from 0 to 1, and leave out labels that cannot be right."
)
_OBJECT = re.compile(r"\{[^{}]*\}")


def label_scores(situation: Situation, candidates: Sequence[Candidate]) -> Talk[Chosen]:
    """The kept answer that has the judge's highest score; on a tie, the earlier one. Its label stands first in the distribution.

    The judge is not shown the answers, nor a reference. The first kept answer, without a distribution, where the judge's words hold no
    scores, or the row's labels are not known.
    """
    good, labels = kept(candidates), situation.task.options(situation.example)
    if not good or not labels:
        return Chosen(tuple(good[:1]))
    [answered] = yield Step((ask_scores(situation, labels, situation.judge_of(*good)),))
    scores = read_scores(answered, labels)
    read = [(answer, candidate) for candidate in good if (answer := situation.task.parse(candidate.text)) is not None]
    if not scores or not read:
        return Chosen((good[0],), judged=(answered,))
    answer, best = max(read, key=lambda one: scores.get(one[0], 0.0))
    share = scores.get(answer, 0.0)
    others = sorted(((label, other) for label, other in scores.items() if label != answer and other), key=lambda one: -one[1])
    # Of an answer that the judge rules out no distribution can be learnt along its text; `gates.min_agreement` drops it.
    return Chosen((best,), ((answer, share), *others) if share else (), share, judged=(answered,))


def ask_scores(situation: Situation, labels: Sequence[str], seat: Seat) -> Ask:
    """The question to `seat` how likely each label is."""
    listed = "\n".join(f"- {label}" for label in labels)
    messages = (Message("system", _SYSTEM), Message("user", f"# Request\n{request_turns(situation.messages)}\n\n# Labels\n{listed}"))
    return Ask(seat, Request(messages, seat.sampling, prompt_version=VERSION))


def read_scores(answered: Answered, labels: Sequence[str]) -> dict[str, float]:
    """Each label's share of the scores, of those that the judge names; empty where its words hold none, or were cut off.

    Read is the last JSON object. What it says of other things than labels, and what is no number of 0 or more, counts for nothing.
    """
    completion = separate_thinking(answered.completion)
    objects = _OBJECT.findall(completion.text) if completion.finish_reason == "stop" else []
    if not objects:
        return {}
    try:
        said = json.loads(objects[-1])
    except ValueError:
        return {}
    spelling = {label.casefold(): label for label in labels}
    scores = {spelling[name.casefold()]: float(score) for name, score in said.items() if name.casefold() in spelling and _is_score(score)}
    whole = math.fsum(scores.values())
    return {label: score / whole for label, score in scores.items()} if whole > 0 else {}


def _is_score(score: object) -> bool:
    return isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score < math.inf
