"""Cells and findings: hit rates with intervals, and when an interval confirms an order."""

from __future__ import annotations

import random

import pytest

from cord_worker.operations.comparison import Interval
from cord_worker.reproduce.figures import Finding, Outcome, hit_rate_cells
from cord_worker.reproduce.paper import CLAIMS, ROWS, TABLES, Claim
from cord_worker.store.reports.winning_steps import WinningStep

CLAIM = Claim("a above b", "a", ("b",), "because of c")


def steps_of(problems: int, planner_first: float) -> list[WinningStep]:
    rng = random.Random(0)
    steps = []
    for problem in range(problems):
        first = "planner" if rng.random() < planner_first else "closer"
        steps += [WinningStep(f"p{problem}", first, 1), WinningStep(f"p{problem}", "closer", 10)]
    return steps


def test_hit_rates_are_shares_of_the_winning_steps_in_a_tenth() -> None:
    cells = {cell.row: cell for cell in hit_rate_cells(steps_of(400, 0.8))}
    planner, closer = cells["planner, 0-10 %"], cells["closer, 0-10 %"]
    assert planner.value == pytest.approx(0.8, abs=0.05)
    assert planner.value is not None
    assert closer.value == pytest.approx(1 - planner.value)
    assert cells["closer, 90-100 %"].value == 1.0
    assert planner.problems == 400


def test_the_interval_of_a_hit_rate_holds_it_and_narrows_with_more_problems() -> None:
    few, many = (hit_rate_cells(steps_of(count, 0.6))[0] for count in (20, 2_000))
    widths = []
    for cell in (few, many):
        assert cell.low is not None
        assert cell.high is not None
        assert cell.value is not None
        assert 0 <= cell.low <= cell.value <= cell.high <= 1
        widths.append(cell.high - cell.low)
    assert widths[1] < widths[0] / 5


def test_a_tenth_without_steps_has_no_cell() -> None:
    assert {cell.row for cell in hit_rate_cells(steps_of(5, 1.0))} == {
        "planner, 0-10 %", "planner, 90-100 %", "closer, 0-10 %", "closer, 90-100 %",
    }  # fmt: skip
    assert hit_rate_cells([]) == []


@pytest.mark.parametrize(
    ("interval", "outcome"),
    [
        (Interval(0.2, 0.1, 0.3), Outcome.AS_IN_THE_PAPER),
        (Interval(0.2, 0.0, 0.3), Outcome.UNDECIDED),
        (Interval(-0.2, -0.3, -0.1), Outcome.REVERSED),
        (None, Outcome.NOT_RUN),
    ],
)
def test_an_order_is_reproduced_only_if_the_whole_interval_agrees(interval: Interval | None, outcome: Outcome) -> None:
    finding = Finding(CLAIM, "accuracy", interval, 200)
    assert finding.outcome is outcome
    assert finding.explanation == ("because of c" if outcome in (Outcome.UNDECIDED, Outcome.REVERSED) else "")


def test_every_row_belongs_to_a_known_table_and_every_claim_to_rows() -> None:
    assert {row.table for row in ROWS} == set(TABLES)
    runs = {row.run for row in ROWS}
    for claim in CLAIMS:
        assert {claim.better, *claim.worse} <= runs, claim.text
