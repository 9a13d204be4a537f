"""docs/architecture.md names exactly the states and the layers of the code."""

from __future__ import annotations

import re
import tomllib
from enum import StrEnum
from pathlib import Path

import pytest
import sqlalchemy as sa

from cord_worker.store.schema import kinds
from cord_worker.store.schema.tables import AnswerState, Base, CandidateState, ProblemState, RescoreState

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
DIAGRAMS: dict[str, tuple[type[StrEnum], str, str]] = {
    "States of a problem": (ProblemState, "problems", "state"),
    "States of a candidate": (CandidateState, "candidates", "state"),
    "States of a trajectory": (AnswerState, "trajectories", "answer_state"),
    "States of a rescore": (RescoreState, "rescores", "state"),
}
ENDS = "[*]"


def section(heading: str) -> str:
    """The text below a heading of the second level."""
    return PAGE.split(f"\n## {heading}\n")[1].partition("\n## ")[0]


def transitions(heading: str) -> list[tuple[str, str]]:
    """The arrows of the section's state diagram."""
    diagram = section(heading).split("```mermaid\n")[1].partition("```")[0]
    head, *lines = diagram.strip().splitlines()
    assert head == "stateDiagram-v2"
    found = [re.fullmatch(r"\s*(\S+) --> ([^\s:]+)(?:: [^:;#]+)?", line) for line in lines]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if match is None]
    return [(match[1], match[2]) for match in found if match is not None]


@pytest.mark.parametrize("heading", DIAGRAMS)
def test_a_state_diagram_names_exactly_the_states_of_its_enum(heading: str) -> None:
    named = {state for arrow in transitions(heading) for state in arrow} - {ENDS}
    assert named == {state.value for state in DIAGRAMS[heading][0]}


@pytest.mark.parametrize("heading", DIAGRAMS)
def test_a_state_diagram_names_exactly_the_states_that_its_column_takes(heading: str) -> None:
    _, table, column = DIAGRAMS[heading]
    checks = [
        str(constraint.sqltext)
        for constraint in Base.metadata.tables[table].constraints
        if isinstance(constraint, sa.CheckConstraint) and str(constraint.sqltext).startswith(f"{column} IN (")
    ]
    assert len(checks) == 1
    named = {state for arrow in transitions(heading) for state in arrow} - {ENDS}
    assert named == set(re.findall(r"'(\w+)'", checks[0]))


@pytest.mark.parametrize("heading", DIAGRAMS)
def test_a_state_diagram_begins_with_the_default_of_its_column(heading: str) -> None:
    _, table, column = DIAGRAMS[heading]
    default = Base.metadata.tables[table].c[column].server_default
    assert isinstance(default, sa.DefaultClause)
    assert [after for before, after in transitions(heading) if before == ENDS] == [str(default.arg)]


@pytest.mark.parametrize("heading", DIAGRAMS)
def test_every_state_of_a_diagram_leads_to_an_end(heading: str) -> None:
    arrows = transitions(heading)
    leading = {ENDS}
    while more := {before for before, after in arrows if after in leading} - leading:
        leading |= more
    assert leading == {state for arrow in arrows for state in arrow}


def test_the_layers_are_those_of_the_import_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract.get("containers") == ["cord_worker"]]
    expected = [set(re.findall(r"\w+", layer)) for layer in layers]
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", section("Layers"), re.MULTILINE)
    assert [int(floor) for floor, _ in rows] == list(range(len(rows), 0, -1))
    assert [set(re.findall(r"`([\w.]+)`", rooms)) for _, rooms in rows] == expected


def test_the_kinds_of_work_are_those_of_their_rows() -> None:
    cells = [line.split("|")[1:-1] for line in section("Kinds of work").splitlines() if line.startswith("| `")]
    named = [[re.findall(r"`(\w+)`", cell) for cell in row] for row in cells]
    assert named == [
        [
            [kind.name],
            [],
            [kind.table],
            list(kind.waiting),
            [kind.working],
            [kind.worker, kind.attempts],
            [kind.problem_state],
            [],
        ]
        for kind in kinds.KINDS
    ]
