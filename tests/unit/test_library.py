"""The library's words, as textbooks use them, on tiny real models and the shipped fake."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import potstill
from minute import Punctual, leave_calls, most_in_a_minute
from potstill.errors import CapabilityError, DataError, ModelError, SpecError, StoreError, UsageError
from potstill.library import _with_answer
from potstill.models.echo import EchoModel
from potstill.models.folder import identity
from potstill.models.openai_http import OpenAIModel
from potstill.models.testing import OpenAIStub
from potstill.records import Example, Message, Request
from potstill.spec import GatesSpec, GenerationSpec, TaskSpec, TrainingSpec
from potstill.spec.sections import PromptingSpec, TeacherSpec
from potstill.tasks import build_task
from tiny import tiny_llama

WORDS = ["amber", "bronze", "coral", "denim", "ebony", "fawn", "ginger", "hazel", "ivory", "jade", "khaki", "lilac"]
QUICK = TrainingSpec(epochs=1, batch_size=4, learning_rate=1e-3, evaluations=1)

ALL_PASS = GatesSpec(format=False, refusal=False, truncation=False, verifier=False)


def example(number: int, reference: str | None = None) -> Example:
    asked = Message("user", f"Is {WORDS[number % 12]} number {number} warm or cold?")
    return Example(f"row-{number}", (asked,), () if reference is None else (reference,))


ROWS = [example(number, ["warm", "cold"][number % 2]) for number in range(12)]


def warm(request: Request) -> str:
    return "warm"


def test_the_words_of_the_textbook_work_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_teacher: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.jsonl").write_text("".join(json.dumps(row.to_json()) + "\n" for row in ROWS))
    dataset = potstill.load_dataset("train.jsonl")
    teacher = potstill.load_model("echo")
    responses = potstill.generate_teacher_responses(teacher, dataset, task="summarization")
    student = potstill.fine_tune_student(str(tiny_teacher), responses[:8], responses[8:], training=QUICK)
    accuracy = potstill.evaluate_accuracy(student, dataset)
    performance = potstill.evaluate_task_performance(student, dataset)
    assert performance["accuracy"] == accuracy
    assert 0.0 <= accuracy <= 1.0
    assert "macro_f1" in performance
    assert potstill.measure_inference_time(student, dataset[:2])["n"] == 2
    memory = potstill.profile_memory_consumption(student)
    assert memory["weights_bytes"] == 4 * (memory["parameters"] or 0)


def test_every_public_name_is_there() -> None:
    assert all(callable(getattr(potstill, name)) for name in potstill.__all__)


def test_answered_rows_keep_their_gold_and_name_the_turn_that_is_learnt() -> None:
    found = potstill.generate_teacher_responses(EchoModel(warm, identity="warm"), ROWS, task="nli")
    assert [row.reference for row in found] == [row.reference for row in ROWS]
    assert {row.messages[-1].content for row in found} == {"warm"}
    assert {row.trained_turns for row in found} == {(2,)}, "the task's own system prompt stands in front"


def test_a_conversations_history_holds_the_teachers_own_answers() -> None:
    asked = [Message("user", "one"), Message("assistant", "gold one"), Message("user", "two"), Message("assistant", "gold two")]
    heard: list[list[str]] = []

    def answer(request: Request) -> str:
        heard.append([message.content for message in request.messages])
        return f"reply {len(request.messages)}"

    teacher = EchoModel(answer, identity="counting")
    [row] = potstill.generate_teacher_responses(teacher, [Example("a", tuple(asked))], task="conversation")
    assert heard == [["one"], ["one", "reply 1", "two"]]
    assert [message.content for message in row.messages] == ["one", "reply 1", "two", "reply 3"]
    assert row.trained_turns == (1, 3)


def test_a_greeting_is_history_and_not_learnt() -> None:
    turns = (Message("assistant", "Welcome!"), Message("user", "one"), Message("assistant", "gold one"), Message("user", "two"))
    row = _with_answer(Example("a", turns, ("gold two",)), build_task(TaskSpec(type="conversation", instruction="Be kind.")))
    assert [row.messages[turn].content for turn in row.trained_turns] == ["gold one", "gold two"]


def test_answers_that_the_gates_drop_are_left_out_unless_the_gates_are_off() -> None:
    teacher = EchoModel(lambda request: "warm" if "number 1 " in request.messages[-1].content else "no idea", identity="shy")
    assert [row.id for row in potstill.generate_teacher_responses(teacher, ROWS, task="nli")] == ["row-1"]
    assert len(potstill.generate_teacher_responses(teacher, ROWS, task="nli", gates=ALL_PASS)) == 12


def test_nothing_acceptable_is_an_error_with_the_first_reason() -> None:
    with pytest.raises(DataError, match=r"none of 12 answers of echo is acceptable; the first: "):
        potstill.generate_teacher_responses(EchoModel(lambda _: "no idea", identity="lost"), ROWS, task="nli")


def test_with_a_folder_no_question_is_asked_twice(tmp_path: Path) -> None:
    calls: list[Request] = []

    def answer(request: Request) -> str:
        calls.append(request)
        return "warm"

    teacher = EchoModel(answer, identity="warm")
    first = potstill.generate_teacher_responses(teacher, ROWS, task="nli", folder=tmp_path / "answers")
    second = potstill.generate_teacher_responses(teacher, ROWS, task="nli", folder=tmp_path / "answers")
    assert len(calls) == 12
    assert list(first) == list(second)


def unasked(request: Request) -> str:
    raise AssertionError("something was asked")


def test_worked_examples_stand_before_each_question() -> None:
    heard: list[Request] = []
    teacher = EchoModel(lambda request: heard.append(request) or "warm", identity="warm")  # type: ignore[func-returns-value]
    potstill.generate_teacher_responses(teacher, ROWS, task="nli", generation=GenerationSpec(prompting=PromptingSpec(examples=2)))
    assert {tuple(message.role for message in request.messages) for request in heard} == {("system", *("user", "assistant") * 2, "user")}


def test_too_few_rows_for_the_worked_examples_are_told_before_anything_is_asked() -> None:
    wanted = GenerationSpec(prompting=PromptingSpec(examples=12))
    with pytest.raises(DataError, match="12 worked examples are wanted"):
        potstill.generate_teacher_responses(EchoModel(unasked, identity="x"), ROWS, task="nli", generation=wanted)


@pytest.mark.parametrize(
    ("generation", "gates", "name"),
    [
        ({"choose": "judge"}, {}, "generation.choose: judge"),
        ({}, {"judge": 0.5}, "gates.judge"),
        ({"expand": {"rows": 3}}, {}, "generation.expand"),
        ({"balance": {"by": "label"}}, {}, "generation.balance"),
        ({"qualify": {}}, {}, "generation.qualify"),
        ({"mode": "batch"}, {}, "generation.mode: batch"),
        ({"budget": {"when_reached": "go_on"}}, {}, "generation.budget.when_reached: go_on"),
        ({"pilot": {"rows": 4}}, {}, "generation.pilot"),
        ({"ledger": "shared.sqlite"}, {}, "generation.ledger"),
        ({"samples": 3}, {}, "generation.samples"),
    ],
)
def test_what_needs_a_whole_run_is_refused_before_anything_is_asked(generation: Any, gates: Any, name: str) -> None:
    asking, kept_by = GenerationSpec.model_validate(generation), GatesSpec.model_validate(gates)
    with pytest.raises(UsageError, match=f"`{name}`"):
        potstill.generate_teacher_responses(EchoModel(unasked, identity="x"), ROWS, task="nli", generation=asking, gates=kept_by)


def test_an_endpoint_teaches_by_its_url(tmp_path: Path) -> None:
    with OpenAIStub(lambda payload: "cold") as stub:
        teacher = potstill.load_model(stub.base_url, model="stub")
        assert len(potstill.generate_teacher_responses(teacher, ROWS, task="nli")) == 12
        assert potstill.evaluate_accuracy(teacher, ROWS) == 0.5
        assert potstill.measure_inference_time(teacher, ROWS[:3])["n"] == 3


def test_going_on_in_a_folder_counts_the_calls_of_the_minute_before_and_none_twice(tmp_path: Path) -> None:
    with Punctual("cold") as server:
        teacher = OpenAIModel(TeacherSpec(model="m", base_url=server.base_url, requests_per_minute=16))
        times = leave_calls(tmp_path / "ledger.sqlite", "", teacher.identity, 6)
        for rows in (ROWS[:4], ROWS):  # the second asks 8 more: 18 in all, two of them late
            potstill.generate_teacher_responses(teacher, rows, task="nli", folder=tmp_path)
    assert len(server.times) == 12
    assert most_in_a_minute(times + server.times) == 16


def test_accuracy_is_the_share_of_acceptable_answers() -> None:
    assert potstill.evaluate_accuracy(EchoModel(warm, identity="warm"), ROWS[:9]) == pytest.approx(5 / 9)


def test_accuracy_in_math_compares_values() -> None:
    rows = [Example(str(n), (Message("user", f"{n} and {n}?"),), (f"{2 * n}.0",)) for n in range(5, 15)]
    teacher = EchoModel(lambda request: f"The answer is {2 * int(request.messages[-1].content.split()[0])}.", identity="adding")
    assert potstill.evaluate_accuracy(teacher, rows) == 1.0


def test_rows_without_a_gold_answer_are_held_against_the_teachers() -> None:
    rows = potstill.generate_teacher_responses(EchoModel(), [example(number) for number in range(4)], task="summarization")
    assert potstill.evaluate_accuracy(EchoModel(), rows, task="summarization") == 1.0
    assert potstill.evaluate_accuracy(EchoModel(warm, identity="warm"), rows, task="summarization") == 0.0


@pytest.mark.parametrize("task", ["poetry", 5, TaskSpec(type="nli", labels=("a", "b"))])
def test_a_task_that_does_not_fit_is_refused(task: Any) -> None:
    with pytest.raises((SpecError, DataError)):
        potstill.evaluate_task_performance(EchoModel(), ROWS, task=task)


@pytest.mark.parametrize("word", ["evaluate_accuracy", "measure_inference_time", "evaluate_task_performance"])
def test_no_rows_is_an_error_and_never_zero(word: str) -> None:
    with pytest.raises(DataError, match="no rows"):
        getattr(potstill, word)(EchoModel(), [])


def test_everything_works_inside_a_running_event_loop() -> None:
    async def notebook() -> float:
        rows = potstill.generate_teacher_responses(EchoModel(warm, identity="warm"), ROWS, task="nli")
        potstill.measure_inference_time(EchoModel(), ROWS[:1])
        return potstill.evaluate_accuracy(EchoModel(warm, identity="warm"), rows)

    assert asyncio.run(notebook()) == 0.5


def test_a_loaded_student_stays_as_it_was_and_the_trained_one_is_another(tmp_path: Path, tiny_teacher: Path) -> None:
    import torch

    student = potstill.load_model(str(tiny_teacher))
    before = {name: value.clone() for name, value in student.module.state_dict().items()}  # type: ignore[attr-defined]
    trained = potstill.fine_tune_student(student, ROWS, training=QUICK, folder=tmp_path / "student")
    assert all(torch.equal(before[name], value) for name, value in student.module.state_dict().items())  # type: ignore[attr-defined]
    assert not all(torch.equal(before[name], value) for name, value in trained.module.state_dict().items())
    assert potstill.profile_memory_consumption(tmp_path / "student" / "best")["parameters"] is not None


def test_the_same_training_is_not_done_twice_and_another_is_not_mixed_with_it(tmp_path: Path, tiny_teacher: Path) -> None:
    folder = tmp_path / "student"
    potstill.fine_tune_student(tiny_teacher, ROWS, training=QUICK, folder=folder)
    weights = folder / "best" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    potstill.fine_tune_student(tiny_teacher, ROWS, training=QUICK, folder=folder)
    assert weights.stat().st_mtime_ns == written
    with pytest.raises(StoreError, match="another student, other rows or settings"):
        potstill.fine_tune_student(tiny_teacher, ROWS[1:], training=QUICK, folder=folder)


def test_a_damaged_student_is_trained_anew_and_the_same(tmp_path: Path, tiny_teacher: Path) -> None:
    folder = tmp_path / "student"
    for start in (tiny_teacher, potstill.load_model(str(tiny_teacher))):
        shutil.rmtree(folder, ignore_errors=True)
        potstill.fine_tune_student(start, ROWS, training=QUICK, folder=folder)
        expected = identity(folder / "best")
        (folder / "best" / "model.safetensors").write_bytes(b"torn")
        potstill.fine_tune_student(start, ROWS, training=QUICK, folder=folder)
        assert identity(folder / "best") == expected


def test_other_weights_in_the_same_place_are_another_student(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "origin", layers=2, seed=1)
    potstill.fine_tune_student(tmp_path / "origin", ROWS, training=QUICK, folder=tmp_path / "student")
    tiny_llama(tmp_path / "origin", layers=2, seed=2)
    with pytest.raises(StoreError, match="another student, other rows or settings"):
        potstill.fine_tune_student(tmp_path / "origin", ROWS, training=QUICK, folder=tmp_path / "student")


def test_a_model_without_weights_cannot_be_a_student(tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match="echo: only local models can be trained"):
        potstill.fine_tune_student(EchoModel(), ROWS, folder=tmp_path / "student")


WORDS_FOR_A_MODEL = ["evaluate_accuracy", "evaluate_task_performance", "measure_inference_time"]


@pytest.mark.parametrize("word", WORDS_FOR_A_MODEL)
def test_a_model_is_named_by_a_text_or_a_path(word: str, tiny_teacher: Path) -> None:
    of_path, of_text = (getattr(potstill, word)(name, ROWS[:2]) for name in (tiny_teacher, str(tiny_teacher)))
    assert type(of_path) is type(of_text)
    assert len(potstill.generate_teacher_responses(tiny_teacher, ROWS, gates=ALL_PASS, task="summarization")) == len(ROWS)


def test_a_path_is_a_place_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="echo: there is no such folder"):
        potstill.load_model(Path("echo"))


@pytest.mark.parametrize("model", [None, 5, object()])
@pytest.mark.parametrize("word", [*WORDS_FOR_A_MODEL, "generate_teacher_responses"])
def test_what_is_no_model_is_refused(word: str, model: Any) -> None:
    with pytest.raises(ModelError, match=f"found {type(model).__name__}; `potstill.load_model` opens one"):
        getattr(potstill, word)(model, ROWS)
    with pytest.raises(ModelError, match=f"not by {type(model).__name__}"):
        potstill.load_model(model)


@pytest.mark.parametrize(
    ("rows", "found"), [([{"prompt": "a"}], "dict"), ({"prompt": "a"}, "dict"), (None, "NoneType"), (iter(ROWS), "iterator")]
)
def test_rows_of_another_kind_are_refused(rows: Any, found: str) -> None:
    with pytest.raises(DataError, match=f"not .*{found}"):
        potstill.evaluate_accuracy(EchoModel(), rows)


def test_run_refuses_a_bad_spec_in_whatever_shape(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="`task` is missing"):
        potstill.run({"name": "x"})
    with pytest.raises(SpecError, match="no such file"):
        potstill.run(tmp_path / "missing.yaml")
