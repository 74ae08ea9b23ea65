"""docs/report.md names every key of a real report.json: a label set, both students, one more system, an adapted teacher, prices, goals."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from potstill.evaluation.judge import human_to_json, judged_to_json
from potstill.evaluation.resampling import Bootstrap
from potstill.pipeline import run_pipeline
from potstill.spec import load_spec
from potstill.spec.sections import JudgeSpec
from potstill.store.atomic import read_json
from tiny import tiny_llama, write_splits

PAGE = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8").partition("## `report.json`")[2]
NAMED = {word for code in re.findall(r"`([^`]+)`", PAGE) for word in re.findall(r"\w+", code)}

SYSTEM, ANY = r"(teacher|baseline|student|sft|other)", r"[^/]+"
NAMES = re.compile(
    "|".join(
        (
            rf"(spec|versions|timings/stages)/{ANY}.*",
            r"data/(rows|with_reference|prompt_characters|label_counts|split_off|duplicates_left_out)/.+",
            rf"(data/sources|generation/rows)/{ANY}",
            r"generation/(dropped|codes|read_leniently|teachers)/.+",
            rf"evaluation/(metrics|comparisons|tests|macro)/{ANY}",
            rf"evaluation/macro/{ANY}/{SYSTEM}",
            rf"evaluation/(systems/{SYSTEM}|agreement)/scores/{ANY}",
            rf"(.*/)?{SYSTEM}",
        )
    )
)
"""Places whose last part is a name out of the spec, the data or a list of ours, and no key."""

SPEC = """\
name: animals
task: {{type: nli, labels_from: data, max_new_tokens: 6}}
data: {{train: train.jsonl, validation: validation.jsonl, test: test.jsonl}}
teacher: {{model: {teacher}, adapt: {{rows: 12, epochs: 1}}}}
student: {{carve: {{layers: 2, vocabulary: data}}}}
gates: {{format: false, truncation: false}}
targets: {{positions: all}}
generation: {{batch_size: 4}}
training: {{epochs: 1, batch_size: 4, evaluations: 1, compare_with_sft: true}}
evaluation: {{latency_rows: 2, resamples: 100, concurrency: [1], compare: [{{model: {teacher}, name: other}}]}}
goals: {{retention: 0.9, latency_reduction: 0.5}}
costs: {{machine_per_hour: 1.0, requests_per_day: 100}}
"""
ANIMALS = ("cat", "dog")


def keys_of(value: Any, place: str = "") -> Iterator[str]:
    """The place of every key; those of lists' items together, names aside."""
    if isinstance(value, list):
        for item in value:
            yield from keys_of(item, place)
    if isinstance(value, dict):
        for key, held in value.items():
            here = f"{place}/{key}" if place else key
            if not NAMES.fullmatch(here):
                yield here
            yield from keys_of(held, here)


def unnamed(report: dict[str, Any], place: str = "") -> list[str]:
    """Keys that the page does not name; it says `over_<name>` for the difference to the system `other`."""
    return sorted({key for key in keys_of(report, place) if key.rpartition("/")[2].removesuffix("other") not in NAMED})


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("job")

    def row(split: str, i: int) -> dict[str, Any]:
        animal = ANIMALS[i % 2]
        question = f"{split} {i}: which animal is this, a {animal} of size {i * 7}?"
        return {"id": f"{split}-{i}", "messages": [{"role": "user", "content": question}], "reference": animal}

    write_splits(folder, row, train=24, validation=6, test=12)
    spec = folder / "potstill.yaml"
    spec.write_text(SPEC.format(teacher=tiny_llama(folder / "teacher", layers=3)))
    run_pipeline(load_spec(spec), folder / "run")
    return dict(read_json(folder / "run" / "report.json"))


def test_the_page_names_every_key_of_a_report(report: dict[str, Any]) -> None:
    assert unnamed(report) == []


def test_the_page_names_every_key_of_a_judgement() -> None:
    spec = JudgeSpec.model_validate({"model": "j"})
    judged = judged_to_json("j", spec, [], {}, None, settings=Bootstrap(100), dollars=None)
    people = human_to_json([], {}, {}, Bootstrap(100))
    assert unnamed({**judged, "human": people}, "evaluation/judge") == []


def test_every_part_of_a_report_has_a_row_of_its_own(report: dict[str, Any]) -> None:
    rows = {name for line in PAGE.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert set(report) - {"schema_version"} <= rows
    assert set(report["evaluation"]) <= rows
    assert {key for system in report["timings"]["systems"].values() for key in system} <= rows
