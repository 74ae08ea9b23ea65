import pytest
from tests.full_report import full_report

from potstill.report import sections
from potstill.report.pictures import memory_key, systems_of, tradeoff_charts


@pytest.fixture
def report():
    return full_report()


def test_tiles_say_what_was_kept_and_saved(report):
    found = [(tile.figure, tile.what, tile.detail) for tile in sections.tiles(report)]
    assert found == [
        ("96 %", "of the teacher's Accuracy kept", "[93, 99] %"),
        ("−95 %", "median latency", "900 ms → 42 ms"),
        ("−95 %", "peak memory above the empty process", "6.8 GB → 312 MB"),
        ("−95 %", "on disk", "5.3 GB → 245 MB"),
        ("21×", "requests/s, at the best", "7.74 → 166"),
        ("−98 %", "cost of 1,000 requests", "$0.71 → $0.012"),
    ]


def test_a_teacher_over_the_wire_is_marked_and_gives_no_figure_that_it_does_not_have(report):
    report["timings"]["systems"]["teacher"] = {"where": "over the wire", "p50_s": 0.1, "n": 8}
    report["evaluation"]["sizes"]["teacher"] = dict.fromkeys(("parameters", "weights_bytes", "disk_bytes", "storage"))
    report["cost"]["per_1000_requests"]["teacher"]["dollars"] = None
    found = {tile.what: tile.detail for tile in sections.tiles(report)}
    assert found == {"of the teacher's Accuracy kept": "[93, 99] %", "median latency": "100 ms over the wire → 42 ms"}


def test_memory_is_compared_by_one_measure_that_both_have(report):
    assert memory_key(report) == "peak_above_empty_bytes"
    del report["timings"]["systems"]["teacher"]["peak_above_empty_bytes"]
    assert memory_key(report) == "weights_bytes"
    del report["evaluation"]["sizes"]["teacher"]["weights_bytes"]
    assert memory_key(report) == "peak_above_empty_bytes"


def test_others_stand_with_their_intervals_and_what_the_student_is_ahead_by(report):
    found = sections.others_grid(report)
    assert found.columns == ("", "metric", "score", "of the teacher's", "student less this one")
    assert found.rows[0] == ("TF-IDF + regression", "Accuracy", "0.740 [0.710, 0.770]", "80 % [77, 83]", "+0.140 [0.110, 0.170]")
    for compared in report["evaluation"]["comparisons"].values():
        compared["student"].pop("over_tfidf", None)
    assert sections.others_grid(report) is None


def test_costs_are_told_with_what_they_are_made_of(report):
    assert sections.cost_notes(report) == [
        "The distillation cost $7.55 (teacher's answers $6.40, judge $0.80, machine time $0.35); the student saves $0.698 per 1,000 requests,"
        " and that pays for it after 10,817 requests, 5.4 days at 2,000 a day."
    ]
    assert sections.cost_grid(report) is not None
    report["cost"] |= {"saving_per_1000": None}
    report["cost"]["distillation"]["total"] = None
    for found in report["cost"]["per_1000_requests"].values():
        found["dollars"] = None
    assert sections.cost_grid(report) is None


def test_leaks_are_counted_and_those_that_were_left_out_stand_apart(report):
    assert sections.leaks_grid(report).rows == (
        ("training rows like test rows", "0", "1", "1"),
        ("teacher's answers like test references", "0", "0", "0"),
    )
    report["leaks"]["train_test"]["left_out"] = {"exact": 2, "near": 0, "paraphrase": 0}
    report["leaks"]["train_test"]["examples"][0]["left_out"] = True
    assert sections.leaks_grid(report).rows[1] == ("found and left out before training", "2", "0", "0")
    [example] = sections.leak_examples(report)
    assert example == {
        "what": "training rows like test rows: near, similarity 0.96, left out",
        "train": "My card is lost.",
        "test": "My card is lost!",
    }


def test_an_artefact_is_named_by_as_much_of_its_hash_as_tells_it_apart(report):
    report["seal"]["openings"][0]["artefact"] = "0123456789abcdef" * 4
    assert [row[1] for row in sections.seal_grid(report).rows] == ["0123456789abcdef…", "export/gguf"]


def test_systems_of_one_title_are_told_apart(report):
    report["evaluation"]["systems"]["tfidf"]["title"] = "student"
    assert systems_of(report)[2] == ("student", "student (student)")
    assert systems_of(report)[4] == ("tfidf", "student (tfidf)")


def test_charts_mark_times_that_hold_a_network(report):
    report["timings"]["systems"]["teacher"]["where"] = "over the wire"
    latency, memory = tradeoff_charts(report)
    assert latency.rows[0][0] == "teacher (over the wire)"
    assert memory.rows[0][0] == "teacher"


def test_what_did_not_work_is_told(report):
    assert sections.failures(report) == [
        "Time saved by the median answer is 76 % [70, 80], 85 % or more wanted: fail.",
        "Accuracy is 0.88 [0.85, 0.91], 0.9 or more wanted: inconclusive; about 1,200 test questions would decide it (so far 300).",
        "4 of 300 answers of the student held no answer that could be read, and count as wrong.",
        "The label “wrong amount” kept clearly less than the whole: 70 % [62, 78], n = 50.",
        "3 training rows were left without an answer: their calls failed.",
        "12 rows hold the same prompt",
    ]


def test_distillation_that_did_not_help_is_told(report):
    report["distillation"] |= {"finding": "worse", "sentence": "No, it did harm."}
    assert "No, it did harm." in sections.failures(report)


def test_a_judge_that_decided_nothing_has_no_rates(report):
    assert any("win rate is 43 %" in note for note in sections.judge_notes(report))
    report["evaluation"]["judge"] |= {"win_rate": None, "position_flips": None, "agreement_with_references": None}
    [note] = sections.judge_notes(report)
    assert note.endswith("each shown in both orders.")


def test_a_judge_that_was_held_against_people_says_how_far_it_agrees(report):
    agreed = {"value": 0.8, "n": 20, "interval": {"low": 0.6, "high": 0.95}}
    kappa = {"value": 0.6, "n": 20, "interval": {"low": 0.3, "high": 0.85}}
    report["evaluation"]["judge"]["human"] = {"labelled": 30, "pairs": 20, "other_answers": 3, "agreement": agreed, "kappa": kappa}
    assert sections.judge_notes(report)[-2:] == [
        "People preferred whom the judge prefers in 80 % [60, 95] of pairs (Cohen's kappa 0.600 [0.300, 0.850]), n = 20.",
        "3 pairs that people compared do not count: the answers are others now.",
    ]
    report["evaluation"]["judge"]["human"] |= {"agreement": None, "kappa": None, "other_answers": 0}
    assert sections.judge_notes(report)[-1] == "None of the pairs that people compared was decided by the judge."


def test_a_report_of_an_earlier_version_has_no_such_tables(content):
    grids = (
        sections.others_grid,
        sections.tests_grid,
        sections.lm_eval_grid,
        sections.cost_grid,
        sections.seal_grid,
        sections.leaks_grid,
        sections.macro_grid,
    )
    assert [grid(content) for grid in grids] == [None] * 7
    assert (
        sections.seal_notes(content) + sections.cost_notes(content) + sections.judge_notes(content) + sections.leak_examples(content) == []
    )
