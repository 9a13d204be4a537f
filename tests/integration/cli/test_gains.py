"""Gains by teacher, which `cordctl stats --plot` and `--csv` read from rollups."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from cord_worker.store.reports.search_figures import gains_by_teacher
from cord_worker.store.schema.rollups import rewrite_rollups
from tests.support.cordctl_process import Cordctl

_CANDIDATES = sa.text(
    """
    SELECT c.id, c.parent_id, c.duplicate_of, c.score, c.winning, p.base_score, t.name AS teacher
    FROM problems p JOIN candidates c ON c.problem_id = p.id JOIN teachers t ON t.id = c.teacher_id
    WHERE p.run_id = :run
    """
)


@pytest.fixture
def connection(finished: Cordctl) -> Iterator[sa.Connection]:
    """A transaction on the database of the finished run, which is rolled back."""
    engine = sa.create_engine(finished.environment["CORD_DATABASE_URL"])
    with engine.connect() as connection:
        yield connection
        connection.rollback()
    engine.dispose()


def from_candidates(connection: sa.Connection, run: int) -> dict[str, tuple[int, float, float, float]]:
    """By teacher: candidates with a gain, the sum of their gains, winning steps with one, the sum of their gains."""
    rows = {row.id: row for row in connection.execute(_CANDIDATES, {"run": run})}
    proposals = Counter(row.duplicate_of or row.id for row in rows.values())
    found: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0, 0.0])
    for row in rows.values():
        text = rows[row.duplicate_of or row.id]
        before = text.base_score if text.parent_id is None else rows[text.parent_id].score
        sums = found[row.teacher]
        if text.score is None or before is None:
            continue
        part = 1 / proposals[text.id] if text.winning else 0.0
        for place, value in enumerate((1, text.score - before, part, part * (text.score - before))):
            sums[place] += value
    return {teacher: (int(one), two, three, four) for teacher, (one, two, three, four) in found.items()}


@pytest.mark.parametrize("without_base_score", [0, 1, 5])
def test_gains_are_those_of_the_candidates_also_where_base_scores_are_missing(
    connection: sa.Connection, without_base_score: int
) -> None:
    run = connection.execute(sa.text("SELECT id FROM runs WHERE name = 'done'")).scalar_one()
    of_run = {"run": run, "number": without_base_score}
    changed = connection.execute(
        sa.text("UPDATE problems SET base_score = NULL WHERE run_id = :run AND position < :number RETURNING id"),
        of_run,
    )
    rewrite_rollups(connection, list(changed.scalars()))
    expected = from_candidates(connection, run)
    found = gains_by_teacher(connection, run)
    assert {one.teacher for one in found} == set(expected)
    for one in found:
        steps, gain, winning, winning_gain = expected[one.teacher]
        assert one.steps == steps
        assert one.mean_gain == pytest.approx(gain / steps)
        assert one.winning_steps == pytest.approx(winning)
        assert one.mean_winning_gain == (pytest.approx(winning_gain / winning) if winning else None)
    assert sum(one.winning_steps for one in found) > 0
