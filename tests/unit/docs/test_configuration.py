"""docs/configuration.md has every variable of the environment and every option of the search; no page names others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from cord_worker.config import RunConfig
from cord_worker.config.environment import OTHER_VARIABLES, Settings
from cord_worker.config.scoring import ProverConfig
from cord_worker.config.search import SearchConfig

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
OF_TESTS = {"CORD_TEST_", "CORD_FAULT", "CORD_INSTANT_LOG", "CORD_INSTANT_SECONDS", "CORD_ANSWER_DATASETS"}
"""Variables that only tests set, or read."""
KNOWN = {f"CORD_{name.upper()}" for name in Settings.model_fields} | set(OTHER_VARIABLES)


def first_cells(heading: str) -> set[str]:
    """The names in the first column of the tables below a heading of the second level."""
    section = PAGE.split(f"\n## {heading}\n")[1].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ")]
    return {name for cell in cells for name in re.findall(r"`(?:search\.)?(\w+)`", cell)}


def test_every_variable_of_the_environment_is_in_the_table_and_no_other() -> None:
    named = {name for name in first_cells("Environment") if name.startswith("CORD_")}
    assert named == KNOWN - OF_TESTS


def test_no_page_names_a_variable_that_nothing_reads() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    named = {name for page in pages for name in re.findall(r"\bCORD_[A-Z_]+\b", page.read_text(encoding="utf-8"))}
    assert named - KNOWN - OF_TESTS == set()


@pytest.mark.parametrize("table", [SearchConfig, ProverConfig])
def test_every_option_of_the_search_is_explained(table: type[BaseModel]) -> None:
    # `model` of [prover] is a key of [models].
    explained = set(re.findall(r"`(?:search\.)?(\w+)`", PAGE.partition("\n## Environment\n")[0]))
    assert set(table.model_fields) - {"model"} - explained == set()


def test_every_table_of_the_configuration_file_is_named() -> None:
    tables = set(re.findall(r"`\[+(\w+)(?:\.NAME)?\]+`", PAGE))
    assert set(RunConfig.model_fields) - tables == set()
