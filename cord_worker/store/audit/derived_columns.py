"""Reads columns that follow from others, so that the caller can recompute them."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from cord_worker.store.audit.row_names import trajectory_name_sql
from cord_worker.store.schema.tables import Base


@dataclass(frozen=True, slots=True)
class CandidateToRecompute:
    """A candidate, proposed or not, with what determines its invalid reason, state, lineage, seeds and token cap.

    The fields are columns of its row, except: `key` is the problem's; `teacher` is the teacher's ordinal, `name` its
    name and `role` its role; `has_score`, `was_scored`, `has_judgment` and `was_judged` say whether `score`,
    `scored_at`, `judgment` and `judged_at` are set; `trajectory_id` and `answer_seed` belong to the trajectory that
    ends in the candidate, if one does.
    """

    id: int
    key: str
    parent_id: int | None
    parent_rank: int
    step: int
    round: int
    teacher: int
    name: str
    role: str
    sample: int
    lineage: str
    seed: int
    max_tokens: int
    whole: bool
    thinking_tokens: int | None
    state: str
    text: str | None
    text_key: uuid.UUID | None
    duplicate_of: int | None
    finish_reason: str | None
    invalid_reason: str | None
    has_score: bool
    was_scored: bool
    has_judgment: bool
    was_judged: bool
    trajectory_id: int | None
    answer_seed: int | None


@dataclass(frozen=True, slots=True)
class LiveSlot:
    """A slot with a live trajectory, in the beam chosen after `step`."""

    step: int
    rank: int
    candidate_id: int


@dataclass(frozen=True, slots=True)
class SearchToRecompute:
    """The candidates of one problem, ordered by id, and the `live` slots that they extend.

    `has_digests`: whether the problem's run has digests. Runs without digests may also lack text keys.
    """

    has_digests: bool
    candidates: tuple[CandidateToRecompute, ...]
    live: tuple[LiveSlot, ...]


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model's row; `used_by` is what the run uses it for: `teacher NAME`, `prover`, `selection` or `judge`."""

    used_by: str
    fingerprint: str
    path: str
    identity: dict[str, Any]


_CANDIDATES = sa.text(
    """
    SELECT c.problem_id, c.id, p.key, c.parent_id, c.parent_rank, c.step, c.round, t.ordinal AS teacher, t.name, t.role,
           c.sample, c.lineage, c.seed, c.max_tokens, c.whole, c.thinking_tokens, c.state, c.text, c.text_key,
           c.duplicate_of, c.finish_reason, c.invalid_reason,
           c.score IS NOT NULL AS has_score, c.scored_at IS NOT NULL AS was_scored,
           c.judgment IS NOT NULL AS has_judgment, c.judged_at IS NOT NULL AS was_judged,
           j.id AS trajectory_id, j.answer_seed, r.digest IS NOT NULL AS has_digests
    FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id
    JOIN teachers t ON t.id = c.teacher_id
    LEFT JOIN trajectories j ON j.candidate_id = c.id
    WHERE c.problem_id = ANY(CAST(:ids AS bigint[])) ORDER BY c.problem_id, c.id
    """
)

_LIVE = sa.text(
    """
    SELECT problem_id, step, rank, candidate_id FROM beams
    WHERE problem_id = ANY(CAST(:ids AS bigint[])) AND finish IS NULL ORDER BY problem_id, step, rank
    """
)

_MODELS = sa.text(
    """
    SELECT 'teacher ' || t.name AS used_by, m.fingerprint, m.path, m.identity
    FROM teachers t JOIN models m ON m.id = t.model_id WHERE t.run_id = :run_id
    UNION ALL
    SELECT 'prover', m.fingerprint, m.path, m.identity
    FROM runs r JOIN models m ON m.id = r.prover_model_id WHERE r.id = :run_id
    UNION ALL
    SELECT 'selection', m.fingerprint, m.path, m.identity
    FROM runs r JOIN models m ON m.id = r.selection_model_id WHERE r.id = :run_id
    UNION ALL
    SELECT 'judge', m.fingerprint, m.path, m.identity
    FROM runs r JOIN models m ON m.id = r.judge_model_id WHERE r.id = :run_id
    """
)

_NAMES = sa.text(f"SELECT j.id, {trajectory_name_sql('j')} AS name FROM trajectories j WHERE j.id = ANY(:ids)")


def searches_to_recompute(connection: sa.Connection, problem_ids: Sequence[int]) -> Iterator[SearchToRecompute]:
    """The candidates of each of these problems; problems without candidates are left out."""
    ids = {"ids": list(problem_ids)}
    live: dict[int, list[LiveSlot]] = defaultdict(list)
    for row in connection.execute(_LIVE, ids):
        live[row.problem_id].append(LiveSlot(*row[1:]))
    rows = connection.execute(_CANDIDATES, ids)
    for problem_id, group in groupby(rows, key=lambda row: row.problem_id):
        found = list(group)
        candidates = tuple(CandidateToRecompute(*row[1:-1]) for row in found)
        yield SearchToRecompute(found[0].has_digests, candidates, tuple(live[problem_id]))


def models_of(connection: sa.Connection, run_id: int) -> list[StoredModel]:
    """The models that the run uses."""
    return [StoredModel(**row._mapping) for row in connection.execute(_MODELS, {"run_id": run_id})]


def configured_columns(connection: sa.Connection, run_id: int, names: Collection[str]) -> dict[str, object]:
    """The values of these columns in the run's row, by name."""
    runs = Base.metadata.tables["runs"]
    row = connection.execute(sa.select(*(runs.c[name] for name in names)).where(runs.c.id == run_id)).mappings().one()
    return {name: row[name] for name in names}


def trajectory_names(connection: sa.Connection, ids: Sequence[int]) -> dict[int, str]:
    """The names that findings give these trajectories, by id."""
    return {row.id: row.name for row in connection.execute(_NAMES, {"ids": list(ids)})}
