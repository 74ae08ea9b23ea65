"""Asking beside its peers: the same rows, the same server that answers at once, one tool after the other, several rounds.

    python benchmarks/asking_peers.py --openai VENV --curator VENV --distilabel VENV [--records 2000] [--rounds 3]

Each tool runs in its own virtual environment (one whose folder is not named is passed over):

    python -m venv DIR && DIR/bin/pip install openai | bespokelabs-curator==0.1.31 | 'distilabel[openai]==1.5.3' requests

The job: read a JSONL file of prompts of about 250 characters, ask each of them with 64 calls in flight, answers of about 1 KB, and have
them on disk. Potstill commits every answer, and every intent before it, to its ledger; `openai` is a bare gather over `AsyncOpenAI`
that writes a file in the end. Time runs from the first line of the job to its last, imports excluded; CPU is that of the process and of
those that it started. Every round starts a server, and each tool a process, anew.

Without a network: Curator counts tokens with a table that it fetches; here it gets one of single bytes, which is no dearer. Telemetry of
all tools is off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

WIDTH = 64
QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "TELEMETRY_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "OPENAI_API_KEY": "none",
}


def prompts(rows: Path) -> list[str]:
    """The file's prompts."""
    return [json.loads(line)["messages"][0]["content"] for line in rows.read_text(encoding="utf-8").splitlines()]


def job_potstill(address: str, rows: Path, folder: Path) -> Callable[[], int]:
    """Rows -> questions -> answers in the ledger."""
    from potstill.data.dataset import load_dataset
    from potstill.models.ask import ask_async
    from potstill.models.openai_http import OpenAIModel
    from potstill.records import Request, Sampling
    from potstill.spec.sections import TaskSpec, TeacherSpec
    from potstill.store.ledger import Ledger
    from potstill.tasks import build_task

    async def asked(ledger: Ledger) -> int:
        task = build_task(TaskSpec(type="conversation"))
        requests = (Request(shown, Sampling(256)) for row in load_dataset(rows) if (shown := task.render(row, [])) is not None)
        model = OpenAIModel(TeacherSpec(model="loopback", base_url=address), concurrency=WIDTH)
        try:
            answers = await ask_async(model, requests, ledger)
        finally:
            await model.close()
        return answers.asked - answers.failed

    def run() -> int:
        with Ledger(folder / "ledger.sqlite") as ledger:
            return asyncio.run(asked(ledger))

    return run


def job_openai(address: str, rows: Path, folder: Path) -> Callable[[], int]:
    """`asyncio.gather` over calls of AsyncOpenAI behind a semaphore; one file in the end."""
    import openai

    async def asked() -> list[str]:
        limit = asyncio.Semaphore(WIDTH)
        async with openai.AsyncOpenAI(base_url=address, api_key="none") as client:

            async def one(prompt: str) -> str:
                async with limit:
                    turn = {"role": "user", "content": prompt}
                    answer = await client.chat.completions.create(model="loopback", messages=[turn], max_tokens=256, temperature=0)
                    return answer.choices[0].message.content or ""

            return await asyncio.gather(*(one(prompt) for prompt in prompts(rows)))

    def run() -> int:
        answers = asyncio.run(asked())
        with open(folder / "answers.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"answer": answer}) + "\n" for answer in answers)
        return sum(map(bool, answers))

    return run


def job_curator(address: str, rows: Path, folder: Path) -> Callable[[], int]:
    """`curator.LLM` over a list of prompts, its cache in the folder."""
    os.environ["CURATOR_CACHE_DIR"] = str(folder)
    os.environ["HF_HOME"] = str(folder / "hf")
    import tiktoken

    pieces = tiktoken.Encoding("bytes", pat_str=r"\S+|\s+", mergeable_ranks={bytes([n]): n for n in range(256)}, special_tokens={})
    tiktoken.get_encoding = lambda _: pieces
    from bespokelabs import curator

    class Asker(curator.LLM):
        def prompt(self, row: dict) -> str:
            return row["prompt"]

        def parse(self, row: dict, response: str) -> dict:
            return {"prompt": row["prompt"], "answer": response}

    def run() -> int:
        limits = {
            "base_url": address,
            "max_concurrent_requests": WIDTH,
            "max_requests_per_minute": 10**7,
            "max_tokens_per_minute": 10**11,
        }
        asker = Asker(
            model_name="loopback", backend="openai", backend_params=limits, generation_params={"max_tokens": 256, "temperature": 0}
        )
        made = asker([{"prompt": prompt} for prompt in prompts(rows)])
        return sum(map(bool, getattr(made, "dataset", made)["answer"]))

    return run


def job_distilabel(address: str, rows: Path, folder: Path) -> Callable[[], int]:
    """A pipeline of one TextGeneration step, its batches as wide as the others' calls in flight."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    def run() -> int:
        with Pipeline("asking", cache_dir=str(folder)) as pipeline:
            load = LoadDataFromDicts(data=[{"instruction": prompt} for prompt in prompts(rows)], batch_size=WIDTH)
            llm = OpenAILLM(model="loopback", base_url=address, api_key="none", generation_kwargs={"max_new_tokens": 256, "temperature": 0})
            load >> TextGeneration(llm=llm, input_batch_size=WIDTH)
        made = pipeline.run(use_cache=False)
        return sum(map(bool, made["default"]["train"]["generation"]))

    return run


JOBS = {"potstill": job_potstill, "openai": job_openai, "curator": job_curator, "distilabel": job_distilabel}


def work(name: str, address: str, rows: Path, folder: Path) -> None:
    """One job in this process; the last line that it prints is what it took."""
    run = JOBS[name](address, rows, folder)
    wall, cpu = time.perf_counter(), _cpu_s()
    done = run()
    wall, cpu = time.perf_counter() - wall, _cpu_s() - cpu
    print("\n" + json.dumps({"done": done, "wall": wall, "cpu": cpu}))


def _cpu_s() -> float:
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def measure(name: str, python: str, records: int) -> tuple[float, float]:
    """Wall and CPU seconds of one job, in a process and a folder of its own, against a server of its own."""
    from asking import write_rows
    from loopback import serve

    with tempfile.TemporaryDirectory() as folder, serve() as address:
        rows = Path(folder) / "rows.jsonl"
        write_rows(rows, records)
        command = [python, __file__, "--job", name, address, str(rows), folder]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" or name == "potstill"} | QUIET
        child = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    lines = child.stdout.splitlines()
    if child.returncode or not lines:
        raise RuntimeError(f"{name}: {child.stderr[-2000:]}")
    found = json.loads(lines[-1])
    if found["done"] != records:
        raise RuntimeError(f"{name}: {found['done']} of {records} answers")
    return found["wall"], found["cpu"]


def compare(pythons: dict[str, str], records: int, rounds: int) -> None:
    """Print a line for each tool: medians, and the median of the ratios of each round."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in pythons}
    for number in range(rounds):
        # Who begins changes from round to round, so that nobody always has the quiet minute.
        names = list(pythons)[number % len(pythons) :] + list(pythons)[: number % len(pythons)]
        for name in names:
            found[name].append(measure(name, pythons[name], records))
            print(f"  round {number + 1}: {name}: {found[name][-1][0]:.1f} s", file=sys.stderr, flush=True)
    print(f"{'':<12}{'records/s':>11}{'CPU ms a record':>17}{'time, Potstill = 1':>20}{'min':>7}{'max':>7}")
    for name, times in found.items():
        speed = statistics.median(records / wall for wall, _ in times)
        used = statistics.median(1000 * cpu / records for _, cpu in times)
        ratios = [theirs[0] / ours[0] for ours, theirs in zip(found["potstill"], times, strict=True)]
        print(f"{name:<12}{speed:>11,.0f}{used:>17.3f}{statistics.median(ratios):>20.2f}{min(ratios):>7.2f}{max(ratios):>7.2f}")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", nargs=4, metavar=("NAME", "ADDRESS", "ROWS", "FOLDER"), help="one job in this process (internal)")
    parser.add_argument("--records", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    for name in JOBS:
        parser.add_argument(f"--{name}", type=Path, metavar="VENV", help=f"the virtual environment of {name}")
    options = parser.parse_args()
    if options.job:
        name, address, rows, folder = options.job
        return work(name, address, Path(rows), Path(folder))
    pythons = {"potstill": sys.executable}
    for name in ("openai", "curator", "distilabel"):
        if getattr(options, name) is None:
            print(f"{name}: no environment is named, passed over")
        else:
            pythons[name] = str(getattr(options, name).absolute() / "bin/python")
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, {options.records:,} records, {WIDTH} wide")
    return compare(pythons, options.records, options.rounds)


if __name__ == "__main__":
    main()
