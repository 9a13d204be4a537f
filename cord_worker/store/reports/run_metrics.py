"""Figures about all runs together, for metrics. They are read from unfinished or new rows only, however many are
stored."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.reports.status import FINAL_STATES
from cord_worker.store.schema import kinds
from cord_worker.store.schema.kinds import WorkKind
from cord_worker.store.schema.tables import ProblemState


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """A run that has problems to work on; it is active or paused."""

    id: int
    name: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class ProblemCount:
    """Problems of a run that are in this state."""

    run_id: int
    state: str
    number: int


@dataclass(frozen=True, slots=True)
class ModelWork:
    """Work of one `kind` of all runs: `waiting` pieces (without those of paused runs) and `leased` ones. `model` is a
    path, None for a coordinator's work."""

    kind: str
    model: str | None
    waiting: int
    leased: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Requests of one `kind` that a model answered within the window, and their tokens; `cached_tokens` of the prompt
    tokens came from its prefix cache (None: not recorded). `request_seconds`: the sum of their durations."""

    kind: str
    model: str
    requests: int
    prompt_tokens: int
    cached_tokens: int | None
    completion_tokens: int
    request_seconds: float


_UNFINISHED = ", ".join(f"'{state}'" for state in ProblemState if state not in FINAL_STATES)

_UNFINISHED_RUNS = sa.text(
    f"""
    SELECT r.id, r.name, r.state = 'active' AS is_active
    FROM runs r
    WHERE r.state IN ('active', 'paused') AND EXISTS (
        SELECT 1 FROM problems p WHERE p.run_id = r.id AND p.state IN ({_UNFINISHED})
    )
    ORDER BY r.priority DESC, r.id DESC
    """
)

_PROBLEMS = sa.text(
    """
    SELECT run_id, state, count(*) AS number FROM problems WHERE run_id = ANY(:runs) GROUP BY run_id, state
    """
)

_DECISIONS = """
    SELECT 'decision' AS kind, CAST(NULL AS bigint) AS model_id, false AS is_leased
    FROM problems p JOIN runs r ON r.id = p.run_id
    WHERE p.state = 'searching' AND p.outstanding = 0 AND r.state = 'active'
"""


@functools.cache
def _work(all_kinds: tuple[WorkKind, ...]) -> sa.TextClause:
    """Counts unfinished pieces by kind and model."""
    pieces = " UNION ALL ".join(
        f"SELECT '{kind.noun}', {kind.model or 'NULL'}, {kind.alias}.{kind.state} = '{kind.working}' {kind.unfinished} "
        f"WHERE {kind.alias}.{kind.state} = '{kind.working}' OR (r.state = 'active' AND {kind.waits})"
        for kind in all_kinds
    )
    return sa.text(
        f"""
        SELECT work.kind, m.path AS model, count(*) FILTER (WHERE NOT work.is_leased) AS waiting,
               count(*) FILTER (WHERE work.is_leased) AS leased
        FROM ({_DECISIONS} UNION ALL {pieces}) work LEFT JOIN models m ON m.id = work.model_id
        GROUP BY work.kind, m.path
        """
    )


_NEWEST = "c.id > (SELECT coalesce(max(id), 0) FROM candidates) - :newest"
_NEWEST_ANSWERS = "j.id > (SELECT coalesce(max(id), 0) FROM trajectories) - :newest"
_WITHIN = "now() - make_interval(secs => :window)"

_USAGE = sa.text(
    f"""
    WITH used AS (
        SELECT 'proposal' AS kind, t.model_id, c.prompt_tokens AS prompt, c.cached_tokens AS cached,
               c.completion_tokens AS completion, c.propose_seconds AS seconds
        FROM candidates c JOIN teachers t ON t.id = c.teacher_id
        WHERE {_NEWEST} AND c.proposed_at > {_WITHIN} AND c.propose_seconds IS NOT NULL
        UNION ALL
        SELECT 'score', r.prover_model_id, c.score_prompt_tokens, c.score_cached_tokens, 0, c.score_seconds
        FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id
        WHERE {_NEWEST} AND c.scored_at > {_WITHIN} AND c.score_seconds IS NOT NULL
        UNION ALL
        SELECT 'judgment', r.selection_model_id, c.judgment_prompt_tokens, c.judgment_cached_tokens,
               c.judgment_completion_tokens, c.judgment_seconds
        FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id
        WHERE {_NEWEST} AND c.judged_at > {_WITHIN} AND c.judgment_seconds IS NOT NULL
        UNION ALL
        SELECT 'answer', t.model_id, j.answer_prompt_tokens, j.answer_cached_tokens, j.answer_completion_tokens,
               j.answer_seconds
        FROM trajectories j JOIN candidates c ON c.id = j.candidate_id JOIN teachers t ON t.id = c.teacher_id
        WHERE {_NEWEST_ANSWERS} AND j.answered_at > {_WITHIN} AND j.answer_seconds IS NOT NULL
        UNION ALL
        SELECT 'verdict', r.judge_model_id, j.verdict_prompt_tokens, NULL, j.verdict_completion_tokens,
               j.verdict_seconds
        FROM trajectories j JOIN problems p ON p.id = j.problem_id JOIN runs r ON r.id = p.run_id
        WHERE {_NEWEST_ANSWERS} AND j.judged_at > {_WITHIN} AND j.verdict_seconds IS NOT NULL
    )
    SELECT used.kind, m.path AS model, count(*) AS requests, coalesce(sum(used.prompt), 0)::bigint AS prompt_tokens,
           sum(used.cached)::bigint AS cached_tokens,
           coalesce(sum(used.completion), 0)::bigint AS completion_tokens, sum(used.seconds) AS request_seconds
    FROM used JOIN models m ON m.id = used.model_id
    GROUP BY used.kind, m.path
    """
)


def unfinished_runs(connection: sa.Connection) -> list[UnfinishedRun]:
    """Runs that are not cancelled and have problems to work on: the highest priority first, then the newest."""
    return [UnfinishedRun(**row._mapping) for row in connection.execute(_UNFINISHED_RUNS)]


def problem_counts(connection: sa.Connection, runs: Collection[int]) -> list[ProblemCount]:
    """Problems of these runs by state; it reads an index entry for each problem."""
    return [ProblemCount(**row._mapping) for row in connection.execute(_PROBLEMS, {"runs": list(runs)})]


def work_by_model(connection: sa.Connection) -> Sequence[ModelWork]:
    """Unfinished work of all runs, by kind and model. It reads what is in flight, without the queued rescores."""
    return [ModelWork(**row._mapping) for row in connection.execute(_work(tuple(kinds.KINDS)))]


def recent_usage(connection: sa.Connection, *, window_seconds: float, newest: int = 20_000) -> Sequence[Usage]:
    """Requests to models within the last `window_seconds` for the `newest` candidates and trajectories, without
    rescores. If more candidates than that are in flight, not all are counted."""
    parameters = {"window": window_seconds, "newest": newest}
    return [Usage(**row._mapping) for row in connection.execute(_USAGE, parameters)]
