"""Stage 2 of a run: the student is made, then trained on what the teacher accepted answers to."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.data.ondisk import Dataset
from potstill.errors import CapabilityError, ModelError, SpecError
from potstill.models.finite import check_finite
from potstill.models.locate import is_local, teacher_stamp, template_stamp, weights_stamp
from potstill.models.said import SAID
from potstill.spec.sections import RunSpec, WeightsSpec
from potstill.store.events import StageName
from potstill.store.run import Run
from potstill.training.foresee import foresee
from potstill.training.objectives import ObjectiveName
from potstill.training.recipe import (
    choosing_metric,
    fine_tuning,
    load_live_teacher,
    load_validation,
    make_student,
    objective_name,
)
from potstill.training.settings import targets_kind
from potstill.training.sft_beside import COMPARED, compare_with_sft
from potstill.training.summary import model_files, read_summary, student_files, write_summary
from potstill.training.teaching import build_teaching

if TYPE_CHECKING:
    from potstill.training.cached import Kept
    from potstill.training.validation import Validation

NAME: StageName = "train"
DISCARD = ("checkpoints", "best", "baseline", "sft", "metrics.jsonl", "vocabulary.npy", "student.json", "teacher.json", "summary.json")

VERSION = 2
_READ = (
    "data/train.jsonl",
    "data/validation.jsonl",
    "data/labels.json",
    "generation/accepted.jsonl",
    "generation/validation.jsonl",
    f"generation/{SAID}",
)


def inputs(run: Run) -> dict[str, object]:
    """What the student depends on: its section and those of training, the rows, the teacher's answers, and the teacher's weights."""
    spec = run.spec
    sections = spec.model_dump(mode="json", include={"student", "task", "targets", "training", "seed"})
    # How often checkpoints are saved changes nothing that is learnt.
    sections["training"].pop("save_minutes")
    # Where targets are kept does not either.
    sections["targets"].pop("cache")
    files = run.stage("data").outputs() | run.stage("generate").outputs()
    return {
        **sections,
        "version": VERSION,
        "teacher": spec.teacher.model_dump(mode="json", include={"base_url", *WeightsSpec.model_fields}),
        "weights": [teacher_stamp(spec.teacher), weights_stamp(spec.student.model)],
        "templates": [template_stamp(origin) for origin in (spec.teacher, spec.student)],
        "metric": choosing_metric(spec),
        **_others(spec),
        "files": {path: digest for path, digest in files.items() if path in _READ},
    }


def _others(spec: RunSpec) -> dict[str, object]:
    """What the student depends on of teachers beside the first: they may be in memory beside it, too."""
    others = spec.all_teachers[1:]
    if not others or not all(map(is_local, others)):
        return {}
    known = {"name", "weight", *WeightsSpec.model_fields}
    return {
        "teachers": [other.model_dump(mode="json", include=known) for other in spec.all_teachers],
        "their_weights": [weights_stamp(other.model) for other in others],
    }


def preflight(run: Run) -> None:
    """Raise what would stop this stage in any case, before the teacher is asked for money: a student that cannot be loaded or taught so."""
    foreseen = foresee(run.spec, fetch=True)
    if foreseen.problems:
        raise ModelError("\n".join(foreseen.problems))
    objective_name(run)
    if not run.path("training", "student.json").exists():
        for folder in dict.fromkeys(model.place for model in (foreseen.origin, foreseen.teacher) if model is not None):
            if folder is not None and folder.is_dir():
                check_finite(folder)


def check_cached(run: Run) -> None:
    """Raise SpecError or CapabilityError where training would not read the teacher's probabilities from a cache."""
    if objective_name(run) == "sft":
        raise CapabilityError(
            "there are no targets to write: the student learns the teacher's text (`training.objective` is sft here), not its probabilities"
        )
    if targets_kind(run.spec) == "live":
        why = ", which `auto` is where `training.epochs` is not above 1" if run.spec.targets.kind == "auto" else ""
        raise SpecError(f"there are no targets to write: `targets.kind` is live{why}; set `targets.kind: top_k`, or `sampled`")


def keep_targets(run: Run) -> Kept:
    """Make the student, and keep what its teacher says of the accepted rows; done already is done."""
    from potstill.models.weights import load_config, load_tokenizer
    from potstill.training.cached import CachedTeacher
    from potstill.training.fine_tune import encode_job

    folder, accepted = run.path("training"), _accepted(run)
    student = make_student(run, accepted, folder)
    job = fine_tuning(run, student, partial(build_teaching, run, "logits", student, None), accepted, folder)
    encoded = encode_job(job, load_tokenizer(job.student), load_config(job.student))
    return CachedTeacher(run, student).keep(encoded.rows)


def work(run: Run, resumed: bool) -> str:
    """Make the student, train it, write down what came out. Goes on where an earlier attempt on the same inputs was cut."""
    summary = read_summary(run.path("training")) if resumed else None
    if summary is None:
        summary = _train(run, objective_name(run))
    else:
        make_student(run, _accepted(run), run.path("training"))
    plain = compare_with_sft(run, summary, _accepted(run), resumed=resumed)
    # They exist to be gone on from, are several times as large as the student, and nothing is left to go on from.
    shutil.rmtree(run.path("training", "checkpoints"), ignore_errors=True)
    return "; beside it ".join(map(_line, filter(None, [summary, plain])))


def outputs(run: Run) -> list[Path]:
    """The student before and after, the figures, and the summary; the same of the plain one beside it."""
    folder = run.path("training")
    made = [*model_files(folder / "baseline"), *student_files(folder)]
    return made if not (folder / COMPARED).is_dir() else [*made, *student_files(folder / COMPARED)]


def _train(run: Run, name: ObjectiveName) -> dict[str, Any]:
    """Train the student; returns the summary as it was written down."""
    from potstill.training.fine_tune import fine_tune

    folder, accepted = run.path("training"), _accepted(run)
    teacher = load_live_teacher(run, name)
    student = make_student(run, accepted, folder, teacher)
    job = fine_tuning(run, student, partial(build_teaching, run, name, student, teacher), accepted, folder)
    figures = {
        **fine_tune(replace(job, validation=_validation(run))).to_json(),
        "parameters_before": student.origin_parameters,
        "layers": student.layers,
        "vocabulary": None if student.kept_ids is None else len(student.kept_ids),
    }
    return write_summary(folder, figures)


def _accepted(run: Run) -> Dataset:
    return Dataset(run.path("generation", "accepted.jsonl"))


def _validation(run: Run) -> Validation | None:
    validation = load_validation(run, run.spec.training.validation_rows)
    if validation is None:
        run.events.warn("no validation row has an answer to compare with: the last weights are taken as the best")
    return validation


def _line(summary: dict[str, Any]) -> str:
    best = "" if summary["metric"] is None else f", best {summary['metric']} {summary['best_metric']:.3f} after step {summary['best_step']}"
    wrote = f", {summary['rollouts']:,} rollouts in {summary['writing_share']:.0%} of the time" if summary.get("rollouts") else ""
    return (
        f"{summary['parameters'] / 1e6:,.1f} M weights trained by {summary['objective']} on {summary['rows']:,} rows: "
        f"{summary['steps']:,} steps, {summary['tokens_per_s']:,.0f} tokens/s in {summary['precision']}{wrote}{best}"
    )
