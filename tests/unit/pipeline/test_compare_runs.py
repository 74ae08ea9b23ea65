"""Evaluated runs side by side: differences are those of the rows, drawn together where the rows agree; seeds have a spread."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from evaluated_runs import answers, evaluated, questions
from typer.testing import CliRunner

from potstill.cli.main import app
from potstill.errors import DataError, StoreError, UsageError
from potstill.evaluation.resampling import Bootstrap
from potstill.evaluation.seeds import spread_of_seeds
from potstill.pipeline.compare_runs import compare_runs
from potstill.pipeline.compare_table import remarks, runs_table
from potstill.records import Message
from potstill.report.table import plain_text

ASKED = questions(80)
ALL_RIGHT = answers(ASKED, ())
POOR, GOOD = answers(ASKED, range(30)), answers(ASKED, range(20))
"""The good one is right wherever the poor one is, and ten times more."""


def run(folder, student=GOOD, asked=ASKED, **settings):
    return evaluated(folder, asked, {"teacher": answers(asked, ()), "student": student}, **settings)


@pytest.fixture
def pair(tmp_path):
    return [run(tmp_path / "poor", POOR), run(tmp_path / "good", GOOD)]


def test_the_difference_is_that_of_the_scores_and_its_interval_is_paired(pair):
    found = compare_runs(pair)
    difference = found["differences"]["good"]["accuracy"]
    assert (difference["how"], difference["rows"], difference["finding"]) == ("paired", [80, 80], "better")
    assert difference["value"] == pytest.approx(10 / 80)
    assert [found["runs"][title]["scores"]["accuracy"]["value"] for title in ("poor", "good")] == [50 / 80, 60 / 80]
    # Paired, one row's difference is 1 with probability 1/8 and else 0: its standard error, against that of two independent shares.
    length = difference["interval"]["high"] - difference["interval"]["low"]
    paired, unpaired = (np.sqrt(v / 80) for v in (1 / 8 * 7 / 8, 5 / 8 * 3 / 8 + 3 / 4 * 1 / 4))
    assert length == pytest.approx(2 * 1.96 * paired, rel=0.15)
    assert length < 2 * 1.96 * unpaired * 0.6


def test_a_run_is_no_better_than_one_that_answers_alike(tmp_path):
    found = compare_runs([run(tmp_path / "one"), run(tmp_path / "other")])
    interval = found["differences"]["other"]["accuracy"]["interval"]
    assert (interval["low"], interval["high"]) == (0.0, 0.0)
    assert found["differences"]["other"]["agreement"]["finding"] == "inconclusive"


def test_runs_on_other_questions_are_compared_unpaired_and_that_is_said(tmp_path):
    other = questions(60, "another")
    folders = [run(tmp_path / "one", POOR), run(tmp_path / "two", answers(other, range(6)), other)]
    found = compare_runs(folders)
    difference = found["differences"]["two"]["accuracy"]
    assert (difference["how"], difference["rows"]) == ("unpaired", [80, 60])
    length = difference["interval"]["high"] - difference["interval"]["low"]
    assert length == pytest.approx(2 * 1.96 * np.sqrt(5 / 8 * 3 / 8 / 80 + 0.9 * 0.1 / 60), rel=0.15)
    assert "two and one do not answer the same questions (60 and 80): their differences are unpaired" in "\n".join(remarks(found))


def test_runs_that_share_most_questions_are_compared_on_those(tmp_path):
    kept = ASKED[20:]
    folders = [run(tmp_path / "one", POOR), run(tmp_path / "two", answers(ASKED, ())[20:], kept)]
    found = compare_runs(folders)
    difference = found["differences"]["two"]["accuracy"]
    # Of the sixty that both answered, the first is wrong on ten.
    assert (difference["how"], difference["rows"], difference["value"]) == ("paired", [60, 60], pytest.approx(10 / 60))
    assert "share 60 of their questions (60 and 80)" in "\n".join(remarks(found))


def test_a_question_that_is_marked_otherwise_is_another_question(tmp_path):
    changed = [replace(question, references=("warm", "cold")) if i < 30 else question for i, question in enumerate(ASKED)]
    found = compare_runs([run(tmp_path / "one"), run(tmp_path / "two", asked=changed)])
    assert found["differences"]["two"]["accuracy"]["rows"] == [50, 50]


def test_another_instruction_before_the_same_questions_leaves_them_paired(tmp_path):
    def told(words):
        return [replace(question, messages=(Message("system", words), *question.messages)) for question in ASKED]

    found = compare_runs([run(tmp_path / "one", POOR, told("Be brief.")), run(tmp_path / "two", GOOD, told("Choose a label."))])
    difference = found["differences"]["two"]["accuracy"]
    assert (difference["how"], difference["rows"], difference["finding"]) == ("paired", [80, 80], "better")
    other = [replace(question, messages=(Message("user", f"{question.id}, really?"),)) for question in ASKED]
    found = compare_runs([run(tmp_path / "three", POOR), run(tmp_path / "four", GOOD, other)])
    assert found["differences"]["four"]["accuracy"]["how"] == "unpaired", "the same id with other words is another question"


def test_failed_calls_are_left_out_of_the_pairs_and_unparsable_answers_are_wrong(tmp_path):
    student = [None, "error", *GOOD[2:]]
    found = compare_runs([run(tmp_path / "one", POOR), run(tmp_path / "two", student)])
    difference = found["differences"]["two"]["accuracy"]
    assert difference["rows"] == [79, 79]
    assert difference["value"] == pytest.approx(10 / 79)


def test_the_system_that_is_compared_can_be_chosen(pair):
    found = compare_runs(pair, system="teacher")
    assert found["differences"]["good"]["accuracy"]["value"] == 0.0
    with pytest.raises(DataError, match=r"poor: `sft` was not evaluated there, only teacher, student; `--system`"):
        compare_runs(pair, system="sft")


def test_seeds_of_one_spec_are_told_apart_from_other_changes(tmp_path):
    folders = [run(tmp_path / f"s{seed}", answers(ASKED, range(20 + seed)), seed=seed) for seed in range(3)]
    folders.append(run(tmp_path / "longer", GOOD, seed=7, training={"epochs": 9}))
    found = compare_runs(folders)
    [group] = found["seeds"]
    assert (group["runs"], group["seeds"]) == (["s0", "s1", "s2"], [0, 1, 2])
    spread, values = group["metrics"]["accuracy"], [60 / 80, 59 / 80, 58 / 80]
    assert (spread["runs"], spread["mean"], spread["between_sd"]) == (
        3,
        pytest.approx(np.mean(values)),
        pytest.approx(np.std(values, ddof=1)),
    )
    assert spread["within_sd"] == pytest.approx(np.mean([np.sqrt(v * (1 - v) / 79) for v in values]), rel=0.1)
    assert found["settings"]["training.epochs"] == {"s0": 3.0, "s1": 3.0, "s2": 3.0, "longer": 9.0}
    assert set(found["settings"]) == {"seed", "training.epochs"}
    assert "s0, s1, s2 differ by their seed alone (0, 1, 2):" in remarks(found)


def test_a_spec_that_came_to_nothing_is_not_taken_for_the_one_of_the_figures(tmp_path):
    folders = [run(tmp_path / f"s{seed}", seed=seed) for seed in range(2)]
    text = (folders[1] / "spec.yaml").read_text()
    (folders[1] / "spec.yaml").write_text(text.replace("max_length: ", "max_length: 9"))
    found = compare_runs(folders)
    assert found["seeds"] == []
    assert "s1: its spec.yaml is not the one that its figures were made by" in "\n".join(remarks(found))


def draws_of(generator, truth, rows, seeds, resamples):
    """Figures of one experiment whose rows and seeds vary by known amounts, and resamples of its rows."""
    by_row = generator.normal(0.0, truth["row"], rows)
    by_seed = generator.normal(0.0, truth["seed"], seeds)
    scores = by_row[:, None] + by_seed[None, :]
    weights = generator.multinomial(rows, np.full(rows, 1 / rows), size=resamples) / rows
    return scores.mean(axis=0), weights @ scores


@pytest.mark.parametrize("truth", [{"row": 1.0, "seed": 0.05}, {"row": 0.3, "seed": 0.2}])
def test_the_interval_of_the_mean_over_seeds_covers_the_truth_as_often_as_it_says(truth):
    generator, covered = np.random.default_rng(3), 0
    for _ in range(150):
        values, draws = draws_of(generator, truth, 60, 4, 200)
        interval = spread_of_seeds(values, draws, 60, Bootstrap(200), same_rows=True).interval
        covered += interval.low <= 0.0 <= interval.high
    # Four standard errors; the two parts counted whole make it no narrower than it says.
    assert 0.95 - 4 * np.sqrt(0.05 * 0.95 / 150) <= covered / 150 <= 0.99


def test_where_rows_differ_between_trainings_what_lies_between_them_holds_the_rows_already():
    values, draws = np.array([0.5, 0.6, 0.7]), np.random.default_rng(0).normal(0.6, 0.1, (200, 3))
    own, same = (spread_of_seeds(values, draws, 50, Bootstrap(200), same_rows=same) for same in (False, True))
    reach = 4.3027 * 0.1 / np.sqrt(3)  # Student's quantile for two degrees of freedom
    assert own.interval.high - own.mean == pytest.approx(reach, rel=1e-3)
    assert (own.between_sd, own.within_sd) == (same.between_sd, same.within_sd)


def test_too_few_rows_give_a_spread_but_no_interval():
    assert spread_of_seeds(np.array([0.5, 0.6]), np.full((20, 2), 0.5), 9, Bootstrap(20), same_rows=True).interval is None


def test_what_cannot_be_compared_is_refused_with_what_to_do(tmp_path, pair):
    with pytest.raises(UsageError, match="name two runs or more"):
        compare_runs(pair[:1])
    with pytest.raises(UsageError, match="good: is named twice"):
        compare_runs([*pair, tmp_path / "poor" / ".." / "good"])
    other = run(tmp_path / "qa", task={"type": "qa"})
    with pytest.raises(DataError, match="qa has another task than poor, and cannot be compared with it: poor is nli, qa is qa"):
        compare_runs([pair[0], other])
    more = run(tmp_path / "more", task={"type": "nli", "labels": ["cold", "hot", "warm"]})
    with pytest.raises(DataError, match="they do not have the same labels: only one has hot"):
        compare_runs([pair[0], more])
    record = pair[1] / "evaluation" / "stage.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "state": "started"}))
    with pytest.raises(StoreError, match=r"good: has not been evaluated: its stage `evaluate` is not finished; `potstill evaluate SPEC`"):
        compare_runs(pair)


def call(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], catch_exceptions=False)


def test_the_table_has_a_column_a_run_and_a_row_for_what_differs(tmp_path, pair):
    run(tmp_path / "long", GOOD, training={"epochs": 9})
    printed = call("poor", "good", "long", "--runs", tmp_path).output
    lines = {line[:30].strip(): line for line in printed.splitlines()}
    assert printed.splitlines()[0].split() == ["poor", "good", "long"]
    assert "0.625 [" in lines["Accuracy"]
    assert "+0.125 [" in lines["less poor"]
    assert "better" in lines["less poor"]
    assert lines["training.epochs"].split()[1:] == ["3.0", "3.0", "9.0"]
    assert lines["distillation: teacher's calls"].split()[-3:] == ["$1.25"] * 3
    assert "do not all say on which machine they were made" in printed
    assert "paired" in printed


def test_json_is_all_that_was_found(tmp_path, pair):
    assert json.loads(call(*pair, "--json").output) == json.loads(json.dumps(compare_runs(pair)))


def test_runs_of_one_name_are_told_apart_by_what_stands_above(tmp_path, pair):
    shutil.copytree(pair[0], tmp_path / "old" / "poor")
    found = compare_runs([tmp_path / "old" / "poor", tmp_path / "poor"])
    assert list(found["runs"]) == ["old/poor", f"{tmp_path.name}/poor"]
    assert "old/poor" in plain_text(runs_table(found))


def test_labels_in_another_order_are_the_same_task_and_marked_by_each_runs_own(tmp_path):
    turned = {"type": "nli", "labels": ["warm", "cold"]}
    found = compare_runs([run(tmp_path / "one", POOR), run(tmp_path / "two", POOR, task=turned)])
    assert found["differences"]["two"]["macro_f1"]["value"] == pytest.approx(0.0, abs=1e-12)
    assert found["differences"]["two"]["macro_f1"]["how"] == "paired"


def test_titles_leave_out_what_tells_nothing(tmp_path):
    folders = [run(tmp_path / place / "runs" / "docs") for place in ("morning", "evening")]
    assert list(compare_runs(folders)["runs"]) == ["morning/…/docs", "evening/…/docs"]
