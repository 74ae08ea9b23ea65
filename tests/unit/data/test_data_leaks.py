"""The leak report counts what is learnt of the test, each row once by the plainest kind, and shows it."""

from pathlib import Path

import pytest
from rows_at_hand import chat, sentences, spec_for, write_jsonl

from potstill.data import stage
from potstill.data.inspect import inspect_data
from potstill.data.leaks import EXAMPLES, find_leaks
from potstill.records import Example, Message
from potstill.store.atomic import read_json
from potstill.store.run import open_run

TEXTS = sentences(40, seed=4)


def reordered(text: str) -> str:
    """The same words, no three of them in a row as they were."""
    words = text.split()
    return " ".join([*words[1::2], *words[::2]])


def files(folder: Path) -> dict[str, object]:
    """A test of ten rows; of sixteen training rows one stands in it, one nearly, and two in another order."""
    train = [*TEXTS[10:22], TEXTS[0].upper(), f"{TEXTS[1]} zzz", reordered(TEXTS[2]), reordered(TEXTS[3])]
    return {
        "train": write_jsonl(folder / "train.jsonl", [chat(text, id=f"t{number}") for number, text in enumerate(train)]),
        "validation": write_jsonl(folder / "validation.jsonl", [chat(text) for text in TEXTS[30:33]]),
        "test": write_jsonl(folder / "test.jsonl", [chat(text, id=f"e{number}") for number, text in enumerate(TEXTS[:10])]),
    }


def leaks_of(folder: Path, **data: object) -> dict:
    run = open_run(spec_for(folder, {**files(folder), **data}), folder / "run")
    stage.work(run, resumed=False)
    return read_json(run.path("data", "leaks.json"))["train_test"]


def counts(leaks: dict) -> tuple[int, ...]:
    return tuple(leaks[kind] for kind in ("exact", "near", "paraphrase"))


def test_copies_that_are_left_out_are_not_learnt_and_paraphrases_are(tmp_path: Path) -> None:
    leaks = leaks_of(tmp_path, test_duplicates="drop")
    assert counts(leaks) == (0, 0, 2)
    assert leaks["left_out"] == {"exact": 1, "near": 1, "paraphrase": 0}
    assert leaks["compared"] == {"learnt": 14, "test": 10, "for_paraphrases": [14, 10]}


def test_copies_that_are_allowed_are_leaks_and_are_counted_once(tmp_path: Path) -> None:
    leaks = leaks_of(tmp_path, test_duplicates="allow")
    assert counts(leaks) == (1, 1, 2)
    assert leaks["left_out"] == {"exact": 0, "near": 0, "paraphrase": 0}
    assert leaks["compared"] == {"learnt": 16, "test": 10, "for_paraphrases": [14, 10]}


def test_each_example_shows_both_texts_and_whose_they_are(tmp_path: Path) -> None:
    examples = leaks_of(tmp_path, test_duplicates="allow")["examples"]
    assert [(e["kind"], e["train_id"], e["test_id"]) for e in examples] == [
        ("exact", "t12", "e0"),
        ("near", "t13", "e1"),
        ("paraphrase", "t14", "e2"),
        ("paraphrase", "t15", "e3"),
    ]
    assert [(e["train"], e["test"]) for e in examples[:2]] == [(TEXTS[0].upper(), TEXTS[0]), (f"{TEXTS[1]} zzz", TEXTS[1])]
    assert examples[0]["similarity"] == 1.0 > examples[1]["similarity"]
    assert all(example["similarity"] == pytest.approx(1.0, abs=1e-3) for example in examples[2:]), "the same words in another order"


def test_paraphrases_are_told_before_anything_is_paid(tmp_path: Path) -> None:
    report = inspect_data(spec_for(tmp_path, {**files(tmp_path), "test_duplicates": "drop"}))
    assert any("may say in other words what test rows say: 2 of 14" in notice for notice in report.notices)


def test_where_copies_stop_the_run_nothing_more_is_looked_for(tmp_path: Path) -> None:
    assert "train_test" not in str(inspect_data(spec_for(tmp_path, files(tmp_path))).notices)


def answered(number: int, *answers: str) -> Example:
    turns = [turn for answer in answers for turn in (Message("user", "?"), Message("assistant", answer))]
    return Example(f"a{number}", tuple(turns), trained_turns=tuple(range(1, len(turns), 2)))


def said(row: Example) -> list[str]:
    return [row.messages[turn].content for turn in row.trained_turns]


def answer_leaks(*rows: Example) -> dict:
    return find_leaks(rows, said, [(f"q{number}", text) for number, text in enumerate(TEXTS[:10])], 0.8).to_json()


def test_answers_that_stand_among_the_references_are_counted_by_kind() -> None:
    rows = [
        answered(0, TEXTS[20], TEXTS[4].upper()),
        answered(1, f"{TEXTS[5]} zzz"),
        answered(2, reordered(TEXTS[6])),
        answered(3, TEXTS[21]),
    ]
    leaks = answer_leaks(*rows)
    assert counts(leaks) == (1, 1, 1)
    assert [(e["train_id"], e["test_id"]) for e in leaks["examples"]] == [("a0", "q4"), ("a1", "q5"), ("a2", "q6")]
    assert leaks["compared"] == {"learnt": 5, "test": 10, "for_paraphrases": [5, 10]}


def test_labels_are_not_compared() -> None:
    leaks = find_leaks([answered(0, "yes"), answered(1, TEXTS[0])], said, [("q", "yes"), ("r", "no")], 0.8).to_json()
    assert (counts(leaks), leaks["compared"]) == ((0, 0, 0), {"learnt": 0, "test": 0, "for_paraphrases": [0, 0]})


def test_few_examples_of_many_leaks_are_kept() -> None:
    leaks = answer_leaks(*(answered(number, TEXTS[0]) for number in range(3 * EXAMPLES)))
    assert (leaks["exact"], len(leaks["examples"])) == (3 * EXAMPLES, EXAMPLES)
