"""Continues failed problems: where they stopped, or from the beginning.

Committed results stay and are never computed again. The attempts of a waiting row begin at 0 again; a row that a living
worker has leased keeps its lease. Candidates are locked before problems, as in `work.leases`; concurrent retries of a
run wait for each other.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cord_worker.errors import RunConflict, StoreError
from cord_worker.search.expanding import fails_again_after_restart, fails_again_on_retry
from cord_worker.store.reports.failure_causes import cause_sql
from cord_worker.store.runs.enqueue import lock_run_name
from cord_worker.store.runs.runs import RunRow, resolve_run
from cord_worker.store.schema import kinds
from cord_worker.store.schema.kinds import WorkKind
from cord_worker.store.schema.rollups import drop_rollups
from cord_worker.store.schema.tables import ProblemState, RunState
from cord_worker.store.search.failed_decisions import NO_FAILED_DECISION
from cord_worker.store.work.returning import reclaim


@dataclass(frozen=True, slots=True)
class Retried:
    """The result of a retry.

    `problems` counts the problems that continue, by their new state. `left_alone` are problems that were asked for and
    had not failed, with their states. `repeating` of the problems that continue will certainly fail the same way;
    `hopeless` of these would fail even with new candidates.
    """

    run: str
    run_state: str
    problems: Mapping[str, int]
    left_alone: Mapping[str, str]
    repeating: int = 0
    hopeless: int = 0

    @property
    def count(self) -> int:
        """Number of problems that continue."""
        return sum(self.problems.values())


_FAILED = sa.text(
    f"""
    SELECT id FROM problems
    WHERE run_id = :run_id AND state = 'failed'
      AND (
          CAST(:reason AS text) IS NULL
          OR position({cause_sql("CAST(:reason AS text)")} IN {cause_sql("failure_reason")}) > 0
      )
    ORDER BY id
    """
)
_NAMED = sa.text("SELECT id, key, state FROM problems WHERE run_id = :run_id AND key = ANY(:keys) ORDER BY id")


@functools.cache
def _reset(kind: WorkKind) -> sa.TextClause:
    """Sets the attempts of waiting pieces of these problems to 0."""
    states = ", ".join(f"'{state}'" for state in kind.waiting)
    return sa.text(
        f"""
        UPDATE {kind.table} SET {kind.attempts} = 0, touched_at = 'epoch'
        WHERE problem_id = ANY(CAST(:ids AS bigint[])) AND {kind.state} IN ({states})
        """
    )


_CONTINUE = sa.text(
    f"""
    WITH failed AS (
        SELECT id, failure_reason AS reason FROM problems
        WHERE id = ANY(CAST(:ids AS bigint[])) AND state = 'failed' ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE problems p
    SET failure_reason = NULL, finished_at = NULL, touched_at = 'epoch', {NO_FAILED_DECISION},
        state = CASE
            WHEN p.outstanding > 0 THEN 'searching'
            WHEN EXISTS (SELECT 1 FROM trajectories j
                         WHERE j.problem_id = p.id AND j.answer_state IN ('pending', 'writing')) THEN 'answering'
            WHEN EXISTS (SELECT 1 FROM trajectories j
                         WHERE j.problem_id = p.id AND j.answer_state <> 'none') THEN 'verifying'
            WHEN p.step = 0 THEN 'queued'
            ELSE 'searching'
        END
    FROM failed WHERE p.id = failed.id
    RETURNING p.state, failed.reason
    """
)
"""A problem whose step is complete and that has no answers yet is `searching`: its decision is taken again."""

_DELETE_CANDIDATES = sa.text("DELETE FROM candidates WHERE problem_id = ANY(CAST(:ids AS bigint[]))")

_RESTART = sa.text(
    f"""
    WITH failed AS (
        SELECT id, failure_reason AS reason FROM problems
        WHERE id = ANY(CAST(:ids AS bigint[])) AND state = 'failed' ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE problems p
    SET state = 'queued', step = 0, round = 0, outstanding = 0, unproposed = 0, failure_reason = NULL,
        {NO_FAILED_DECISION}, admitted_at = NULL, finished_at = NULL, touched_at = now()
    FROM failed WHERE p.id = failed.id
    RETURNING p.state, failed.reason
    """
)

_MOST_NAMED = 5


def retry_failed(
    connection: sa.Connection, name: str, keys: Collection[str] = (), reason: str | None = None
) -> Retried:
    """Lets failed problems of the run continue where they stopped: all of them, or those with these keys, or those
    whose reason contains this text (numbers in it are ignored).

    Raises RunNotFound, RunConflict if the run was cancelled, StoreError if it has no problem with one of the keys.
    """
    run, ids, left_alone = _failed_problems(connection, name, keys, reason)
    # Before the attempts are reset: leases of lost workers that are returned later would keep their attempts.
    reclaim(connection)
    # Candidates before trajectories, as everywhere.
    for kind in sorted(kinds.KINDS, key=lambda kind: kind.table):
        connection.execute(_reset(kind), {"ids": ids})
    found = connection.execute(_CONTINUE, {"ids": ids}).all()
    drop_rollups(connection, ids)
    # A problem that continues with its answers does not take the failed decision again.
    repeating = [
        row.reason for row in found if row.state == ProblemState.SEARCHING and fails_again_on_retry(row.reason or "")
    ]
    return _result(run, found, left_alone, len(repeating), sum(map(fails_again_after_restart, repeating)))


def restart_failed(
    connection: sa.Connection, name: str, keys: Collection[str] = (), reason: str | None = None
) -> Retried:
    """Deletes the candidates of failed problems of the run and queues the problems again; see `retry_failed`.

    Raises RunConflict for a trimmed run, whose candidates are copies.
    """
    run, ids, left_alone = _failed_problems(connection, name, keys, reason)
    if run.trimmed_from is not None:
        raise RunConflict(
            f"run {run.name!r} was trimmed from run {run.trimmed_from!r}: its steps are copies, so there is nothing to "
            "draw again. Retry it without --from-scratch."
        )
    connection.execute(_DELETE_CANDIDATES, {"ids": ids})
    found = connection.execute(_RESTART, {"ids": ids}).all()
    drop_rollups(connection, ids)
    hopeless = sum(fails_again_after_restart(row.reason or "") for row in found)
    return _result(run, found, left_alone, hopeless, hopeless)


def _result(
    run: RunRow, found: Sequence[sa.Row[Any]], left_alone: Mapping[str, str], repeating: int, hopeless: int
) -> Retried:
    states = Counter(str(row.state) for row in found)
    return Retried(run.name, run.state, states, left_alone, repeating, hopeless)


def _failed_problems(
    connection: sa.Connection, name: str, keys: Collection[str], reason: str | None
) -> tuple[RunRow, list[int], dict[str, str]]:
    lock_run_name(connection, name)
    run = resolve_run(connection, name)
    if run.state == RunState.CANCELLED:
        raise RunConflict(f"run {run.name!r} was cancelled, which is final. Enqueue its dataset under another name.")
    if not keys:
        return run, list(connection.execute(_FAILED, {"run_id": run.id, "reason": reason}).scalars()), {}
    rows = connection.execute(_NAMED, {"run_id": run.id, "keys": list(keys)}).all()
    unknown = sorted(set(keys) - {row.key for row in rows})
    if unknown:
        named = ", ".join(repr(key) for key in unknown[:_MOST_NAMED]) + (", …" if len(unknown) > _MOST_NAMED else "")
        raise StoreError(f"run {run.name!r} has no problem {named}; ids are those of its dataset")
    failed = [row.id for row in rows if row.state == ProblemState.FAILED]
    return run, failed, {row.key: row.state for row in rows if row.state != ProblemState.FAILED}
