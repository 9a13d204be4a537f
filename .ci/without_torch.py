"""Prints what the package and its tests need, one requirement a line, but torch and what is nothing without torch."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

_NEED_TORCH = {"torch", "accelerate"}

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def without_torch(requirements: Iterable[str]) -> Iterator[str]:
    """The requirements, with those of an extra of this package in its place."""
    for requirement in requirements:
        if extras := re.fullmatch(rf"{project['name']}\[(.+)\]", requirement):
            for extra in extras[1].split(","):
                yield from without_torch(project["optional-dependencies"][extra])
        elif re.split(r"[^A-Za-z0-9_.-]", requirement)[0] not in _NEED_TORCH:
            yield requirement


print("\n".join(without_torch([*project["dependencies"], *project["optional-dependencies"]["dev"]])))
