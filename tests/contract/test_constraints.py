"""What `make install` brings is the same every day: each package that anything asks for is pinned, the one that builds included."""

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
MAY_BE_ABSENT = {
    "ray",  # `make test` brings it where there is a wheel for this Python
    "lm-eval",  # for those who evaluate with it
}
PINNED = {canonicalize_name(name) for name in PINS}


def asked_for() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    return [Requirement(text) for text in sum(extras, [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]])]


def needs_of(requirement: Requirement) -> Iterator[Requirement]:
    """What an installed package needs in turn, on this machine and with the extras that are asked of it."""
    for text in _requires(requirement.name):
        found = Requirement(text)
        if found.marker is None or any(found.marker.evaluate({"extra": extra}) for extra in (*requirement.extras, "")):
            yield found


def _requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        assert name in MAY_BE_ABSENT, f"{name} is not installed"
        return []


def test_every_package_that_is_needed_is_pinned() -> None:
    waiting, seen = asked_for(), set()
    while waiting:
        requirement = waiting.pop()
        if str(requirement) not in seen:
            seen.add(str(requirement))
            assert canonicalize_name(requirement.name) in PINNED, f"{requirement} is not in constraints.txt"
            waiting += needs_of(requirement)
    assert len(seen) > len(asked_for())


def test_the_torch_that_is_asked_for_by_its_number_is_the_one_that_is_pinned() -> None:
    assert re.findall(r"torch==(\S+)", (ROOT / "Makefile").read_text()) == [PINS["torch"]]
