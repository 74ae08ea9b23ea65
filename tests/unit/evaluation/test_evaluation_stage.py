import json
import shutil

import pytest

from minute import Punctual, leave_calls, most_in_a_minute
from potstill.errors import DataError, ModelError, SpecError
from potstill.evaluation import stage
from potstill.evaluation.predict import build_questions
from potstill.evaluation.resampling import Bootstrap
from potstill.evaluation.score import evaluate_model
from potstill.evaluation.sealed import open_rows
from potstill.models.echo import EchoModel
from potstill.models.load import load_teacher
from potstill.models.testing import OpenAIStub, refused
from potstill.models.testing_streams import Streaming
from potstill.records import Completion, Example, Message
from potstill.report.gather import gather_report
from potstill.report.table import comparison_table, headline
from potstill.spec import TaskSpec, spec_from_dict
from potstill.store.atomic import read_json, read_jsonl, write_json, write_jsonl
from potstill.store.events import Noticed, Progressed
from potstill.store.ledger import Ledger
from potstill.store.run import open_run
from potstill.store.seal import seal_to_json
from potstill.tasks import build_task
from potstill.tasks.metrics import build_metric
from tiny import edit_json, tiny_llama

QUESTIONS = [
    "What is the capital of France?",
    "Summarise the text below",
    "0 1 2 3",
    "the dog does not mind",
    "sorted list of names",
    "newest first",
    "def add(a, b)",
    "positive or negative",
    "card lost",
    "exchange rate",
]

ECHO = {"model": "echo"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a baseline and a student, different ones."""
    folder = tmp_path_factory.mktemp("models")
    return {"baseline": tiny_llama(folder / "baseline", layers=2, seed=1), "best": tiny_llama(folder / "best", layers=2, seed=2)}


def rows(references=True, groups=(None,)):
    return [
        Example(str(index), (Message("user", text),), reference=(text,) if references else (), group=groups[index % len(groups)])
        for index, text in enumerate(QUESTIONS)
    ]


def make_run(folder, models, test=None, teacher=ECHO, listeners=(), *, generation=None, **evaluation):
    """A run whose earlier stages are done."""
    raw = {
        "name": "tiny",
        "task": {"type": "summarization", "max_new_tokens": 6},
        "data": {"train": "train.jsonl"},
        "teacher": teacher,
        "student": {"model": str(models["best"])},
        "evaluation": {"resamples": 200, "latency_rows": 2, "concurrency": [1, 2], "throughput_rows": 2, **evaluation},
        "generation": generation or {},
        "seed": 3,
    }
    run = open_run(spec_from_dict(raw, folder), folder, tuple(listeners))
    write_jsonl(folder / "data" / "test.jsonl", (example.to_json() for example in (rows() if test is None else test)))
    for name, source in models.items():
        shutil.copytree(source, folder / "training" / name)
    write_json(folder / "data" / "manifest.json", {"rows": {"test": 5}, "sources": {"train": {"path": "/home/somebody/train.jsonl"}}})
    write_json(folder / "generation" / "usage.json", {"rows": {}})
    write_json(folder / "training" / "summary.json", {"steps": 2, "seconds": 1.0})
    run.stage("data").finish({}, [folder / "data" / "test.jsonl", folder / "data" / "manifest.json"])
    run.stage("train").finish({}, [folder / "training" / name / "model.safetensors" for name in models])
    return run


def scores_of(run):
    return read_json(run.path("evaluation", "scores.json"))


def without_timings(scores):
    return {key: value for key, value in scores.items() if key != "timings"}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, models):
    """A run with the echo as its teacher, evaluated; and the events of it."""
    events = []
    run = make_run(tmp_path_factory.mktemp("run"), models, listeners=[events.append])
    return run, stage.work(run, resumed=False), events


def test_every_system_is_scored_on_every_question_with_interval(evaluated):
    run, _, _ = evaluated
    scores = scores_of(run)
    assert list(scores["systems"]) == ["teacher", "baseline", "student"]
    assert (scores["rows"], scores["scored"], scores["groups"], scores["settings"]["unit"]) == (10, 10, 10, "row")
    for system in scores["systems"].values():
        assert set(system["scores"]) == set(build_task(TaskSpec(type="summarization")).metrics)
        for score in system["scores"].values():
            assert score["n"] == 10
            assert score["interval"]["low"] <= score["value"] <= score["interval"]["high"]


def test_an_echo_of_the_reference_scores_all_and_the_student_keeps_its_share_of_that(evaluated):
    run, summary, _ = evaluated
    scores = scores_of(run)
    teacher, student = (scores["systems"][system]["scores"]["rouge_l"]["value"] for system in ("teacher", "student"))
    assert teacher == 1.0
    assert scores["comparisons"]["rouge_l"]["student"]["retention"]["value"] == pytest.approx(student)
    assert "teacher 1.000" in summary


def test_agreement_is_with_the_teachers_answers(evaluated):
    run, _, _ = evaluated
    agreement = scores_of(run)["agreement"]
    assert set(agreement["scores"]) == {"baseline", "student"}
    assert agreement["metric"] == "rouge_l"


def test_predictions_stand_line_by_line_beside_their_questions(evaluated):
    run, _, _ = evaluated
    asked = list(read_jsonl(run.path("evaluation", "questions.jsonl")))
    assert [question["messages"][-1]["content"] for question in asked] == QUESTIONS
    for system in ("teacher", "baseline", "student"):
        predictions = list(read_jsonl(run.path("evaluation", "predictions", f"{system}.jsonl")))
        assert [p["id"] for p in predictions] == [question["id"] for question in asked]
        assert set(predictions[0]) == {"id", "group", "text", "answer", "references", "finish_reason", "scores"}


def test_local_systems_are_measured_in_processes_of_their_own(evaluated):
    run, _, _ = evaluated
    scores = scores_of(run)
    assert scores["timings"]["teacher"]["where"] == "in this process"
    assert scores["timings"]["student"]["where"] == "in a process of its own"
    assert {timing["n"] for timing in scores["timings"].values()} == {2}
    student = scores["timings"]["student"]
    assert student["first_token_s"]["p95"] >= student["first_token_s"]["p50"] > 0
    assert len(student["latency_s"]["samples"]) == 2
    assert student["latency_s"]["p50"] == student["p50_s"]
    for timing in scores["timings"].values():
        assert [level["concurrency"] for level in timing["throughput"]] == ([1, 2] if timing is not scores["timings"]["teacher"] else [1])
        assert all(level["n"] == 2 and level["requests_per_s"] > 0 for level in timing["throughput"])
    assert scores["sizes"]["student"]["storage"] == "float32"
    assert scores["sizes"]["student"]["parameters"] > 0
    assert scores["sizes"]["teacher"] == dict.fromkeys(("parameters", "weights_bytes", "disk_bytes", "storage", "shipped_bytes"))


def test_all_outputs_are_there_and_progress_was_shown(evaluated):
    run, _, events = evaluated
    assert all(path.exists() for path in stage.outputs(run))
    shown = {event.task for event in events if isinstance(event, Progressed)}
    assert shown == {f"{system} {what}" for system in ("teacher", "baseline", "student") for what in ("answers", "latency")}


def test_a_second_evaluation_asks_nothing_again_and_gives_the_same_figures(evaluated):
    run, _, _ = evaluated
    before = without_timings(scores_of(run))
    stage.work(run, resumed=True)
    with Ledger(run.path("evaluation", "ledger.sqlite")) as ledger:
        assert ledger.usage().calls == 30
    assert without_timings(scores_of(run)) == before


def test_an_equal_run_elsewhere_gives_the_same_figures(evaluated, tmp_path, models):
    run, _, _ = evaluated
    fresh = make_run(tmp_path, models, systems=["student"])
    stage.work(fresh, resumed=False)
    assert scores_of(fresh)["systems"]["student"] == scores_of(run)["systems"]["student"]
    assert scores_of(fresh)["sizes"]["student"] == scores_of(run)["sizes"]["student"]


def test_the_report_reads_what_the_evaluation_wrote(evaluated):
    run, _, _ = evaluated
    report = gather_report(run)
    assert report["evaluation"] == without_timings(scores_of(run))
    assert len(comparison_table(report).columns) == 5
    assert "ROUGE-L" in headline(report)
    assert "/home/somebody" not in json.dumps(report)
    assert "seconds" not in report["training"]


def test_a_local_teacher_is_measured_alone_too(tmp_path, models, tiny_teacher):
    run = make_run(tmp_path, models, teacher={"model": str(tiny_teacher)}, systems=["teacher"])
    stage.work(run, resumed=False)
    scores = scores_of(run)
    assert scores["timings"]["teacher"]["where"] == "in a process of its own"
    assert scores["comparisons"]["rouge_l"] == {}
    assert scores["agreement"] is None


def test_an_endpoint_is_measured_over_the_wire_and_asked_what_the_others_are_asked(tmp_path, models):
    with OpenAIStub(faults=[refused(400, "filtered")], stream=Streaming(between_s=0.01)) as stub:
        run = make_run(tmp_path, models, teacher={"model": "m", "base_url": stub.base_url, "max_attempts": 1}, systems=["teacher"])
        stage.work(run, resumed=False)
    scores = scores_of(run)
    assert scores["timings"]["teacher"]["where"] == "over the wire"
    assert set(scores["sizes"]["teacher"].values()) == {None}
    assert scores["systems"]["teacher"]["failed"] == 1
    assert 0.01 < scores["timings"]["teacher"]["first_token_s"]["p50"] < scores["timings"]["teacher"]["p50_s"]
    assert "(over the wire)" in dict(zip(*time_to_first_token(run), strict=True))["teacher"]
    assert scores["systems"]["teacher"]["scores"]["rouge_l"]["n"] == 9
    assert {(call["temperature"], call["max_tokens"]) for call in stub.calls} == {(0.0, 6)}
    assert [call.get("stream", False) for call in stub.calls] == [False] * 10 + [True] * 3 + [False] * 2, "the clock alone asks for streams"


def time_to_first_token(run):
    """Columns and cells of that row of the table."""
    content = comparison_table(gather_report(run))
    return content.columns, next(cells for cells in content.rows if cells[0] == "time to first token")


def test_an_endpoint_that_does_not_stream_is_timed_in_whole_calls(tmp_path, models):
    with OpenAIStub(stream=None) as stub:
        run = make_run(tmp_path, models, teacher={"model": "m", "base_url": stub.base_url}, systems=["teacher"])
        stage.work(run, resumed=False)
    assert "first_token_s" not in scores_of(run)["timings"]["teacher"]
    assert scores_of(run)["timings"]["teacher"]["n"] == 2
    assert dict(zip(*time_to_first_token(run), strict=True))["teacher"] == "not measured"


def test_an_endpoint_s_throughput_is_measured_as_far_as_the_budget_goes_and_each_call_once(tmp_path, models):
    events = []
    with OpenAIStub(stream=Streaming(between_s=0.005)) as stub:
        teacher = {"model": "m", "base_url": stub.base_url, "price": {"input_per_million": 1.0, "output_per_million": 1.0}}
        more = {"concurrency": [1, 2, 4], "throughput_rows": 4}
        run = make_run(
            tmp_path, models, teacher=teacher, systems=["teacher"], generation={"budget": {"calls": 20}}, listeners=[events.append], **more
        )
        stage.work(run, resumed=False)
        first = scores_of(run)
        run.path("evaluation", "scores.json").unlink()
        stage.work(run, resumed=True)
    assert len(stub.calls) == 10 + 3 + 4, "questions, the clock, and the first level; the second passes the cap"
    assert [level["concurrency"] for level in first["timings"]["teacher"]["throughput"]] == [1, 2]
    assert scores_of(run) == first
    assert first["timings"]["teacher"]["over_the_wire"]
    assert first["timings"]["teacher"]["first_token_s"]
    assert any("4 calls in flight was not measured" in event.text for event in events if isinstance(event, Noticed))
    tokens = first["systems"]["teacher"]["tokens_per_request"]
    assert first["timings"]["teacher"]["dollars"] > 10 * (tokens["read"] + tokens["written"]) / 1e6


def test_recorded_answers_are_not_timed(tmp_path, models):
    answers = tmp_path / "answers.jsonl"
    write_jsonl(answers, ({"messages": [*example.to_json()["messages"], {"role": "assistant", "content": "a"}]} for example in rows()))
    run = make_run(tmp_path / "run", models, teacher={"replay": str(answers)}, systems=["teacher", "student"])
    stage.work(run, resumed=False)
    timings = scores_of(run)["timings"]
    assert timings["teacher"]["where"] == "recorded"
    assert "p50_s" not in timings["teacher"]
    assert timings["student"]["n"] == 2
    assert "not measured" in str(comparison_table(gather_report(run)).rows)


@pytest.mark.parametrize("where", ["generation", "evaluation"])
def test_what_was_asked_in_the_minute_before_counts_for_the_teacher_s_rates(tmp_path, models, where):
    with Punctual("Fine.") as server:
        teacher = {"model": "m", "base_url": server.base_url, "requests_per_minute": 16}
        run = make_run(tmp_path, models, teacher=teacher, systems=["teacher"])
        asked_by = {"generation": run.spec.name, "evaluation": "teacher"}[where]
        identity = load_teacher(run.spec.teacher, run.spec.generation).identity
        times = leave_calls(run.path(where, "ledger.sqlite"), asked_by, identity, 12)
        stage.work(run, resumed=False)
    assert most_in_a_minute(times + server.times) == 16


def narrow(models, folder):
    """The models with room for 60 tokens only."""
    for name, source in models.items():
        shutil.copytree(source, folder / name)
        edit_json(folder / name / "config.json", max_position_embeddings=60)
    return {name: folder / name for name in models}


def test_a_question_that_the_student_has_no_room_for_is_wrong_and_not_left_out(tmp_path, models):
    long = [Example(name, (Message("user", f"{name} text " * 60),), reference=(f"{name} text " * 60,)) for name in ("long", "longer")]
    run = make_run(tmp_path / "run", narrow(models, tmp_path / "narrow"), test=[*long, *rows()], latency_rows=4)
    stage.work(run, resumed=False)
    scores = scores_of(run)
    student, teacher = scores["systems"]["student"], scores["systems"]["teacher"]
    assert (student["unparsable"], student["no_room"], student["failed"]) == (2, 2, 0)
    assert {system["scores"]["rouge_l"]["n"] for system in scores["systems"].values()} == {scores["scored"]} == {12}
    assert teacher["scores"]["rouge_l"]["value"] < 1, "the echo is cut at the limit there"
    assert {timing["n"] for timing in scores["timings"].values()} == {4}, "timed are questions that all have answered"
    predictions = list(read_jsonl(run.path("evaluation", "predictions", "student.jsonl")))
    assert [prediction["finish_reason"] == "no_room" for prediction in predictions] == [True] * 2 + [False] * 10


def test_a_model_that_has_no_room_for_any_question_is_an_error(tmp_path, models):
    long = [Example("long", (Message("user", "long text " * 60),), reference=("x",))]
    run = make_run(tmp_path / "run", narrow(models, tmp_path / "narrow"), test=long, systems=["student"])
    with pytest.raises(ModelError, match="all 1 calls failed; the first: the prompt has"):
        stage.work(run, resumed=False)


def test_without_references_only_agreement_is_scored_and_said(tmp_path, models):
    events = []
    run = make_run(tmp_path, models, test=rows(references=False), listeners=[events.append], systems=["teacher", "student"])
    summary = stage.work(run, resumed=False)
    scores = scores_of(run)
    assert scores["primary"] is None
    assert scores["systems"]["student"]["scores"] == {}
    assert scores["agreement"]["scores"]["student"]["n"] == 10
    assert any("only agreement with the teacher" in event.text for event in events if isinstance(event, Noticed))
    assert summary.startswith("10 questions: agreement with the teacher")
    assert "agreement with its teacher" in headline(gather_report(run))


def test_a_metric_that_is_asked_for_needs_references(tmp_path, models):
    run = make_run(tmp_path, models, test=rows(references=False), metrics=["rouge_1"])
    with pytest.raises(DataError, match=r"rouge_1.*none of the 10 test questions has one; add references"):
        stage.work(run, resumed=False)


def test_neither_references_nor_a_teacher_is_an_error(tmp_path, models):
    run = make_run(tmp_path, models, test=rows(references=False), systems=["student"])
    with pytest.raises(DataError, match="reference"):
        stage.work(run, resumed=False)


def test_rows_with_a_reference_are_scored_and_the_others_are_told(tmp_path, models):
    events = []
    test = [*rows()[:3], *rows(references=False)[3:]]
    run = make_run(tmp_path, models, test=test, listeners=[events.append], systems=["teacher"])
    stage.work(run, resumed=False)
    assert scores_of(run)["systems"]["teacher"]["scores"]["rouge_l"]["n"] == 3
    assert any("7 of 10 test questions carry no `reference`" in event.text for event in events if isinstance(event, Noticed))


def test_no_rows_are_an_error(tmp_path, models):
    run = make_run(tmp_path, models, test=[])
    with pytest.raises(DataError, match="no rows to evaluate"):
        stage.work(run, resumed=False)


def test_groups_are_what_is_resampled(tmp_path, models):
    run = make_run(tmp_path, models, test=rows(groups=("a", "b")), systems=["teacher"])
    stage.work(run, resumed=False)
    assert scores_of(run)["groups"] == 2
    assert scores_of(run)["settings"]["unit"] == "group"


def test_inputs_change_with_weights_rows_and_settings_but_not_with_keys(tmp_path, models):
    run = make_run(tmp_path, models)
    before = stage.inputs(run)
    keyed = spec_from_dict(run.spec.model_dump(mode="json") | {"teacher": {"model": "echo", "timeout_s": 5.0, "max_attempts": 2}}, tmp_path)
    assert stage.inputs(open_run(keyed, tmp_path)) == before
    (tmp_path / "training" / "best" / "model.safetensors").write_bytes(b"other")
    run.stage("train").finish({}, [tmp_path / "training" / "best" / "model.safetensors"])
    assert stage.inputs(run) != before


def test_inputs_change_with_what_the_teachers_chat_template_says(tmp_path, models):
    template = tmp_path / "chat.jinja"
    template.write_text("{{ messages }}")
    run = make_run(tmp_path / "run", models, teacher=ECHO | {"chat_template": str(template)})
    before = stage.inputs(run)
    template.write_text("{{ messages[0] }}")
    assert stage.inputs(run) != before


def test_inputs_change_with_the_teacher_s_recorded_answers(tmp_path, models):
    recorded = tmp_path / "answers.jsonl"
    recorded.write_text("{}")
    run = make_run(tmp_path / "run", models, teacher={"replay": str(recorded)})
    before = stage.inputs(run)
    recorded.write_text("[]")
    assert stage.inputs(run) != before


SPEC = TaskSpec(type="summarization", max_new_tokens=20)


def test_a_model_is_evaluated_without_a_run(tmp_path):
    task = build_task(SPEC)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        found = evaluate_model(EchoModel(), task, rows(), [build_metric("rouge_l")], ledger=ledger, settings=Bootstrap(resamples=100))
    assert found.scores["rouge_l"].value == 1.0
    assert (found.questions, found.unparsable, found.no_room, found.failed, found.truncated) == (10, 0, 0, 0, 0)


class Flaky(EchoModel):
    """Fails on some questions, says nothing to others."""

    def __init__(self, failing=(), silent=()):
        super().__init__(lambda request: "" if request.messages[-1].content in silent else request.messages[-1].content)
        self._failing = failing

    async def complete(self, requests):
        answers = await super().complete(requests)
        failed = Completion("", "error", error="busy")
        return [failed if r.messages[-1].content in self._failing else a for r, a in zip(requests, answers, strict=True)]


def evaluate_flaky(tmp_path, **kinds):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        return evaluate_model(Flaky(**kinds), build_task(SPEC), rows(), [build_metric("rouge_l")], ledger=ledger, settings=Bootstrap(100))


def test_unparsable_answers_are_wrong_and_failed_calls_are_not_scored(tmp_path):
    found = evaluate_flaky(tmp_path, failing=QUESTIONS[:1], silent=QUESTIONS[1:2])
    assert (found.scores["rouge_l"].n, found.scores["rouge_l"].value) == (9, 8 / 9)
    assert (found.unparsable, found.failed) == (1, 1)


def test_answers_that_break_the_tasks_schema_are_unparsable(tmp_path):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    said = ['{"n": 1}', '```json\n{"n": 2}\n```', '{"n": "3"}', "n is 4", '{"m": 5}']
    asked = [Example(text, (Message("user", text),), reference=(f'{{"n": {number}}}',)) for number, text in enumerate(said, start=1)]
    task = build_task(TaskSpec(type="summarization", answer_schema=schema))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        found = evaluate_model(EchoModel(), task, asked, [build_metric("accuracy")], ledger=ledger, settings=Bootstrap(100))
    assert (found.unparsable, found.failed, found.scores["accuracy"].value) == (3, 0, 0.4)


def test_a_model_whose_every_call_fails_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="all 10 calls failed; the first: busy"):
        evaluate_flaky(tmp_path, failing=QUESTIONS)


def test_turns_of_a_conversation_are_questions_of_one_group():
    turns = ("user", "assistant") * 3
    row = Example("7", tuple(Message(role, f"{role} {index}") for index, role in enumerate(turns)))
    questions = build_questions(build_task(TaskSpec(type="conversation")), [row])
    assert len(questions) == 3
    assert {question.group for question in questions} == {"7"}
    assert [question.messages[-1].role for question in questions] == ["user"] * 3


def test_the_evaluation_opens_the_seal_for_the_student_that_is_there(tmp_path, models):
    run = make_run(tmp_path, models)
    assert [len(open_rows(run)) for _ in range(2)] == [10, 10]
    student = run.stage("train").outputs()["training/best/model.safetensors"]
    assert [(opening["purpose"], opening["artefact"]) for opening in seal_to_json(run)["openings"]] == [("evaluation", student)]


def with_goals(run, folder, goals):
    """The same run under a spec that has goals."""
    return open_run(spec_from_dict(run.spec.model_dump(mode="json") | {"goals": goals}, folder), folder)


def test_a_goal_that_is_changed_is_judged_anew_in_the_report_and_nothing_is_measured_again(evaluated):
    run, _, _ = evaluated
    wished = with_goals(
        run, run.folder, {"retention": {"at_least": 0.0, "margin": 0.5}, "scores": {"rouge_l": 0.99}, "gain": 0.9, "cost_reduction": 0.6}
    )
    assert stage.inputs(wished) == stage.inputs(run)
    found = {goal["goal"]: goal["verdict"] for goal in gather_report(wished)["evaluation"]["goals"]}
    assert found == {"retention": "pass", "gain": "fail", "rouge_l": "fail", "cost_reduction": "inconclusive"}
    report = gather_report(wished)
    assert "Goals: 1 pass, 2 fail, 1 inconclusive." in headline(report)
    assert [row[-1] for row in comparison_table(report).rows if row[0].startswith("goal: ")] == ["pass", "fail", "fail", "inconclusive"]


def test_a_goal_in_a_metric_that_is_not_taken_stops_before_anything_is_asked(tmp_path, models):
    run = with_goals(make_run(tmp_path, models), tmp_path, {"scores": {"accuracy": 0.9}})
    with pytest.raises(SpecError, match=r"`goals.scores.accuracy`.*\(rouge_l.*add it to `evaluation.metrics`"):
        stage.work(run, resumed=False)


def test_rows_carry_their_slices_and_their_scores(evaluated):
    run, _, _ = evaluated
    asked = list(read_jsonl(run.path("evaluation", "questions.jsonl")))
    assert {question["slices"]["length"] for question in asked} == {"short", "medium", "long"}
    replies = list(read_jsonl(run.path("evaluation", "predictions", "student.jsonl")))
    score = scores_of(run)["systems"]["student"]["scores"]["rouge_l"]["value"]
    assert sum(reply["scores"]["rouge_l"] for reply in replies) / len(replies) == pytest.approx(score)


def test_a_question_that_is_not_scored_has_no_score_which_is_no_zero(tmp_path, models):
    run = make_run(tmp_path, models, test=[*rows()[:3], *rows(references=False)[3:]], systems=["teacher"])
    stage.work(run, resumed=False)
    replies = list(read_jsonl(run.path("evaluation", "predictions", "teacher.jsonl")))
    assert ["rouge_l" in reply["scores"] for reply in replies] == [True] * 3 + [False] * 7


def test_systems_are_tested_and_sliced(evaluated):
    run, _, _ = evaluated
    scores = scores_of(run)
    assert scores["schema_version"] == 3
    assert set(scores["tests"]["rouge_l"]["student"]) == {"teacher", "baseline"}
    assert {test["n"] for test in scores["tests"]["rouge_l"]["student"].values()} == {10}
    assert [(one["by"], one["name"]) for one in scores["slices"]] == [("length", name) for name in ("short", "medium", "long")]
    assert sum(one["n"] for one in scores["slices"]) == 10
    assert (scores["confusion"], scores["calibration"], scores["goals"]) == ({}, {}, [])
