"""What all tests share: an own home and cache folder, no model hub, and one tiny teacher."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tiny import tiny_llama

# Before anybody imports huggingface_hub or torch, which read these once. Tiny models only lose by a second thread.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

# A shell has what it starts in the background ignore Ctrl-C, and who is started by that does, too; some tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a user has set or cached reaches a test, and nothing that a test caches reaches the user."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("POTSTILL_CACHE", str(home / "cache"))
    monkeypatch.delenv("POTSTILL_CATALOGUE", raising=False)


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random four-layer Llama; tests only read it."""
    return tiny_llama(tmp_path_factory.mktemp("tiny-teacher"))
