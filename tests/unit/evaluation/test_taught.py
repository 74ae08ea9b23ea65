"""The teacher is asked as it taught: its prompting, its examples, its room for reasons; all others are asked the plain question."""

import pytest
from examined import run_to_examine

from potstill.evaluation import stage
from potstill.evaluation.latency import Timed, describe
from potstill.evaluation.predict import Reply
from potstill.evaluation.systems import whole_question
from potstill.models.testing import OpenAIStub
from potstill.records import Completion, Example, Message, Usage
from potstill.store.atomic import read_json, read_jsonl
from potstill.store.ledger import Ledger
from tiny import tiny_llama

TRUTH = {"the sea is wet": "yes", "fire is cold": "no", "snow is white": "yes", "fish can fly a plane": "no"}
REASONING = {"strategy": "chain_of_thought", "reasoning_tokens": 40}


def rows(prefix):
    return [
        Example(f"{prefix}-{place}", (Message("user", text),), reference=(label,), rationale="Everybody knows.")
        for place, (text, label) in enumerate(TRUTH.items())
    ]


def needs_reasons(payload):
    """A teacher that knows the answers where it may give its reasons, and talks past the question where it may not."""
    words = [message["content"] for message in payload["messages"]]
    if "step by step" not in words[0]:
        return "Hard to say without thinking."
    return f"Let me see. I know such things.\nAnswer: {TRUTH[words[-1]]}"


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("models") / "student", layers=1)


def make_run(folder, student, teacher, *, prompting=REASONING, test=None, evaluation=None, **sections):
    generation = {"prompting": prompting}
    found = test or rows("test")
    return run_to_examine(
        folder, student, found, train=rows("train"), teacher=teacher, generation=generation, evaluation=evaluation or {}, **sections
    )


def teacher_of(stub, **more):
    return {"model": "m", "base_url": stub.base_url, **more}


def accuracy(run, system="teacher"):
    return read_json(run.path("evaluation", "scores.json"))["systems"][system]["scores"]["accuracy"]["value"]


def test_a_teacher_that_needs_its_reasons_is_given_room_for_them_and_scores_what_it_knows(tmp_path, student):
    with OpenAIStub(needs_reasons) as stub:
        run = make_run(tmp_path, student, teacher_of(stub))
        stage.work(run, resumed=False)
    assert accuracy(run) == 1.0
    assert {call["max_tokens"] for call in stub.calls} == {44}
    assert {call["temperature"] for call in stub.calls} == {0.0}
    [first, *_] = read_jsonl(run.path("evaluation", "predictions", "teacher.jsonl"))
    assert first["answer"] == "yes"
    assert first["text"].startswith("Let me see."), "what it wrote is kept as it came"


def test_the_plain_question_is_put_where_the_spec_asks_for_that(tmp_path, student):
    with OpenAIStub(needs_reasons) as stub:
        run = make_run(tmp_path, student, teacher_of(stub), evaluation={"teacher_prompting": "plain"})
        stage.work(run, resumed=False)
    assert accuracy(run) == 0.0
    assert {call["max_tokens"] for call in stub.calls} == {4}
    assert all("step by step" not in message["content"] for call in stub.calls for message in call["messages"])


def test_worked_examples_stand_before_the_teacher_s_question_and_before_no_other_s(tmp_path, student):
    with OpenAIStub(lambda payload: TRUTH[payload["messages"][-1]["content"]]) as stub:
        run = make_run(tmp_path, student, teacher_of(stub), prompting={"examples": 2}, evaluation={"systems": ["teacher", "student"]})
        stage.work(run, resumed=False)
    assert {len(call["messages"]) for call in stub.calls} == {6}, "the system prompt, two examples of two turns, the question"
    with Ledger(run.path("evaluation", "ledger.sqlite")) as ledger:
        asked = {len(request.messages) for _, request, completion in ledger.answers() if completion.model == str(run.path("training/best"))}
    assert asked == {2}


def test_rounds_are_asked_one_after_the_other_and_the_last_is_the_answer(tmp_path, student):
    def round_of(payload):
        return f"Round {sum(message['role'] == 'user' for message in payload['messages'])}."

    with OpenAIStub(round_of) as stub:
        summaries = [Example(str(n), (Message("user", f"text {n}"),), reference=("Round 3.",)) for n in range(4)]
        run = make_run(
            tmp_path,
            student,
            teacher_of(stub),
            prompting={"strategy": "chain_of_density", "rounds": 3},
            task={"type": "summarization"},
            test=summaries,
        )
        stage.work(run, resumed=False)
    found = read_json(run.path("evaluation", "scores.json"))
    assert found["systems"]["teacher"]["scores"]["rouge_l"]["value"] == 1.0
    together = 4 * 16 * 3
    assert len(stub.calls) == 4 * 3 + 1 + 2 * 3 + together, "each question in three rounds, a warm-up, two on the clock, levels of sixteen"
    assert [level["n"] for level in found["timings"]["teacher"]["throughput"]] == [2, 16, 16, 16, 16], "requests are questions, not rounds"
    assert found["timings"]["teacher"]["n"] == 2
    assert found["timings"]["teacher"]["tokens_per_answer"] == 6.0, "an answer on the clock is all its rounds"
    read = sum(len(message["content"].split()) for call in stub.calls[:12] for message in call["messages"])
    assert found["systems"]["teacher"]["tokens_per_request"] == {"read": read / 4, "written": 6.0}, "and so is what is paid for"


def test_tokens_of_a_question_are_not_known_where_those_of_one_of_its_calls_are_not():
    completion = Completion("a", "stop", Usage(5, 2))
    assert Reply(completion, "a").usage == Usage(5, 2)
    assert Reply(completion, "a", usages=(Usage(3, 1), Usage(5, 2))).usage == Usage(8, 3)
    assert Reply(completion, "a", usages=(Usage(), Usage(5, 2))).usage is None


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_the_rate_of_writing_does_not_depend_on_how_many_calls_a_question_takes(rounds):
    wholes = [whole_question([Timed(read + 10 / 25.0, 11, read)] * rounds) for read in (0.1, 0.5)]
    assert describe(wholes)["tokens_per_s"] == pytest.approx(25.0)
    whole = wholes[1]
    assert (whole.seconds, whole.tokens) == (pytest.approx(0.9 * rounds), 11 * rounds)
    assert whole.first_s == pytest.approx(0.9 * (rounds - 1) + 0.5), "the first token that counts is the last call's"


def test_reasons_that_nothing_tells_from_the_answer_are_no_answer(tmp_path, student):
    with OpenAIStub(lambda payload: "The sea is made of water, so it is wet.") as stub:
        run = make_run(tmp_path, student, teacher_of(stub), task={"type": "qa", "answer": "open"})
        stage.work(run, resumed=False)
    assert read_json(run.path("evaluation", "scores.json"))["systems"]["teacher"]["unparsable"] == 4


def test_a_second_evaluation_asks_the_teacher_nothing(tmp_path, student):
    with OpenAIStub(needs_reasons) as stub:
        run = make_run(tmp_path, student, teacher_of(stub))
        stage.work(run, resumed=False)
        before = len(stub.calls)
        stage.work(run, resumed=True)
    assert len(stub.calls) == before


@pytest.mark.parametrize(
    ("prompting", "evaluation", "differs"),
    [
        ({}, {}, False),
        ({"version": "b", "learn": "both"}, {}, False),
        ({"instruction": "Be brief."}, {}, True),
        ({"examples": 2}, {}, True),
        (REASONING, {}, True),
        (REASONING, {"teacher_prompting": "plain"}, False),
    ],
)
def test_inputs_hold_the_teacher_s_prompting_where_it_matters(tmp_path, student, prompting, evaluation, differs):
    run = make_run(tmp_path, student, {"model": "echo"}, prompting=prompting, evaluation=evaluation)
    assert run.spec.examined_as_taught is differs
    assert ("taught" in stage.inputs(run)) is differs


def test_a_local_teacher_s_hours_are_paid_in_the_evaluation_too(tmp_path, student):
    teacher = {"model": str(student), "price": {"per_gpu_hour": 3600.0}}
    run = make_run(tmp_path, student, teacher, prompting={})
    stage.work(run, resumed=False)
    with Ledger(run.path("evaluation", "ledger.sqlite"), run="teacher") as ledger:
        spent, seconds = ledger.dollars(), ledger.seconds_asked()
    assert spent == pytest.approx(seconds, rel=0.5)
    assert spent > 0
