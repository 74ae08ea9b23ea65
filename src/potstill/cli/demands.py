"""Whether what a spec asks of generation can be had: looked at before anything is spent."""

from __future__ import annotations

import importlib.util
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from potstill.cli.past import judge_of
from potstill.errors import SpecError
from potstill.evaluation.problems import evaluation_problems
from potstill.generation.panel import scorer_of, scorer_problem
from potstill.models.load import endpoint_of
from potstill.models.locate import ECHO, is_local
from potstill.records import Example
from potstill.spec import RunSpec
from potstill.spec.sections import TeacherSpec

_COUNTABLE = "nli, and qa by choice,"


def problems_of(spec: RunSpec, train: Sequence[Example]) -> Iterator[str]:
    """What would stop the run."""
    yield from _unpriced(spec)
    if spec.engine.kind == "ray" and importlib.util.find_spec("ray") is None:
        yield "`engine: ray` needs the package ray: pip install 'potstill[ray]'"
    if judge_of(spec) is None and (spec.generation.chosen_by_judge or spec.gates.judge is not None):
        key = f"generation.choose: {spec.generation.choose}" if spec.generation.chosen_by_judge else "gates.judge"
        yield f"`{key}` has answers judged, but nobody is named who judges: name another model than the teacher in `generation.judge`"
    expand = spec.generation.expand
    if expand is not None and expand.how == "rare":
        if expand.by == "label" and not spec.task.is_choice:
            yield (
                f"`generation.expand` writes rows of rare labels, but {spec.task.type} has none ({_COUNTABLE} have): set `by: tag`, or "
                "`how: paraphrase`"
            )
        elif expand.by == "tag" and not any(row.tags for row in train):
            yield "`generation.expand` writes rows of rare tags, but no training row has `tags`: add them, or set `how: paraphrase`"
    yield from filter(None, [gates_problem(spec), scorer_problem(spec)])
    yield from evaluation_problems(spec)
    if spec.teacher.adapt is not None and not any(row.reference for row in train):
        yield "`teacher.adapt` learns the references of training rows, but none has a `reference`: add some, or remove `adapt`"
    if spec.generation.ledger is not None and (problem := _unwritable(spec.generation.ledger)):
        yield f"`generation.ledger`: {problem}"


def notes_on(spec: RunSpec, train: Sequence[Example], validation: Sequence[Example]) -> Iterator[str]:
    """What does not do what it says, and stops nothing."""
    generation = spec.generation
    reasons = generation.prompting.strategy == "chain_of_thought" or any(row.rationale for row in train)
    if spec.training.objective == "step_by_step" and not reasons:
        yield (
            "`training.objective: step_by_step` learns reasons, but no training row has a `rationale`, and the teacher is not asked for "
            "its own: set `generation.prompting.strategy: chain_of_thought`, unless it is one that thinks aloud"
        )
    if generation.prompting.strategy == "chain_of_density" and spec.task.type != "summarization":
        yield f"`chain_of_density` rewrites summaries; for {spec.task.type} its rounds may help little, and cost as much"
    if generation.route == "tag" and len(spec.all_teachers) > 1:
        yield from _untagged(spec.all_teachers, train)
    qualify = generation.qualify
    if qualify is not None and qualify.min_score is not None and not any(row.reference for row in validation):
        yield "`generation.qualify.min_score` compares with references, but no validation row has one: set `min_agreement` instead"
    balance = generation.balance
    if balance is not None and balance.by == "label" and not spec.task.is_choice:
        yield f"`generation.balance` counts labels, but answers of {spec.task.type} are free text: hardly two are the same"


def gates_problem(spec: RunSpec) -> str | None:
    """Why a gate that is on cannot work; None where all can."""
    if spec.gates.language is None and not spec.gates.custom:
        return None  # gates of no outside words or code: they need not be imported
    from potstill.generation.gates import check_gates

    try:
        check_gates(spec.gates)
    except SpecError as error:
        return str(error)
    return None


def _unpriced(spec: RunSpec) -> Iterator[str]:
    if spec.generation.budget.dollars is None:
        return
    others = (one for one in (judge_of(spec), scorer_of(spec)) if one is not None)
    for teacher in dict.fromkeys(one.title for one in (*spec.all_teachers, *others) if _has_no_price(one)):
        yield (
            f"`generation.budget.dollars`: nobody says what {teacher} costs, so the cap cannot be kept; give its `price`, or cap `tokens` "
            "or `calls` instead"
        )


def _has_no_price(teacher: TeacherSpec) -> bool:
    bought = teacher.replay is None and not is_local(teacher) and (teacher.base_url is not None or teacher.model != ECHO)
    return bought and endpoint_of(teacher).price is None


def _untagged(teachers: Sequence[TeacherSpec], train: Sequence[Example]) -> Iterator[str]:
    wanted = set(itertools.chain.from_iterable(teacher.tags for teacher in teachers))
    if not wanted:
        yield "`generation.route: tag` asks whom a row's tags name, but no teacher has `tags`: the first answers all rows"
    for row in train:
        if not wanted:
            return
        wanted -= set(row.tags)
    if wanted:
        yield f"no training row has the {'tags' if len(wanted) > 1 else 'tag'} {', '.join(sorted(wanted))} that `teachers` name"


def _unwritable(path: Path) -> str | None:
    if path.is_dir():
        return f"{path}: is a folder; name a file in it"
    there = path if path.exists() else next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir() and there != path:
        return f"{there}: is a file, so there is no folder of this name; name another place"
    if not os.access(there, os.W_OK):
        return f"{there}: may not be written to; check its permissions, or name another place"
    return None
