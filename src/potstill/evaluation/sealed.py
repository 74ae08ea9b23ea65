"""The test rows as the evaluation opens them: written down for which student, and with which settings."""

from __future__ import annotations

from potstill.data.ondisk import Dataset
from potstill.data.splits import open_test
from potstill.store.adapted import given_spec
from potstill.store.run import Run
from potstill.store.seal import weights_hash


def open_rows(run: Run) -> Dataset:
    """The test rows of a run whose student is trained.

    What people may turn until they like the figures counts: the task, the evaluation's section, the seed, the teacher to compare with.
    """
    spec = given_spec(run)
    settings = {**spec.model_dump(mode="json", include={"task", "evaluation", "seed"}), "teacher": spec.teacher.title}
    return open_test(run, "evaluation", artefact=weights_hash(run), settings=settings)
