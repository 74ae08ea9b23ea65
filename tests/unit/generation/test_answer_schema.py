"""Answers that obey a schema: endpoints are held to it, and what breaks it is dropped."""

from pathlib import Path

from slow_teacher import generate_by, open_run

from potstill.evaluation.predict import build_questions, greedy_requests
from potstill.models.load import load_model
from potstill.models.testing import OpenAIStub
from potstill.records import Example, Message
from potstill.store.atomic import read_jsonl
from potstill.tasks import build_task

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
ROWS = [Example(name, (Message("user", name),)) for name in ('{"n": 1}', '{"n": "one"}', "one")]


def test_the_call_carries_the_schema_and_an_answer_that_breaks_it_is_dropped_by_format(tmp_path: Path) -> None:
    run = open_run(tmp_path, task={"type": "summarization", "answer_schema": SCHEMA})
    with OpenAIStub() as stub:
        generate_by(run, load_model(stub.base_url, model="stub"), ROWS)
        asked = [call["response_format"]["json_schema"]["schema"] for call in stub.calls]
    assert asked == [SCHEMA] * 3
    assert [row["id"] for row in read_jsonl(run.path("generation", "accepted.jsonl"))] == [ROWS[0].id]
    dropped = {row["id"]: (row["gate"], row["code"]) for row in read_jsonl(run.path("generation", "rejected.jsonl"))}
    assert dropped == {ROWS[1].id: ("format", "schema"), ROWS[2].id: ("format", "json")}


def test_every_system_is_examined_by_the_same_schema() -> None:
    task = build_task(open_run(Path(), task={"type": "summarization", "answer_schema": SCHEMA}).spec.task)
    requests = greedy_requests(task, build_questions(task, ROWS))
    assert {request.schema for request in requests} == {task.schema}
    assert task.schema is not None
