"""Latency, memory, energy and throughput of a local model, alone in a fresh process: `python -m potstill.evaluation.measure`.

The process reads one JSON request from standard input, and writes one JSON object a line to standard output: `{"answered": n}` after
each n answers, then `{"measured": {...}}` or `{"problem": "..."}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from potstill.errors import ModelError, PotstillError
from potstill.evaluation.energy import EnergyMeter, accelerator_counters, processor_counters
from potstill.evaluation.latency import Timed, time_each
from potstill.evaluation.memory import count_weights, disk_bytes, peaks_of, process_memory, reset_peak, shipped_bytes, storage_format
from potstill.evaluation.throughput import Batch, serve_batches
from potstill.models.base import Model
from potstill.models.folder import check_folder
from potstill.records import Message, Request, Sampling
from potstill.spec import WeightsSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class MeasureRequest:
    """What to measure: which weights, on which questions, with how many torch threads, after how many uncounted answers.

    `levels` are how many questions are in flight where throughput is measured, each level with `level_rows` questions about. `calls` are
    how many of the requests each question takes, one after the other; none: one each.
    """

    weights: WeightsSpec
    requests: tuple[Request, ...]
    threads: int
    warm_up: int = 1
    levels: tuple[int, ...] = ()
    level_rows: int = 1
    calls: tuple[int, ...] = ()

    @property
    def questions(self) -> list[tuple[Request, ...]]:
        """The requests of each question."""
        waiting = iter(self.requests)
        return [tuple(itertools.islice(waiting, count)) for count in self.calls or (1,) * len(self.requests)]

    def to_json(self) -> dict[str, Any]:
        """The request as the process reads it."""
        asked = [{"messages": [m.to_json() for m in r.messages], "sampling": dataclasses.asdict(r.sampling)} for r in self.requests]
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {"weights": self.weights.model_dump(mode="json"), "requests": asked, **plain}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> MeasureRequest:
        """The inverse of `to_json`."""
        requests = tuple(
            Request(tuple(Message(m["role"], m["content"]) for m in asked["messages"]), _sampling(asked["sampling"]))
            for asked in row["requests"]
        )
        several = {name: tuple(row[name]) for name in ("levels", "calls")}
        return cls(WeightsSpec.model_validate(row["weights"]), requests, **{**{name: row[name] for name in _PLAIN}, **several})


_PLAIN = ("threads", "warm_up", "levels", "level_rows", "calls")


def measure_alone(request: MeasureRequest, on_answers: Callable[[int], None] = lambda _: None) -> dict[str, Any]:
    """Measure a local model in a process of its own; `on_answers` is told how many answers came, uncounted ones included.

    Keys: `answers` (a Timed each, None: failed), `load_s`, `threads`, `device`; `parameters`, `weights_bytes`, `disk_bytes`, `storage`
    (the numbers' format there), `shipped_bytes` (None: what is measured is what was published); `empty_bytes` (resident with all
    libraries, before the model was loaded), `peak_bytes` (most while answering one at a time), `peak_above_empty_bytes` (both None where
    the peak of loading cannot be told apart), `peak_loading_bytes` (most before that), `anonymous_bytes`, `file_bytes` (resident after the
    last of those answers), `peak_gpu_bytes`;
    `energy_joules_per_request`, `energy_counted`; `batches` (by level, those of `serve_batches`). None where the system does not tell.
    Raises ModelError where the model cannot be loaded or the process dies.
    """
    with tempfile.TemporaryFile() as complaints:
        command = [sys.executable, "-m", "potstill.evaluation.measure"]
        # The model answers in a thread of its own, which takes its number of threads from here.
        environment = {**os.environ, "OMP_NUM_THREADS": str(request.threads)}
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True, encoding="utf-8", env=environment
        )
        try:
            last = _converse(child, request, on_answers)
        finally:
            child.kill()
            child.wait()
        if "measured" in last:
            measured: dict[str, Any] = last["measured"]
            answers = [None if timed is None else Timed(**timed) for timed in measured["answers"]]
            return {**measured, "answers": answers, "batches": {level["concurrency"]: _batches(level) for level in measured["batches"]}}
        complaints.seek(0)
        reason = last.get("problem") or _last_line(complaints.read())
    raise ModelError(f"{request.weights.model}: could not be measured in a process of its own: {reason}")


def main() -> None:
    """Answer one request from standard input."""
    results = _claim_stdout()
    request = MeasureRequest.from_json(json.loads(sys.stdin.read()))
    try:
        measured = asyncio.run(_measure(request, results))
    except PotstillError as error:
        _tell(results, {"problem": str(error)})
        sys.exit(error.exit_code)
    _tell(results, {"measured": measured})


async def _measure(request: MeasureRequest, results: IO[str]) -> dict[str, Any]:
    import torch

    from potstill.models.load import load_local
    from potstill.models.locate import locate

    torch.set_num_threads(request.threads)
    path = locate(request.weights)
    _bring_libraries(path, request.weights)
    empty = process_memory()
    started = time.perf_counter()
    model = load_local(request.weights, batch_size=max((1, *request.levels)))
    load_s = time.perf_counter() - started
    meter = EnergyMeter([*processor_counters(), *accelerator_counters(_accelerator(model.module))])
    loading, answered, apart = process_memory(), 0, False

    def on_answer() -> None:
        nonlocal answered, apart, loading
        answered += 1
        if answered == request.warm_up:
            loading = process_memory()
            apart = _count_from_here(meter)
        _tell(results, {"answered": 1})

    answers = await time_each(model, request.requests, warm_up=request.warm_up, on_answer=on_answer)
    joules, full = meter.joules(), process_memory()
    peak_gpu = torch.cuda.max_memory_allocated(model.module.device) if model.module.device.type == "cuda" else None
    parameters, weights_bytes = count_weights(model.module)
    device = _device_name(model.module)
    peaks = peaks_of(empty, full, apart=apart)
    batches = await _levels(model, request, results)
    await model.close()
    return {
        "answers": [None if timed is None else dataclasses.asdict(timed) for timed in answers],
        "load_s": load_s,
        "threads": request.threads,
        "device": device,
        "parameters": parameters,
        "weights_bytes": weights_bytes,
        "disk_bytes": disk_bytes(path),
        "storage": storage_format(path),
        "shipped_bytes": shipped_bytes(request.weights),
        "empty_bytes": empty.resident,
        **peaks,
        "peak_loading_bytes": loading.peak,
        "anonymous_bytes": full.anonymous,
        "file_bytes": full.file,
        "peak_gpu_bytes": peak_gpu,
        "energy_joules_per_request": None if joules is None else joules / len(answers),
        "energy_counted": list(meter.counted),
        "batches": batches,
    }


def _bring_libraries(path: Path, weights: WeightsSpec) -> None:
    """Have everything imported that a model of this kind needs, so that what comes on top is the model itself."""
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, modeling_utils  # noqa: F401

    from potstill.models import transformers_local  # noqa: F401
    from potstill.models.weights import load_config

    if path.is_dir() and not weights.trust_remote_code:  # others' code need not bear what transformers' own does
        check_folder(path)
        with torch.device("meta"):  # the architecture without its weights
            AutoModelForCausalLM.from_config(load_config(weights))


async def _levels(model: Model, request: MeasureRequest, results: IO[str]) -> list[dict[str, Any]]:
    levels = []
    for concurrency in request.levels:
        batches = await serve_batches(
            model, request.questions, concurrency, rows=request.level_rows, on_answers=lambda n: _tell(results, {"answered": n})
        )
        levels.append({"concurrency": concurrency, "batches": [dataclasses.asdict(batch) for batch in batches]})
    return levels


def _batches(level: dict[str, Any]) -> list[Batch]:
    return [Batch(batch["seconds"], tuple(batch["tokens"])) for batch in level["batches"]]


def _count_from_here(meter: EnergyMeter) -> bool:
    """What loading and the first answers took is over; False where the system goes on counting their peak."""
    import torch

    apart = reset_peak()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    meter.start()
    return apart


def _accelerator(module: nn.Module) -> str | None:
    """The id of the NVIDIA accelerator that holds the model."""
    import torch

    device = next(module.parameters()).device
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" and torch.version.cuda else None


def _device_name(module: nn.Module) -> str:
    import torch

    device = next(module.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _converse(child: subprocess.Popen[str], request: MeasureRequest, on_answers: Callable[[int], None]) -> dict[str, Any]:
    """Ask, and listen until the process has no more to say; returns its last word (none: it died)."""
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(BrokenPipeError), child.stdin as stdin:
        json.dump(request.to_json(), stdin)
    with child.stdout as stdout:
        for line in stdout:
            said: dict[str, Any] = json.loads(line)
            if "answered" not in said:
                return said
            on_answers(said["answered"])
    status = child.wait()
    return {"problem": f"it was ended by signal {-status}; the machine may have too little memory"} if status < 0 else {}


def _claim_stdout() -> IO[str]:
    """Keep standard output for results: whatever libraries print goes to standard error."""
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return results


def _tell(results: IO[str], said: dict[str, Any]) -> None:
    results.write(json.dumps(said) + "\n")
    results.flush()


def _sampling(row: dict[str, Any]) -> Sampling:
    return Sampling(**{**row, "stop": tuple(row["stop"])})


def _last_line(complaints: bytes) -> str:
    lines = complaints.decode("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it ended without a word"


if __name__ == "__main__":
    main()
