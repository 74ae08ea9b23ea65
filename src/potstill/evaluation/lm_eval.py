"""What the student forgot: tasks of `lm-eval` (EleutherAI's harness), answered by the systems whose weights are here."""

from __future__ import annotations

import contextlib
import difflib
import math
import sys
from collections.abc import Mapping
from typing import Any

from potstill.errors import ModelError
from potstill.evaluation.compare import BASELINE, STUDENT, TEACHER
from potstill.evaluation.problems import INSTALL_LM_EVAL, has_lm_eval
from potstill.evaluation.system import System
from potstill.models.reading import Weights
from potstill.models.weights import load_weights, weights_identity
from potstill.spec.sections import LmEvalSpec
from potstill.store.atomic import fingerprint, read_json, write_json
from potstill.store.run import Run

FOLDER = "lm_eval"
_ASKED = (TEACHER, BASELINE, STUDENT)
_BOOTSTRAPS = 1_000
Results = dict[str, dict[str, dict[str, float | None]]]
"""By task and metric: `value` and `stderr`."""


def examine_by_lm_eval(run: Run, systems: Mapping[str, System]) -> dict[str, dict[str, Any]] | None:
    """By task and system, each metric's value and standard error; None where the spec names no tasks.

    A system's results are kept in `evaluation/lm_eval/` and not taken again. Raises ModelError where the package is not installed, a task
    is not known, or one fails.
    """
    spec = run.spec.evaluation.lm_eval
    if spec is None:
        return None
    if not has_lm_eval():
        raise ModelError(f"`evaluation.lm_eval` {INSTALL_LM_EVAL}")
    found: dict[str, dict[str, Any]] = {}
    wanted = [systems[name] for name in _ASKED if name in systems]
    with run.events.progress("lm-eval tasks", len(wanted), "systems") as progress:
        for system in wanted:
            if system.weights is None:
                run.events.warn(f"`evaluation.lm_eval` needs a model's weights, and {system.title} has none here: it is left out there")
            else:
                for task, metrics in _results_of(run, system, spec).items():
                    found.setdefault(task, {})[system.name] = metrics
            progress.advance()
    return found


def _results_of(run: Run, system: System, spec: LmEvalSpec) -> Results:
    assert system.weights is not None, "an endpoint is left out"
    path = run.path("evaluation", FOLDER, f"{system.name}.json")
    inputs = fingerprint([weights_identity(system.weights), spec.model_dump(mode="json"), run.spec.seed])
    if path.exists() and (kept := read_json(path))["inputs"] == inputs:
        results: Results = kept["results"]
        return results
    results = _evaluate(load_weights(system.weights), spec, run.spec.seed, run.spec.generation.batch_size)
    write_json(path, {"inputs": inputs, "results": results})
    return results


def _evaluate(weights: Weights, spec: LmEvalSpec, seed: int, batch_size: int) -> Results:
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    manager = _tasks(spec)
    # The harness prints; what Potstill prints is for programs, too.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            found = lm_eval.simple_evaluate(
                HFLM(pretrained=weights.module, tokenizer=weights.tokenizer, batch_size=batch_size),
                tasks=list(spec.tasks),
                task_manager=manager,
                limit=spec.rows,
                num_fewshot=spec.examples,
                apply_chat_template=spec.chat,
                bootstrap_iters=_BOOTSTRAPS,
                log_samples=False,
                random_seed=seed,
                numpy_random_seed=seed,
                torch_random_seed=seed,
                fewshot_random_seed=seed,
            )
        except Exception as error:  # noqa: BLE001 (tasks are programs of other people's, which can raise anything)
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"evaluation.lm_eval: {', '.join(spec.tasks)} failed in lm-eval: {type(error).__name__}: {reason}") from None
    return {task: _metrics(told) for task, told in found["results"].items()}


def _tasks(spec: LmEvalSpec) -> Any:
    """The harness's catalogue of tasks; its own are read only where the user's folder does not have all that are asked for."""
    from lm_eval.tasks import TaskManager

    folder = None if spec.folder is None else str(spec.folder)
    manager = TaskManager(include_path=folder, include_defaults=False) if folder is not None else TaskManager()
    if folder is not None and not set(spec.tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=folder)
    for task in spec.tasks:
        if task not in manager.all_tasks:
            near = difflib.get_close_matches(task, manager.all_tasks, n=2)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ModelError(f'evaluation.lm_eval: lm-eval has no task "{task}"{hint}')
    return manager


def _metrics(told: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """`{"acc,none": 0.5, "acc_stderr,none": 0.1}` as `{"acc": {"value": 0.5, "stderr": 0.1}}`; filters other than `none` stay named."""
    found: dict[str, dict[str, float | None]] = {}
    for key, value in told.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = told.get(f"{metric}_stderr,{filtered}")
        stderr = float(error) if isinstance(error, int | float) and math.isfinite(error) else None
        found[metric if filtered == "none" else key] = {"value": float(value), "stderr": stderr}
    return found
