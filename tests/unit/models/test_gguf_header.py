"""The head of a GGUF file tells what its folder tells, and what is no GGUF file, or only a part of one, is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from potstill.errors import ModelError
from potstill.models.folder import count_parameters
from potstill.models.gguf_header import BLOCKS, read_gguf_header
from tiny import tiny_gguf


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_teacher: Path) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_teacher)


def test_settings_and_weights_are_those_of_the_folder(whole: Path, tiny_teacher: Path) -> None:
    header = read_gguf_header(whole)
    assert header.parameters == count_parameters(tiny_teacher)
    assert (header.architecture, header.settings["llama.block_count"], header.settings["llama.context_length"]) == ("llama", 4, 512)
    assert header.settings["tokenizer.chat_template"] == (tiny_teacher / "chat_template.jinja").read_text()


def test_sizes_of_blocks_are_those_of_the_reference_library() -> None:
    assert {GGMLQuantizationType(kind): sizes for kind, sizes in BLOCKS.items()}.items() <= GGML_QUANT_SIZES.items()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"junk" * 100, b"GGUF" + b"\x03" * 60, b"GGUF\x03\0\0\0" + b"\xff" * 60])
def test_what_is_no_gguf_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "j.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=r"j.gguf: is not a GGUF file, or damaged"):
        read_gguf_header(tmp_path / "j.gguf")


def test_a_file_that_was_cut_anywhere_is_refused(whole: Path, tmp_path: Path) -> None:
    content = whole.read_bytes()
    for size in [*range(0, len(content), 1999), len(content) - 1]:
        (tmp_path / "cut.gguf").write_bytes(content[:size])
        with pytest.raises(ModelError, match=r"is cut off|is not a GGUF file"):
            read_gguf_header(tmp_path / "cut.gguf")
