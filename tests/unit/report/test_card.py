import re

import pytest
import yaml

from potstill.report.card import render_card
from potstill.report.table import comparison_table, headline


def front_of(content):
    return yaml.safe_load(render_card(content).split("---\n", 2)[1])


def section(content, title):
    """The lines below a heading, up to the next one."""
    lines = render_card(content).splitlines()
    start = lines.index(title) + 1
    end = next((number for number in range(start, len(lines)) if lines[number].startswith("#")), len(lines))
    return [line for line in lines[start:end] if line]


def test_card_begins_with_front_matter_that_the_hub_reads(content):
    card = render_card(content)
    _, front, text = card.split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "transformers"
    [result] = front["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "rouge", "name": "ROUGE-L", "value": 0.168}]
    assert headline(content) in text


def test_card_names_no_base_model_that_the_hub_does_not_know(content):
    content["models"]["student"] = {"hub_id": None, "licence": None, "distillation": None}
    assert not {"base_model", "base_model_relation", "license"} & set(front_of(content))


def test_cards_table_has_as_many_cells_in_each_row(content):
    rows = [line for line in render_card(content).splitlines() if line.startswith("|")]
    assert len(rows) == len(comparison_table(content).rows) + 2
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1


def test_the_hub_s_own_library_reads_the_front_matter_and_gives_it_back(content):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard(render_card(content), ignore_metadata_errors=False)
    assert card.data.to_dict() == front_of(content)
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_name, result.metric_value) == ("rouge", "ROUGE-L", 0.168)
    assert (result.task_type, result.dataset_name) == ("text-generation", "docstrings test split (60 rows)")
    assert card.data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert card.text.strip().startswith("# docstrings")


def test_metrics_go_by_the_names_that_the_hub_knows(content):
    student = content["evaluation"]["systems"]["student"]["scores"]
    for name in ("rouge_1", "macro_f1", "house_metric"):
        student[name] = dict(student["rouge_l"])
        content["evaluation"]["metrics"][name] = {"title": name, "higher_is_better": True}
    assert front_of(content)["metrics"] == ["rouge", "f1", "house_metric"]


def test_goals_are_told_with_their_verdicts_where_there_are_some(content):
    assert "## Goals" not in render_card(content)
    content["evaluation"]["goals"] = [
        {
            "verdict": "inconclusive",
            "goal": "retention",
            "unit": "share",
            "wanted": 0.92,
            "margin": None,
            "found": 0.84,
            "sentence": "Kept 84 % where 92 % were wanted.",
        }
    ]
    assert section(content, "## Goals") == ["- Kept 84 % where 92 % were wanted."]


def test_limits_name_what_tells_against_the_student(content):
    assert len(section(content, "## Limits")) == 2
    content["evaluation"]["systems"]["student"] |= {"unparsable": 4, "truncated": 2}
    content["evaluation"]["scored"] = 57
    told = section(content, "## Limits")
    assert "- 4 of its 60 answers could not be parsed; they count as wrong." in told
    assert "- 2 of its 60 answers were cut at the token limit." in told
    assert "- 3 of the 60 questions could not be scored." in told


def test_data_are_named_with_hashes_and_how_they_were_split(content):
    content["data"] |= {"sources": {"train": {"path": "train.jsonl", "sha256": "ab12"}}, "split_off": {"test": 0.1}, "seed": 7}
    assert section(content, "## Data") == [
        "- 900 train rows, 60 validation rows, 60 test rows",
        "- train: `train.jsonl`, SHA-256 ab12",
        "- split off the training rows by seed 7: test",
        "- 850 of 900 training rows have a teacher's answer that the gates kept",
    ]


def test_licences_and_terms_are_those_on_record_and_what_is_not_is_said(content):
    assert section(content, "## Licence")[0] == "- teacher HuggingFaceTB/SmolLM2-135M-Instruct: Apache-2.0; allowed"
    content["models"]["student"] = {"hub_id": None, "licence": None, "distillation": None}
    assert "look them up" in section(content, "## Licence")[1]


def test_what_the_student_may_have_seen_of_the_test_is_told(content, trust):
    assert "seen of the test" not in render_card(content)
    content |= trust
    told = section(content, "### What the student may have seen of the test")
    assert told[0] == "- The test rows of this run were opened twice, for 2 students."
    assert len(told) == 4
