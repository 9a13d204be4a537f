"""docs/licences.md is what `make licences` writes, and covers all that is shipped or needed."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "licences.md"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("the page is made from the metadata of torch too, which is not installed")
    spec = importlib.util.spec_from_file_location("licences", ROOT / ".ci" / "licences.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for its annotations
    spec.loader.exec_module(module)
    return module


def rows() -> dict[str, list[str]]:
    """Cells of the tables by the name of the package."""
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in PAGE.read_text("utf-8").splitlines()]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    return {(row[1] if row[0] in extras else row[0]).lower(): row for row in cells if len(row) >= 4}


def test_the_page_is_what_the_metadata_says(generator: ModuleType) -> None:
    assert PAGE.read_text(encoding="utf-8") == generator.page(), "run: make licences"


def test_every_package_of_the_front_end_is_on_the_page() -> None:
    front = json.loads((ROOT / "cord_worker" / "web" / "front" / "package.json").read_text(encoding="utf-8"))
    assert len(front["dependencies"]) == 4
    for name, version in front["dependencies"].items():
        assert rows()[name][1:3] == [version, "MIT"]


def test_every_direct_dependency_is_on_the_page_with_its_purpose() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [
        one
        for extra, listed in project["optional-dependencies"].items()
        if extra not in {"dev", "fuzz"}
        for one in listed
    ]
    for requirement in [*project["dependencies"], *extras]:
        name = re.split(r"[^\w.-]", requirement)[0]
        if name != project["name"]:
            row = rows()[name.replace("_", "-") if name.replace("_", "-") in rows() else name.replace("-", "_")]
            assert row[-1]
            assert not row[-1].startswith("("), name


def test_no_package_is_without_a_licence() -> None:
    assert [name for name, row in rows().items() if row[-2] in {"", "UNKNOWN", "see the package"}] == []


def test_fonts_that_are_not_shipped_are_not_shipped() -> None:
    static = ROOT / "cord_worker" / "web" / "static"
    assert {path.suffix for path in static.iterdir()} == {".js", ".css", ".txt"}
    assert "@font-face" not in (static / "app.css").read_text(encoding="utf-8")
