"""YAML as Potstill reads it: a finite tree with text for keys, every fault told with its line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from potstill.errors import SpecError

_TAG = "tag:yaml.org,2002:"


class _Reader(yaml.SafeLoader):
    """Dates stay text: none is asked for anywhere, but a name may look like one."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the base class's own shape)
        first: [(tag, pattern) for tag, pattern in found if tag != f"{_TAG}timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ARG002 (the base class's signature)
        if node in self.recursive_objects:
            raise _fault("it contains itself, through an alias; write it out", node)
        try:
            # Deep, so that a node is met again while it is still being made.
            return super().construct_object(node, deep=True)
        except (ValueError, KeyError, IndexError, AttributeError):
            raise _fault(f"{_shown(node)} cannot be read as {node.tag.removeprefix(_TAG)}; quote it if it is text", node) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        for key, _ in node.value:
            if key.tag != f"{_TAG}str":
                raise _fault(f"the key {_shown(key)} is not text; quote it", key)
        return super().construct_mapping(node, deep)


def read_yaml(text: str, where: Path | str) -> Any:
    """What `text` holds. Raises SpecError that begins with `where` and the line."""
    try:
        return yaml.load(text, Loader=_Reader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        if isinstance(error, ConstructorError):
            raise SpecError(f"{where}:{line}: {error.problem}") from None
        raise SpecError(f"{where}:{line}: not YAML: {error.problem}; check indentation and quotes there") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{where}: not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise SpecError(f"{where}: is nested too deep to be read; remove brackets") from None


def key_lines(text: str) -> list[tuple[str, int]]:
    """Dotted name and line of every key, in order, of text that `read_yaml` has read; a key that stands twice is there twice."""
    # libyaml, where it is there, is many times faster; that its faults are worded otherwise does not matter in sound text.
    return list(_keys_below(yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), ""))


def _keys_below(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{prefix}{key.value}", key.start_mark.line + 1
            yield from _keys_below(value, f"{prefix}{key.value}.")


def _fault(problem: str, node: yaml.Node) -> ConstructorError:
    return ConstructorError(None, None, problem, node.start_mark)


def _shown(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        return "in brackets"
    return f"`{node.value}`" if len(node.value) <= 40 else f"`{node.value[:37]}...`"
