"""Prints what the package and its tests need, one requirement a line, but torch and what is nothing without torch."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_NEED_TORCH = {"torch", "accelerate"}

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
for requirement in project["dependencies"] + project["optional-dependencies"]["dev"]:
    if re.split(r"[^A-Za-z0-9_.-]", requirement)[0] not in _NEED_TORCH:
        print(requirement)
