"""Tables on a terminal: characters of two columns do not shift what stands beside them."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from cord_worker.cli.tables import print_failures, selection_tables
from cord_worker.operations.watching import Selection
from cord_worker.store.failures import FailureCause
from cord_worker.store.status import CacheRow


@pytest.mark.parametrize("path", ["/模型/教师", "/모델/교사", "/نماذج/معلم", "/models/テスト"])
def test_wide_characters_leave_columns_aligned(path: str) -> None:
    caches = [CacheRow(model, "score", 1, 2, 2, 10, 5) for model in (path, "/models/teacher")]
    console = Console(file=io.StringIO(), width=120)
    for table in selection_tables(Selection("run", [], [], caches)):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    rows = [line for line in console.file.getvalue().splitlines() if "score" in line and "/" in line]
    assert len(rows) == 2
    assert len({cell_len(row[: row.index("score")]) for row in rows}) == 1


@pytest.mark.parametrize(
    ("technical", "repeats", "anew", "told"),
    [
        (True, False, False, "once that is mended: cordctl retry run --reason why"),
        (False, True, False, "cordctl retry fails the same way; --anew draws the candidates again"),
        (False, True, True, "cordctl retry fails the same way; with --anew too"),
        (False, False, False, None),
    ],
)
def test_a_cause_is_followed_by_what_a_retry_would_come_to(
    technical: bool, repeats: bool, anew: bool, told: str | None
) -> None:
    console = Console(file=io.StringIO(), width=120)
    cause = FailureCause(1, "p1", "why", is_technical=technical, repeats=repeats, repeats_anew=anew)
    print_failures(console, [cause], 2, "run")
    assert isinstance(console.file, io.StringIO)
    first, *others, last = console.file.getvalue().splitlines()
    assert first == "failed: p1: why"
    assert others == ([] if told is None else [f"    {told}"])
    assert last.startswith("… and 1 more failed problem (cordctl export")
