"""Which layer of a student learns from which of its teacher. No torch here."""

from __future__ import annotations

from collections.abc import Mapping


def layers_out_of_range(layers: Mapping[int, int], student: int | None, teacher: int | None) -> str | None:
    """What is wrong with a map from layers of the student to layers of the teacher, that have so many; None where nothing is.

    What is not known (None) is taken to be large enough.
    """
    for whose, count, asked in (("student", student, max(layers.keys())), ("teacher", teacher, max(layers.values()))):
        if count is not None and asked >= count:
            return f"`training.features.layers` names layer {asked} of the {whose}, which has {count}; take 0 to {count - 1}"
    return None
