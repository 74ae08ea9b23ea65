"""`--dry-run` counts what generation asks, by playing it: what it says is what a run then does."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from potstill.cli.main import app
from potstill.cli.rehearse import CASES, EVALUATION, LATENCY, QUALIFYING, TRAINING, VALIDATION, WRITING, Rehearsal, Takes
from potstill.models.testing import OpenAIStub
from potstill.records import Example, Message
from potstill.spec import RunSpec
from potstill.tasks import build_task

LABELS = ("warm", "cold")
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
NOWHERE = "http://127.0.0.1:9/v1"


def rows(count: int, **more: Any) -> list[Example]:
    return [
        Example(str(n), (Message("user", f"What of {WORDS[n]} number {n}?"),), **({"reference": ("warm",)} | more)) for n in range(count)
    ]


def run_spec(**sections: Any) -> RunSpec:
    task = sections.pop("task", {"type": "nli", "labels": list(LABELS), "max_new_tokens": 100})
    teacher = {} if "teachers" in sections else {"teacher": {"model": "t", "base_url": NOWHERE}}
    return RunSpec.model_validate(
        {"name": "n", "task": task, "data": {"train": "t.jsonl"}, "student": {"model": "s"}, **teacher} | sections
    )


def played(train: list[Example], validation: list[Example] | None = None, **sections: Any) -> Takes:
    made = run_spec(**sections)
    rehearsal = Rehearsal(made, build_task(made.task, LABELS))
    rehearsal.generation(train, validation or rows(4))
    return rehearsal.takes


def calls(takes: Takes, **which: Any) -> list[int]:
    return [takes.total(case, **which).calls for case in CASES]


def test_a_row_is_one_call_and_its_reference_the_likely_answer() -> None:
    takes = played(rows(10))
    assert calls(takes) == [10, 10, 10]
    assert [takes.total(case).written for case in CASES] == [60, 60, 1000]


def test_answers_of_unknown_length_are_a_quarter_half_and_all_of_the_limit() -> None:
    takes = played(rows(10, reference=()))
    assert [takes.total(case).written for case in CASES] == [250, 500, 1000]


def test_validation_rows_are_asked_where_some_lack_a_reference() -> None:
    assert calls(played(rows(10), rows(4)), part=VALIDATION) == [0, 0, 0]
    assert calls(played(rows(10), rows(4, reference=())), part=VALIDATION) == [4, 4, 4]


def test_samples_share_their_prompt_where_the_endpoint_gives_several_unless_it_does_not() -> None:
    teacher = {"model": "t", "base_url": NOWHERE, "temperature": 1.0}
    one, three = (played(rows(10), teacher=teacher, generation={"samples": samples}) for samples in (1, 3))
    assert calls(three) == [30, 30, 30]
    assert [three.total(case).read // one.total(case).read for case in CASES] == [1, 1, 3]
    batched = played(rows(10), teacher=teacher, generation={"samples": 3, "mode": "batch"})
    assert batched.total("likely").read == three.total("high").read


def test_reasons_make_prompts_longer_and_leave_room_for_themselves() -> None:
    plain, reasoned = played(rows(10)), played(rows(10), generation={"prompting": {"strategy": "chain_of_thought", "reasoning_tokens": 80}})
    assert reasoned.total("likely").read > plain.total("likely").read + 10 * 20
    assert [reasoned.total(case).written - plain.total(case).written for case in CASES] == [200, 400, 800]


def test_rounds_of_density_read_all_rounds_before() -> None:
    task = {"type": "summarization", "max_new_tokens": 100}
    first, third = (played(rows(1), task=task, generation={"prompting": {"strategy": "chain_of_density", "rounds": n}}) for n in (2, 3))
    assert (calls(first), calls(third)) == ([2, 2, 2], [3, 3, 3])
    assert third.total("high").read > 2 * first.total("high").read - 40


def test_a_conversation_is_asked_turn_by_turn_and_reads_its_own_answers() -> None:
    turns = tuple(Message(role, "Some words of a turn.") for role in ("user", "assistant", "user", "assistant"))
    talk, task = [Example("1", turns)], {"type": "conversation", "max_new_tokens": 100}
    takes = played(talk, task=task)
    assert calls(takes, part=TRAINING) == [2, 2, 2]
    assert takes.total("high", part=TRAINING).read > takes.total("low", part=TRAINING).read + 80
    assert calls(played(talk, task=task, generation={"turns": "last"}), part=TRAINING) == [1, 1, 1]


def three_teachers(**each: Any) -> list[dict[str, Any]]:
    return [{"model": name, "base_url": NOWHERE} | each for name in "abc"]


def test_routes_ask_whom_they_ask() -> None:
    by_route = {route: played(rows(20), teachers=three_teachers(), generation={"route": route}) for route in ("weight", "cascade", "vote")}
    assert {route: calls(takes) for route, takes in by_route.items()} == {
        "weight": [20, 20, 20],
        "cascade": [20, 20, 60],
        "vote": [60, 60, 60],
    }
    assert calls(by_route["cascade"], model=0) == [20, 20, 20]
    assert all(calls(by_route["weight"], model=place)[1] for place in range(3))
    tagged = [teacher | {"tags": [tag]} for teacher, tag in zip(three_teachers(), ("x", "y", "z"), strict=True)]
    assert calls(played(rows(20, tags=("y",)), teachers=tagged, generation={"route": "tag"}), model=1) == [20, 20, 20]


def test_a_judge_compares_in_both_orders_marks_once_and_scores_labels_once() -> None:
    judge = {"model": "j", "base_url": NOWHERE}
    teacher = {"model": "t", "base_url": NOWHERE, "temperature": 1.0}
    compared = played(rows(10), teacher=teacher, generation={"samples": 3, "choose": "judge", "judge": judge})
    assert calls(compared, model=1) == [0, 40, 40]
    assert calls(played(rows(10), gates={"judge": 0.5}, generation={"judge": judge}), model=1) == [10, 10, 10]
    scored = played(rows(10), teacher=teacher, generation={"samples": 3, "choose": "label_scores", "judge": judge})
    assert calls(scored, model=1) == [10, 10, 10]


def test_a_scorer_reads_each_training_answer_once() -> None:
    scored = played(rows(10), generation={"scorer": {"model": "j", "base_url": NOWHERE}}, targets={"kind": "logprobs"})
    assert calls(scored, model=1) == [10, 10, 10]
    assert calls(scored, model=0) == calls(played(rows(10)))
    assert [scored.total(case, model=1).written for case in CASES] == [10, 10, 10]


def test_qualification_asks_known_rows_once_and_others_twice() -> None:
    asked = [played(rows(4), rows(8, **more), generation={"qualify": {"rows": 6}}) for more in ({}, {"reference": ()})]
    assert [calls(takes, part=QUALIFYING) for takes in asked] == [[6, 6, 6], [12, 12, 12]]


def test_a_pilot_costs_nothing_more() -> None:
    assert calls(played(rows(10), generation={"pilot": {"rows": 2}})) == calls(played(rows(10), generation={"pilot": {"rows": 0}}))


def test_new_prompts_are_written_and_answered() -> None:
    takes = played(rows(10), generation={"expand": {"rows": 20}})
    assert (calls(takes, part=WRITING), calls(takes, part=TRAINING)) == ([26, 26, 26], [10, 30, 30])


def test_balance_tops_up_by_what_is_short() -> None:
    train = [*rows(12)[:8], *(Example(f"c{n}", (Message("user", f"Is {WORDS[n]} cold?"),), ("cold",)) for n in range(2))]
    takes = played(train, generation={"balance": {"by": "label", "to": 8, "how": "ask"}})
    assert calls(takes, part=TRAINING) == [10, 16, 16]
    assert played(train, generation={"balance": {"by": "length", "how": "ask"}}).unknown


def test_large_splits_are_scaled_up_from_a_sample() -> None:
    train = [Example(str(n), (Message("user", f"What of number {n % 7}?"),), ("warm",)) for n in range(5_000)]
    assert calls(played(train)) == [5_000] * 3


def test_the_evaluation_asks_the_first_teacher_alone() -> None:
    made = run_spec(teachers=three_teachers(), generation={"route": "vote"})
    rehearsal = Rehearsal(made, build_task(made.task, LABELS))
    rehearsal.evaluation(rows(20))
    assert (calls(rehearsal.takes, part=EVALUATION, model=0), calls(rehearsal.takes, part=LATENCY)) == ([20] * 3, [13] * 3)
    assert calls(rehearsal.takes, model=1) == [0, 0, 0]


def said(folder: Path, *arguments: str) -> dict[str, str]:
    result = CliRunner().invoke(app, [*arguments, str(folder / "potstill.yaml"), "--runs", str(folder / "runs"), "--dry-run"])
    assert result.exit_code == 0, result.output
    return {line.split()[0]: line.partition(" ")[2].strip() for line in result.output.splitlines() if line}


def endpoint(stub: OpenAIStub, **more: Any) -> dict[str, Any]:
    return {"model": "stub", "base_url": stub.base_url} | more


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def label(payload: dict[str, Any]) -> str:
    return LABELS[len(payload["messages"][-1]["content"]) % 2]


def line(word: str, number: int) -> dict[str, Any]:
    text = f"Tell me of {word} in {number} words, {word[::-1]}, please."
    return {"messages": [{"role": "user", "content": text}], "reference": LABELS[number % 2]}


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))


@pytest.fixture
def job(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A folder with 24 training, 4 validation and 4 test rows, and a spec for them."""
    lines = [line(word, number) for number, word in enumerate(WORDS)]
    more = [line(f"{word}ish", number) for number, word in enumerate(WORDS[:12])]
    for split, part in (("train", [*lines[:12], *more]), ("validation", lines[12:16]), ("test", lines[16:])):
        write(tmp_path / f"{split}.jsonl", part)
    data = {split: f"{split}.jsonl" for split in ("train", "validation", "test")}
    task, student = {"type": "nli", "labels_from": "data"}, {"model": "smollm2-135m-instruct"}
    return tmp_path, {"name": "colours", "task": task, "data": data, "teacher": {"model": "echo"}, "student": student}


def test_a_dry_run_asks_nobody_writes_nothing_and_says_what_a_run_takes(job: tuple[Path, dict[str, Any]]) -> None:
    folder, spec = job
    with OpenAIStub(label) as stub:
        priced = endpoint(stub, price={"input_per_million": 1, "output_per_million": 2})
        (folder / "potstill.yaml").write_text(yaml.safe_dump(spec | {"teacher": priced, "generation": {"budget": {"calls": 30}}}))
        before = files(folder)
        lines = said(folder, "run")
        assert (stub.calls, files(folder)) == ([], before)
    assert lines["calls"].startswith("97; 24 for training rows, 4 for the evaluation, 5 for latency, 64 for throughput")
    assert "assumed" in lines["time"]
    assert "the high estimate passes 30 calls" in lines["budget"]
    assert said(folder, "generate")["calls"] == "24"


def test_worked_examples_are_read_with_each_question_and_their_answers_are_found_again(job: tuple[Path, dict[str, Any]]) -> None:
    folder, spec = job
    with OpenAIStub(label) as stub:
        (folder / "potstill.yaml").write_text(yaml.safe_dump(spec | {"teacher": endpoint(stub)}))
        plain = said(folder, "generate")["tokens"]
        more = ("--set", "generation.prompting.examples=3")
        told = said(folder, "generate", *more)["tokens"]
        read = [int(text.partition("; likely ")[2].partition(" read")[0].replace(",", "")) for text in (plain, told)]
        assert read[1] > 2 * read[0]
        run = ("generate", str(folder / "potstill.yaml"), "--runs", str(folder / "runs"), *more)
        stopped = CliRunner().invoke(app, [*run, "--set", "generation.budget.calls=20"])
        assert stopped.exit_code == 1
        assert said(folder, "generate", *more)["calls"] == "4"


def test_what_the_ledger_holds_is_not_counted_again_and_gives_the_speed(job: tuple[Path, dict[str, Any]]) -> None:
    folder, spec = job
    with OpenAIStub(label) as stub:
        spec |= {"teacher": endpoint(stub), "generation": {"budget": {"calls": 20}}}
        (folder / "potstill.yaml").write_text(yaml.safe_dump(spec))
        stopped = CliRunner().invoke(app, ["generate", str(folder / "potstill.yaml"), "--runs", str(folder / "runs")])
        assert stopped.exit_code == 1
        asked, before = len(stub.calls), files(folder / "runs")
        lines = said(folder, "generate", "--set", "generation.budget.calls=40")
        assert files(folder / "runs") == before
        assert asked == 20
    assert (lines["calls"], lines["ledger"].split()[0]) == ("4", "20")
    assert "measured" in lines["time"]
    assert "of which 20 calls" in lines["budget"]
    assert "holds the high estimate" in lines["budget"]


def test_check_says_the_same_as_a_dry_run(job: tuple[Path, dict[str, Any]]) -> None:
    folder, spec = job
    (folder / "potstill.yaml").write_text(yaml.safe_dump(spec))
    checked = CliRunner().invoke(app, ["check", str(folder / "potstill.yaml"), "--runs", str(folder / "runs")]).output
    for title in ("calls", "tokens", "dollars"):
        assert f"{title:<12}{said(folder, 'run')[title]}\n" in checked


def test_batches_are_counted_at_half_the_price(job: tuple[Path, dict[str, Any]]) -> None:
    folder, spec = job
    priced = {"model": "t", "base_url": NOWHERE, "price": {"input_per_million": 1e6, "output_per_million": 0}}
    (folder / "potstill.yaml").write_text(yaml.safe_dump(spec | {"teacher": priced}))
    live = said(folder, "generate")["dollars"]
    (folder / "potstill.yaml").write_text(yaml.safe_dump(spec | {"teacher": priced, "generation": {"mode": "batch"}}))
    half, _, words = said(folder, "generate")["dollars"].partition(", ")
    assert float(half.removeprefix("$")) == float(live.removeprefix("$").replace(",", "")) / 2
    assert words == "at half price in batches"


def test_problems_in_the_data_are_told_instead_of_figures(job: tuple[Path, dict[str, Any]]) -> None:
    folder, spec = job
    write(folder / "train.jsonl", [{"messages": "x"}])
    (folder / "potstill.yaml").write_text(yaml.safe_dump(spec))
    assert "`potstill check` lists" in said(folder, "run")["unknown"]


def test_the_teacher_s_own_prompting_is_counted_in_the_evaluation_unless_the_plain_question_is_asked(
    job: tuple[Path, dict[str, Any]],
) -> None:
    folder, spec = job
    (folder / "potstill.yaml").write_text(yaml.safe_dump(spec | {"teacher": {"model": "m", "base_url": "http://127.0.0.1:1/v1"}}))

    def tokens(*settings: str) -> int:
        lines = said(folder, "run", *itertools.chain.from_iterable(("--set", setting) for setting in settings))
        return int(lines["tokens"].partition("likely ")[2].split()[0].rstrip(",;").replace(",", ""))

    reasons = ("generation.prompting.strategy=chain_of_thought", "generation.prompting.reasoning_tokens=1000")
    taught, plain = tokens(*reasons), tokens(*reasons, "evaluation.teacher_prompting=plain")
    questions = 4 + 5 + 4 * 16  # of the evaluation, for latency, and for each level of throughput but the first
    assert questions * 500 < taught - plain < questions * 600, "half of the room for reasons, and the words that ask for them"


def test_endpoints_to_compare_with_are_counted_beside_the_teacher_and_their_answers_that_stand_in_the_budget(
    job: tuple[Path, dict[str, Any]],
) -> None:
    folder, spec = job
    with OpenAIStub(label) as stub:
        others = ["tfidf", {"model": "m", "name": "other", **endpoint(stub, price={"input_per_million": 10, "output_per_million": 0})}]
        priced = endpoint(stub, price={"input_per_million": 1, "output_per_million": 2})
        both = spec | {"teacher": priced, "evaluation": {"compare": others}}
        (folder / "potstill.yaml").write_text(yaml.safe_dump(both))
        lines = said(folder, "run")
    assert lines["calls"].startswith("170; 24 for training rows, 8 for the evaluation, 10 for latency, 128 for throughput")
    assert "73 to other" in lines["calls"]


def test_a_judge_of_the_evaluation_is_counted_with_both_orders_of_each_pair(job: tuple[Path, dict[str, Any]]) -> None:
    folder, spec = job
    with OpenAIStub() as stub:
        judge = endpoint(stub, price={"input_per_million": 10, "output_per_million": 0}) | {"model": "j", "rows": 3}
        summaries = spec | {"task": {"type": "summarization"}, "teacher": endpoint(stub), "evaluation": {"judge": judge}}
        (folder / "potstill.yaml").write_text(yaml.safe_dump(summaries))
        lines = said(folder, "run")
    assert "6 for the judge" in lines["calls"]
    assert "6 to j" in lines["calls"]
