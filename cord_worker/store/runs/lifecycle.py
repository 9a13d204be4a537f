"""Pausing, resuming and cancelling a run; its priority."""

from __future__ import annotations

import sqlalchemy as sa

from cord_worker.errors import RunConflict
from cord_worker.store.runs.enqueue import lock_run_name
from cord_worker.store.runs.runs import resolve_run, set_run_priority, set_run_state
from cord_worker.store.runs.spending import NewLimits, how_to_continue, read_spending
from cord_worker.store.schema.tables import RunState

_UNCHANGED = NewLimits()

_CANCEL_PROBLEMS = sa.text(
    """
    WITH unfinished AS (
        SELECT id FROM problems
        WHERE run_id = :run_id AND state IN ('queued', 'searching', 'answering', 'verifying')
        ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE problems p SET state = 'cancelled', finished_at = now(), touched_at = now()
    FROM unfinished WHERE p.id = unfinished.id
    """
)


def pause_run(connection: sa.Connection, name: str) -> bool:
    """Pauses the run: none of its work is claimed any more, but results of leased work are still written. Returns
    False if the run was already paused."""
    return _set_state(connection, name, RunState.PAUSED)


def resume_run(connection: sa.Connection, name: str, limits: NewLimits = _UNCHANGED) -> bool:
    """Continues a paused run, with other spending limits if they are given. Returns False if the run was already
    active.

    Raises RunConflict if the run has reached a limit; then nothing is changed (the caller's transaction rolls back).
    """
    changed = _set_state(connection, name, RunState.ACTIVE)
    run = resolve_run(connection, name)
    if limits.are_given:
        run = limits.set(connection, run)
    if run.max_tokens is not None or run.max_cost is not None:
        reached = read_spending(connection, run).reached_limit()
        if reached is not None:
            raise RunConflict(f"run {name}: {reached}. {how_to_continue(name, reached)}")
    return changed


def cancel_run(connection: sa.Connection, name: str) -> int:
    """Cancels the run for good, with its unfinished problems, and returns their number. Problems that are done or
    failed stay so."""
    lock_run_name(connection, name)
    run = resolve_run(connection, name)
    set_run_state(connection, run.id, RunState.CANCELLED)
    return connection.execute(_CANCEL_PROBLEMS, {"run_id": run.id}).rowcount


def prioritise_run(connection: sa.Connection, name: str, priority: int) -> int:
    """Sets the run's priority; returns the previous one. Problems of runs with a higher priority begin first."""
    run = resolve_run(connection, name)
    set_run_priority(connection, run.id, priority)
    return run.priority


def _set_state(connection: sa.Connection, name: str, state: RunState) -> bool:
    run = resolve_run(connection, name)
    if run.state == RunState.CANCELLED:
        raise RunConflict(f"run {run.name!r} was cancelled, which is final. Enqueue its dataset under another name.")
    if run.state == state:
        return False
    set_run_state(connection, run.id, state)
    return True
