"""All that is said of the systems' answers, as `scores.json` holds it: nothing here asks or measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from potstill.errors import DataError
from potstill.evaluation.calibration import Calibration, Stated, calibration, confidence_of
from potstill.evaluation.compare import (
    STUDENT,
    Comparison,
    Scored,
    compare_scored,
    comparison,
    estimate_to_json,
    score_systems,
    score_to_json,
)
from potstill.evaluation.confusion import confuse_systems
from potstill.evaluation.intervals import FEW_UNITS, FEWEST_UNITS
from potstill.evaluation.predict import Question, Reply
from potstill.evaluation.resampling import Bootstrap, Study, conduct
from potstill.evaluation.score import Replies, Sample, count_replies
from potstill.evaluation.significance import compare_pairs, pairs_to_json
from potstill.evaluation.slices import Sliced, Traits, in_slices, macro_to_json
from potstill.records import Score
from potstill.tasks.metrics import build_metric
from potstill.tasks.metrics.base import Mean, Metric
from potstill.verdicts import AGREEMENT


@dataclass(frozen=True, slots=True)
class Answers:
    """The questions, what each system replied, and the two samples of them: against gold, and against the teacher's answers."""

    questions: Sequence[Question]
    traits: Sequence[Traits]
    replies: Replies
    gold: Sample | None
    agreed: Sample | None
    labels: Sequence[str] = ()

    @property
    def leading(self) -> Sample:
        """The sample that is told first. Raises DataError where there is none."""
        found = self.gold or self.agreed
        if found is None:
            raise DataError("nothing to score: the test rows carry no `reference`, and the teacher gave no answer that can be parsed")
        return found


def summarise(answers: Answers, settings: Bootstrap) -> dict[str, Any]:
    """The content of `scores.json` without what was measured. Raises DataError where there is nothing to score."""
    # A second thread draws while the first one sums; a library's own threads would only wait for each other.
    with threadpool_limits(limits=1):
        return _summarise(answers, settings)


def row_scores(answers: Answers, system: str) -> Iterator[dict[str, float]]:
    """A system's scores of each question, by metric; nothing for a question that is not scored, which is not the same as zero."""
    if answers.gold is None:
        return iter({} for _ in answers.questions)
    return answers.gold.row_scores(system, len(answers.questions))


def _summarise(answers: Answers, settings: Bootstrap) -> dict[str, Any]:
    leading, gold = answers.leading, answers.gold
    compared, agreed, sliced, calibrated = _study(answers, settings)
    metrics = [one.metric for one in gold.scored] if gold else []
    return {
        "questions": len(answers.questions),
        "scored": len(leading.kept),
        "groups": int(leading.clusters.max()) + 1,
        "seed": settings.seed,
        "settings": _settings(leading, settings),
        "primary": metrics[0].name if metrics else None,
        "metrics": {metric.name: {"title": metric.title, "higher_is_better": metric.higher_is_better} for metric in metrics},
        "systems": {
            system: {
                **count_replies(found),
                "tokens_per_request": _mean_tokens(found),
                "scores": _scores(metrics, compared, system),
            }
            for system, found in answers.replies.items()
        },
        "comparisons": _comparisons(metrics, compared),
        "agreement": None if agreed is None else _agreement(answers, agreed),
        "slices": [one.to_json() for one in sliced.slices],
        "macro": macro_to_json(sliced),
        "confusion": {system: found.to_json() for system, found in confuse_systems(answers.labels, gold.predictions).items()}
        if gold
        else {},
        "calibration": {system: found.to_json() for system, found in calibrated.items()},
        "tests": pairs_to_json({one.name: compare_pairs(one, gold.clusters, settings) for one in gold.scored}) if gold else {},
    }


def _study(answers: Answers, settings: Bootstrap) -> tuple[Comparison | None, Comparison | None, Sliced, dict[str, Calibration]]:
    """Against gold, and against the teacher (with the same draws where the same questions count in both); in slices; calibration."""
    gold, agreed, leading = answers.gold, answers.agreed, answers.leading
    both = gold is not None and agreed is not None and gold.kept == agreed.kept
    scored = [*leading.scored, *(agreed.scored if both and agreed else [])]
    traits = [answers.traits[index] for index in leading.kept]
    studies: list[Study[Any]] = [
        comparison(scored, leading.clusters, settings),
        in_slices(_by_row(answers) or leading.scored[0], traits, leading.clusters, settings),
        calibration(_stated(answers), leading.clusters, settings),
    ]
    compared, sliced, calibrated = conduct(studies, leading.clusters, settings)
    if gold is None or both:
        return compared if gold else None, compared, sliced, calibrated
    return compared, compare_scored(agreed.scored, agreed.clusters, settings) if agreed else None, sliced, calibrated


def _mean_tokens(replies: Sequence[Reply]) -> dict[str, float] | None:
    """Tokens `read` and `written` a question, in all its calls, in the system's own tokens; None where they are not known."""
    usages = [usage for reply in replies if not (reply.failed or reply.no_room) and (usage := reply.usage) is not None]
    if not usages:
        return None
    return {"read": fmean(usage.input_tokens for usage in usages), "written": fmean(usage.output_tokens for usage in usages)}


def _settings(sample: Sample, settings: Bootstrap) -> dict[str, Any]:
    return {
        "bootstrap": "paired, expanded percentile",
        "unit": "row" if int(sample.clusters.max()) + 1 == len(sample.kept) else "group",
        "fewest_units": FEWEST_UNITS,
        "few_units": FEW_UNITS,
        "resamples": settings.resamples,
        "confidence": settings.confidence,
        "temperature": 0.0,
    }


def _scores(metrics: Sequence[Metric], compared: Comparison | None, system: str) -> dict[str, Any]:
    return _to_json({metric.name: compared.scores[system][metric.name] for metric in metrics}) if compared else {}


def _comparisons(metrics: Sequence[Metric], compared: Comparison | None) -> dict[str, Any]:
    if compared is None:
        return {}
    return {
        metric.name: {
            system: {name: estimate_to_json(estimate) for name, estimate in found.items()}
            for system, found in compared.estimates[metric.name].items()
        }
        for metric in metrics
    }


def _agreement(answers: Answers, agreed: Comparison) -> dict[str, Any]:
    assert answers.agreed is not None
    [scored] = answers.agreed.scored
    scores = {system: agreed.scores[system][AGREEMENT] for system in scored.columns}
    over_sft = agreed.estimates[AGREEMENT].get(STUDENT, {}).get("over_sft")
    plain = {} if over_sft is None else {"over_sft": estimate_to_json(over_sft)}
    return {"metric": scored.metric.name, "title": scored.metric.title, "scores": _to_json(scores), **plain}


def _by_row(answers: Answers) -> Scored | None:
    """The first metric where it is a mean of rows; of a label set else accuracy, because a label's rows alone have no macro-F1."""
    gold = answers.gold
    if gold is None:
        return None
    if isinstance(gold.scored[0].metric, Mean):
        return gold.scored[0]
    return score_systems([build_metric("accuracy")], gold.predictions)[0] if answers.labels else None


def _stated(answers: Answers) -> dict[str, Stated]:
    """What each system with probabilities said of its answers to a closed set of labels."""
    scored, gold = _by_row(answers), answers.gold
    if scored is None or gold is None or not answers.labels:
        return {}
    stated = {}
    for system, found in answers.replies.items():
        if any(reply.probabilities for reply in found):
            confidence = [confidence_of(found[index].answer, dict(found[index].probabilities)) for index in gold.kept]
            right = scored.row_scores(system)
            assert right is not None, "rows of a label set have scores of their own"
            stated[system] = Stated(np.array(confidence), right)
    return stated


def _to_json(scores: Mapping[str, Score]) -> dict[str, Any]:
    return {name: score_to_json(score) for name, score in scores.items()}
