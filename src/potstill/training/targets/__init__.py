"""Targets: what should a trained position look like?"""

from potstill.training.targets.base import Targets
from potstill.training.targets.live_teacher import LiveTeacher
from potstill.training.targets.stored import SparseArrays, SparseRows, StoredTargets
from potstill.training.targets.text import GivenText, Text

__all__ = ["GivenText", "LiveTeacher", "SparseArrays", "SparseRows", "StoredTargets", "Targets", "Text"]
