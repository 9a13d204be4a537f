"""Finds work whose message was lost, for the sweeper.

The state of the rows is the outbox: a row in a waiting state *is* owed a message. `touched_at` says when the message
was last sent.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.schema import kinds
from cord_worker.store.schema.isolation import MAX_ATTEMPTS
from cord_worker.store.schema.kinds import ADVANCE, VERIFY, WorkKind
from cord_worker.store.schema.verification_sql import IS_OWED, OWED_TO_CHECK
from cord_worker.store.work.values import Due


@dataclass(frozen=True, slots=True)
class ExhaustedWork:
    """A piece of work that used up its attempts; its problem fails for this `reason`."""

    problem_id: int
    reason: str


def _is_stale(row: str) -> str:
    """SQL: nothing happened to the row for `:age` seconds. A `touched_at` in the future counts as stale too: otherwise
    owed work would wait after PostgreSQL's clock was set back."""
    age = "make_interval(secs => :age)"
    return f"{row}.touched_at NOT BETWEEN now() - {age} AND now() + {age}"


@functools.cache
def _due(kind: WorkKind) -> sa.TextClause:
    """Finds due pieces of these models, the oldest first, and marks them as sent.

    Without `+ 0` the planner might read all rows of the table in the order of their keys until it has found enough.
    """
    row = kind.alias
    return sa.text(
        f"""
        WITH due AS (
            SELECT {row}.id, p.step, m.fingerprint AS model {kind.unfinished}
            JOIN models m ON m.id = {kind.model} AND m.fingerprint = ANY(CAST(:models AS text[]))
            WHERE r.state = 'active' AND {kind.waits} AND {_is_stale(row)}
            ORDER BY {row}.id + 0 LIMIT :most FOR UPDATE OF {row} SKIP LOCKED
        )
        UPDATE {kind.table} {row} SET touched_at = now() FROM due WHERE {row}.id = due.id
        RETURNING {row}.problem_id, due.step, due.model
        """
    )


@functools.cache
def _waiting(model_kinds: tuple[WorkKind, ...]) -> sa.TextClause:
    """Counts, for each model, the messages that its unclaimed work needs."""
    pieces = " UNION ALL ".join(
        f"SELECT DISTINCT {kind.alias}.problem_id, '{kind.name}' AS kind, {kind.model} AS model_id {kind.unfinished} "
        f"WHERE r.state = 'active' AND {kind.waits}"
        for kind in model_kinds
    )
    return sa.text(
        f"""
        SELECT m.fingerprint AS model, count(*) AS messages
        FROM ({pieces}) pieces JOIN models m ON m.id = pieces.model_id
        GROUP BY m.fingerprint
        """
    )


@functools.cache
def _exhausted(kind: WorkKind) -> sa.TextClause:
    """Finds the problems with a piece of work that used up its attempts, with the failure reason."""
    row = kind.alias
    return sa.text(
        f"""
        SELECT DISTINCT ON ({row}.problem_id) {row}.problem_id,
               {kind.given_up} || {row}.{kind.attempts} || ' attempts: its worker was lost or failed each time'
               || {_stop_reason_of(f"{row}.{kind.worker}")} AS reason
        {kind.unfinished}
        WHERE {kind.waits} AND {row}.{kind.attempts} >= {MAX_ATTEMPTS}
        ORDER BY {row}.problem_id, {row}.id
        """
    )


def _stop_reason_of(worker: str) -> str:
    """SQL: how the worker with the id in this column ended, in brackets; an empty text if it has not."""
    return f"coalesce((SELECT ' (' || w.stop_reason || ')' FROM workers w WHERE w.id = {worker}), '')"


_DUE_ADVANCES = sa.text(
    f"""
    UPDATE problems p SET touched_at = now()
    FROM runs r
    WHERE p.state = 'searching' AND p.outstanding = 0 AND {_is_stale("p")} AND p.decision_due_at IS NULL
      AND r.id = p.run_id AND r.state = 'active'
    RETURNING p.id AS problem_id, p.step
    """
)
"""Failed decisions need no message, because every coordinator looks for those that it should try
(`failed_decisions`)."""

_DUE_VERIFICATIONS = sa.text(
    f"""
    UPDATE problems p SET touched_at = now()
    FROM runs r
    WHERE p.state = 'verifying' AND {_is_stale("p")}
      AND r.id = p.run_id AND r.state = 'active'
      AND (EXISTS (SELECT 1 FROM trajectories j WHERE j.problem_id = p.id AND {OWED_TO_CHECK})
           OR NOT EXISTS (SELECT 1 FROM trajectories j WHERE j.problem_id = p.id AND {IS_OWED}))
    RETURNING p.id AS problem_id, p.step
    """
)
"""Finds problems with answers that no coordinator compares yet, and problems whose answers need no further work.
Answers that wait for the LLM judge are work of its model."""

_LEAD_KEY = 0x53776570
"""Advisory lock (the letters Swep) of the leading sweeper."""

_TRY_LEAD = sa.text(
    f"""
    SELECT pg_try_advisory_xact_lock({_LEAD_KEY}),
           set_config('idle_in_transaction_session_timeout', :milliseconds, true)
    """
)


def try_lead(connection: sa.Connection, seconds: float) -> bool:
    """Tries to make this sweeper lead until the transaction ends; returns whether it leads.

    PostgreSQL ends the transaction if its process sends nothing for `seconds`.
    """
    milliseconds = str(max(1, round(seconds * 1000)))
    return bool(connection.execute(_TRY_LEAD, {"milliseconds": milliseconds}).one()[0])


def waiting_messages(connection: sa.Connection) -> dict[str, int]:
    """Number of messages that the unclaimed work of each model needs, by model fingerprint."""
    rows = connection.execute(_waiting(tuple(kinds.served_by_models())))
    return {row.model: row.messages for row in rows}


def due_model_work(
    connection: sa.Connection, models: Sequence[str], age_seconds: float, *, limit: int | None = None
) -> list[Due]:
    """Work of these models that was not claimed for `age_seconds`, in the order of problems; marks it as sent.

    `limit` bounds the rows (candidates or answers) of each kind; the oldest rows come first.
    """
    parameters = {"models": list(models), "age": age_seconds, "most": limit}
    due = {
        Due(kind.name, row.problem_id, row.step, row.model)
        for kind in kinds.served_by_models()
        for row in connection.execute(_due(kind), parameters)
    }
    return sorted(due, key=lambda item: (item.problem_id, item.kind, item.model or ""))


def due_coordination(connection: sa.Connection, age_seconds: float) -> list[Due]:
    """Decisions and verifications that are due and that no coordinator has begun; marks them as sent."""
    advances = connection.execute(_DUE_ADVANCES, {"age": age_seconds})
    verifications = connection.execute(_DUE_VERIFICATIONS, {"age": age_seconds})
    return [Due(ADVANCE, row.problem_id, row.step) for row in advances] + [
        Due(VERIFY, row.problem_id, row.step) for row in verifications
    ]


def exhausted(connection: sa.Connection) -> list[ExhaustedWork]:
    """Work that used up its attempts (`run.max_attempts`), at most one piece of each kind for a problem."""
    return [
        ExhaustedWork(row.problem_id, row.reason)
        for kind in kinds.KINDS
        if kind.given_up is not None
        for row in connection.execute(_exhausted(kind))
    ]
