"""`potstill check`: all problems at once, nothing spent, and a summary when there are none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from potstill.cli.main import app
from potstill.models.testing import OpenAIStub, answered, refused
from tiny import edit_json, tiny_gguf, tiny_llama, tiny_tokenizer, without

WORDS = [
    "amber",
    "bronze",
    "coral",
    "denim",
    "ebony",
    "fawn",
    "ginger",
    "hazel",
    "ivory",
    "jade",
    "khaki",
    "lilac",
    "mauve",
    "navy",
    "ochre",
    "pearl",
    "ruby",
    "sand",
    "teal",
    "umber",
]


def row(word: str, number: int, **extra: Any) -> dict[str, Any]:
    text = f"Tell me of {word} in {number} words, {word[::-1]}, please."
    return {"messages": [{"role": "user", "content": text}], "reference": ["warm", "cold"][number % 2]} | extra


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    """A spec without a mistake, all of it local; tests spoil it."""
    rows = [row(word, number) for number, word in enumerate(WORDS)]
    for split, part in (("train", rows[:12]), ("validation", rows[12:16]), ("test", rows[16:])):
        write(tmp_path / f"{split}.jsonl", part)
    return {
        "name": "colours",
        "task": {"type": "nli", "labels_from": "data"},
        "data": {split: f"{split}.jsonl" for split in ("train", "validation", "test")},
        "teacher": {"model": "echo"},
        "student": {"model": "smollm2-135m-instruct"},
    }


def check(folder: Path, spec: dict[str, Any], *arguments: str) -> Result:
    path = folder / "potstill.yaml"
    path.write_text(yaml.safe_dump(spec))
    return CliRunner().invoke(app, ["check", str(path), *arguments])


def problems(result: Result) -> list[str]:
    return [line.removeprefix("problem").strip() for line in result.output.splitlines() if line.startswith("problem")]


def test_a_spec_without_a_mistake_is_summed_up(tmp_path: Path, spec: dict[str, Any]) -> None:
    result = check(tmp_path, spec)
    assert result.exit_code == 0, result.output
    assert problems(result) == []
    lines = {line.split()[0]: line for line in result.output.splitlines() if line}
    assert "12 rows, 12 with a reference" in lines["train"]
    assert 'the rarest, "' in lines["labels"]
    # 12 rows of train, 4 of test, and these again with one before the clock runs.
    assert "21; 12 for training rows, 4 for the evaluation, 5 for latency" in lines["calls"]
    assert "evaluating" in lines["time"]
    assert "fetched when it is first used" in lines["student"]


def test_all_problems_are_listed_not_only_the_first(tmp_path: Path, spec: dict[str, Any]) -> None:
    write(tmp_path / "train.jsonl", [row("amber", 0), {"messages": []}, {"messages": "x"}, row("bronze", 1)])
    spec |= {"teacher": {"model": "no-such-teacher"}, "student": {"model": "./no-such-folder"}}
    result = check(tmp_path, spec)
    found = problems(result)
    assert result.exit_code == 1
    assert [sum(word in line for line in found) for word in (".jsonl:2:", ".jsonl:3:", "no-such-teacher", "no-such-folder")] == [1, 1, 1, 1]
    assert f"{len(found)} problems; nothing was spent." in result.output


def test_a_spec_that_cannot_be_read_is_refused_with_all_its_problems(tmp_path: Path, spec: dict[str, Any]) -> None:
    result = check(tmp_path, spec | {"name": "a b", "colour": 1})
    assert result.exit_code == 1
    assert [word in problem for word, problem in zip(("`name`", "`colour`"), problems(result), strict=True)] == [True, True]


def test_faults_of_the_spec_hide_none_of_the_data(tmp_path: Path, spec: dict[str, Any]) -> None:
    write(tmp_path / "train.jsonl", [row("amber", 0), {"messages": "x"}, row("bronze", 1)])
    result = check(tmp_path, spec | {"training": {"epochs": -1}})
    assert [word in problem for word, problem in zip(("epochs", "train.jsonl:2"), problems(result), strict=True)] == [True, True]
    [problem] = problems(check(tmp_path, spec | {"task": {"type": "chat"}}))
    assert "`task.type`" in problem


def test_overrides_reach_the_check(tmp_path: Path, spec: dict[str, Any]) -> None:
    result = check(tmp_path, spec, "--set", "evaluation.metrics=[accuracy, nonsense, rouge_9]")
    first, second = problems(result)
    assert first.startswith('there is no metric "nonsense"; there are accuracy, bleu')
    assert second.startswith('there is no metric "rouge_9"; did you mean')
    assert "\ntime " in result.output


def test_a_goal_in_a_metric_that_is_not_taken_is_a_problem(tmp_path: Path, spec: dict[str, Any]) -> None:
    result = check(tmp_path, spec, "--set", "goals.scores={bleu: 30, accuracy: 0.8}")
    assert "`goals.scores.bleu`: is none of the metrics that are taken (accuracy, macro_f1)" in result.output
    assert "goals.scores.accuracy" not in result.output


def test_an_engine_whose_package_is_missing_is_a_problem(tmp_path: Path, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    [problem] = problems(check(tmp_path, spec, "--set", "engine=ray"))
    assert problem == "`engine: ray` needs the package ray: pip install 'potstill[ray]'"


def test_rows_that_stand_in_train_and_test_are_a_problem(tmp_path: Path, spec: dict[str, Any]) -> None:
    write(tmp_path / "test.jsonl", [row("amber", 0), row("xanadu", 99)])
    result = check(tmp_path, spec)
    assert result.exit_code == 1
    assert "test" in problems(result)[0]


def endpoint(stub: OpenAIStub, **more: Any) -> dict[str, Any]:
    return {"model": "stub", "base_url": stub.base_url} | more


def test_an_endpoint_is_asked_exactly_one_tiny_question(tmp_path: Path, spec: dict[str, Any]) -> None:
    with OpenAIStub() as stub:
        result = check(tmp_path, spec | {"teacher": endpoint(stub)})
        assert result.exit_code == 0, result.output
        assert [call["max_tokens"] for call in stub.calls] == [8]
    assert f"stub at {stub.base_url}, answers" in result.output


def test_offline_asks_nobody(tmp_path: Path, spec: dict[str, Any]) -> None:
    with OpenAIStub(always=refused(401)) as stub:
        result = check(tmp_path, spec | {"teacher": endpoint(stub)}, "--offline")
        assert (result.exit_code, stub.calls) == (0, [])
    assert "not asked (--offline)" in result.output


@pytest.mark.parametrize(("status", "words"), [(401, "401: no"), (404, "check the model name"), (400, "400: no"), (503, "503: no")])
def test_a_teacher_that_does_not_answer_is_a_problem(tmp_path: Path, spec: dict[str, Any], status: int, words: str) -> None:
    with OpenAIStub(always=refused(status)) as stub:
        result = check(tmp_path, spec | {"teacher": endpoint(stub)})
        assert len(stub.calls) == 1
    assert result.exit_code == 1
    assert words in problems(result)[0]


def test_a_teacher_that_thinks_longer_than_the_question_allows_does_answer(tmp_path: Path, spec: dict[str, Any]) -> None:
    with OpenAIStub(always=answered(None, "length", reasoning_content="The user wants")) as stub:
        result = check(tmp_path, spec | {"teacher": endpoint(stub)})
    assert result.exit_code == 0, result.output
    assert f"stub at {stub.base_url}, answers" in result.output


def test_a_key_that_is_not_set_is_a_problem_also_offline(tmp_path: Path, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    result = check(tmp_path, spec | {"teacher": {"model": "deepseek-v3"}}, "--offline")
    assert "the environment variable OPENROUTER_API_KEY is not set" in problems(result)[0]


def test_the_price_is_counted_where_it_is_known_and_called_unknown_where_not(tmp_path: Path, spec: dict[str, Any]) -> None:
    with OpenAIStub() as stub:
        priced = endpoint(stub, price={"input_per_million": 1e6, "output_per_million": 0})
        known = check(tmp_path, spec | {"teacher": priced})
        unknown = check(tmp_path, spec | {"teacher": endpoint(stub)})
    tokens = next(line for line in known.output.splitlines() if line.startswith("tokens"))
    read = tokens.partition("likely ")[2].partition("; likely ")[2].partition(" read")[0]
    assert f"dollars     ${read}.00" in known.output
    assert "dollars     unknown: nobody says what stub costs" in unknown.output


def test_a_local_model_is_counted_and_measured_in_its_own_tokens(tmp_path: Path, spec: dict[str, Any]) -> None:
    tiny_llama(tmp_path / "model")
    spec |= {"teacher": {"model": "./model"}, "student": {"carve": {"layers": 2}}, "training": {"max_length": 20}}
    result = check(tmp_path, spec)
    assert "M parameters, on this machine" in result.output
    assert "2 of 4 layers" in result.output
    assert "train: every row is longer than `training.max_length` (20 tokens)" in problems(result)


def test_some_rows_that_are_too_long_are_noted_and_counted(tmp_path: Path, spec: dict[str, Any]) -> None:
    rows = [row(word, number) for number, word in enumerate(WORDS[:12])]
    rows[3]["messages"][0]["content"] += " and so on" * 400
    write(tmp_path / "train.jsonl", rows)
    result = check(tmp_path, spec)
    assert result.exit_code == 0, result.output
    assert "note        train: 1 of 12 rows looked at are longer than `training.max_length` (1,024 tokens, four characters" in result.output


def test_rows_that_are_too_long_are_a_problem_where_they_are_refused_and_none_where_they_are_cut(
    tmp_path: Path, spec: dict[str, Any]
) -> None:
    rows = [row(word, number) for number, word in enumerate(WORDS[:12])]
    rows[3]["messages"][0]["content"] += " and so on" * 400
    write(tmp_path / "train.jsonl", rows)
    refused = check(tmp_path, spec | {"training": {"too_long": "refuse"}})
    assert "1 of 12 rows looked at are longer than" in problems(refused)[0]
    assert "`training.too_long: refuse` forbids that" in problems(refused)[0]
    cut = check(tmp_path, spec | {"training": {"too_long": "cut_left", "max_length": 8}})
    assert problems(cut) == []
    assert "and is cut" in cut.output


def test_answers_that_nobody_knows_the_length_of_are_no_mistake(tmp_path: Path, spec: dict[str, Any]) -> None:
    for split in ("train", "validation", "test"):
        rows = [json.loads(line) for line in (tmp_path / f"{split}.jsonl").read_text().splitlines()]
        write(tmp_path / f"{split}.jsonl", [{"messages": each["messages"]} for each in rows])
    result = check(tmp_path, spec | {"task": {"type": "summarization", "max_new_tokens": 1024}})
    assert problems(result) == []
    assert "12 of 12 rows looked at grow longer than `training.max_length` (1,024 tokens, four characters counted as one)" in result.output


def test_a_student_that_reads_less_than_rows_may_have_is_noted(tmp_path: Path, spec: dict[str, Any], tiny_teacher: Path) -> None:
    result = check(tmp_path, spec | {"student": {"model": str(tiny_teacher)}})
    assert result.exit_code == 0, result.output
    assert "`training.max_length` is 1,024, but" in result.output


def test_a_hub_model_that_is_not_here_is_noted_not_blamed(tmp_path: Path, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    result = check(tmp_path, spec | {"student": {"model": "org/name"}})
    assert result.exit_code == 0, result.output
    assert "note        org/name is not on this machine: layers, tokenizer and chat template are not known" in result.output


def test_without_torch_a_spec_with_local_models_can_be_checked(tmp_path: Path, spec: dict[str, Any], tiny_teacher: Path) -> None:
    (tmp_path / "potstill.yaml").write_text(yaml.safe_dump(spec | {"student": {"model": str(tiny_teacher)}}))
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'transformers', 'tokenizers', 'huggingface_hub'))\n"
        f"from potstill.cli.main import main; main(['check', {str(tmp_path / 'potstill.yaml')!r}])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "note        local models need torch and transformers" in result.stdout


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"student": {"carve": {"layers": 9}}}, "`student.carve.layers` is 9, but"),
        ({"student": {"model": "./other"}, "training": {"objective": "logits"}}, "share a tokenizer"),
    ],
)
def test_models_that_do_not_fit_together_are_a_problem(tmp_path: Path, spec: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    tiny_llama(tmp_path / "model")
    tiny_llama(tmp_path / "other")
    tiny_tokenizer(tmp_path / "other", vocabulary=300)
    result = check(tmp_path, spec | {"teacher": {"model": "./model"}} | changes)
    assert words in "\n".join(problems(result))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": {"objective": "logits"}}, "needs the teacher's probabilities"),
        ({"student": {"carve": {"layers": 2}}}, "name one in `student.model`"),
    ],
)
def test_what_an_endpoint_cannot_give_is_a_problem(tmp_path: Path, spec: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    result = check(tmp_path, spec | {"teacher": {"model": "gpt-4o"}} | changes, "--offline")
    assert words in "\n".join(problems(result))


def test_calls_for_the_clock_are_on_the_bill_where_the_teacher_is_evaluated(tmp_path: Path, spec: dict[str, Any]) -> None:
    with OpenAIStub() as stub:
        spec |= {"teacher": endpoint(stub, price={"input_per_million": 0, "output_per_million": 1e6})}
        one_by_one = (f"evaluation={{latency_rows: {rows}, concurrency: [1]}}" for rows in (3, 2))
        dearer, cheaper = (check(tmp_path, spec, "--set", settings).output for settings in one_by_one)
        crowded = check(tmp_path, spec, "--set", "evaluation={latency_rows: 3, concurrency: [1, 2, 8], throughput_rows: 5}").output
        without = check(tmp_path, spec, "--set", "evaluation.systems=[student]").output
    assert "throughput" not in dearer
    assert "\ncalls       34; 12 for training rows, 4 for the evaluation, 4 for latency, 14 for throughput" in crowded
    assert ["\ncalls       20;" in dearer, "\ncalls       19;" in cheaper, "\ncalls       12\n" in without] == [True] * 3
    # One more answer of a word in a message: six tokens.
    prices = [float(text.partition("dollars     low $")[2].partition("likely $")[2].split(", ")[0]) for text in (dearer, cheaper)]
    assert prices[0] - prices[1] == 6


def test_a_model_folder_without_a_tokenizer_is_a_problem(tmp_path: Path, spec: dict[str, Any]) -> None:
    without(tiny_llama(tmp_path / "model"), "tokenizer.json")
    result = check(tmp_path, spec | {"student": {"model": "./model"}})
    assert "has no tokenizer" in problems(result)[0]


def test_a_model_folder_without_a_chat_template_is_a_problem_unless_the_spec_names_one(tmp_path: Path, spec: dict[str, Any]) -> None:
    without(tiny_llama(tmp_path / "model"), "chat_template.jinja")
    assert "brings no chat template" in problems(check(tmp_path, spec | {"student": {"model": "./model"}}))[0]
    (tmp_path / "mine.jinja").write_text("{{ messages[0]['content'] }}")
    assert check(tmp_path, spec | {"student": {"model": "./model", "chat_template": "mine.jinja"}}).exit_code == 0
    edit_json(tmp_path / "model" / "tokenizer_config.json", chat_template="{{ messages[0]['content'] }}")
    assert check(tmp_path, spec | {"student": {"model": "./model"}}).exit_code == 0


def test_a_tokenizer_that_cannot_be_loaded_is_a_problem(tmp_path: Path, spec: dict[str, Any]) -> None:
    tokenizer = tiny_llama(tmp_path / "model") / "tokenizer.json"
    layout = json.loads(tokenizer.read_text())
    layout["model"]["merges"] = [["no such", "tokens"]]
    tokenizer.write_text(json.dumps(layout))
    result = check(tmp_path, spec | {"student": {"model": "./model"}})
    assert "model: its tokenizer cannot be loaded" in problems(result)[0]


def test_a_gguf_file_is_measured_and_a_cut_one_is_a_problem(tmp_path: Path, spec: dict[str, Any]) -> None:
    path = tiny_gguf(tmp_path / "model.gguf", tiny_llama(tmp_path / "model"))
    spec |= {"teacher": {"model": "./model.gguf"}, "student": {"carve": {"layers": 2}}}
    assert "2 of 4 layers" in check(tmp_path, spec).output
    path.write_bytes(path.read_bytes()[:-1])
    assert "model.gguf: is cut off" in problems(check(tmp_path, spec))[0]


def test_a_hub_model_that_cannot_be_fetched_is_a_problem(tmp_path: Path, spec: dict[str, Any]) -> None:
    result = check(tmp_path, spec | {"student": {"model": "phi-4-mini"}})
    assert "not on this machine, or not all of it, and HF_HUB_OFFLINE forbids to fetch it" in problems(result)[0]


def test_the_sample_of_init_passes(tmp_path: Path) -> None:
    CliRunner().invoke(app, ["init", str(tmp_path / "mine"), "--sample"])
    result = CliRunner().invoke(app, ["check", str(tmp_path / "mine" / "potstill.yaml")])
    assert result.exit_code == 0, result.output
    assert "36 rows, 36 with a reference" in result.output


@pytest.mark.parametrize(
    ("teacher", "heavy"),
    [
        pytest.param({"model": "./model"}, {"huggingface_hub", "aiohttp", "asyncio", "genai_prices", "rich"}, id="local"),
        # Its key is looked for, so its module is imported; no provider lists a price for it.
        pytest.param({"model": "x", "base_url": "http://127.0.0.1:9/v1"}, {"huggingface_hub", "aiohttp", "genai_prices", "rich"}, id="own"),
    ],
)
def test_a_check_imports_nothing_heavy(tmp_path: Path, spec: dict[str, Any], teacher: dict[str, str], heavy: set[str]) -> None:
    tiny_llama(tmp_path / "model")
    student = {"model": "./model", "carve": {"layers": 2}}
    (tmp_path / "potstill.yaml").write_text(yaml.safe_dump(spec | {"teacher": teacher, "student": student}))
    code = (
        "import sys; from potstill.cli.main import app\n"
        f"app(['check', {str(tmp_path / 'potstill.yaml')!r}, '--offline'], standalone_mode=False)\n"
        f"sys.exit(str({heavy | {'torch', 'transformers'}} & set(sys.modules) or '') or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def notes(result: Result) -> list[str]:
    return [line.removeprefix("note").strip() for line in result.output.splitlines() if line.startswith("note")]


def test_every_teacher_and_the_judge_are_asked_once(tmp_path: Path, spec: dict[str, Any]) -> None:
    del spec["teacher"]
    with OpenAIStub() as stub, OpenAIStub(always=refused(401, "Who are you?")) as closed:
        teachers = [endpoint(stub, name="first"), endpoint(closed, name="second")]
        judge = {"judge": endpoint(stub, name="third"), "choose": "judge"}
        result = check(tmp_path, spec | {"teachers": teachers, "generation": judge})
        assert (len(stub.calls), len(closed.calls)) == (2, 1)
    assert sum(line.startswith(("teacher ", "judge ")) for line in result.output.splitlines()) == 2
    [problem] = problems(result)
    assert problem.startswith("teacher second: ")
    assert "Who are you?" in problem


def test_a_second_teacher_that_is_not_there_is_a_problem(tmp_path: Path, spec: dict[str, Any]) -> None:
    del spec["teacher"]
    result = check(tmp_path, spec | {"teachers": [{"model": "echo"}, {"model": "./nowhere"}]})
    [problem] = problems(result)
    assert problem.startswith("teacher ")
    assert problem.endswith("nowhere: there is no such folder or file")


def test_a_recording_is_opened_and_asked_nothing(tmp_path: Path, spec: dict[str, Any]) -> None:
    write(tmp_path / "said.jsonl", [{"prompt": "Tell me.", "completion": "warm"}])
    assert "as recorded in" in check(tmp_path, spec | {"teacher": {"replay": "said.jsonl"}}).output
    (tmp_path / "said.jsonl").write_text("no JSON")
    assert "said.jsonl:1: is not JSON" in problems(check(tmp_path, spec | {"teacher": {"replay": "said.jsonl"}}))[0]
    assert problems(check(tmp_path, spec | {"teacher": {"replay": "none.jsonl"}}))


QA = {"type": "qa", "answer": "open"}
DEMANDS = [
    ({"generation": {"choose": "judge"}}, "`generation.choose: judge` has answers judged, but nobody is named"),
    ({"gates": {"judge": 0.5}}, "`gates.judge` has answers judged, but nobody is named"),
    ({"gates": {"custom": ["no_such_module:gate"]}}, "gates.custom: there is no module no_such_module"),
    ({"gates": {"custom": ["json:no_such_gate"]}}, "gates.custom: module json has no function no_such_gate"),
    ({"gates": {"custom": ["json"]}}, "is not of the form module:function"),
    ({"task": QA, "generation": {"expand": {"rows": 4, "how": "rare"}}}, "writes rows of rare labels, but qa has none"),
    ({"generation": {"expand": {"rows": 4, "how": "rare", "by": "tag"}}}, "no training row has `tags`"),
    ({"generation": {"ledger": "train.jsonl/ledger.sqlite"}}, "train.jsonl: is a file, so there is no folder of this name"),
]


@pytest.mark.parametrize(("changes", "words"), DEMANDS)
def test_what_generation_cannot_have_is_a_problem(tmp_path: Path, spec: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    result = check(tmp_path, spec | changes)
    assert result.exit_code == 1
    [problem] = problems(result)
    assert words in problem


def test_a_cap_on_dollars_needs_every_price(tmp_path: Path, spec: dict[str, Any]) -> None:
    del spec["teacher"]
    teachers = [{"model": "gpt-4o", "name": "known"}, {"model": "x", "base_url": "http://127.0.0.1:9/v1", "name": "dear"}]
    capped = spec | {"teachers": teachers, "generation": {"budget": {"dollars": 5}}}
    found = problems(check(tmp_path, capped, "--offline"))
    assert [text for text in found if "`generation.budget.dollars`" in text] == [
        "`generation.budget.dollars`: nobody says what dear costs, so the cap cannot be kept; give its `price`, or cap `tokens` or `calls` instead"
    ]


NOTES = [
    ({"generation": {"prompting": {"strategy": "chain_of_density"}}}, "`chain_of_density` rewrites summaries"),
    ({"task": QA, "generation": {"balance": {"by": "label"}}}, "answers of qa are free text"),
]


@pytest.mark.parametrize(("changes", "words"), NOTES)
def test_what_does_little_is_noted(tmp_path: Path, spec: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    result = check(tmp_path, spec | changes)
    assert result.exit_code == 0, result.output
    assert words in "\n".join(notes(result))


def test_tags_that_no_row_has_are_noted(tmp_path: Path, spec: dict[str, Any]) -> None:
    del spec["teacher"]
    write(tmp_path / "train.jsonl", [row(word, number, tags=["soft"]) for number, word in enumerate(WORDS[:12])])
    teachers = [{"model": "echo"}, {"model": "echo", "name": "other", "tags": ["soft", "hard"]}]
    result = check(tmp_path, spec | {"teachers": teachers, "generation": {"route": "tag"}})
    assert notes(result)[-1] == "no training row has the tag hard that `teachers` name"


def test_a_score_without_references_is_noted(tmp_path: Path, spec: dict[str, Any]) -> None:
    rows = [json.loads(line) for line in (tmp_path / "validation.jsonl").read_text().splitlines()]
    write(tmp_path / "validation.jsonl", [{"messages": each["messages"]} for each in rows])
    result = check(tmp_path, spec | {"generation": {"qualify": {"min_score": 0.5}}})
    assert "no validation row has one: set `min_agreement`" in "\n".join(notes(result))
