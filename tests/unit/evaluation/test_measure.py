import asyncio
import json
import mmap
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from potstill.errors import DataError, ModelError, StoreError
from potstill.evaluation.latency import Timed, describe, measure_inference_time, summarise, time_each
from potstill.evaluation.measure import MeasureRequest, measure_alone
from potstill.evaluation.memory import (
    ProcessMemory,
    disk_bytes,
    peaks_of,
    process_memory,
    profile_memory,
    reset_peak,
    shipped_bytes,
    storage_format,
)
from potstill.models.echo import EchoModel
from potstill.models.load import load_local
from potstill.records import Completion, Example, Message, Request, Sampling
from potstill.spec import WeightsSpec
from tiny import tiny_llama

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's memory")


def request(text="What is the capital of France?", limit=4):
    return Request((Message("user", text),), Sampling(max_new_tokens=limit))


def row(*turns):
    return Example("1", tuple(Message(role, text) for role, text in turns))


class CountingEcho(EchoModel):
    """Remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    async def complete(self, requests):
        self.asked += requests
        return await super().complete(requests)


class Failing(EchoModel):
    """Calls with these words fail by themselves."""

    def __init__(self, *words):
        super().__init__()
        self._words = words

    async def complete(self, requests):
        failed = Completion("", "error", error="busy")
        return [failed if r.messages[-1].content in self._words else (await super(Failing, self).complete([r]))[0] for r in requests]


def test_percentiles_mean_and_rate_are_those_of_their_definitions():
    seconds = [0.4, 0.1, 0.2, 0.3]
    timing = summarise([Timed(second, tokens) for second, tokens in zip(seconds, [10, 20, 5, 15], strict=True)])
    assert timing["p50_s"] == pytest.approx(np.median(seconds))
    assert timing["p95_s"] == pytest.approx(0.385)
    assert timing["mean_s"] == pytest.approx(0.25)
    assert timing["tokens_per_s"] == pytest.approx(50.0)
    assert timing["tokens_per_answer"] == pytest.approx(12.5)
    assert timing["n"] == 4
    assert "first_token_s" not in timing


def test_samples_are_kept_in_the_order_of_the_questions_so_that_systems_pair():
    seconds = [float(number % 7) + 0.5 for number in range(600)]
    found = describe([Timed(second, 3, second / 2) for second in seconds])
    assert found["latency_s"]["samples"] == seconds[:500]
    assert [found["latency_s"][p] for p in ("p50", "p95", "p99")] == pytest.approx(np.percentile(seconds, [50, 95, 99]))
    assert found["first_token_s"] == pytest.approx({"p50": found["p50_s"] / 2, "p95": found["p95_s"] / 2})


@pytest.mark.parametrize("tokens", [2, 5, 40])
def test_the_rate_of_writing_does_not_depend_on_how_long_answers_are_or_prompts_take_to_read(tokens):
    answers = [Timed(read + (tokens - 1) / 25.0, tokens, read) for read in (0.1, 0.2, 3.0)]
    timing = summarise(answers)
    assert timing["tokens_per_s"] == pytest.approx(25.0)
    assert timing["first_token_s"] == pytest.approx(0.2)


def test_what_was_written_before_an_answer_s_first_token_is_no_part_of_the_rate_after_it():
    answers = [Timed(3.0 + 10 / 25.0, thought + 11, 3.0, thought) for thought in (0, 90, 400)]
    assert summarise(answers)["tokens_per_s"] == pytest.approx(25.0)
    assert summarise(answers)["tokens_per_answer"] == pytest.approx(490 / 3 + 11)


def test_answers_of_one_token_have_the_rate_of_whole_calls():
    assert summarise([Timed(0.5, 1, 0.5), Timed(0.5, 1, 0.5)])["tokens_per_s"] == pytest.approx(2.0)


def test_a_local_model_tells_when_its_first_token_came(tiny_teacher):
    model = load_local(WeightsSpec(model=str(tiny_teacher), device="cpu"), batch_size=1)
    [timed] = asyncio.run(time_each(model, [request(limit=6)], warm_up=1))
    assert timed.tokens > 1
    assert 0 < timed.first_s < timed.seconds


def test_each_row_is_asked_alone_after_the_warm_up():
    model = CountingEcho()
    timing = measure_inference_time(model, [row(("user", "a b")), row(("user", "c"))], warm_up=2)
    assert [r.messages[-1].content for r in model.asked] == ["a b", "a b", "a b", "c"]
    assert timing["n"] == 2
    assert timing["tokens_per_s"] > 0


def test_without_a_task_turns_after_the_last_question_are_not_asked():
    model = CountingEcho()
    measure_inference_time(model, [row(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))], warm_up=0)
    assert [m.content for m in model.asked[0].messages] == ["a", "b", "c"]


def test_every_answer_is_told_so_that_progress_can_be_shown():
    told = []
    asyncio.run(time_each(EchoModel(), [request(), request()], warm_up=1, on_answer=lambda: told.append(1)))
    assert len(told) == 3


def test_nothing_to_time_is_an_error():
    with pytest.raises(DataError, match="at least one"):
        measure_inference_time(EchoModel(), [])
    with pytest.raises(DataError, match="no user turn"):
        measure_inference_time(EchoModel(), [row(("system", "a"))])


def test_a_failed_call_is_not_timed_as_a_fast_one():
    timing = measure_inference_time(Failing("a"), [row(("user", "a")), row(("user", "b"))])
    assert timing["n"] == 1
    with pytest.raises(ModelError, match="every call failed while latency was measured, the last: busy"):
        measure_inference_time(Failing("a"), [row(("user", "a"))])


def test_a_request_survives_the_way_into_the_process():
    asked = MeasureRequest(WeightsSpec(model="x"), (Request((Message("user", "ü"),), Sampling(3, stop=("\n",))),), 2, 3, (4, 8), 9, (1,))
    assert MeasureRequest.from_json(json.loads(json.dumps(asked.to_json()))) == asked


@pytest.fixture(scope="module")
def measured(tiny_teacher):
    told = []
    questions = (request(), request("Hello"), request("Hi"))
    asked = MeasureRequest(WeightsSpec(model=str(tiny_teacher)), questions, threads=1, warm_up=1, levels=(2, 4), level_rows=3)
    return measure_alone(asked, told.append), told


def test_a_process_of_its_own_measures_every_question(measured):
    found, told = measured
    assert len(found["answers"]) == 3
    assert told == [1] * 4 + [2, 2, 4]
    assert found["threads"] == 1
    assert all(0 < timed.first_s <= timed.seconds and timed.tokens > 0 for timed in found["answers"])
    assert found["load_s"] > 0


def test_throughput_is_measured_by_level_in_whole_batches(measured):
    batches = measured[0]["batches"]
    assert {level: [len(batch.tokens) for batch in found] for level, found in batches.items()} == {2: [2, 2], 4: [4]}
    assert all(batch.seconds > 0 and all(batch.tokens) for found in batches.values() for batch in found)


def test_energy_is_measured_where_there_are_counters_and_only_there(measured):
    found, _ = measured
    assert (found["energy_joules_per_request"] is None) == (not found["energy_counted"])


def test_parameters_and_bytes_are_those_of_the_weights(measured, tiny_teacher):
    from transformers import AutoModelForCausalLM

    found, _ = measured
    module = AutoModelForCausalLM.from_pretrained(tiny_teacher)
    assert found["parameters"] == sum(p.numel() for p in module.parameters())
    assert found["weights_bytes"] == 4 * found["parameters"]
    assert found["disk_bytes"] == sum(path.stat().st_size for path in tiny_teacher.iterdir())
    assert (found["storage"], found["shipped_bytes"]) == ("float32", None)


def test_the_format_of_stored_numbers_is_that_of_most_of_them(tmp_path):
    save_file({"a": torch.zeros(100, dtype=torch.bfloat16), "b": torch.zeros(10)}, tmp_path / "model.safetensors")
    assert storage_format(tmp_path) == "bfloat16"
    (tmp_path / "model.gguf").write_bytes(b"")
    assert storage_format(tmp_path / "model.gguf") == "GGUF"


def test_the_embedded_teacher_is_published_as_another_file_than_is_measured(tiny_teacher):
    assert shipped_bytes(WeightsSpec(model="smollm2-135m-instruct")) == 98_362_432
    assert shipped_bytes(WeightsSpec(model=str(tiny_teacher))) is None


@linux
def test_memory_of_the_process_adds_up(measured):
    found, _ = measured
    if not reset_peak():
        pytest.skip("this system forbids resetting the peak")
    assert found["peak_bytes"] >= found["anonymous_bytes"] + found["file_bytes"] - 2**20
    assert found["peak_above_empty_bytes"] == found["peak_bytes"] - found["empty_bytes"]
    assert found["peak_loading_bytes"] >= found["empty_bytes"]


@linux
def test_what_is_measured_above_the_empty_process_is_the_model_and_not_its_libraries(tmp_path):
    wide = WeightsSpec(model=str(tiny_llama(tmp_path / "wide", layers=3, hidden=1024)), device="cpu")
    found = measure_alone(MeasureRequest(wide, (request(),), threads=1))
    assert found["weights_bytes"] > 5e7
    assert 0.9 * found["weights_bytes"] < found["peak_above_empty_bytes"] < found["weights_bytes"] + 5e7


def test_a_model_that_is_not_there_is_told_by_its_name(tmp_path):
    asked = MeasureRequest(WeightsSpec(model=str(tmp_path / "nowhere")), (request(),), threads=1)
    with pytest.raises(ModelError, match="nowhere"):
        measure_alone(asked)


def test_a_process_that_crashes_leaves_its_last_words(tmp_path, tiny_teacher):
    broken = MeasureRequest(WeightsSpec(model=str(tiny_teacher)), (request(limit=0),), threads=-1)
    with pytest.raises(ModelError, match="could not be measured in a process of its own: RuntimeError"):
        measure_alone(broken)


def test_a_profile_of_a_folder_equals_that_of_the_loaded_model(tiny_teacher, measured):
    profile = profile_memory(tiny_teacher)
    assert profile == {key: measured[0][key] for key in ("parameters", "weights_bytes", "disk_bytes")}


def test_what_an_endpoint_takes_is_not_measured():
    assert profile_memory(EchoModel()) == {"parameters": None, "weights_bytes": None, "disk_bytes": None}


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no weights"):
        profile_memory(tmp_path)
    with pytest.raises(StoreError, match="no such"):
        profile_memory(tmp_path / "nowhere")


def test_disk_bytes_counts_files_in_folders_below(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "y").write_bytes(b"45")
    assert disk_bytes(tmp_path) == 5
    assert disk_bytes(tmp_path / "y") == 2


@linux
def test_peak_is_forgotten_on_reset():
    # Mapped by hand: what an allocator frees, it may keep.
    with mmap.mmap(-1, 2**28) as block:
        block.write(bytes(2**28))
        before = process_memory()
    if not reset_peak():
        pytest.skip("this system forbids resetting the peak")
    after = process_memory()
    assert after.peak < before.peak - 2**27


def test_a_peak_that_cannot_be_reset_is_that_of_loading_for_all_we_know_and_not_reported(tmp_path):
    assert not reset_peak(tmp_path / "nowhere" / "clear_refs")
    empty, full = ProcessMemory(100, 100, 80, 20), ProcessMemory(300, 900, 250, 50)
    assert peaks_of(empty, full, apart=False) == {"peak_bytes": None, "peak_above_empty_bytes": None}
    assert peaks_of(empty, full, apart=True) == {"peak_bytes": 900, "peak_above_empty_bytes": 800}
    unknown = ProcessMemory(None, None, None, None)
    assert peaks_of(unknown, unknown, apart=True) == {"peak_bytes": None, "peak_above_empty_bytes": None}


@linux
def test_without_a_warm_up_the_peak_of_loading_is_not_taken_for_that_of_answering(tiny_teacher):
    asked = MeasureRequest(WeightsSpec(model=str(tiny_teacher)), (request(),), threads=1, warm_up=0)
    assert measure_alone(asked)["peak_above_empty_bytes"] is None


@linux
def test_peak_is_the_processs_own_and_not_inherited():
    block = np.ones(2**26)
    code = "from potstill.evaluation.memory import process_memory as m; print(m().peak)"
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert child < block.nbytes < process_memory().peak
