"""`potstill doctor`: each thing ok, a warning or a failure, with what to do; keys by name alone."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner

from potstill.cli import doctor
from potstill.cli.main import app


def test_every_finding_that_is_not_ok_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    findings = json.loads(result.output)
    assert {finding["level"] for finding in findings} <= {"ok", "warning", "failure"}
    assert all(finding["advice"] for finding in findings if finding["level"] != "ok")
    assert {"Python", "cores", "memory", "accelerators", "cache folder", "torch", "model hub", "keys"} <= {f["name"] for f in findings}


def test_values_of_keys_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
    for arguments in (["doctor"], ["doctor", "--json"]):
        output = CliRunner().invoke(app, arguments).output
        assert "OPENAI_API_KEY" in output
        assert "secret" not in output


def test_a_failure_exits_with_one_and_warnings_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "file" / "cache"))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "set POTSTILL_CACHE to a folder that you may write to" in result.output


def test_the_hub_is_not_asked_where_that_is_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "not an address")
    assert [finding.level for finding in doctor.look_at_the_hub()] == ["ok"]


@pytest.fixture
def garbage_server() -> Iterator[str]:
    """The address of a server that speaks anything but HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(b"220 this is a mail server\r\n")

        Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_hub_that_speaks_no_http_is_a_warning(monkeypatch: pytest.MonkeyPatch, garbage_server: str) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", garbage_server)
    assert [finding.level for finding in doctor.look_at_the_hub()] == ["warning"]


@pytest.mark.parametrize("login", ["http://user:SECRET@", "user:SECRET@", "http://user:SEC@RET@"])
def test_the_login_in_a_mirrors_address_is_not_shown(monkeypatch: pytest.MonkeyPatch, login: str) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", f"{login}127.0.0.1:9/hub")
    [finding] = doctor.look_at_the_hub()
    assert "127.0.0.1:9/hub" in finding.found
    assert not any(word in str(finding) for word in ("SEC", "user"))


def test_the_token_of_the_hub_is_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    [finding] = doctor.look_at_keys()
    assert "HF_TOKEN" in finding.found
    assert "secret" not in str(finding)


def test_one_look_that_fails_hides_none_of_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POTSTILL_CATALOGUE", str(tmp_path / "nowhere.yaml"))
    result = CliRunner().invoke(app, ["doctor", "--json"])
    findings = {finding["name"]: finding for finding in json.loads(result.output)}
    assert (result.exit_code, findings["keys"]["level"]) == (1, "failure")
    assert "nowhere.yaml" in findings["keys"]["found"]
    assert {"Python", "C compiler"} <= set(findings)


@pytest.mark.parametrize("address", ["not an address", "http://not an address", "http://127.0.0.1:9"])
def test_a_hub_that_cannot_be_reached_is_a_warning(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", address)
    [finding] = doctor.look_at_the_hub()
    assert (finding.level, address in finding.found) == ("warning", True)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("PyYAML>=6.0", ("PyYAML", "6.0", None)),
        ('torch>=2.10; extra == "train"', ("torch", "2.10", "train")),
        ('lm-eval>=0.4.9; extra == "lm-eval"', ("lm-eval", "0.4.9", "lm-eval")),
        ('types-PyYAML; extra == "dev"', ("types-PyYAML", "0", "dev")),
    ],
)
def test_requirements_are_read(text: str, parts: tuple[str, str, str | None]) -> None:
    assert doctor.parse_requirement(text) == parts
