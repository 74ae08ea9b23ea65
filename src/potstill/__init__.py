"""Potstill distils a large language model into a small one that its user owns.

The names below are the library; each is imported when it is first used, so `import potstill` is light and brings no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from potstill.errors import PotstillError
    from potstill.library import (
        evaluate_accuracy,
        evaluate_task_performance,
        fine_tune_student,
        generate_teacher_responses,
        load_dataset,
        load_model,
        measure_inference_time,
        profile_memory_consumption,
        run,
    )
    from potstill.pipeline.compare_runs import compare_runs
    from potstill.records import Completion, Example, Message
    from potstill.spec import RunSpec, load_spec

__version__ = "0.1.0"

_HOMES = {
    "Completion": "potstill.records",
    "Example": "potstill.records",
    "Message": "potstill.records",
    "PotstillError": "potstill.errors",
    "RunSpec": "potstill.spec",
    "compare_runs": "potstill.pipeline.compare_runs",
    "evaluate_accuracy": "potstill.library",
    "evaluate_task_performance": "potstill.library",
    "fine_tune_student": "potstill.library",
    "generate_teacher_responses": "potstill.library",
    "load_dataset": "potstill.library",
    "load_model": "potstill.library",
    "load_spec": "potstill.spec",
    "measure_inference_time": "potstill.library",
    "profile_memory_consumption": "potstill.library",
    "run": "potstill.library",
}

__all__ = [
    "Completion",
    "Example",
    "Message",
    "PotstillError",
    "RunSpec",
    "compare_runs",
    "evaluate_accuracy",
    "evaluate_task_performance",
    "fine_tune_student",
    "generate_teacher_responses",
    "load_dataset",
    "load_model",
    "load_spec",
    "measure_inference_time",
    "profile_memory_consumption",
    "run",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'potstill' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
