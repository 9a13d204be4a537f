"""The table of docs/exports.md is that of the registry of formats, and every row that it shows is one of its format."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cord_worker.export.format import Choices, Format, Think
from cord_worker.export.formats import FORMATS
from tests.support.exported import scope

PAGE = (Path(__file__).parents[3] / "docs" / "exports.md").read_text(encoding="utf-8")


def table_row(chosen: Format) -> str:
    """The row of the page's first table for a format."""
    needs = ", ".join("`--student`" if need == "student" else str(need) for need in sorted(chosen.needs))
    options = ", ".join(f"`--{option.replace('_', '-')}`" for option in sorted(chosen.options))
    source = {"results": "results", "search tree": "search trees"}[chosen.source]
    return f"| `{chosen.name}` | {chosen.read_by} | {chosen.purpose} | {source} | {needs} | {options} |"


def test_the_table_of_formats_is_that_of_the_registry() -> None:
    head = "|---|---|---|---|---|---|\n"
    written = PAGE.split(head)[1].partition("\n\n")[0].splitlines()
    assert written == [table_row(chosen) for chosen in FORMATS.values()]


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_a_command(form: str) -> None:
    assert form == "jsonl" or f"--format {form} " in PAGE or form in ("alpaca",)


def test_the_rows_that_are_shown_have_the_fields_of_their_formats() -> None:
    known = [list(one.fields(scope(Choices(think=think)))) for one in FORMATS.values() for think in Think]
    shown = re.findall(r'^    (\{"\w+":.*\})$', PAGE, re.MULTILINE)
    assert len(shown) >= 9
    for line in shown:
        assert list(json.loads(line.replace(", …]", "]"))) in known, line
