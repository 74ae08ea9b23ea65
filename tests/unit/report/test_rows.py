import json

from potstill.report.rows import as_script_data, browser_rows, fitting, reply_text, row_metric

EVALUATION = {
    "questions": 10,
    "primary": "accuracy",
    "metrics": {"accuracy": {}, "rouge_l": {}},
}


def reply(score=None, answer="a", metric="accuracy", finish="stop"):
    return {"text": answer or "", "answer": answer, "finish_reason": finish} | ({} if score is None else {"scores": {metric: score}})


def row(teacher, student, **more):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    return {"id": "1", "messages": messages, "references": ["gold"], "replies": {"teacher": teacher, "student": student}, **more}


SYSTEMS = [("teacher", "teacher"), ("student", "mine")]


def lists(*rows):
    found = browser_rows(rows, EVALUATION, SYSTEMS)
    return [[found["lists"][place] for place in one["in"]] for one in found["rows"]]


def test_right_and_wrong_rows_stand_in_their_lists():
    assert lists(
        row(reply(1), reply(1)),
        row(reply(1), reply(0, answer="b")),
        row(reply(0, answer="b"), reply(1)),
        row(reply(0), reply(0, answer=None)),
    ) == [
        ["student right", "both right"],
        ["student wrong", "teacher right, student wrong", "student and teacher disagree"],
        ["student right", "student right, teacher wrong", "student and teacher disagree"],
        ["student wrong", "both wrong", "student and teacher disagree", "student gave no answer"],
    ]


def test_rows_with_shares_of_a_score_are_above_below_or_level():
    assert lists(row(reply(0.5), reply(0.25)), row(reply(0.2), reply(0.25)), row(reply(0.2), reply(0.2))) == [
        ["student below teacher"],
        ["student above teacher"],
        ["student level with teacher"],
    ]


def test_rows_of_a_run_without_row_scores_are_told_apart_by_their_answers():
    assert lists(row(reply(), reply(answer=" A ")), row(reply(), reply(answer="b", finish="length"))) == [
        [],
        ["student and teacher disagree", "an answer was cut"],
    ]


def test_marks_and_numbers_are_those_of_the_metric_that_leads():
    [exact] = browser_rows([row(reply(1), reply(0))], EVALUATION, SYSTEMS)["rows"]
    assert exact["marks"] == {"teacher": "✓", "student": "✗"}
    assert exact["by"] == [0, -1]
    [graded] = browser_rows([row(reply(0.5, metric="rouge_l"), reply(0.25, metric="rouge_l"))], EVALUATION, SYSTEMS)["rows"]
    assert graded["marks"] == {"teacher": "0.500", "student": "0.250"}
    assert graded["by"] == [0.25, -0.25]


def test_single_rows_are_judged_by_the_first_metric_that_they_carry():
    assert row_metric([row(reply(1), reply(1))], EVALUATION) == "accuracy"
    assert row_metric([row(reply(1, metric="rouge_l"), reply())], EVALUATION) == "rouge_l"
    assert row_metric([row(reply(), reply())], EVALUATION) is None


def test_slices_are_offered_where_rows_differ_in_them():
    rows = [
        row(reply(), reply(), slices={"label": "b", "tag": ["x", "y"], "length": "short"}),
        row(reply(), reply(), slices={"label": "a", "tag": [], "length": "short"}),
    ]
    found = browser_rows(rows, EVALUATION, SYSTEMS)
    assert found["slices"] == {"label": ["a", "b"], "tag": ["x", "y"]}
    assert found["rows"][0]["slices"] == {"label": ["b"], "tag": ["x", "y"], "length": ["short"]}


def test_a_system_prompt_that_rows_share_is_held_once():
    found = browser_rows([row(reply(), reply())] * 3, EVALUATION, SYSTEMS)
    assert found["prompts"] == ["Be brief."]
    assert found["rows"][2]["messages"] == [["system", 0], ["prompt", "Why?"]]


def test_the_judges_verdict_and_the_likeliest_answer_stand_in_the_row():
    sure = reply() | {"probabilities": {"a": 0.25, "b": 0.75}}
    found = browser_rows([row(reply(), sure, judged={"outcome": "teacher", "reason": "it is shorter"})], EVALUATION, SYSTEMS)
    assert found["rows"][0]["judged"] == "teacher: it is shorter"
    assert found["rows"][0]["sure"] == {"student": "b with 0.75"}
    assert [found["lists"][place] for place in found["rows"][0]["in"]] == ["judge: teacher"]


def test_replies_that_are_no_answers_say_why():
    assert reply_text(reply(answer=None, finish="error")) == "(the call failed)"
    assert reply_text(reply(answer=None, finish="no_room")) == "(no room for the prompt)"
    assert reply_text({"text": "so", "answer": None, "finish_reason": "length"}) == "so (cut at the token limit) (no answer in it)"


def test_the_page_takes_as_many_of_the_first_rows_as_it_can_carry():
    rows = [row(reply(answer="x" * 500), reply()) for _ in range(10)]
    each = len(json.dumps(rows[0]))
    assert fitting(rows, each * 10) is rows
    assert fitting(rows, each * 4) == rows[:4]
    assert fitting(rows, each * 4 - 1) == rows[:3]


def test_script_data_is_json_that_ends_no_element():
    evil = {"</script>": "<!--<script>&\u2028\u2029 ü"}
    text = as_script_data(evil)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == evil
