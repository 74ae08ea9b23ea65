"""`goals:` in a spec."""

import re
from pathlib import Path

import pytest
import yaml

from potstill.errors import SpecError
from potstill.spec import GoalsSpec, spec_from_dict
from potstill.verdicts import Goal

SMALLEST = {
    "name": "a",
    "task": {"type": "nli", "labels": ["x", "y"]},
    "data": {"train": "t"},
    "teacher": {"model": "echo"},
    "student": {"model": "s"},
}


def goals(tmp_path, **given):
    return spec_from_dict(SMALLEST | {"goals": given}, tmp_path).goals


def test_without_goals_nothing_is_wished_for(tmp_path):
    assert (goals(tmp_path).quality(), goals(tmp_path).measured()) == ((), ())


def test_a_number_or_a_number_with_a_margin(tmp_path):
    found = goals(tmp_path, retention=0.92, scores={"accuracy": {"at_least": 0.85, "margin": 0.01}}, over_sft=0)
    assert [(one.name, one.wanted, one.margin, one.bound) for one in found.quality()] == [
        ("retention", 0.92, 0.0, 0.92),
        ("over_sft", 0.0, 0.0, 0.0),
        ("accuracy", 0.85, 0.01, 0.84),
    ]


def test_time_memory_money_and_users_are_goals_of_their_own(tmp_path):
    found = goals(tmp_path, latency_reduction=0.85, memory_reduction=0.95, cost_reduction=0.6, concurrent_users=10)
    assert [one.name for one in found.measured()] == ["latency_reduction", "memory_reduction", "cost_reduction", "concurrent_users"]
    assert found.measured()[-1] == Goal("concurrent_users", 10, 0.0, "number of users at once, as a multiple of its teacher's,", "times")
    assert found.quality() == ()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"retention": 92}, r"`goals.retention`.*is a share, as 0.92 for 92 % \(found 92\)"),
        ({"latency_reduction": 85}, r"`goals.latency_reduction`.*below 1, as 0.85 for 85 % less \(found 85\)"),
        ({"gain": "much"}, r"`goals.gain`.*expected a number, or \{at_least: 0.92, margin: 0.01\} \(found 'much'\)"),
        ({"gain": {"at_least": 0.1, "margin": -1}}, r"`goals.gain.margin`"),
        ({"retension": 0.9}, r"`goals.retension`.*retention"),
    ],
)
def test_a_goal_that_makes_no_sense_is_refused(tmp_path, given, words):
    with pytest.raises(SpecError, match=words):
        goals(tmp_path, **given)


def test_the_guide_shows_goals_that_are_taken_and_describes_every_one(tmp_path):
    guide = (Path(__file__).parents[3] / "docs" / "goals.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"```yaml\n(.*?)```", guide, flags=re.DOTALL)
    assert len(goals(tmp_path, **yaml.safe_load(shown)["goals"]).quality()) == 3
    assert [name for name in GoalsSpec.model_fields if f"| `{name}` |" not in guide] == []
