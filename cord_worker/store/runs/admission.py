"""Chooses the queued problems that begin. Runs that share a model divide the places, higher priority first.

A run has `run.max_active` places. Places taken by higher-priority runs that share a model with it are subtracted first.
Runs of equal priority divide the rest evenly: each may fill its share at once, and then what the others do not need. A
run that cannot continue because one of its models has no worker takes no places from others.

A problem of a trimmed run has its steps already, so it begins with its final answer.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.schema.kinds import ADVANCE, ANSWER
from cord_worker.store.work.values import Due


@dataclass(frozen=True, slots=True)
class Contender:
    """An active run with unfinished problems.

    `queued` is counted only up to `max_active`; `has_all_workers` tells whether each of its models has a worker.
    """

    run_id: int
    priority: int
    max_active: int
    in_flight: int
    queued: int
    models: frozenset[int]
    has_all_workers: bool


def admissions(contenders: Sequence[Contender]) -> dict[int, int]:
    """How many queued problems of each run begin now, by the run's key; runs with none are left out."""
    admitted: Counter[int] = Counter()

    def load(run: Contender) -> int:
        return run.in_flight + admitted[run.run_id]

    for priority in sorted({run.priority for run in contenders}, reverse=True):
        equals = [run for run in contenders if run.priority == priority]
        places, rivals = {}, {}
        for run in equals:
            others = [
                other
                for other in contenders
                if other is not run and other.has_all_workers and other.models & run.models
            ]
            taken = sum(load(other) for other in others if other.priority > priority)
            places[run.run_id] = max(0, run.max_active - taken)
            rivals[run.run_id] = [other for other in others if other.priority == priority]
        waiting = [run for run in equals if run.queued]
        while waiting:
            # The run with the fewest problems in flight goes first, so that all of them fill up evenly.
            run = min(waiting, key=lambda one: (load(one), one.run_id))
            share = math.ceil(places[run.run_id] / (1 + len(rivals[run.run_id])))
            filled = load(run) + sum(load(rival) for rival in rivals[run.run_id])
            if load(run) < share or (load(run) < run.max_active and filled < places[run.run_id]):
                admitted[run.run_id] += 1
                if admitted[run.run_id] == run.queued:
                    waiting.remove(run)
            else:
                waiting.remove(run)
    return dict(admitted)


_CONTENDERS = sa.text(
    """
    SELECT r.id AS run_id, r.priority, r.max_active, active.in_flight, waiting.queued, uses.models,
           NOT EXISTS (
               SELECT 1 FROM unnest(uses.models) AS used(id)
               WHERE NOT EXISTS (SELECT 1 FROM workers w WHERE w.model_id = used.id AND w.stopped_at IS NULL)
           ) AS has_all_workers
    FROM runs r
    CROSS JOIN LATERAL (
        SELECT count(*) AS in_flight FROM problems p
        WHERE p.run_id = r.id AND p.state IN ('searching', 'answering', 'verifying')
    ) active
    CROSS JOIN LATERAL (
        SELECT count(*) AS queued FROM (
            SELECT 1 FROM problems p WHERE p.run_id = r.id AND p.state = 'queued' LIMIT r.max_active
        ) AS waiting_ones
    ) waiting
    CROSS JOIN LATERAL (
        SELECT array_agg(DISTINCT used.id) AS models FROM (
            SELECT t.model_id AS id FROM teachers t WHERE t.run_id = r.id
            UNION ALL SELECT unnest(ARRAY[r.prover_model_id, r.selection_model_id]) WHERE r.trim_above IS NULL
            UNION ALL SELECT r.judge_model_id
        ) used WHERE used.id IS NOT NULL
    ) uses
    WHERE r.state = 'active' AND (active.in_flight > 0 OR waiting.queued > 0)
    ORDER BY r.id
    """
)

_ADMIT = sa.text(
    """
    WITH next AS (
        SELECT chosen.id
        FROM unnest(CAST(:run_ids AS bigint[]), CAST(:numbers AS bigint[])) AS given(run_id, number)
        CROSS JOIN LATERAL (
            SELECT p.id FROM problems p
            WHERE p.run_id = given.run_id AND p.state = 'queued'
            ORDER BY p.position LIMIT given.number
            FOR UPDATE SKIP LOCKED
        ) chosen
    )
    UPDATE problems p SET admitted_at = now(), touched_at = now(),
        state = CASE WHEN r.trim_above IS NULL THEN 'searching' ELSE 'answering' END
    FROM next, runs r WHERE p.id = next.id AND r.id = p.run_id
    RETURNING p.id, p.step, CASE WHEN r.trim_above IS NOT NULL THEN (
        SELECT m.fingerprint FROM trajectories j JOIN candidates c ON c.id = j.candidate_id
        JOIN teachers t ON t.id = c.teacher_id JOIN models m ON m.id = t.model_id
        WHERE j.problem_id = p.id AND j.winner
    ) END AS answered_by
    """
)

_ADMISSION_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('cord admission', 0))")


def admit(connection: sa.Connection) -> list[Due]:
    """Lets queued problems of active runs begin if there are places, in dataset order; returns the messages that they
    need."""
    connection.execute(_ADMISSION_LOCK)
    rows = connection.execute(_CONTENDERS).all()
    chosen = admissions([Contender(**{**row._mapping, "models": frozenset(row.models or ())}) for row in rows])
    if not chosen:
        return []
    parameters = {"run_ids": list(chosen), "numbers": list(chosen.values())}
    begun = sorted(connection.execute(_ADMIT, parameters), key=lambda row: row.id)
    return [
        Due(ADVANCE, row.id, 0) if row.answered_by is None else Due(ANSWER.name, row.id, row.step, row.answered_by)
        for row in begun
    ]
