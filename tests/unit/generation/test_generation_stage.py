"""The generation stage: what is asked, what is kept, what is left out and why."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from slow_teacher import SlowTeacher, conversations, generate_by, open_run, run_generation

from minute import Punctual, leave_calls, most_in_a_minute
from potstill.errors import BudgetError, ModelError
from potstill.generation import stage
from potstill.generation.asking import ask_rows
from potstill.generation.expand import VERSION as EXPAND_VERSION
from potstill.generation.gates import GATES, is_on
from potstill.generation.interview import Interview
from potstill.generation.panel import teacher_sampling
from potstill.models.echo import EchoModel
from potstill.models.load import load_teacher
from potstill.models.talk import Seat
from potstill.records import Completion, Example, Message, Request, Sampling
from potstill.store.atomic import read_json, write_json, write_jsonl
from potstill.store.events import EventLog, Progressed
from potstill.store.ledger import Ledger
from potstill.store.run import Run
from potstill.tasks import build_task
from potstill.tasks.base import Task

FILES = ("accepted.jsonl", "rejected.jsonl", "validation.jsonl")


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def summarise(text: str, *, reference: str | None = None, number: int = 0) -> Example:
    return Example(f"row-{number}", (Message("user", text),), (reference,) if reference else (), tags=("t",))


def generate(run: Run, answer: Callable[[Request], str], train: list[Example], validation: list[Example] = (), identity: str = "x") -> str:
    return generate_by(run, EchoModel(answer, identity=identity), train, validation, ("yes", "no"))


def interview_of(run: Run, task: Task, model: EchoModel, ledger: Ledger) -> Interview:
    return Interview(task, (Seat("echo", model, teacher_sampling(run.spec, task)),), ledger, gates=run.spec.gates)


@pytest.fixture
def run(tmp_path) -> Run:
    return open_run(tmp_path, task={"type": "summarization", "instruction": "Be brief."})


def test_an_accepted_row_is_what_was_asked_and_the_answer_and_keeps_the_gold(run):
    generate(run, lambda _: " Short. ", [summarise("A long text.", reference="Gold.")])
    (row,) = rows_of(run.path("generation", "accepted.jsonl"))
    assert row == {
        "id": "row-0",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "A long text."},
            {"role": "assistant", "content": "Short."},
        ],
        "reference": ["Gold."],
        "tags": ["t"],
        "trained_turns": [2],
        "teacher": "echo",
    }


def test_accepted_rows_keep_the_order_of_the_data(run):
    train = [summarise("word " * (number * 7 % 40 + 1), number=number) for number in range(100)]
    generate(run, lambda request: request.messages[-1].content[:9], train)
    assert [row["id"] for row in rows_of(run.path("generation", "accepted.jsonl"))] == [row.id for row in train]


def test_a_dropped_answer_is_kept_with_its_reason_and_a_verdict(run):
    texts = {"a": "Fine.", "b": "I can't help with that.", "c": ""}
    summary = generate(run, lambda request: texts[request.messages[-1].content], [summarise(t, number=n) for n, t in enumerate("abc")])
    assert [row["id"] for row in rows_of(run.path("generation", "accepted.jsonl"))] == ["row-0"]
    refused, emptied = rows_of(run.path("generation", "rejected.jsonl"))
    assert (refused["id"], refused["gate"], refused["text"]) == ("row-1", "refusal", texts["b"])
    assert (emptied["id"], emptied["gate"], emptied["text"]) == ("row-2", "empty", "")
    assert summary == "3 rows: 1 kept, 2 dropped (refusal 1, empty 1), 15 tokens, $0.00"
    usage = read_json(run.path("generation", "usage.json"))
    assert (usage["answers"], usage["kept"], usage["dropped"], usage["calls"]) == (3, 1, {"empty": 1, "refusal": 1}, 3)


def test_what_the_gates_said_stands_in_the_ledger(run):
    row = summarise("a")
    generate(run, lambda _: "Fine.", [row])
    model = EchoModel(identity="x")
    with Ledger(run.path("generation", "ledger.sqlite")) as ledger:
        task = build_task(run.spec.task)
        asked = {name for name, gate in GATES.items() if is_on(name, run.spec.gates)}
        outcome = interview_of(run, task, model, ledger).outcome(row)
        assert {said.gate for said in ledger.verdicts(outcome.candidates[0].reply.key, row.id)} == asked


def test_the_spec_says_how_answers_are_drawn(tmp_path):
    run = open_run(tmp_path, task={"type": "qa", "max_new_tokens": 3}, teacher={"model": "echo", "temperature": 0.5, "top_p": 0.9}, seed=5)
    task = build_task(run.spec.task)
    assert teacher_sampling(run.spec, task) == Sampling(max_new_tokens=3, temperature=0.5, top_p=0.9, seed=5)


def test_gates_that_are_off_drop_nothing(tmp_path):
    run = open_run(tmp_path, task={"type": "summarization"}, gates={"refusal": False})
    generate(run, lambda _: "I can't help with that.", [summarise("a")])
    assert len(rows_of(run.path("generation", "accepted.jsonl"))) == 1


def test_where_nothing_is_kept_the_reasons_are_counted_and_the_first_answers_quoted(run):
    texts = [*["I can't help with that."] * 6, "", ""]
    answers = {str(number): text for number, text in enumerate(texts)}
    with pytest.raises(ModelError) as caught:
        generate(run, lambda request: answers[request.messages[-1].content], [summarise(t, number=int(t)) for t in answers])
    message = str(caught.value)
    assert "8 train rows" in message
    assert "refusal 6, empty 2" in message
    assert message.count("I can't help with that.") >= 3
    assert "row row-0" in message
    assert len(rows_of(run.path("generation", "rejected.jsonl"))) == 8


def test_where_every_call_failed_the_advice_is_the_endpoint(run):
    class Failing(EchoModel):
        async def complete(self, requests):
            return [Completion("", "error", error="connection refused") for _ in requests]

    with pytest.raises(ModelError, match=r"see to the endpoint[^$]*connection refused"):
        generate_by(run, Failing(), [summarise("a")])


def test_validation_rows_with_references_are_not_asked(run):
    asked = []
    validation = [summarise("gold", reference="Gold.", number=1)]

    def answer(request: Request) -> str:
        asked.append(request.messages[-1].content)
        return "Fine."

    generate(run, answer, [summarise("a")], validation)
    assert asked == ["a"]
    assert rows_of(run.path("generation", "validation.jsonl")) == [validation[0].to_json()]


def test_validation_rows_are_all_asked_where_one_lacks_its_reference(run):
    validation = [summarise("gold", reference="Gold.", number=1), summarise("bare", number=2), summarise("refused", number=3)]

    def answer(request: Request) -> str:
        return "I can't help with that." if "refused" in request.messages[-1].content else "Fine."

    summary = generate(run, answer, [summarise("a")], validation)
    rows = rows_of(run.path("generation", "validation.jsonl"))
    assert [(row["id"], row["messages"][-1]["content"], row["trained_turns"]) for row in rows] == [
        ("row-1", "Fine.", [2]),
        ("row-2", "Fine.", [2]),
    ]
    assert summary.endswith("; 1 validation rows left out")
    assert read_json(run.path("generation", "usage.json"))["rows"]["validation"] == {"asked": 3, "accepted": 2}


def test_in_a_conversation_the_teacher_sees_its_own_earlier_answers_and_never_the_gold(tmp_path):
    run = open_run(tmp_path)
    asked = []

    def answer(request: Request) -> str:
        asked.append([message.content for message in request.messages])
        return f"answer {len(request.messages)}"

    generate(run, answer, conversations(3))
    assert max(asked, key=len) == ["train 20 xx", "answer 1", "train 21 xx", "answer 3", "train 22 xx"]
    assert not any("GOLD" in turns for turns in asked)
    last = rows_of(run.path("generation", "accepted.jsonl"))[-1]
    assert [message["content"] for message in last["messages"]] == [*max(asked, key=len), "answer 5"]
    assert last["trained_turns"] == [1, 3, 5]


def test_a_turn_is_asked_after_the_whole_turn_before_it(tmp_path):
    run = open_run(tmp_path)
    lengths = []

    def answer(request: Request) -> str:
        lengths.append(len(request.messages))
        return "Fine."

    generate(run, answer, conversations(30))
    assert lengths == sorted(lengths)


def test_a_dropped_turn_ends_its_conversation_and_the_turns_before_it_are_kept(tmp_path):
    run = open_run(tmp_path)

    def answer(request: Request) -> str:
        return "I can't help with that." if len(request.messages) == 3 else "Fine."

    summary = generate(run, answer, conversations(3))
    first, second, third = rows_of(run.path("generation", "accepted.jsonl"))
    assert [row["trained_turns"] for row in (first, second, third)] == [[1], [1], [1]]
    assert len(third["messages"]) == 2
    assert [(row["id"], row["turn"]) for row in rows_of(run.path("generation", "rejected.jsonl"))] == [("train-1", 1), ("train-2", 1)]
    assert summary.startswith("3 rows: 3 kept, 2 dropped (refusal 2)")


def test_a_step_knows_whether_its_row_goes_on(tmp_path):
    run = open_run(tmp_path)
    task = build_task(run.spec.task)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        interview = interview_of(run, task, EchoModel(), ledger)
        steps = [interview.step(row, 1) for row in conversations(9)]
    assert [step.last for step in steps] == [True, False, False] * 3


def test_progress_ends_at_its_total_in_every_turn(tmp_path):
    events = []
    run = Run(open_run(tmp_path).spec, tmp_path, EventLog(listeners=(events.append,)))
    generate_by(run, SlowTeacher(), conversations(40))
    last = {event.task: event for event in events if isinstance(event, Progressed)}
    assert [(task, event.done == event.total) for task, event in last.items()] == [
        ("teacher answers", True),
        ("teacher answers, step 2", True),
        ("teacher answers, step 3", True),
    ]


def test_the_teacher_is_closed_also_when_it_fails(tmp_path):
    class Broken(SlowTeacher):
        async def complete(self, requests):
            raise ModelError("broken")

    broken, whole = Broken(), SlowTeacher()
    with pytest.raises(ModelError, match="broken"):
        run_generation(tmp_path, broken)
    run_generation(tmp_path, whole)
    assert broken.closed
    assert whole.closed


def test_a_run_that_was_made_already_asks_nothing_and_writes_the_same(tmp_path):
    first, second = (tmp_path / "log1"), (tmp_path / "log2")
    summary = run_generation(tmp_path, SlowTeacher(log=first))
    before = {name: (tmp_path / "generation" / name).read_bytes() for name in FILES}
    assert run_generation(tmp_path, SlowTeacher(log=second)) == summary
    assert {name: (tmp_path / "generation" / name).read_bytes() for name in FILES} == before
    assert first.exists()
    assert not second.exists()


def test_another_system_prompt_is_another_question(tmp_path):
    for instruction in ("Be brief.", "Be very brief."):
        generate(open_run(tmp_path, task={"type": "summarization", "instruction": instruction}), lambda _: "Fine.", [summarise("a")])
    with Ledger(tmp_path / "generation" / "ledger.sqlite") as ledger:
        assert ledger.usage().answered == 2


def prepared(folder: Path, **changes: object) -> Run:
    run = open_run(folder, **{"task": {"type": "summarization"}, **changes})
    for split in ("train", "validation", "test"):
        write_jsonl(run.path("data", f"{split}.jsonl"), (summarise(f"{split} {n}", number=n).to_json() for n in range(3)))
    record = run.stage("data")
    record.begin({})
    record.finish({}, [run.path("data", f"{split}.jsonl") for split in ("train", "validation", "test")])
    return run


def test_the_stage_works_on_a_prepared_run_and_its_outputs_stand(tmp_path):
    run = prepared(tmp_path)
    assert stage.work(run, False).startswith("6 rows: 6 kept, 0 dropped, ")
    assert all(path.exists() for path in stage.outputs(run))
    assert [row["messages"][-1]["content"] for row in rows_of(tmp_path / "generation" / "accepted.jsonl")] == [
        "train 0",
        "train 1",
        "train 2",
    ]


def test_inputs_change_with_what_the_answers_depend_on_and_with_nothing_else(tmp_path):
    base = stage.inputs(prepared(tmp_path / "a"))
    assert stage.inputs(prepared(tmp_path / "a")) == base
    for changes in ({"seed": 8}, {"gates": {"refusal": False}}, {"teacher": {"model": "echo", "temperature": 0.5}}):
        assert stage.inputs(prepared(tmp_path / "a", **changes)) != base
    for changes in ({"teacher": {"model": "echo", "timeout_s": 5.0}}, {"generation": {"concurrency": 3}}, {"training": {"epochs": 9.0}}):
        assert stage.inputs(prepared(tmp_path / "a", **changes)) == base


def test_inputs_change_with_the_teacher_s_files(tmp_path):
    weights = tmp_path / "teacher"
    write_json(weights / "config.json", {"layers": 2})
    changes = {"teacher": {"model": str(weights)}}
    before = stage.inputs(prepared(tmp_path / "run", **changes))
    write_json(weights / "config.json", {"layers": 12})
    assert stage.inputs(prepared(tmp_path / "run", **changes)) != before


def test_inputs_change_with_what_the_chat_template_says(tmp_path):
    template = tmp_path / "chat.jinja"
    template.write_text("{{ messages }}")
    changes = {"teacher": {"model": "echo", "chat_template": str(template)}}
    before = stage.inputs(prepared(tmp_path / "run", **changes))
    template.write_text("{{ messages[0] }}")
    assert stage.inputs(prepared(tmp_path / "run", **changes)) != before


def test_the_test_split_is_not_among_the_inputs(tmp_path):
    assert "data/test.jsonl" not in stage.inputs(prepared(tmp_path))["files"]


GO_ON = {"when_reached": "go_on"}


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        ({"generation": {"budget": {**GO_ON, "calls": 5}}}, {"generation": {"budget": {**GO_ON, "calls": 9}}}),
        ({}, {"data": {"train": "train.jsonl", "test_duplicates": "allow", "near_duplicate": 0.5}}),
        ({}, {"data": {"train": "train.jsonl", "test_duplicates": "drop"}}),
    ],
)
def test_inputs_change_with_what_decides_which_rows_are_asked(tmp_path, base, changes):
    assert stage.inputs(prepared(tmp_path, **base)) != stage.inputs(prepared(tmp_path, **changes))


def test_a_cap_that_stops_the_run_is_not_among_the_inputs(tmp_path):
    few, many = ({"generation": {"budget": {"calls": calls}}} for calls in (5, 9))
    assert stage.inputs(prepared(tmp_path, **few)) == stage.inputs(prepared(tmp_path, **many))


@pytest.mark.parametrize(
    "name",
    [
        "potstill.tasks.prompting.direct.Direct.version",
        "potstill.generation.stage.EXPAND_VERSION",
        "potstill.generation.stage.JUDGE_VERSION",
    ],
)
def test_inputs_change_with_the_versions_of_what_makes_and_judges_the_rows(tmp_path, monkeypatch, name):
    before = stage.inputs(prepared(tmp_path))
    monkeypatch.setattr(name, "another")
    assert stage.inputs(prepared(tmp_path)) != before


def test_inputs_change_with_a_gate_s_version(tmp_path, monkeypatch):
    before = stage.inputs(prepared(tmp_path))
    monkeypatch.setitem(GATES["refusal"].judge.__globals__, "VERSION", 99)
    assert stage.inputs(prepared(tmp_path)) != before


def test_inputs_change_with_recorded_answers_and_with_the_judge_s_files(tmp_path):
    recorded, weights = tmp_path / "answers.jsonl", tmp_path / "judge"
    recorded.write_text("{}\n")
    write_json(weights / "config.json", {"layers": 2})
    changes = {"teacher": {"replay": str(recorded)}, "generation": {"judge": {"model": str(weights)}}}
    before = stage.inputs(prepared(tmp_path / "run", **changes))
    recorded.write_text("[]\n")
    after = stage.inputs(prepared(tmp_path / "run", **changes))
    assert after != before
    write_json(weights / "config.json", {"layers": 12})
    assert stage.inputs(prepared(tmp_path / "run", **changes)) != after


EVENED = {
    "task": {"type": "nli", "labels": ["yes", "no"]},
    "generation": {"balance": {"by": "label", "to": 4, "how": "ask"}, "budget": GO_ON},
}


def rare_or_answer(request: Request) -> str:
    """New prompts that differ in every word, and the label that a prompt names."""
    asked = request.messages[-1].content
    if request.prompt_version == EXPAND_VERSION:
        return f"no {' '.join(f'w{request.sample}x{n}' for n in range(12))}"
    return "no" if "no " in asked else "yes"


def test_a_cap_that_ends_the_topping_up_loses_no_row_that_was_paid_for(tmp_path, monkeypatch):
    asked = []

    def ask_and_stop(interview, rows, count, log, **settings):
        ask_rows(interview, rows, count, log, **settings)
        asked.append(count)
        if len(asked) > 1:
            raise BudgetError("the cap is reached")

    monkeypatch.setattr(stage, "ask_rows", ask_and_stop)
    train = [summarise(f"{'no' if n < 2 else 'yes'} question {n} {n * 7}", number=n) for n in range(6)]
    generate(open_run(tmp_path, **EVENED), rare_or_answer, train)
    rows = rows_of(tmp_path / "generation" / "accepted.jsonl")
    assert asked[1] > asked[0]
    assert sum("~even-" in row["id"] for row in rows) == asked[1] - asked[0]


def test_new_prompts_of_an_attempt_that_was_cut_off_are_not_left_to_a_run_without_them(run):
    write_jsonl(run.path("generation", "expanded.jsonl"), iter([summarise("new", number=9).to_json()]))
    generate(run, lambda _: "Fine.", [summarise("a")])
    assert len(stage.with_new_rows(run, [summarise("a")])) == 1


def test_every_dropped_answer_is_written_down_and_the_one_that_decided_is_marked(tmp_path):
    run = open_run(
        tmp_path,
        task={"type": "nli", "labels": ["yes", "no"]},
        generation={"samples": 2, "choose": "first"},
        teacher={"model": "echo", "temperature": 1.0},
    )
    texts = {"a": ("well", "yes"), "b": ("well", "hm")}
    summary = generate(
        run, lambda asked: texts[asked.messages[-1].content][asked.sample], [summarise(t, number=n) for n, t in enumerate("ab")]
    )
    dropped = [(row["id"], row["text"], row["gate"], row["decided"]) for row in rows_of(run.path("generation", "rejected.jsonl"))]
    assert dropped == [("row-0", "well", "format", False), ("row-1", "well", "format", False), ("row-1", "hm", "format", True)]
    assert "1 dropped (format 1)" in summary


def test_labels_before_the_gates_are_those_that_the_teacher_gave(tmp_path):
    run = open_run(tmp_path, task={"type": "nli", "labels": ["yes", "no"]}, gates={"gold": True})
    texts = {"a": "yes", "b": "yes", "c": "no"}
    rows = [summarise(text, reference="yes", number=number) for number, text in enumerate(texts)]
    generate(run, lambda asked: texts[asked.messages[-1].content], rows)
    described = read_json(run.path("generation", "description.json"))
    assert described["before_the_gates"]["label"] == {"yes": 2, "no": 1}
    assert described["after_the_gates"]["label"] == {"yes": 2}


def test_a_run_that_goes_on_counts_the_calls_of_the_minute_before_for_its_rates(tmp_path):
    with Punctual("Short.") as server:
        teacher = {"model": "m", "base_url": server.base_url, "requests_per_minute": 6}
        run = open_run(tmp_path, task={"type": "summarization"}, teacher=teacher)
        model = load_teacher(run.spec.teacher, run.spec.generation)
        times = leave_calls(run.ledger_path, run.spec.name, model.identity, 4)
        generate_by(run, model, [summarise(f"Text {number}.", number=number) for number in range(5)])
    assert most_in_a_minute(times + server.times) == 6
