"""`potstill models`: the catalogue as people see it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from potstill.cli.main import app
from potstill.errors import ModelError, UsageError
from potstill.models.catalogue import entries


def models(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["models", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_list_has_a_line_for_every_entry() -> None:
    lines = models().splitlines()
    assert [line.split()[0] for line in lines[1 : len(entries()) + 1]] == list(entries())


def test_show_tells_the_endpoint_the_terms_and_the_price_with_its_source() -> None:
    output = models("show", "deepseek-v3")
    assert "OPENROUTER_API_KEY" in output
    assert "licence       MIT" in output
    assert re.search(r"^price +\$\d+.* written \(genai-prices \d.*, for short prompts\)$", output, re.MULTILINE)
    assert re.search(r"^price +\$2 .* \$8 written \(2026-03, as others quote https", models("show", "gpt-4.1"), re.MULTILINE)


def test_the_list_has_a_price_for_every_shipped_endpoint() -> None:
    lines = {line.split()[0]: line for line in models().splitlines() if line}
    assert all(re.search(r" \d[\d.]*/\d", lines[name]) for name, entry in entries().items() if entry.base_url)


def test_a_users_entries_are_listed_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("house-model: {base_url: http://localhost:1/v1, api_model: big}")
    monkeypatch.setenv("POTSTILL_CATALOGUE", str(tmp_path / "mine.yaml"))
    assert "\nhouse-model " in models()
    assert "price         unknown" in models("show", "house-model")


@pytest.mark.parametrize("verb", ["show", "pull"])
def test_a_near_miss_of_a_name_is_answered_with_the_name(verb: str) -> None:
    with pytest.raises(UsageError, match=r"did you mean phi-4-mini"):
        models(verb, "phi4-mini")


def test_pull_of_a_local_model_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_teacher: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"house-model: {{path: {tiny_teacher}}}")
    monkeypatch.setenv("POTSTILL_CATALOGUE", str(tmp_path / "mine.yaml"))
    assert models("pull", "house-model").strip() == f"house-model: {tiny_teacher}"


def test_pull_without_a_way_to_the_hub_says_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"not on this machine, and the model hub cannot be reached"):
        models("pull", "some-org/some-model")
