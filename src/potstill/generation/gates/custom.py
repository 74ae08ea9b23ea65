"""The user's own gates: functions that look at a row, an answer and its parsed form, and say why it is dropped, if it is."""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from potstill.data.rows import quote
from potstill.errors import SpecError
from potstill.generation.gates.base import GateContext
from potstill.records import Example, Verdict

NAME = "custom"
VERSION = 1

CustomGate = Callable[[Example, str, str | None], str | None]
"""Called with the row, the answer's text, and its parsed answer (None where it cannot be parsed); None keeps it, a text says why not."""


def custom(context: GateContext) -> Verdict:
    """Keep answers against which none of `gates.custom` says anything. Code: the function's name.

    Raises SpecError where a function is not there, fails, or returns something else than a text or None.
    """
    text = context.completion.text
    parsed = context.task.parse(text)
    for name, function in zip(context.gates.custom, load_custom(context.gates.custom), strict=True):
        reason = _call(name, function, context.example, text, parsed)
        if reason is not None:
            return Verdict(NAME, False, f"{name}: {reason or 'no reason given'}", VERSION, name.rpartition(":")[2])
    return Verdict(NAME, True, version=VERSION)


def load_custom(names: Sequence[str]) -> list[CustomGate]:
    """The functions of these names (`module:function`), each imported once. Raises SpecError where one cannot be had.

    A module is looked for where Python looks, and in the working folder.
    """
    return [_load(name) for name in names]


def source_hash(name: str) -> str:
    """A hash of the file that a gate is written in, so that verdicts are taken anew when it changes. Raises SpecError as `load_custom`."""
    _load(name)
    file = getattr(sys.modules[name.partition(":")[0]], "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


@functools.lru_cache(maxsize=64)
def _load(name: str) -> CustomGate:
    module_name, colon, function_name = name.partition(":")
    if not colon or not module_name or not function_name:
        raise SpecError(f"gates.custom: {quote(name)} is not of the form module:function, such as my_gates:is_polite")
    try:
        module = _import(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise SpecError(f"gates.custom: module {module_name} imports {error.name}, which is not installed") from error
        raise SpecError(
            f"gates.custom: there is no module {module_name}, neither installed nor in {Path.cwd()}; "
            f"write {module_name.replace('.', '/')}.py there, or correct the name"
        ) from None
    except Exception as error:
        raise SpecError(f"gates.custom: module {module_name} cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = ", ".join(key for key, value in vars(module).items() if inspect.isfunction(value)) or "none"
        raise SpecError(f"gates.custom: module {module_name} has no function {function_name}; its functions: {known}")
    return function  # type: ignore[no-any-return]


def _import(name: str) -> object:
    sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop()


def _call(name: str, function: CustomGate, example: Example, text: str, parsed: str | None) -> str | None:
    try:
        reason: object = function(example, text, parsed)
    except Exception as error:
        raise SpecError(f"gates.custom: {name} failed on row {quote(example.id)}: {type(error).__name__}: {error}") from error
    if reason is not None and not isinstance(reason, str):
        kind = type(reason).__name__
        raise SpecError(
            f"gates.custom: {name} returned {kind} for row {quote(example.id)}; return None to keep it, or a text that says why not"
        )
    return reason
