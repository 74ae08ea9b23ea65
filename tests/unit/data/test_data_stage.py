"""The data stage: three sealed splits from any files, the same ones each time, and every doubt said aloud."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows_at_hand import chat, sentences, spec_for, write_jsonl

from potstill.data import stage
from potstill.data.inspect import inspect_data
from potstill.data.labels import load_labels
from potstill.data.splits import open_held_out, open_split, open_test
from potstill.errors import DataError, SealedTestError
from potstill.spec import RunSpec
from potstill.store.events import Event, Noticed
from potstill.store.run import Run, open_run

LABELLED = {"type": "nli", "labels_from": "data"}


def labelled(count: int = 30) -> list[dict[str, object]]:
    return [chat(text, reference=("yes", "no")[number % 2]) for number, text in enumerate(sentences(count))]


def prepare(spec: RunSpec, folder: Path) -> tuple[Run, str, list[str]]:
    events: list[Event] = []
    run = open_run(spec, folder, (events.append,))
    summary = stage.work(run, resumed=False)
    return run, summary, [event.text for event in events if isinstance(event, Noticed)]


def written(run: Run, name: str) -> Any:
    return json.loads(run.path("data", name).read_text())


def test_missing_splits_are_split_off_and_counted(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", [chat(text, reference="x") for text in sentences(100)])
    run, summary, _ = prepare(spec_for(tmp_path, {"train": train}), tmp_path / "run")
    assert summary == "100 rows: 80 train, 10 validation, 10 test"
    assert all(path.exists() for path in stage.outputs(run))
    ids = [row.id for split in ("train", "validation") for row in open_split(run, split, "training")]
    ids += [row.id for row in open_test(run, "evaluation", artefact="a", settings=0)]
    assert sorted(ids) == sorted(f"train-{line}" for line in range(1, 101))
    manifest = written(run, "manifest.json")
    assert manifest["rows"] == manifest["with_reference"] == {"train": 80, "validation": 10, "test": 10}
    assert manifest["split_off"] == {"test": 0.1, "validation": 0.1}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=12, max_size=40).filter(lambda groups: len(set(groups)) > 3), st.integers(0, 3))
def test_splits_are_a_partition_that_tears_no_group(tmp_path_factory: pytest.TempPathFactory, groups: list[int], seed: int) -> None:
    folder = tmp_path_factory.mktemp("run")
    texts = sentences(len(groups))
    train = write_jsonl(folder / "t.jsonl", [chat(text, group=f"g{group}") for text, group in zip(texts, groups, strict=True)])
    report = inspect_data(spec_for(folder, {"train": train}, seed=seed))
    assert not report.problems
    homes = {split: {row.group for row in rows} for split, rows in report.splits.items()}
    assert not homes["train"] & homes["test"]
    assert not homes["train"] & homes["validation"]
    assert not homes["validation"] & homes["test"]
    assert sum(report.counts.values()) == len(groups)
    assert all(report.counts.values())


def test_the_same_inputs_give_the_same_files(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", labelled())
    files = []
    for name in ("a", "b"):
        run, _, _ = prepare(spec_for(tmp_path, {"train": train}, LABELLED), tmp_path / name)
        files.append([path.read_bytes() for path in stage.outputs(run)])
    assert files[0] == files[1]


def test_the_stage_stands_until_content_seed_or_labels_change(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", labelled())
    run, _, _ = prepare(spec_for(tmp_path, {"train": train}, LABELLED), tmp_path / "run")
    inputs = stage.inputs(run)
    record = run.stage("data")
    record.finish(inputs, stage.outputs(run))
    assert record.stands(stage.inputs(run))
    moved = train.rename(tmp_path / "moved.jsonl")
    assert record.stands(stage.inputs(Run(spec_for(tmp_path, {"train": moved}, LABELLED), run.folder, run.events)))
    assert not record.stands(stage.inputs(Run(spec_for(tmp_path, {"train": moved}, LABELLED, seed=1), run.folder, run.events)))
    moved.write_text(moved.read_text().replace("yes", "yep"))
    assert not record.stands(stage.inputs(Run(spec_for(tmp_path, {"train": moved}, LABELLED), run.folder, run.events)))


def test_the_test_rows_are_sealed(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", [chat(text) for text in sentences(30)])
    run, _, _ = prepare(spec_for(tmp_path, {"train": train}), tmp_path / "run")
    for purpose in ("generation", "training", "Evaluation", ""):
        with pytest.raises(SealedTestError, match="sealed until evaluation"):
            open_test(run, purpose, artefact="a", settings=0)
    assert [len(open_test(run, purpose, artefact="a", settings=0)) for purpose in ("evaluation", "parity")] == [3, 3]


def test_hashes_tell_that_a_text_is_sealed_without_opening_the_seal(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", [chat(text) for text in sentences(30)])
    run, _, _ = prepare(spec_for(tmp_path, {"train": train}), tmp_path / "run")
    assert run.path("data", "contamination.npz") in stage.outputs(run)
    hidden = [row.messages[0].content for row in open_test(run, "evaluation", artefact="a", settings=0)]
    run.path("data", "test.jsonl").unlink()
    held_out = open_held_out(run)
    assert held_out is not None
    matches = [held_out.find(text) for text in hidden]
    assert [(match.split, match.row) for match in matches if match] == [("test", 1), ("test", 2), ("test", 3)]
    assert not any(held_out.find(row.messages[0].content) for row in open_split(run, "train", "training"))


def test_nothing_is_compared_where_test_rows_may_be_learnt(tmp_path: Path) -> None:
    run, _, _ = prepare(spec_for(tmp_path, {**leaking(tmp_path), "test_duplicates": "allow"}), tmp_path / "run")
    assert open_held_out(run) is None


def test_hashes_that_are_not_there_are_named(tmp_path: Path) -> None:
    run = open_run(spec_for(tmp_path, {"train": tmp_path / "t.jsonl"}), tmp_path / "run")
    with pytest.raises(DataError, match="have not been hashed; `potstill run` does it"):
        open_held_out(run)


def test_splits_that_are_not_prepared_are_named(tmp_path: Path) -> None:
    run = open_run(spec_for(tmp_path, {"train": tmp_path / "t.jsonl"}), tmp_path / "run")
    with pytest.raises(DataError, match="the train rows have not been prepared"):
        open_split(run, "train", "training")


def leaking(folder: Path) -> dict[str, object]:
    texts = sentences(30)
    return {
        "train": write_jsonl(folder / "train.jsonl", [chat(text) for text in texts[:20]]),
        "validation": write_jsonl(folder / "validation.jsonl", [chat(texts[20]), chat(texts[1].upper())]),
        "test": write_jsonl(folder / "test.jsonl", [chat(texts[25]), chat(texts[0].title())]),
    }


def test_a_leak_into_the_test_is_fatal_and_listed(tmp_path: Path) -> None:
    run = open_run(spec_for(tmp_path, leaking(tmp_path)), tmp_path / "run")
    with pytest.raises(
        DataError, match=r"train rows that stand in test too: 1 \(1 exactly, 0 nearly\), first .*train.jsonl:1 and .*test.jsonl:2"
    ):
        stage.work(run, resumed=False)
    leaks = written(run, "leaks.json")
    assert [example["id"] for example in leaks["examples"] if example["other_split"] == "test"] == ["train-1"]
    assert not run.path("data", "train.jsonl").exists()


def test_leaks_are_dropped_from_train_where_that_is_asked(tmp_path: Path) -> None:
    run, summary, notices = prepare(spec_for(tmp_path, {**leaking(tmp_path), "test_duplicates": "drop"}), tmp_path / "run")
    assert summary == "23 rows: 19 train, 2 validation, 2 test; 1 duplicate left out"
    assert "train-1" not in [row.id for row in open_split(run, "train", "training")]
    assert written(run, "manifest.json")["duplicates_left_out"] == {"train": 1}
    assert any("stand in validation too" in notice for notice in notices)


def test_leaks_are_kept_where_that_is_asked(tmp_path: Path) -> None:
    _, summary, notices = prepare(spec_for(tmp_path, {**leaking(tmp_path), "test_duplicates": "allow"}), tmp_path / "run")
    assert summary == "24 rows: 20 train, 2 validation, 2 test"
    assert any("stand in test too" in notice for notice in notices)


def test_duplicates_within_the_file_that_is_split_are_no_error(tmp_path: Path) -> None:
    texts = sentences(40, words=40)
    rows = [chat(text) for text in texts] + [chat(text.upper()) for text in texts] + [chat(f"{text} indeed") for text in texts]
    run, _, _ = prepare(spec_for(tmp_path, {"train": write_jsonl(tmp_path / "t.jsonl", rows)}), tmp_path / "run")
    leaks, manifest = written(run, "leaks.json"), written(run, "manifest.json")
    assert all(pair["exact"] == 0 for pair in leaks["pairs"]), "copies stay together"
    assert manifest["duplicates_left_out"]["train"] > 0, "near copies are left out of train"
    again = inspect_data(
        spec_for(
            tmp_path,
            {
                "train": run.path("data", "train.jsonl"),
                "validation": run.path("data", "validation.jsonl"),
                "test": run.path("data", "test.jsonl"),
            },
        )
    )
    assert not again.problems


def near_copies(folder: Path) -> Path:
    texts = sentences(40, words=40)
    return write_jsonl(folder / "t.jsonl", [chat(text) for text in texts] + [chat(f"{text} indeed") for text in texts])


def test_an_error_that_is_asked_for_is_one_where_the_test_is_split_off_too(tmp_path: Path) -> None:
    train = near_copies(tmp_path)
    asked = inspect_data(spec_for(tmp_path, {"train": train, "test_duplicates": "error"}))
    assert any("stand in test too" in problem for problem in asked.problems)
    assert not inspect_data(spec_for(tmp_path, {"train": train})).problems


def test_near_copies_in_the_test_are_fatal_however_many_the_training_rows_hold(tmp_path: Path) -> None:
    base = "please tell me how the quick brown fox jumps over the lazy dog near the river bank today number"
    files = {
        "train": [*sentences(80), *(f"{base} {text.split()[0]}" for text in sentences(15, seed=1))],
        "validation": sentences(5, seed=2),
        "test": [*sentences(5, seed=3), f"{base} zzz"],
    }
    paths = {split: write_jsonl(tmp_path / f"{split}.jsonl", map(chat, texts)) for split, texts in files.items()}
    assert "train rows that stand in test too: 15 (0 exactly, 15 nearly)" in inspect_data(spec_for(tmp_path, paths)).problems[0]


def test_a_template_is_said_to_be_left_out_of_the_comparison(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "t.jsonl", [chat(f"Sum up in one sentence what follows here : {text}") for text in sentences(30)])
    notices = inspect_data(spec_for(tmp_path, {"train": train})).notices
    assert any('three-word runs that many rows share, such as "in one sentence"' in notice for notice in notices)


def test_a_common_question_about_different_passages_is_no_duplicate(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "system", "content": text}, {"role": "user", "content": "Who did it?"}]} for text in sentences(30, words=30)
    ]
    split = inspect_data(spec_for(tmp_path, {"train": write_jsonl(tmp_path / "t.jsonl", rows)}, {"type": "qa"}))
    assert (split.problems, split.counts) == ((), {"train": 24, "validation": 3, "test": 3})
    files = {
        name: write_jsonl(tmp_path / f"{name}.jsonl", rows[10 * number : 10 * number + 10])
        for number, name in enumerate(("train", "validation", "test"))
    }
    given = inspect_data(spec_for(tmp_path, files, {"type": "qa"}))
    assert not given.problems
    assert any("train rows that ask what rows of test ask, under another system prompt: 10" in notice for notice in given.notices)


def test_one_system_prompt_in_one_file_alone_hides_no_duplicate(tmp_path: Path) -> None:
    texts = sentences(9)
    rows = [{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]} for text in texts]
    files = {
        "train": write_jsonl(tmp_path / "train.jsonl", rows[:5]),
        "validation": write_jsonl(tmp_path / "validation.jsonl", rows[6:]),
        "test": write_jsonl(tmp_path / "test.jsonl", [chat(texts[0]), chat(texts[5])]),
    }
    assert "train rows that stand in test too: 1 (1 exactly" in inspect_data(spec_for(tmp_path, files)).problems[0]


def test_one_large_group_leaves_a_group_for_each_split(tmp_path: Path) -> None:
    rows = [chat(text, group="big" if number < 90 else f"g{number}") for number, text in enumerate(sentences(100))]
    report = inspect_data(spec_for(tmp_path, {"train": write_jsonl(tmp_path / "t.jsonl", rows)}))
    assert not report.problems
    assert report.counts == {"train": 90, "validation": 1, "test": 9}


def test_columns_without_a_table_are_said_to_be_unused(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "t.jsonl", [chat(text) for text in sentences(30)])
    notices = inspect_data(spec_for(tmp_path, {"train": train, "columns": {"completion": "gold"}})).notices
    assert any("`data.columns` names columns of CSV and Parquet files, and no file is one" in notice for notice in notices)
    assert not inspect_data(spec_for(tmp_path, {"train": train})).notices


def test_weights_that_are_not_followed_are_counted_with_their_first_line(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [chat(text) for text in sentences(30)]
    for number in (4, 9):
        rows[number]["messages"].append({"role": "assistant", "content": "No.", "weight": 0})
    train = write_jsonl(tmp_path / "t.jsonl", rows)
    (notice,) = inspect_data(spec_for(tmp_path, {"train": train})).notices
    assert notice.endswith("t.jsonl: 2 rows, first on line 5: the last assistant turn has `weight` 0 and is not taken for the reference")


def test_groups_in_two_given_files_are_said(tmp_path: Path) -> None:
    texts = sentences(6)
    files = {
        split: write_jsonl(tmp_path / f"{split}.jsonl", [chat(text, group="g") for text in texts[2 * number : 2 * number + 2]])
        for number, split in enumerate(("train", "validation", "test"))
    }
    assert any("groups with rows in train and in test: 1" in notice for notice in inspect_data(spec_for(tmp_path, files)).notices)


def test_labels_come_from_the_training_rows_alone(tmp_path: Path) -> None:
    rows = labelled()
    files = {
        "train": write_jsonl(tmp_path / "train.jsonl", rows[:20]),
        "validation": write_jsonl(tmp_path / "validation.jsonl", rows[20:25]),
        "test": write_jsonl(tmp_path / "test.jsonl", [chat("A question of another kind", reference="maybe")]),
    }
    run, summary, notices = prepare(spec_for(tmp_path, files, LABELLED), tmp_path / "run")
    assert load_labels(run) == ("no", "yes")
    assert summary.endswith("; 2 labels")
    assert (
        "test rows with labels that no training row has: 1 (maybe); the student cannot learn them, and their answers count as wrong"
        in notices
    )


def test_given_labels_keep_their_spelling(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", labelled())
    run, _, _ = prepare(spec_for(tmp_path, {"train": train}, {"type": "nli", "labels": ["Yes", "No"]}), tmp_path / "run")
    assert load_labels(run) == ("Yes", "No")
    assert {row.reference[0] for row in open_split(run, "train", "training")} == {"Yes", "No"}


def test_other_tasks_have_no_labels(tmp_path: Path) -> None:
    assert load_labels(open_run(spec_for(tmp_path, {"train": tmp_path / "t.jsonl"}), tmp_path / "run")) == ()


ROWS = [chat(text) for text in sentences(30)]
FAULTS: list[tuple[str, list[dict[str, object]], Mapping[str, object], Mapping[str, object], str]] = [
    ("no references", ROWS, LABELLED, {}, "`labels_from: data` finds no labels: no training row has a reference"),
    ("one label", [{**row, "reference": "yes"} for row in ROWS], LABELLED, {}, '`labels_from: data` finds one label alone, "yes"'),
    (
        "twin labels",
        [{**row, "reference": ("yes", "Yes")[n % 2]} for n, row in enumerate(ROWS)],
        LABELLED,
        {},
        'case alone: "Yes" and "yes"',
    ),
    (
        "foreign label",
        [{**ROWS[0], "reference": "yess"}, *ROWS],
        {"type": "nli", "labels": ["yes", "no"]},
        {},
        ':1: reference "yess" is not one',
    ),
    (
        "text for a letter",
        [{**ROWS[0], "reference": "Paris"}, *ROWS],
        {"type": "qa", "answer": "choice"},
        {},
        ':1: reference "Paris" is no letter of a choice; write the letter (B), or set `task.answer: open`',
    ),
    (
        "a letter that is no option",
        [chat("Where?\nA. Paris\nB. Rome", reference="C"), *ROWS],
        {"type": "qa", "answer": "choice"},
        {},
        ':1: reference "C": C is not among the options A, B',
    ),
    ("its hint", [{**ROWS[0], "reference": "yess"}, *ROWS], {"type": "nli", "labels": ["yes", "no"]}, {}, 'did you mean "yes"?'),
    ("no hint", [{**ROWS[0], "reference": "?"}, *ROWS], {"type": "nli", "labels": ["yes", "no"]}, {}, "the labels: yes, no"),
    (
        "too few rows",
        ROWS[:2],
        {"type": "qa"},
        {},
        "2 rows in 2 groups are too few to split off test and validation; 3 groups are the least",
    ),
    ("one group", [{**row, "group": "g"} for row in ROWS], {"type": "qa"}, {}, "30 rows in 1 group are too few"),
    ("no share", ROWS, {"type": "qa"}, {"test_fraction": 0}, "data.test_fraction is 0 and data.test names no file"),
    ("too large shares", ROWS, {"type": "qa"}, {"test_fraction": 0.5, "validation_fraction": 0.6}, "leave nothing to train on"),
    ("bad rows", [{"prompt": 3}, *ROWS], {"type": "qa"}, {}, ':1: "prompt" is a number, must be text'),
    ("nothing good", [{"prompt": 3}], {"type": "qa"}, {}, ':1: "prompt" is a number, must be text'),
]


@pytest.mark.parametrize(("rows", "task", "data", "message"), [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS])
def test_bad_data_stops_the_stage_and_is_listed_by_the_check(
    tmp_path: Path, rows: list[dict[str, object]], task: Mapping[str, object], data: Mapping[str, object], message: str
) -> None:
    spec = spec_for(tmp_path, {"train": write_jsonl(tmp_path / "train.jsonl", rows), **data}, task)
    with pytest.raises(DataError) as caught:
        stage.work(open_run(spec, tmp_path / "run"), resumed=False)
    assert message in str(caught.value)
    report = inspect_data(spec)
    assert report.problem_count == len(report.problems) == 1
    assert message in report.problems[0]


def test_the_check_lists_the_problems_of_all_files(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", [{"prompt": 3}, *ROWS])
    spec = spec_for(tmp_path, {"train": train, "validation": tmp_path / "none.jsonl", "test": tmp_path})
    problems = inspect_data(spec).problems
    assert [text.split(": ", 1)[1][:20] for text in problems] == ['"prompt" is a number', "there is no such fil", "is a folder; name a "]


def test_a_missing_file_stops_the_stage_before_its_inputs_are_hashed(tmp_path: Path) -> None:
    run = open_run(spec_for(tmp_path, {"train": tmp_path / "none.jsonl"}), tmp_path / "run")
    with pytest.raises(DataError, match=r"none\.jsonl: there is no such file; check the path under `data` in the spec"):
        stage.inputs(run)


def test_the_check_reports_lengths_labels_and_references(tmp_path: Path) -> None:
    rows = labelled(40)
    report = inspect_data(spec_for(tmp_path, {"train": write_jsonl(tmp_path / "train.jsonl", rows)}, LABELLED))
    assert report.counts == report.with_reference == {"train": 32, "validation": 4, "test": 4}
    assert sum(report.label_counts.values()) == 32
    assert all(lengths[50] <= lengths[95] <= lengths[100] for lengths in report.prompt_characters.values())
    assert max(lengths[100] for lengths in report.prompt_characters.values()) == max(len(text) for text in sentences(40))
