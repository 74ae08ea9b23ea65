"""`engine: ray` on a cluster of two nodes on this machine: the result is the local engine's, whoever is killed on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Read when Ray is imported: everything listens on loopback alone, and nobody is told of it.
os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
pytest.importorskip("ray", reason="needs Ray: pip install '.[ray]'")

import psutil
from ray.cluster_utils import Cluster
from ray_driver import CONCURRENCY, open_run, run_generation

from potstill.errors import BudgetError, EndpointError, EngineError
from potstill.models.testing import OpenAIStub, refused
from potstill.store.events import Noticed, Progressed, read_events
from potstill.store.ledger import Ledger

FILES = ("accepted.jsonl", "rejected.jsonl", "validation.jsonl")
PROGRAM = Path(__file__).with_name("ray_driver.py")
KEY = "sk-of-the-stub"


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Its address: two nodes, a worker's room each."""
    node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        made = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
        made.add_node(**node)
        try:
            yield made.address
        finally:
            made.shutdown()


@pytest.fixture(autouse=True)
def _key(monkeypatch) -> None:
    monkeypatch.setenv("STUB_KEY", KEY)


def say(payload: dict) -> str:
    """What was heard; of some rows, a refusal."""
    heard = payload["messages"]
    number = int(heard[0]["content"].split()[1].split(".")[0])
    return "I'm sorry, but I can't help with that." if number % 11 == 3 else f"{len(heard)} turns, the last {heard[-1]['content']}."


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / "generation" / name).read_bytes() for name in FILES}


def asked(stub: OpenAIStub) -> Counter[str]:
    return Counter(json.dumps(payload["messages"]) for payload in stub.calls)


def local_result(folder: Path) -> tuple[dict[str, bytes], Counter[str]]:
    with OpenAIStub(say, key=KEY) as stub:
        run_generation(open_run(folder, stub.base_url, "local"))
        return contents(folder), asked(stub)


def workers() -> list[psutil.Process]:
    """Processes of Ray actors that are at work; the cluster's nodes are children of this process."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "ray::MapWorker" in " ".join(child.cmdline()):
                found.append(child)
    return found


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 40
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill_when(true: Callable[[], bool]) -> None:
    wait_until(true)
    workers()[0].kill()


def test_two_nodes_give_what_one_process_gives_and_ask_each_question_once(tmp_path, cluster):
    expected, questions = local_result(tmp_path / "local")
    with OpenAIStub(say, key=KEY) as stub:
        run = open_run(tmp_path / "ray", stub.base_url, {"kind": "ray", "address": cluster})
        run_generation(run)
        assert contents(run.folder) == expected
        assert asked(stub) == questions
    assert not run.path("generation", "workers").exists()
    told = list(read_events(run.folder / "events.jsonl"))
    together = [event for event in told if isinstance(event, Progressed) and event.note == "2 workers"]
    assert together[-1].done == together[-1].total
    assert not any(KEY in path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())


def test_a_worker_that_is_killed_goes_on_and_only_its_calls_in_flight_are_asked_again(tmp_path, cluster):
    expected, questions = local_result(tmp_path / "local")
    with OpenAIStub(say, key=KEY, delay_s=0.2) as stub:
        run = open_run(tmp_path / "ray", stub.base_url, {"kind": "ray", "address": cluster})
        killer = threading.Thread(target=lambda: kill_when(lambda: len(stub.calls) >= 40))
        killer.start()
        run_generation(run)
        killer.join()
        assert contents(run.folder) == expected
        again = asked(stub) - questions
        assert 0 < again.total() <= CONCURRENCY // 2
    told = [event.text for event in read_events(run.folder / "events.jsonl") if isinstance(event, Noticed)]
    assert any("was lost, and goes on" in text for text in told)


def test_a_driver_that_is_killed_goes_on_and_only_calls_in_flight_are_asked_again(tmp_path, cluster):
    expected, questions = local_result(tmp_path / "local")
    with OpenAIStub(say, key=KEY, delay_s=0.2) as stub:
        folder = tmp_path / "ray"
        driver = subprocess.Popen([sys.executable, PROGRAM, folder, stub.base_url, cluster])
        wait_until(lambda: len(stub.calls) >= 40 or driver.poll() is not None)
        driver.send_signal(signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL
        run = open_run(folder, stub.base_url, {"kind": "ray", "address": cluster})
        run_generation(run)
        assert contents(folder) == expected
        again = asked(stub) - questions
        assert 0 < again.total() <= CONCURRENCY
        with Ledger(folder / "generation" / "ledger.sqlite") as ledger:
            # What was written down and killed before it left counts as a call, too.
            assert len(stub.calls) <= ledger.usage().calls <= len(stub.calls) + CONCURRENCY


def test_a_cap_is_kept_and_used_up_by_all_workers_together(tmp_path, cluster):
    with OpenAIStub(say, key=KEY) as stub:
        generation = {"concurrency": CONCURRENCY, "pilot": {"rows": 0}, "budget": {"calls": 51}}
        run = open_run(tmp_path / "ray", stub.base_url, {"kind": "ray", "address": cluster}, generation=generation)
        with pytest.raises(BudgetError, match="51 calls"):
            run_generation(run)
        assert len(stub.calls) == 51
        assert asked(stub).most_common(1)[0][1] == 1


def test_a_broken_contract_stops_every_worker_and_the_run(tmp_path, cluster):
    quota = refused(429, "You exceeded your current quota", code="insufficient_quota")
    with OpenAIStub(say, key=KEY, faults=[None] * 30, always=quota, delay_s=0.05) as stub:
        run = open_run(tmp_path / "ray", stub.base_url, {"kind": "ray", "address": cluster})
        with pytest.raises(EndpointError, match=r"worker [12].*no credit left"):
            run_generation(run)
        assert len(stub.calls) <= 30 + CONCURRENCY
        with Ledger(run.path("generation", "ledger.sqlite")) as ledger:
            assert ledger.usage().answered == 30
        wait_until(lambda: not workers())


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path):
    with OpenAIStub(say, key=KEY) as stub, pytest.raises(EngineError, match=r"127\.0\.0\.1:9.*nothing answers there"):
        run_generation(open_run(tmp_path / "ray", stub.base_url, {"kind": "ray", "address": "127.0.0.1:9"}))


def test_without_an_address_a_cluster_of_this_machine_is_started_and_ended(tmp_path):
    expected, _ = local_result(tmp_path / "local")
    with OpenAIStub(say, key=KEY) as stub:
        run = open_run(tmp_path / "ray", stub.base_url, "ray")
        run_generation(run)
        assert contents(run.folder) == expected
