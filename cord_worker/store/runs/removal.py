"""Deletes a run and everything that belongs to it, in batches, so that other transactions never wait long for a lock.

The run is cancelled first, so that no process works on it or adds to it meanwhile. Another call resumes an interrupted
removal. Models and workers stay, because they belong to no run.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.display_text import counted
from cord_worker.errors import RunConflict
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import lock_run_name
from cord_worker.store.runs.lifecycle import cancel_run
from cord_worker.store.runs.runs import resolve_run
from cord_worker.store.schema.tables import RunState

_UNFINISHED = sa.text(
    """
    SELECT count(*) FROM problems
    WHERE run_id = :run_id AND state IN ('queued', 'searching', 'answering', 'verifying')
    """
)

_BATCH = sa.text("SELECT id FROM problems WHERE run_id = :run_id ORDER BY id LIMIT :most")
_DELETE_CANDIDATES = sa.text("DELETE FROM candidates WHERE problem_id = ANY(CAST(:ids AS bigint[]))")
_DELETE_PROBLEMS = sa.text("DELETE FROM problems WHERE id = ANY(CAST(:ids AS bigint[]))")
_DELETE_RUN = sa.text("DELETE FROM runs WHERE id = :run_id")
_DEPENDENTS = sa.text(
    """
    SELECT (SELECT count(*) FROM rescorings WHERE run_id = :run_id) AS rescorings,
           ARRAY(SELECT name FROM runs WHERE source_run_id = :run_id ORDER BY id) AS trimmed
    """
)

BATCH_PROBLEMS = 200


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal deleted. `trimmed` names the runs that were trimmed from this one: they stay, but their copies can
    no longer be compared with the originals."""

    run: str
    problems: int
    candidates: int
    rescorings: int = 0
    trimmed: tuple[str, ...] = ()


def remove_run(database: Database, name: str) -> Removed:
    """Deletes the run with its problems, candidates, beams, trajectories, teachers and rescorings.

    Raises RunNotFound, and RunConflict if it is active with unfinished problems.
    """
    run_id = database.run(lambda connection: _cancel(connection, name))
    problems = candidates = 0
    while batch := database.run(lambda connection: _delete_batch(connection, run_id)):
        problems += batch[0]
        candidates += batch[1]
    rescorings, trimmed = database.run(lambda connection: _delete_run(connection, run_id))
    return Removed(name, problems, candidates, rescorings, trimmed)


def _cancel(connection: sa.Connection, name: str) -> int:
    """Cancels the run if it may be removed; returns its key."""
    lock_run_name(connection, name)
    run = resolve_run(connection, name)
    if run.state == RunState.ACTIVE:
        unfinished = connection.execute(_UNFINISHED, {"run_id": run.id}).scalar_one()
        if unfinished:
            raise RunConflict(
                f"run {name!r} is active with {counted(unfinished, 'unfinished problem')}. Cancel it first "
                f"(cordctl cancel {name}) or pause it (cordctl pause {name})."
            )
    cancel_run(connection, name)
    return run.id


def _delete_run(connection: sa.Connection, run_id: int) -> tuple[int, tuple[str, ...]]:
    """Deletes the run's row; returns the number of its rescorings and the names of the runs trimmed from it."""
    found = connection.execute(_DEPENDENTS, {"run_id": run_id}).one()
    connection.execute(_DELETE_RUN, {"run_id": run_id})
    return found.rescorings, tuple(found.trimmed)


def _delete_batch(connection: sa.Connection, run_id: int) -> tuple[int, int] | None:
    """Deletes a batch; returns the numbers of problems and candidates, None if no problem was left. Candidates are
    deleted first, because other statements lock them first."""
    ids = list(connection.execute(_BATCH, {"run_id": run_id, "most": BATCH_PROBLEMS}).scalars())
    if not ids:
        return None
    candidates = connection.execute(_DELETE_CANDIDATES, {"ids": ids}).rowcount
    return connection.execute(_DELETE_PROBLEMS, {"ids": ids}).rowcount, candidates
