"""Reads the final answers of done problems for another check, and writes the new results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cord_worker.store.audit.row_names import trajectory_name_sql
from cord_worker.store.schema import digests
from cord_worker.store.schema.rollups import rewrite_rollups
from cord_worker.store.schema.verification_sql import METHOD, REFERENCE


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A final answer with its result, as stored. `sample` is None for a winner's. `broken` are findings about parts of
    the answer or its problem that are not what was written."""

    trajectory_id: int
    key: str
    sample: int | None
    question: str
    text: str
    reference: str
    method: str
    is_judged: bool
    correct: bool | None
    verification: dict[str, Any] | None
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewResult:
    """A new result. `before` is the verification that it replaces, as JSON text; None if there was none."""

    trajectory_id: int
    correct: bool | None
    verification: str
    before: str | None


_NAME, _HAS_DIGESTS = trajectory_name_sql("j"), "r.digest IS NOT NULL"

_ANSWERS = sa.text(
    f"""
    SELECT j.id AS trajectory_id, p.key, CASE WHEN NOT j.winner THEN c.sample END AS sample, p.question,
           coalesce(j.answer_text, '') AS text, {REFERENCE} AS reference, {METHOD} AS method,
           j.answer_state = 'judged' AS is_judged, j.correct, j.verification,
           array_remove(ARRAY['its row: ' || ({digests.CONTENT_CHANGED}),
                              'its row: ' || ({digests.PROBLEM.finding_sql(_HAS_DIGESTS)}),
                              {_NAME} || ': ' || ({digests.ANSWER.finding_sql(_HAS_DIGESTS)}),
                              {_NAME} || ': ' || CASE WHEN j.answer_state = 'judged' THEN
                                  {digests.CORRECTNESS.finding_sql(_HAS_DIGESTS)} END], NULL) AS broken
    FROM trajectories j
    JOIN problems p ON p.id = j.problem_id AND p.state = 'done' AND p.run_id = :run_id
    JOIN runs r ON r.id = p.run_id
    JOIN candidates c ON c.id = j.candidate_id
    WHERE j.answer_state IN ('written', 'judged') AND j.id > :after
    ORDER BY j.id LIMIT :most
    """
)
"""A result that can be computed again needs no valid digest, because it is replaced. A judge's verdict needs one."""

_COUNT = sa.text(
    """
    SELECT count(*) FROM trajectories j JOIN problems p ON p.id = j.problem_id
    WHERE p.run_id = :run_id AND p.state = 'done' AND j.answer_state IN ('written', 'judged')
    """
)

_UNFINISHED = sa.text(
    """
    SELECT count(*) FROM problems
    WHERE run_id = :run_id AND state IN ('queued', 'searching', 'answering', 'verifying')
    """
)

_DIGEST = digests.CORRECTNESS.sql({"correct": "r.correct", "verification": "r.verification"})

_WRITE = sa.text(
    f"""
    UPDATE trajectories j SET correct = r.correct, verification = r.verification, correctness_digest = {_DIGEST}
    FROM unnest(
        CAST(:ids AS bigint[]), CAST(:correct AS boolean[]), CAST(:verification AS jsonb[]), CAST(:before AS jsonb[])
    ) AS r(id, correct, verification, before), problems p
    WHERE j.id = r.id AND p.id = j.problem_id AND p.state = 'done' AND j.verification IS NOT DISTINCT FROM r.before
    RETURNING j.id, j.problem_id
    """
)
"""Replaces only the result that was read, so the second one of two concurrent rechecks changes nothing."""


def count_answers(connection: sa.Connection, run_id: int) -> int:
    """Number of final answers of the run's done problems."""
    return int(connection.execute(_COUNT, {"run_id": run_id}).scalar_one())


def count_unfinished(connection: sa.Connection, run_id: int) -> int:
    """Number of the run's problems that are not final."""
    return int(connection.execute(_UNFINISHED, {"run_id": run_id}).scalar_one())


def read_stored_answers(connection: sa.Connection, run_id: int, after: int, most: int) -> list[StoredAnswer]:
    """The next `most` final answers of done problems, by the keys of their trajectories, which are above `after`."""
    rows = connection.execute(_ANSWERS, {"run_id": run_id, "after": after, "most": most})
    return [StoredAnswer(**{**row._mapping, "broken": tuple(row.broken)}) for row in rows]


def write_new_results(connection: sa.Connection, results: Sequence[NewResult]) -> set[int]:
    """Replaces results that are unchanged since they were read; returns the keys of their trajectories."""
    parameters = {
        "ids": [result.trajectory_id for result in results],
        "correct": [result.correct for result in results],
        "verification": [result.verification for result in results],
        "before": [result.before for result in results],
    }
    written = connection.execute(_WRITE, parameters).all()
    rewrite_rollups(connection, sorted({row.problem_id for row in written}))
    return {row.id for row in written}
