"""Classes of signs hold what Unicode's table says, and nothing else."""

import re
import unicodedata

import pytest

from potstill.tasks.letters import MARKS, PUNCTUATION


@pytest.mark.parametrize(("content", "category"), [(MARKS, "M"), (PUNCTUATION, "P")])
def test_a_class_holds_exactly_its_category(content: str, category: str) -> None:
    signs = "".join(map(chr, range(0x10000)))
    assert re.findall(f"[{content}]", signs) == [sign for sign in signs if unicodedata.category(sign)[0] == category]
