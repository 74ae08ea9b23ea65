"""The library's names are pinned: one that goes or comes is a decision, not an accident."""

import subprocess
import sys

import potstill

NAMES = [
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


def test_the_public_names_are_these_in_order() -> None:
    assert potstill.__all__ == NAMES == sorted(NAMES)


def test_every_public_name_is_there_and_documented() -> None:
    assert [name for name in potstill.__all__ if not getattr(potstill, name).__doc__] == []


def test_importing_potstill_brings_nothing_heavy() -> None:
    code = "import sys, potstill; print(sorted({'torch', 'transformers', 'numpy', 'pydantic', 'aiohttp'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
