"""Tables on a terminal: wide characters do not shift the other columns."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from cord_worker.cli.tables import print_failures, selection_tables
from cord_worker.operations.run_watch import TeacherSelection
from cord_worker.store.reports.failure_causes import FailureCause
from cord_worker.store.reports.status import CacheRow


@pytest.mark.parametrize("path", ["/模型/教师", "/모델/교사", "/نماذج/معلم", "/models/テスト"])
def test_wide_characters_leave_columns_aligned(path: str) -> None:
    caches = [CacheRow(model, "score", 1, 2, 2, 10, 5) for model in (path, "/models/teacher")]
    console = Console(file=io.StringIO(), width=120)
    for table in selection_tables(TeacherSelection("run", [], [], caches)):
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
