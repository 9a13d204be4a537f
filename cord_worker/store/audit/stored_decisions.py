"""Reads the stored decisions of a problem, so that a replay can compare them with its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.audit.row_names import candidate_name
from cord_worker.store.search.decisions import ProblemSnapshot


@dataclass(frozen=True, slots=True)
class StoredCandidate:
    """How a candidate was planned and what was decided about it.

    The fields are columns of its row, except `teacher` and `teacher_name`: the ordinal and the name of its teacher.
    """

    id: int
    step: int
    round: int
    parent_id: int | None
    parent_rank: int
    teacher: int
    teacher_name: str
    sample: int
    lineage: str
    seed: int
    max_tokens: int
    depth: int
    whole: bool
    sources: tuple[int, ...]
    state: str
    invalid_reason: str | None
    rank: int | None
    kept: bool | None
    winning: bool

    @property
    def name(self) -> str:
        """Its name in findings."""
        return candidate_name(self.id, step=self.step, round=self.round, teacher=self.teacher_name, sample=self.sample)


@dataclass(frozen=True, slots=True)
class StoredSlot:
    """One slot of the beam chosen after `step`; `finish` is None while its trajectory is live."""

    step: int
    candidate_id: int
    finish: str | None


@dataclass(frozen=True, slots=True)
class StoredTrajectory:
    """A finished trajectory; `answer_seed` is None if no final answer was asked for."""

    candidate_id: int
    steps: int
    finish: str
    winner: bool
    dropped_at_step: int | None
    answer_seed: int | None


@dataclass(frozen=True, slots=True)
class StoredSearch:
    """Everything that was decided about one problem: candidates and trajectories by key, slots by step and rank."""

    problem: ProblemSnapshot
    failure_reason: str | None
    candidates: tuple[StoredCandidate, ...]
    slots: tuple[StoredSlot, ...]
    trajectories: tuple[StoredTrajectory, ...]


_STARTED_PROBLEMS = sa.text(
    """
    SELECT id FROM problems p
    WHERE run_id = :run_id AND (step <> 0 OR EXISTS (SELECT 1 FROM candidates c WHERE c.problem_id = p.id))
          AND (CAST(:keys AS text[]) IS NULL OR key = ANY(CAST(:keys AS text[])))
    ORDER BY position
    """
)

_UNKNOWN_KEYS = sa.text(
    """
    SELECT wanted.key FROM unnest(CAST(:keys AS text[])) AS wanted(key)
    WHERE NOT EXISTS (SELECT 1 FROM problems p WHERE p.run_id = :run_id AND p.key = wanted.key)
    """
)

_PROBLEM = sa.text(
    """
    SELECT p.id, p.run_id, p.key, p.state, r.state AS run_state, p.step, p.round, p.outstanding
    FROM problems p JOIN runs r ON r.id = p.run_id WHERE p.id = :problem_id
    """
)

_FAILURE = sa.text("SELECT failure_reason FROM problems WHERE id = :problem_id")

_CANDIDATES = sa.text(
    """
    SELECT c.id, c.step, c.round, c.parent_id, c.parent_rank, t.ordinal AS teacher, t.name AS teacher_name,
           c.sample, c.lineage, c.seed, c.max_tokens, c.depth, c.whole, coalesce(c.sources, '{}') AS sources, c.state,
           c.invalid_reason, c.rank, c.kept, c.winning
    FROM candidates c JOIN teachers t ON t.id = c.teacher_id
    WHERE c.problem_id = :problem_id ORDER BY c.id
    """
)

_SLOTS = sa.text(
    "SELECT step, candidate_id, finish FROM beams WHERE problem_id = :problem_id ORDER BY step, rank",
)

_TRAJECTORIES = sa.text(
    """
    SELECT candidate_id, steps, finish, winner, dropped_at_step, answer_seed
    FROM trajectories WHERE problem_id = :problem_id ORDER BY id
    """
)


def started_problems(connection: sa.Connection, run_id: int, keys: Sequence[str] | None = None) -> list[int]:
    """Problems of the run whose search has begun, in dataset order; only those with `keys`, if they are given."""
    wanted = None if keys is None else list(keys)
    return list(connection.execute(_STARTED_PROBLEMS, {"run_id": run_id, "keys": wanted}).scalars())


def unknown_keys(connection: sa.Connection, run_id: int, keys: Sequence[str]) -> list[str]:
    """Those of `keys` that no problem of the run has."""
    return list(connection.execute(_UNKNOWN_KEYS, {"run_id": run_id, "keys": list(keys)}).scalars())


def read_stored_search(connection: sa.Connection, problem_id: int) -> StoredSearch | None:
    """Everything that was decided about the problem; None if it does not exist."""
    parameters = {"problem_id": problem_id}
    row = connection.execute(_PROBLEM, parameters).one_or_none()
    if row is None:
        return None
    return StoredSearch(
        problem=ProblemSnapshot(**row._mapping),
        failure_reason=connection.execute(_FAILURE, parameters).scalar_one(),
        candidates=tuple(
            StoredCandidate(**{**one._mapping, "sources": tuple(one.sources)})
            for one in connection.execute(_CANDIDATES, parameters)
        ),
        slots=tuple(StoredSlot(**one._mapping) for one in connection.execute(_SLOTS, parameters)),
        trajectories=tuple(StoredTrajectory(**one._mapping) for one in connection.execute(_TRAJECTORIES, parameters)),
    )
