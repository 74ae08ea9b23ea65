"""The memory that an evaluation reports, against `/usr/bin/time -v`.

    python benchmarks/memory_figures.py [MODEL ...] [--rows 6] [--tokens 24]

"same": the process that measures a model for an evaluation, run under `time`; its own `peak_bytes` against the maximum resident set size
that `time` was told by the kernel when the process ended. (The kernel forgets the maximum where the process resets its peak after the
warm-up, so both are the peak since then.) "apart": a process that loads the same model and answers the same questions, and measures
nothing, under `time`; against the higher of `peak_loading_bytes` and `peak_bytes`. Needs GNU time (`apt-get install time`).

`time` is started by a shell: the maximum of a process that a large one starts by vfork is that of the large one.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from local_generation import QUESTIONS
from potstill.evaluation.measure import MeasureRequest
from potstill.models.weights import load_weights
from potstill.records import Message, Request, Sampling
from potstill.spec.sections import WeightsSpec

_GNU_TIME = "/usr/bin/time"
_APART = """
import asyncio, json, sys
import torch
from potstill.evaluation.measure import MeasureRequest
from potstill.models.load import load_local
asked = MeasureRequest.from_json(json.load(sys.stdin))
torch.set_num_threads(asked.threads)
model = load_local(asked.weights, batch_size=1)
for request in (asked.requests[0], *asked.requests):
    asyncio.run(model.complete([request]))
"""


def under_time(command: list[str], told: str) -> tuple[str, int]:
    """What a command prints, and its maximum resident set size in bytes by GNU time."""
    with tempfile.NamedTemporaryFile("r") as note:
        line = " ".join(f"'{word}'" for word in [_GNU_TIME, "-v", "-o", note.name, *command])
        done = subprocess.run(["/bin/sh", "-c", line], input=told, capture_output=True, text=True, check=True)
        found = re.search(r"Maximum resident set size \(kbytes\): (\d+)", note.read())
        assert found is not None
        return done.stdout, int(found.group(1)) * 1024


def compare(model: str, dtype: str, rows: int, tokens: int) -> dict[str, object]:
    """One model's figures in MB, and how far they are from those of `time`."""
    requests = tuple(Request((Message("user", QUESTIONS[n % len(QUESTIONS)]),), Sampling(tokens)) for n in range(rows))
    told = json.dumps(MeasureRequest(WeightsSpec(model=model, dtype=dtype, device="cpu"), requests, threads=1).to_json())
    printed, same = under_time([sys.executable, "-m", "potstill.evaluation.measure"], told)
    measured = json.loads(printed.splitlines()[-1])["measured"]
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(_APART)
        script.flush()
        _, apart = under_time([sys.executable, script.name], told)
    whole = max(measured["peak_loading_bytes"], measured["peak_bytes"])
    return {
        "model": f"{Path(model).name}, {dtype}",
        "weights_mb": round(measured["weights_bytes"] / 1e6, 1),
        "peak_above_empty_mb": round(measured["peak_above_empty_bytes"] / 1e6, 1),
        "same": _against(measured["peak_bytes"], same),
        "apart": _against(whole, apart),
    }


def cut_models(folder: Path) -> list[str]:
    """The usual teacher cut to fewer layers, saved."""
    from potstill.training.carve import carve, evenly_spaced

    names = []
    for layers in (2, 8):
        weights = load_weights(WeightsSpec(model="smollm2-135m-instruct", device="cpu", dtype="float32"))
        names.append(str(folder / f"{layers} layers of it"))
        carve(weights.module, evenly_spaced(weights.module.config.num_hidden_layers, layers)).save_pretrained(names[-1])
        weights.tokenizer.save_pretrained(names[-1])
    return names


def _against(ours: int, theirs: int) -> str:
    return f"{ours / 1e6:.1f} against {theirs / 1e6:.1f} MB: {(ours / theirs - 1) * 100:+.2f} %"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*")
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=24)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = chosen.models or ["smollm2-135m-instruct", *cut_models(Path(folder))]
        cases = [(model, "float32") for model in models] + [(models[0], "bfloat16")]
        for model, dtype in cases:
            print(json.dumps(compare(model, dtype, chosen.rows, chosen.tokens)), flush=True)


if __name__ == "__main__":
    main()
