"""Latency and memory of a local model, alone in a fresh process: `python -m potstill.evaluation.measure`.

The process reads one JSON request from standard input, and writes one JSON object a line to standard output: `{"answered": k}` after
each answer, then `{"measured": {...}}` or `{"problem": "..."}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from potstill.errors import ModelError, PotstillError
from potstill.evaluation.latency import Timed, time_each
from potstill.evaluation.memory import count_weights, disk_bytes, process_memory, reset_peak, shipped_bytes, storage_format
from potstill.records import Message, Request, Sampling
from potstill.spec import WeightsSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class MeasureRequest:
    """What to measure: which weights, on which questions, with how many torch threads, after how many uncounted answers."""

    weights: WeightsSpec
    requests: tuple[Request, ...]
    threads: int
    warm_up: int = 1

    def to_json(self) -> dict[str, Any]:
        """The request as the process reads it."""
        asked = [{"messages": [m.to_json() for m in r.messages], "sampling": dataclasses.asdict(r.sampling)} for r in self.requests]
        return {"weights": self.weights.model_dump(mode="json"), "requests": asked, "threads": self.threads, "warm_up": self.warm_up}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> MeasureRequest:
        """The inverse of `to_json`."""
        requests = tuple(
            Request(tuple(Message(m["role"], m["content"]) for m in asked["messages"]), _sampling(asked["sampling"]))
            for asked in row["requests"]
        )
        return cls(WeightsSpec.model_validate(row["weights"]), requests, row["threads"], row["warm_up"])


def measure_alone(request: MeasureRequest, on_answer: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Measure a local model in a process of its own; `on_answer` is called after each answer, uncounted ones included.

    Keys: `answers` (a Timed each, None: failed), `load_s`, `threads`, `device`; `parameters`, `weights_bytes`, `disk_bytes`, `storage`
    (the numbers' format there), `shipped_bytes` (None: what is measured is what was published); `empty_bytes` (resident before the
    model was loaded), `peak_bytes` (most while answering), `peak_above_empty_bytes`, `anonymous_bytes`, `file_bytes` (resident after the
    last answer), `peak_gpu_bytes`: None where the system does not tell.
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
            last = _converse(child, request, on_answer)
        finally:
            child.kill()
            child.wait()
        if "measured" in last:
            measured: dict[str, Any] = last["measured"]
            return {**measured, "answers": [None if timed is None else Timed(**timed) for timed in measured["answers"]]}
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
    empty = process_memory()
    started = time.perf_counter()
    model = load_local(request.weights, batch_size=1)
    load_s = time.perf_counter() - started
    answered = 0

    def on_answer() -> None:
        nonlocal answered
        answered += 1
        if answered == request.warm_up:
            reset_peak()
        _tell(results, {"answered": answered})

    answers = await time_each(model, request.requests, warm_up=request.warm_up, on_answer=on_answer)
    full = process_memory()
    parameters, weights_bytes = count_weights(model.module)
    device = _device_name(model.module)
    above = None if full.peak is None or empty.resident is None else full.peak - empty.resident
    await model.close()
    path = locate(request.weights)
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
        "peak_bytes": full.peak,
        "peak_above_empty_bytes": above,
        "anonymous_bytes": full.anonymous,
        "file_bytes": full.file,
        "peak_gpu_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
    }


def _device_name(module: nn.Module) -> str:
    import torch

    device = next(module.parameters()).device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _converse(child: subprocess.Popen[str], request: MeasureRequest, on_answer: Callable[[], None]) -> dict[str, Any]:
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
            on_answer()
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
