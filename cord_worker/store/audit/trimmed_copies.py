"""Reads the problems of a trimmed run and the winners that they were copied from, so that both can be compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.audit.row_names import candidate_name, trajectory_name

COPIED_COLUMNS = (
    *("parent_rank", "created_at", "proposed_at", "scored_at", "judged_at"),
    *("propose_attempts", "score_attempts", "judgment_attempts"),
    *("propose_worker_id", "score_worker_id", "judgment_worker_id"),
)
"""Columns that must be equal in a copy. No digest covers them, and nothing else determines them."""


@dataclass(frozen=True, slots=True)
class PathStep:
    """A step on the path of a winner. `digests` are those of its proposal, score and selection judgment; `values` are
    those of its `COPIED_COLUMNS`."""

    name: str
    lineage: str
    score: float | None
    digests: tuple[bytes | None, bytes | None, bytes | None]
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class WinnerPath:
    """A problem's winner with its steps in order. `name` is the name of its trajectory in findings, `digest` the
    problem's digest, `answer_digest` that of the final answer."""

    name: str
    digest: bytes | None
    finish: str | None
    answer_digest: bytes | None
    steps: tuple[PathStep, ...]


@dataclass(frozen=True, slots=True)
class TrimmedProblem:
    """A problem of a trimmed run: its winner (`copy`), and the winner that it was copied from (`source`; None if that
    one no longer exists). `has_source`: whether the source run still exists."""

    key: str
    has_source: bool
    copy: WinnerPath
    source: WinnerPath | None


_PROBLEMS = sa.text(
    """
    SELECT p.id, p.key, p.digest, r.source_run_id IS NOT NULL AS has_source, j.id AS trajectory_id, j.candidate_id,
           j.finish, j.answer_digest,
           source_problem.digest AS source_digest, source_winner.id AS source_trajectory_id,
           source_winner.candidate_id AS source_candidate_id,
           source_winner.finish AS source_finish, source_winner.answer_digest AS source_answer_digest
    FROM problems p JOIN runs r ON r.id = p.run_id
    LEFT JOIN trajectories j ON j.problem_id = p.id AND j.winner
    LEFT JOIN problems source_problem
        ON source_problem.run_id = r.source_run_id AND source_problem.key = p.key AND source_problem.state = 'done'
    LEFT JOIN trajectories source_winner ON source_winner.problem_id = source_problem.id AND source_winner.winner
    WHERE p.id = ANY(CAST(:ids AS bigint[])) ORDER BY p.id
    """
)

_STEP_COLUMNS = ", ".join(
    f"c.{name}"
    for name in (
        *("id", "parent_id", "depth", "step", "round", "teacher_id", "sample", "lineage", "score"),
        *("proposal_digest", "score_digest", "judgment_digest"),
        *COPIED_COLUMNS,
    )
)

_PATHS = sa.text(
    f"""
    SELECT given.last, path.*, t.name AS teacher
    FROM unnest(CAST(:ids AS bigint[])) AS given(last)
    CROSS JOIN LATERAL (
        WITH RECURSIVE path AS (
            SELECT {_STEP_COLUMNS} FROM candidates c WHERE c.id = given.last
            UNION
            SELECT {_STEP_COLUMNS} FROM path JOIN candidates c ON c.id = path.parent_id
        )
        SELECT * FROM path
    ) path JOIN teachers t ON t.id = path.teacher_id
    ORDER BY given.last, path.depth, path.id
    """
)
"""UNION, because UNION ALL would not end if parents formed a circle. Each path has its own recursion: in one for all
paths, PostgreSQL would read the whole table at every step."""


def trimmed_problems(connection: sa.Connection, problem_ids: Sequence[int]) -> Iterator[TrimmedProblem]:
    """These problems of trimmed runs; those without a winner are left out (the invariant `winners` names them)."""
    rows = [row for row in connection.execute(_PROBLEMS, {"ids": list(problem_ids)}) if row.trajectory_id is not None]
    last = {id_ for row in rows for id_ in (row.candidate_id, row.source_candidate_id) if id_ is not None}
    steps: dict[int, list[PathStep]] = defaultdict(list)
    for row in connection.execute(_PATHS, {"ids": sorted(last)}):
        name = candidate_name(row.id, step=row.step, round=row.round, teacher=row.teacher, sample=row.sample)
        digests = (row.proposal_digest, row.score_digest, row.judgment_digest)
        values = tuple(row._mapping[column] for column in COPIED_COLUMNS)
        steps[row.last].append(PathStep(name, row.lineage, row.score, digests, values))

    def path(row: sa.Row[tuple[object, ...]], prefix: str) -> WinnerPath:
        values = row._mapping
        found = tuple(steps[values[f"{prefix}candidate_id"]])
        name = trajectory_name(values[f"{prefix}trajectory_id"], found[-1].name if found else "no candidate")
        return WinnerPath(
            name, values[f"{prefix}digest"], values[f"{prefix}finish"], values[f"{prefix}answer_digest"], found
        )

    for row in rows:
        source = None if row.source_candidate_id is None else path(row, "source_")
        yield TrimmedProblem(row.key, row.has_source, path(row, ""), source)
