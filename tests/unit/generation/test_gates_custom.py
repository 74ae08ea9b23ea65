"""The user's own gates: loaded once, called with the row, the text and the parsed answer, and blamed by name when they fail."""

import pytest
from gates_at_hand import NLI, said

from potstill.errors import SpecError
from potstill.spec.sections import GatesSpec

CODE = """
print("loaded")
seen = []

def keep(row, text, parsed):
    seen.append((row.id, text, parsed))

def terse(row, text, parsed):
    return f"{len(text)} characters" if len(text) > 4 else None

def fails(row, text, parsed):
    return text[99]

def says_false(row, text, parsed):
    return False

a_number = 7
"""


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """The name of a module of its own in the working folder."""
    monkeypatch.chdir(tmp_path)
    name = "mine_" + "".join(letter if letter.isalnum() else "_" for letter in request.node.name)
    (tmp_path / f"{name}.py").write_text(CODE)
    return name


def ask(text, *names):
    return said("custom", text, GatesSpec(custom=names), task=NLI)


def test_a_gate_sees_the_row_the_text_and_the_parsed_answer(module):
    assert ask("Yes.", f"{module}:keep").keep
    import sys

    assert sys.modules[module].seen == [("row-1", "Yes.", "yes")]


def test_a_text_drops_the_answer_and_is_the_reason(module):
    found = ask("The answer is yes", f"{module}:keep", f"{module}:terse")
    assert (found.keep, found.code, found.reason) == (False, "terse", f"{module}:terse: 17 characters")
    assert ask("yes", f"{module}:keep", f"{module}:terse").keep


def test_a_module_is_loaded_once(module, capsys):
    for _ in range(3):
        ask("yes", f"{module}:keep", f"{module}:terse")
    assert capsys.readouterr().out == "loaded\n"


def test_a_gate_that_fails_is_named_with_the_row(module):
    with pytest.raises(SpecError, match=f'{module}:fails failed on row "row-1": IndexError: string index out of range'):
        ask("yes", f"{module}:fails")


def test_a_gate_that_returns_anything_but_text_or_none_is_refused(module):
    with pytest.raises(SpecError, match="returned bool for row"):
        ask("yes", f"{module}:says_false")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("terse", "not of the form module:function"),
        (":terse", "not of the form module:function"),
        ("no_such_module_here:terse", "there is no module no_such_module_here"),
        ("json:terse", "module json has no function terse; its functions: "),
        ("{}:a_number", "has no function a_number; its functions: keep, terse, fails, says_false"),
    ],
)
def test_a_bad_name_is_refused_with_what_is_wrong(module, name, words):
    with pytest.raises(SpecError, match=words):
        ask("yes", name.format(module))


@pytest.mark.parametrize(
    ("code", "words"),
    [("import no_such_library", "imports no_such_library, which is not installed"), ("1 / 0", "ZeroDivisionError"), ("def", "SyntaxError")],
)
def test_a_module_that_cannot_be_imported_is_refused_with_its_error(module, tmp_path, code, words):
    (tmp_path / f"{module}_broken.py").write_text(code)
    with pytest.raises(SpecError, match=words):
        ask("yes", f"{module}_broken:f")
