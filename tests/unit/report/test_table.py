import copy
import io

import pytest

from potstill.report.table import comparison_table, headline, print_table, table_text


def row(content, name):
    table = comparison_table(content)
    [found] = [cells for cells in table.rows if cells[0].startswith(name)]
    return dict(zip(table.columns[1:], found[1:], strict=True))


def test_columns_are_the_systems_and_what_the_student_kept(content):
    assert comparison_table(content).columns == ("", "teacher", "baseline", "student", "student vs teacher")


def test_metrics_say_what_was_kept_with_its_interval(content):
    assert row(content, "ROUGE-L") == {
        "teacher": "0.200",
        "baseline": "0.001",
        "student": "0.168",
        "student vs teacher": "kept 84 % [78, 91]",
    }


def test_what_else_is_compared_with_has_the_student_s_lead_over_it_below_each_score(content):
    assert not any(cells[0].startswith("  student less") for cells in comparison_table(content).rows)
    systems, student = content["evaluation"]["systems"], content["evaluation"]["comparisons"]["rouge_l"]["student"]
    systems["lead"] = systems["sft"] = systems["baseline"]
    student["over_lead"] = {"value": -0.012, "interval": {"low": -0.03, "high": 0.006}, "undefined": 0.0}
    student["over_sft"] = {"value": 0.1, "interval": None, "undefined": 0.0}
    assert row(content, "  student less this one") == {
        "teacher": "",
        "baseline": "",
        "student": "",
        "lead": "−0.012 [−0.030, 0.006]",
        "sft": "",
        "student vs teacher": "",
    }


def test_agreement_is_that_of_the_others_with_the_teacher(content):
    assert row(content, "agreement") == {"teacher": "–", "baseline": "0.010", "student": "0.410", "student vs teacher": "–"}


@pytest.mark.parametrize(
    ("name", "student", "versus"),
    [
        ("latency p50", "1.00 s", "−60 %"),
        ("latency p95", "2.00 s", "−60 %"),
        ("time to first token", "250 ms", "−60 %"),
        ("tokens per answer", "20.0", "no change"),
        ("tokens/s after the first", "26.6", "1.90× faster"),
        ("parameters", "60.0 M", "−55 %"),
        ("weights in memory", "240 MB", "−55 %"),
        ("disk", "243 MB (float32)", "−55 %"),
    ],
)
def test_measures_say_what_was_saved(content, name, student, versus):
    assert row(content, name)["student"] == student
    assert row(content, name)["student vs teacher"] == versus


def test_unparsable_answers_have_a_row_where_there_are_some(content):
    assert row(content, "unparsable")["baseline"] == "3"
    content["evaluation"]["systems"]["baseline"]["unparsable"] = 0
    assert not any(cells[0].startswith(("unparsable", "failed")) for cells in comparison_table(content).rows)


def test_answers_that_were_cut_and_prompts_without_room_have_a_row_where_there_are_some(content):
    assert not any(cells[0].startswith(("answers cut", "of those")) for cells in comparison_table(content).rows)
    content["evaluation"]["systems"]["student"] |= {"unparsable": 5, "no_room": 4, "truncated": 7}
    assert row(content, "answers cut")["student"] == "7"
    assert row(content, "unparsable")["student"] == "5"
    assert row(content, "of those, no room")["student"] == "4"


def test_disk_is_compared_between_files_of_one_format_alone(content):
    sizes = content["evaluation"]["sizes"]
    sizes["teacher"]["shipped_bytes"] = 98_362_432
    assert row(content, "disk")["teacher"] == "541 MB (float32; 98.4 MB as published)"
    assert row(content, "disk")["student vs teacher"] == "−55 %"
    sizes["teacher"]["storage"] = "bfloat16"
    assert row(content, "disk")["student vs teacher"] == "–"


def test_a_rate_of_whole_calls_is_not_compared_with_one_of_writing_alone(content):
    teacher = content["timings"]["systems"]["teacher"]
    teacher["where"] = "over the wire"
    del teacher["first_token_s"]
    assert row(content, "tokens/s")["teacher"] == "14.0 (over the wire, whole calls)"
    assert row(content, "tokens/s")["student vs teacher"] == "–"
    assert row(content, "time to first token")["teacher"] == "not measured"


def test_what_was_not_measured_is_not_a_zero(content):
    content["evaluation"]["sizes"]["teacher"] = {"parameters": None, "weights_bytes": None, "disk_bytes": None}
    assert row(content, "parameters") == {
        "teacher": "not measured",
        "baseline": "60.0 M",
        "student": "60.0 M",
        "student vs teacher": "–",
    }


def test_an_endpoints_latency_is_marked_as_measured_over_the_wire(content):
    content["timings"]["systems"]["teacher"]["where"] = "over the wire"
    assert row(content, "latency p50")["teacher"] == "2.50 s (over the wire)"
    assert row(content, "latency p50")["student"] == "1.00 s"
    assert "over the wire" in headline(content)


def test_caption_says_how_it_was_measured(content):
    assert comparison_table(content).caption == (
        "60 test rows, greedy answers; [ ] 95 % intervals: paired bootstrap of rows, 10,000 resamples, seed 7; latency at batch 1, n = 12"
    )
    content["evaluation"] |= {"questions": 90, "groups": 45, "settings": content["evaluation"]["settings"] | {"unit": "group"}}
    assert "60 test rows (90 questions)" in comparison_table(content).caption
    assert "45 groups of rows" in comparison_table(content).caption
    assert "rough" not in comparison_table(content).caption


def test_caption_says_how_many_were_scored_where_not_all_were(content):
    content["evaluation"]["scored"] = 55
    assert "60 test rows, 55 of the 60 scored, greedy answers" in comparison_table(content).caption


def test_caption_warns_of_intervals_from_few_groups_and_says_why_there_are_none(content):
    content["evaluation"] |= {"groups": 19, "settings": content["evaluation"]["settings"] | {"unit": "group"}}
    assert (
        "paired bootstrap of 19 groups of rows, 10,000 resamples, seed 7; with fewer than 30 of them these are rough;"
        in comparison_table(content).caption
    )
    content["evaluation"]["groups"] = 9
    assert "; no intervals: 9 groups of rows are too few (10 at least); " in comparison_table(content).caption


def test_caption_says_why_a_retention_has_no_interval(content):
    retention = content["evaluation"]["comparisons"]["rouge_l"]["student"]["retention"]
    retention |= {"interval": None, "undefined": 0.04}
    assert "; no interval for what was kept of ROUGE-L: the teacher scores 0 in 4 % of resamples; " in comparison_table(content).caption
    retention["value"] = None
    assert "no interval for" not in comparison_table(content).caption


def test_headline_is_computed_from_the_figures(content):
    assert headline(content) == (
        "The student kept 84 % [78, 91] of its teacher's ROUGE-L, with 45 % of the teacher's parameters,"
        " and its median answer takes 60 % less time."
    )
    changed = copy.deepcopy(content)
    changed["evaluation"]["comparisons"]["rouge_l"]["student"]["retention"] = {"value": 0.5, "interval": None}
    changed["timings"]["systems"]["student"]["p50_s"] = 3.0
    assert headline(changed).startswith("The student kept 50 % of its teacher's ROUGE-L,")
    assert "takes 20 % more time" in headline(changed)


def test_headline_without_retention_gives_the_score(content):
    content["evaluation"]["comparisons"]["rouge_l"]["student"]["retention"]["value"] = None
    assert headline(content).startswith("The student scores 0.168 [0.150, 0.190] on ROUGE-L")


def test_headline_without_references_gives_the_agreement(content):
    content["evaluation"] |= {"primary": None, "metrics": {}, "comparisons": {}}
    assert headline(content).startswith("The student's agreement with its teacher is 0.410 [0.380, 0.440] (ROUGE-L)")


def test_headline_without_a_student_says_so(content):
    del content["evaluation"]["systems"]["student"]
    assert headline(content).startswith("The student was not measured")


def test_a_run_without_teacher_has_a_table_all_the_same(content):
    for part in (content["evaluation"]["systems"], content["evaluation"]["sizes"], content["timings"]["systems"]):
        del part["teacher"]
    content["evaluation"]["agreement"] = None
    content["evaluation"]["comparisons"]["rouge_l"]["student"].pop("retention")
    assert comparison_table(content).columns == ("", "baseline", "student", "student vs teacher")
    assert row(content, "ROUGE-L")["student vs teacher"] == "–"


def costs(teacher, student):
    each = {system: {"dollars": dollars, "how": "x"} for system, dollars in (("teacher", teacher), ("student", student))}
    whole = {"teacher_calls": 4.0, "judge_calls": 0.0, "machine": 1.0, "total": 5.0}
    paid = {"saving_per_1000": None, "break_even_requests": None, "break_even_days": None, "requests_per_day": None}
    return {"per_1000_requests": each, "distillation": whole, **paid}


def test_what_a_thousand_requests_cost_has_a_row_where_a_price_is_known(content):
    assert not any(cells[0].startswith("dollars") for cells in comparison_table(content).rows)
    content["cost"] = costs(2.0, 0.05)
    assert row(content, "dollars") == {"teacher": "$2.00", "baseline": "unknown", "student": "$0.05", "student vs teacher": "−98 %"}
    content["cost"] = costs(None, 0.0512)
    assert row(content, "dollars") == {"teacher": "unknown", "baseline": "unknown", "student": "$0.0512", "student vs teacher": "–"}
    content["cost"] = costs(None, None)
    assert not any(cells[0].startswith("dollars") for cells in comparison_table(content).rows)


def test_what_the_distillation_cost_stands_below_the_table(content):
    assert "distillation cost" not in table_text(content)
    content["cost"] = costs(2.0, 0.05)
    assert table_text(content).endswith("\nThe distillation cost $5.00 (teacher's answers $4.00, machine time $1.00).")


def test_throughput_is_that_of_the_best_level_and_says_which(content):
    systems = content["timings"]["systems"]
    assert not any(cells[0].startswith("most requests/s") for cells in comparison_table(content).rows)
    for system, rates in (("teacher", [0.4, 1.5]), ("student", [2.0, 12.34])):
        systems[system]["throughput"] = [{"concurrency": n, "requests_per_s": rate} for n, rate in zip((1, 8), rates, strict=True)]
    systems["teacher"]["where"] = "over the wire"
    assert row(content, "most requests/s") == {
        "teacher": "1.5 (8 at once, over the wire)",
        "baseline": "not measured",
        "student": "12.3 (8 at once)",
        "student vs teacher": "8.2× faster",
    }


def test_energy_that_nothing_counts_is_said_to_be_not_measured(content):
    assert set(row(content, "joules per request").values()) == {"not measured", "–"}


def test_memory_cold_load_and_energy_are_told_where_they_were_measured(content):
    assert not any(cells[0] in ("memory while answering", "cold load") for cells in comparison_table(content).rows)
    content["timings"]["systems"]["student"] |= {"peak_above_empty_bytes": 120_000_000, "energy_joules_per_request": 4.25, "load_s": 0.8}
    content["timings"]["systems"]["teacher"]["load_s"] = 2.0
    assert row(content, "cold load") == {
        "teacher": "2.00 s",
        "baseline": "not measured",
        "student": "800 ms",
        "student vs teacher": "−60 %",
    }
    assert row(content, "memory while answering")["student"] == "120 MB"
    assert row(content, "joules per request")["student"] == "4.25"
    assert row(content, "joules per request")["teacher"] == "not measured"


def test_plain_text_lines_up(content):
    lines = table_text(content).splitlines()
    end = lines[0].index("student vs teacher")
    assert lines[1].startswith("ROUGE-L")
    assert all(line[:end].endswith("  ") for line in lines[: len(comparison_table(content).rows) + 1] if len(line) > end)


def test_a_pipe_gets_plain_text(content, monkeypatch):
    pipe = io.StringIO()
    monkeypatch.setattr("sys.stdout", pipe)
    print_table(content)
    assert pipe.getvalue() == table_text(content) + "\n"


def test_a_terminal_gets_every_cell(content, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "140")
    print_table(content)
    for cells in comparison_table(content).rows:
        for cell in cells:
            assert cell in terminal.getvalue()


def goal(name, unit, wanted, found, verdict, *, margin=None):
    return {"goal": name, "unit": unit, "wanted": wanted, "margin": margin, "found": found, "verdict": verdict}


def test_goals_stand_in_the_table_with_their_verdicts_and_are_counted_in_the_headline(content):
    content["evaluation"]["goals"] = [
        goal("retention", "share", 0.92, 0.84, "fail", margin=0.01),
        goal("concurrent_users", "times", 10, None, "inconclusive"),
    ]
    assert row(content, "goal: retention ≥ 92 % − 1 %") == {"teacher": "", "baseline": "", "student": "84 %", "student vs teacher": "fail"}
    assert row(content, "goal: concurrent users ≥ 10×")["student"] == "–"
    assert headline(content).endswith(". Goals: 1 fail, 1 inconclusive.")
