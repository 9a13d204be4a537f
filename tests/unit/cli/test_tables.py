"""Tables on a terminal: wide characters do not shift the other columns."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from cord_worker.cli.tables import base_scores_lines, print_failures, selection_tables
from cord_worker.operations.run_watch import TeacherSelection
from cord_worker.store.reports.base_scores import BaseScores
from cord_worker.store.reports.failure_causes import FailureCause
from cord_worker.store.reports.status import CacheRow

NO_BASE_SCORES = BaseScores(3, 0, 0, 0, None, None)


@pytest.mark.parametrize("path", ["/模型/教师", "/모델/교사", "/نماذج/معلم", "/models/テスト"])
def test_wide_characters_leave_columns_aligned(path: str) -> None:
    caches = [CacheRow(model, "score", 1, 2, 2, 10, 5) for model in (path, "/models/teacher")]
    console = Console(file=io.StringIO(), width=120)
    for table in selection_tables(TeacherSelection("run", [], [], caches, NO_BASE_SCORES)):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    rows = [line for line in console.file.getvalue().splitlines() if "score" in line and "/" in line]
    assert len(rows) == 2
    assert len({cell_len(row[: row.index("score")]) for row in rows}) == 1


@pytest.mark.parametrize(
    ("technical", "repeats", "restarted", "told"),
    [
        (True, False, False, "once that is fixed: cordctl retry run --reason why"),
        (False, True, False, "cordctl retry fails the same way; --from-scratch draws new candidates"),
        (False, True, True, "cordctl retry fails the same way; even with --from-scratch"),
        (False, False, False, None),
    ],
)
def test_a_cause_is_followed_by_the_result_of_a_retry(
    technical: bool, repeats: bool, restarted: bool, told: str | None
) -> None:
    console = Console(file=io.StringIO(), width=120)
    cause = FailureCause(1, "p1", "why", is_technical=technical, repeats=repeats, repeats_from_scratch=restarted)
    print_failures(console, [cause], 2, "run")
    assert isinstance(console.file, io.StringIO)
    first, *others, last = console.file.getvalue().splitlines()
    assert first == "failed: p1: why"
    assert others == ([] if told is None else [f"    {told}"])
    assert last.startswith("… and 1 more failed problem (cordctl export")


def test_base_scores_are_shown_with_a_query_for_unmoved_problems() -> None:
    found = BaseScores(problems=5, known=4, by_heart=1, unmoved=2, mean_base_score=0.25, mean_gain=0.5)
    line, query = base_scores_lines(TeacherSelection("run", [], [], [], found))
    assert "mean 0.250, mean gain of the winners 0.500" in line
    assert "of 4 done problems (1 without a base score) the prover knows 1 by heart" in line
    assert "no step moved 2" in line
    assert query.startswith("    cordctl db psql -c ")


@pytest.mark.parametrize("known", [0, 4])
def test_without_base_scores_no_line_is_shown(known: int) -> None:
    found = BaseScores(5, known, 0, 0, 0.2 if known else None, 0.1 if known else None)
    lines = list(base_scores_lines(TeacherSelection("run", [], [], [], found)))
    assert len(lines) == bool(known)
