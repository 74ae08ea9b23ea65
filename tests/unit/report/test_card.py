import re

import yaml

from potstill.report.card import render_card
from potstill.report.table import comparison_table, headline


def test_card_begins_with_front_matter_that_the_hub_reads(content):
    card = render_card(content)
    _, front, text = card.split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "transformers"
    [result] = front["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "rouge_l", "name": "ROUGE-L", "value": 0.168}]
    assert headline(content) in text


def test_card_names_no_base_model_that_the_hub_does_not_know(content):
    content["models"]["student"] = {"hub_id": None, "licence": None, "distillation": None}
    assert not {"base_model", "license"} & set(yaml.safe_load(render_card(content).split("---\n", 2)[1]))


def test_cards_table_has_as_many_cells_in_each_row(content):
    rows = [line for line in render_card(content).splitlines() if line.startswith("|")]
    assert len(rows) == len(comparison_table(content).rows) + 2
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1
