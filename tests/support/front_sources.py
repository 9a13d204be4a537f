"""The front end's sources with the packages that they are built with."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

FRONT = Path(__file__).parents[2] / "cord_worker" / "web" / "front"
_SOURCES = ("package.json", "package-lock.json", ".npmrc", "tsconfig.json", "build.mjs", "src")


def installed_sources(folders: pytest.TempPathFactory) -> Path:
    """A folder with sources and packages: the checkout's own if its packages are those of the lock file, else a copy
    with packages that npm installs. Skips the test where npm is missing or reaches no registry."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("there is no Node.js with npm on this machine, which only builds of the front end need")
    if _has_packages():
        return FRONT
    folder = folders.mktemp("front")
    for name in _SOURCES:
        source = FRONT / name
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copy(source, folder / name)
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode != 0:
        pytest.skip(f"npm cannot install the packages of the front end: {done.stderr.strip()[-300:]}")
    return folder


def _has_packages() -> bool:
    """Whether node_modules has what the lock file asks for, except packages for other kinds of machine."""
    try:
        wanted = json.loads((FRONT / "package-lock.json").read_text())["packages"]
        found = json.loads((FRONT / "node_modules" / ".package-lock.json").read_text())["packages"]
    except FileNotFoundError:
        return False
    return all(found.get(name) == about or about.get("optional") for name, about in wanted.items() if name)
