"""What holds for every task type."""

import subprocess
import sys
from dataclasses import replace
from typing import get_args

import pytest

from potstill.data.checks import letter_check
from potstill.generation.balance import label_of
from potstill.records import Example, Message
from potstill.spec.sections import TaskSpec, TaskType
from potstill.tasks import TASKS, Task, build_task
from potstill.tasks.metrics import METRICS, Prediction, build_metric, score

LABELS = ("yes", "no")
SPECS = {
    "nli": TaskSpec(type="nli", labels=LABELS),
    "conversation": TaskSpec(type="conversation"),
    "extractive": TaskSpec(type="qa", answer="extractive"),
    "open": TaskSpec(type="qa", answer="open"),
    "choice": TaskSpec(type="qa", answer="choice"),
    "math": TaskSpec(type="math"),
    "summarization": TaskSpec(type="summarization"),
    "translation": TaskSpec(type="translation"),
}
ANSWERS = {"nli": "yes", "choice": "B", "math": "15"}


def row(*turns: str, **known: object) -> Example:
    """Turns in the order user, assistant, user, ..."""
    roles = ("user", "assistant")
    return replace(Example("x", tuple(Message(roles[place % 2], text) for place, text in enumerate(turns))), **known)


@pytest.fixture(params=sorted(SPECS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def task(kind: str) -> Task:
    return build_task(SPECS[kind])


def test_every_type_of_the_spec_has_a_task() -> None:
    assert set(TASKS) == set(get_args(TaskType)) == {spec.type for spec in SPECS.values()}


def test_a_tasks_metrics_and_its_agreement_can_be_built(task: Task) -> None:
    labels = LABELS if task.type == "nli" else ()
    for name in (*task.metrics, task.agreement):
        assert name in METRICS
        assert build_metric(name, labels).name == name


def test_a_task_carries_the_name_and_the_limit_of_its_spec(kind: str) -> None:
    assert build_task(SPECS[kind]).type == SPECS[kind].type
    assert build_task(SPECS[kind]).max_new_tokens > 0
    assert build_task(SPECS[kind].model_copy(update={"max_new_tokens": 7})).max_new_tokens == 7


def test_the_instruction_stands_in_front_where_a_row_has_no_system_prompt(kind: str) -> None:
    task = build_task(SPECS[kind].model_copy(update={"instruction": "Be brief."}))
    assert task.render(row("Hello?")) == (Message("system", "Be brief."), Message("user", "Hello?"))


def test_a_rows_own_system_prompt_is_left_alone(kind: str) -> None:
    task = build_task(SPECS[kind].model_copy(update={"instruction": "Be brief."}))
    messages = (Message("system", "Be kind."), Message("user", "Hello?"))
    assert task.render(Example("x", messages)) == messages


def test_rendering_what_was_rendered_changes_nothing(kind: str) -> None:
    task = build_task(SPECS[kind].model_copy(update={"instruction": "Be brief."}))
    once = task.render(row("Hello?"))
    assert once is not None
    assert task.render(Example("x", once)) == once


def test_only_nli_adds_an_instruction_of_its_own(kind: str, task: Task) -> None:
    assert (task.render(row("Hello?")) == (Message("user", "Hello?"),)) == (kind != "nli")


def test_nothing_is_left_to_ask_after_the_only_question(task: Task) -> None:
    assert task.render(row("Hello?"), ["yes"]) is None


def test_few_shot_examples_of_a_row_stay_in_its_prompt(kind: str, task: Task) -> None:
    rendered = task.render(row("2+2?", "4", "3+3?"))
    assert rendered is not None
    assert (Message("assistant", "4") in rendered) == (kind != "conversation")


@pytest.mark.parametrize("text", ["", "  \n", "<think>so", "<think>B, yes, 15</think> "])
def test_a_reply_without_an_answer_is_not_parsed(task: Task, text: str) -> None:
    assert task.parse(text) is None


def test_reasoning_in_front_is_not_part_of_the_answer(kind: str, task: Task) -> None:
    answer = ANSWERS.get(kind, "It is blue")
    assert task.parse(f"<think>no, A, 14</think>\n\n{answer}\n") == answer
    assert task.parse(f"no, A, 14</think>\n\n{answer}") == answer


def test_parsing_an_answer_again_changes_nothing(kind: str, task: Task) -> None:
    answer = task.parse(ANSWERS.get(kind, '  "It is blue"  '))
    assert answer is not None
    assert task.parse(answer) == answer


def test_expanding_keeps_what_is_known_of_a_row(task: Task) -> None:
    example = row("Hello?", reference=("yes",), group="g", tags=("t",))
    (question,) = task.expand(example)
    assert (question.reference, question.group, question.tags) == (("yes",), "g", ("t",))
    assert task.render(question) == task.render(example)


def test_expanding_twice_changes_nothing_more(task: Task) -> None:
    once = task.expand(row("Hello?", reference=("yes",)))
    assert [question for part in once for question in task.expand(part)] == once


def test_gold_answers_parsed_as_a_reply_are_right(kind: str, task: Task) -> None:
    gold = ANSWERS.get(kind, "It is a rather blue sky")
    (question,) = task.expand(row("Is it the case? It is a rather blue sky", reference=(gold,)))
    assert task.verify(question, gold) is None
    metric = build_metric(task.metrics[0], LABELS)
    best = {"share": 1.0, "points": 100.0}[metric.unit]
    assert score(metric, [Prediction(task.parse(gold), question.reference)]) == pytest.approx(best)


def test_free_text_is_never_provably_wrong() -> None:
    for kind in ("conversation", "open", "summarization", "translation"):
        assert build_task(SPECS[kind]).verify(row("Hello?", reference=("a",)), "something else") is None


def test_importing_tasks_loads_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "rouge_score", "sacrebleu", "math_verify", "sympy", "nltk"}
    code = f"import sys, potstill.tasks, potstill.tasks.metrics; sys.exit(str({heavy} & set(sys.modules) or '') or 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


SCHEMA = {"type": "object", "properties": {"label": {"enum": ["yes", "no"]}}, "required": ["label"], "additionalProperties": False}


@pytest.mark.parametrize(
    ("reply", "label"),
    [
        ('{"label": "yes"}', "yes"),
        ('<think>Hm, {"label": "no"}?</think>{"label": "yes"}', "yes"),
        ('It is {"label": "no"}.', "no"),
        ("yes", None),
        ('{"label": "maybe"}', None),
        ('{"label": "yes", "why": "no idea"}', None),
        ('{"label": "yes"} or {"label": "no"}', None),
    ],
)
def test_an_answer_of_a_task_with_a_schema_is_read_from_json_that_obeys(reply: str, label: str | None) -> None:
    assert build_task(TaskSpec(type="nli", labels=LABELS, answer_schema=SCHEMA)).parse(reply) == label


def test_references_of_a_task_with_a_schema_need_not_obey_it() -> None:
    task = build_task(TaskSpec(type="nli", labels=LABELS, answer_schema=SCHEMA))
    [question] = task.expand(row("Well?", reference=("Yes.",)))
    assert question.reference == ("yes",)
    assert label_of(row("Well?", reference=("Yes.",)), task) == "yes"
    assert letter_check(TaskSpec(type="qa", answer="choice", answer_schema=SCHEMA))(row("Well? A: it B: that", reference=("B",)))
