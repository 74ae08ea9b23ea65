"""Which questions choose the checkpoint, and what counts as right."""

import pytest

from potstill.records import Completion, Example, Message, Sampling
from potstill.spec.sections import TaskSpec
from potstill.tasks import build_task
from potstill.tasks.metrics import build_metric
from potstill.training.validation import Question, Validation, pick_questions

TASK = build_task(TaskSpec(type="summarization"))


def gold(number, *reference):
    return Example(f"r{number}", (Message("user", f"text {number}"),), reference=reference)


def answered(number, text):
    return Example(f"r{number}", (Message("user", f"text {number}"), Message("assistant", text)), trained_turns=(1,))


def references(questions):
    return {question.messages[-1].content.split()[-1]: question.references for question in questions}


def test_gold_references_come_before_the_teachers_answers():
    found = pick_questions(TASK, [gold(0, "gold"), gold(1)], [answered(0, "teacher"), answered(1, "teacher")], limit=9, seed=0)
    assert references(found) == {"0": ("gold",), "1": ("teacher",)}


def test_rows_without_either_are_passed_over():
    assert references(pick_questions(TASK, [gold(0), gold(1, "x")], [], limit=9, seed=0)) == {"1": ("x",)}
    assert pick_questions(TASK, [gold(0)], [gold(0)], limit=9, seed=0) == ()
    assert pick_questions(TASK, [], [], limit=9, seed=0) == ()


def test_so_many_rows_are_drawn_by_the_seed_and_keep_their_order():
    rows = [gold(number, "x") for number in range(50)]
    drawn = [[*references(pick_questions(TASK, rows, [], limit=10, seed=seed))] for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(found) for found in drawn] == [10, 10, 10]
    assert drawn[0] == sorted(drawn[0], key=int)


def test_each_turn_of_a_conversation_is_a_question_with_its_own_reference():
    task = build_task(TaskSpec(type="conversation"))
    turns = tuple(Message(role, text) for role, text in [("user", "a 1"), ("assistant", "one"), ("user", "b 2"), ("assistant", "two")])
    found = pick_questions(task, [Example("c", turns)], [Example("c", turns, trained_turns=(1, 3))], limit=9, seed=0)
    assert references(found) == {"1": ("one",), "2": ("two",)}


class Parrot:
    """Answers with the last word of the question; shorter questions are asked first; "x" has no room."""

    batch_size = 2

    def __init__(self):
        self.batches = []

    def length(self, request):
        return len(request.messages[-1].content)

    async def complete(self, requests):
        words = [request.messages[-1].content.split()[-1] for request in requests]
        self.batches.append(words)
        return [Completion(word, "error" if word == "x" else "stop") for word in words]


def test_answers_are_matched_to_their_questions_whatever_the_order_of_asking():
    texts = ["a long question cat", "dog", "a word bird", "x"]
    questions = tuple(Question((Message("user", text),), (text.split()[-1],)) for text in texts)
    parrot = Parrot()
    value = Validation(questions, str.strip, build_metric("rouge_l"), Sampling(max_new_tokens=4)).measure(parrot)
    assert value == pytest.approx(3 / 4), "a question that cannot be asked is wrong"
    assert parrot.batches == [["x", "dog"], ["bird", "cat"]]
