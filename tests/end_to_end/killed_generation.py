"""`potstill generate`, killed again and again, seen from the server's side: what was asked for, what was paid, what was kept.

`kill_again_and_again` drives it; the server is this file as a program, in a process of its own that outlives every kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

WIDTH = 16
MAX_NEW_TOKENS = 40
DURABLE_S = 2.0
"""An answer that the client has had for so long is on disk, however slow the disk is."""


@dataclass
class Tally:
    """What came of all kills. `asked_twice` counts requests that the server got beyond the first for the same row."""

    kills: int = 0
    in_flight: int = 0
    asked_twice: int = 0
    lost: int = 0
    duplicates: int = 0
    rows: int = 0
    capped: dict[str, float] = field(default_factory=dict)
    charged: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def kill_again_and_again(folder: Path, kills: int, rows: int, seed: int) -> Tally:
    """Generate, killed at `kills` random moments: the first half under a cap that ends the run too early, the rest without.

    Fails where what is killed was not in flight by the ledger's word, or what the client had was not kept.
    """
    moments, tally, started = random.Random(seed), Tally(rows=rows), time.monotonic()
    with Server(seed) as server:
        run = Killed(folder, server, rows)
        cap = {"calls": rows // 2, "tokens": 30 * rows, "dollars": 0.05 * rows}
        run.write_spec(cap)
        for _ in range(kills // 2):
            run.start_and_kill(moments, 2 * rows // kills, tally)
        assert "the budget of" in run.to_the_end()
        tally.capped, tally.charged = cap, server.state()["bill"]
        run.write_spec({})
        for _ in range(kills - kills // 2):
            run.start_and_kill(moments, 2 * rows // kills, tally)
        assert run.to_the_end() == ""
        run.count(tally)
    tally.seconds = time.monotonic() - started
    return tally


class Killed:
    """One run folder, and the process that works on it."""

    def __init__(self, folder: Path, server: Server, rows: int) -> None:
        self._folder, self._server, self._rows = folder, server, rows
        self._kept: set[str] = set()
        self._asked_when_kept: Counter[str] = Counter()
        folder.mkdir(parents=True, exist_ok=True)
        for split, count in (("train", rows), ("validation", 2), ("test", 2)):
            lines = (json.dumps({"id": f"{split}-{n}", "messages": _messages(split, n)}) + "\n" for n in range(count))
            (folder / f"{split}.jsonl").write_text("".join(lines))

    def write_spec(self, caps: dict[str, float]) -> None:
        """The spec of the run, with these caps."""
        spec = {
            "name": "killed",
            "task": {"type": "conversation", "max_new_tokens": MAX_NEW_TOKENS},
            "data": {split: f"{split}.jsonl" for split in ("train", "validation", "test")},
            "teacher": {"model": "m", "base_url": self._server.url + "/v1", "price": PRICE},
            "student": {"model": "none"},
            "generation": {"concurrency": WIDTH, "budget": caps, "pilot": {"rows": 4}},
        }
        (self._folder / "potstill.yaml").write_text(yaml.safe_dump(spec))

    def start_and_kill(self, moments: random.Random, calls: int, tally: Tally) -> None:
        """Start the command, and kill it after some of so many calls, or before the first; check what it left behind."""
        child = self._start()
        if moments.random() < 0.9:
            self._server.wait_for_calls(moments.randint(1, calls), child)
            time.sleep(moments.uniform(0.0, 0.05))
        else:
            time.sleep(moments.uniform(0.0, 1.0))
        child.send_signal(signal.SIGKILL)
        killed = time.time()
        child.communicate()
        tally.kills += 1
        tally.in_flight += self._look(killed)

    def to_the_end(self) -> str:
        """Let it work until it ends by itself; what it complains of."""
        child = self._start()
        complaint = child.communicate()[1]
        assert child.returncode in (0, 1), complaint
        self._look(time.time())
        return "" if child.returncode == 0 else complaint

    def count(self, tally: Tally) -> None:
        """What the server and the result say in the end."""
        asked = Counter(self._server.state()["asked"])
        tally.asked_twice = sum(asked.values()) - len(asked)
        # An answer that was kept once was never paid for again.
        tally.lost = sum(asked[row] > self._asked_when_kept[row] for row in self._kept)
        ids = [json.loads(line)["id"] for line in (self._folder / "runs/killed/generation/accepted.jsonl").read_text().splitlines()]
        tally.duplicates = len(ids) - len(set(ids))
        tally.lost += self._rows - len(set(ids))

    def _start(self) -> subprocess.Popen[str]:
        self._started = time.time() + 0.2  # sooner, only answers to the process before can be on their way
        command = [sys.executable, "-m", "potstill", "generate", "potstill.yaml"]
        return subprocess.Popen(command, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def _look(self, ended: float) -> int:
        """Compare the ledger, as it lies there, with what the server knows; how many calls were in flight by the ledger's word."""
        state = self._server.state()
        rows = self._rows_by_state()
        in_flight, answered = rows["intent"], rows["answered"]
        assert len(in_flight) <= WIDTH
        had = {row for row, at in state["finished"].items() if self._started < at < ended - DURABLE_S}
        assert had <= answered, "an answer that the client had was not kept"
        assert set(state["asked"]) <= set().union(*rows.values()), "a call left before its intent was on disk"
        for row in answered - self._kept:
            self._asked_when_kept[row] = state["asked"][row]
        self._kept |= answered
        return len(in_flight)

    def _rows_by_state(self) -> dict[str, set[str]]:
        """What the ledger says, read from a copy: to look at a ledger is to repair it, which is what the next run must do."""
        rows: dict[str, set[str]] = {state: set() for state in ("intent", "answered", "failed", "orphaned")}
        ours, copy = self._folder / "runs/killed/generation", self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in ours.glob("ledger.sqlite*"):
            shutil.copy(file, copy)
        with contextlib.closing(sqlite3.connect(copy / "ledger.sqlite")) as database:
            if database.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):  # it was killed after the tables were made
                for state, request in database.execute("SELECT state, request FROM attempt JOIN question USING (key)"):
                    rows[state].add(json.loads(request)["messages"][-1]["content"])
        return rows


def _messages(split: str, number: int) -> list[dict[str, str]]:
    words = random.Random(f"{split} {number}").sample(WORDS, 12)
    return [{"role": "user", "content": f"{split} {number}: {' '.join(words)}?"}]


WORDS = [f"{first}{vowel}{last}" for first in "bdfglmnprstv" for vowel in "aeiou" for last in ("l", "nd", "rt", "sk")]
PRICE = {"input_per_million": 1000.0, "output_per_million": 2000.0}


class Server:
    """The server's process, as the test sees it."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __enter__(self) -> Server:
        self._process = subprocess.Popen([sys.executable, __file__, str(self._seed)], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def state(self) -> dict[str, Any]:
        """`asked`: how often each row was asked for; `finished`: when its answer was last sent; `bill`: what is charged."""
        with urllib.request.urlopen(f"{self.url}/state") as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def wait_for_calls(self, count: int, child: subprocess.Popen[str]) -> None:
        """Until so many more calls have come, or the child has ended."""
        wanted = self.state()["bill"]["calls"] + count
        while child.poll() is None:
            with urllib.request.urlopen(f"{self.url}/wait?calls={wanted}") as answer:
                if json.load(answer):
                    return


class _Teacher:
    """The server itself: it answers after some milliseconds, counts by row, and charges for every call."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._asked: Counter[str] = Counter()
        self._finished: dict[str, float] = {}
        self._bill = {"calls": 0.0, "tokens": 0.0, "dollars": 0.0}
        self._came = asyncio.Condition()

    async def chat(self, request: web.Request) -> web.Response:
        row = (await request.json())["messages"][-1]["content"]
        self._asked[row] += 1
        read, written = len(row) // 4, self._random.randint(1, MAX_NEW_TOKENS)
        self._bill["calls"] += 1
        self._bill["tokens"] += read + written
        self._bill["dollars"] += (read * PRICE["input_per_million"] + written * PRICE["output_per_million"]) / 1e6
        async with self._came:
            self._came.notify_all()
        await asyncio.sleep(self._random.uniform(0.005, 0.06))
        choice = {"index": 0, "message": {"role": "assistant", "content": f"This is about {row}"}, "finish_reason": "stop"}
        answer = web.json_response({"choices": [choice], "usage": {"prompt_tokens": read, "completion_tokens": written}})
        with contextlib.suppress(ConnectionResetError):  # nobody is there any more
            await answer.prepare(request)
            await answer.write_eof()
            self._finished[row] = time.time()
        return answer

    async def state(self, _: web.Request) -> web.Response:
        return web.json_response({"asked": self._asked, "finished": self._finished, "bill": self._bill})

    async def wait(self, request: web.Request) -> web.Response:
        wanted = float(request.query["calls"])
        try:
            async with self._came, asyncio.timeout(0.5):
                await self._came.wait_for(lambda: self._bill["calls"] >= wanted)
        except TimeoutError:
            return web.json_response(False)
        return web.json_response(True)


async def serve(seed: int) -> None:
    """Serve until terminated; the port goes to standard output."""
    teacher, app = _Teacher(seed), web.Application()
    app.router.add_post("/v1/chat/completions", teacher.chat)
    app.router.add_get("/state", teacher.state)
    app.router.add_get("/wait", teacher.wait)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
