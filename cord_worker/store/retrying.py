"""Going on with failed problems: where they stopped, or from the beginning.

What is committed stays and is never computed again. The attempts of a row that waits begin at 0 again; one that a
living worker holds keeps its lease. Candidates are locked before problems, as in `leases`; retries of a run take turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cord_worker.errors import RunConflict, StoreError
from cord_worker.search.expanding import comes_again, comes_again_anew
from cord_worker.store import workers
from cord_worker.store.failures import cause_of
from cord_worker.store.ingest import lock_run_name
from cord_worker.store.models import ProblemState, RunState
from cord_worker.store.runs import RunRow, resolve_run
from cord_worker.store.undecided import NO_FAILED_DECISION


@dataclass(frozen=True, slots=True)
class Retried:
    """What became of a retry: problems that go on, by the state they are in now, and named ones that had not failed,
    with their states. `repeating` of those that go on will certainly fail the same way, `hopeless` of these also where
    their candidates are drawn again."""

    run: str
    run_state: str
    problems: Mapping[str, int]
    left_alone: Mapping[str, str]
    repeating: int = 0
    hopeless: int = 0

    @property
    def count(self) -> int:
        """Problems that go on."""
        return sum(self.problems.values())


_FAILED = sa.text(
    f"""
    SELECT id FROM problems
    WHERE run_id = :run_id AND state = 'failed'
      AND (
          CAST(:reason AS text) IS NULL
          OR position({cause_of("CAST(:reason AS text)")} IN {cause_of("failure_reason")}) > 0
      )
    ORDER BY id
    """
)
_NAMED = sa.text("SELECT id, key, state FROM problems WHERE run_id = :run_id AND key = ANY(:keys) ORDER BY id")

_RESET_PROPOSALS = sa.text(
    """
    UPDATE candidates SET propose_attempts = 0, touched_at = 'epoch'
    WHERE problem_id = ANY(CAST(:ids AS bigint[])) AND state = 'pending'
    """
)
_RESET_SCORES = sa.text(
    """
    UPDATE candidates SET score_attempts = 0, touched_at = 'epoch'
    WHERE problem_id = ANY(CAST(:ids AS bigint[])) AND state = 'proposed'
    """
)
_RESET_JUDGMENTS = sa.text(
    """
    UPDATE candidates SET judgment_attempts = 0, touched_at = 'epoch'
    WHERE problem_id = ANY(CAST(:ids AS bigint[])) AND state = 'unjudged'
    """
)
_RESET_ANSWERS = sa.text(
    """
    UPDATE trajectories
    SET answer_attempts = CASE answer_state WHEN 'pending' THEN 0 ELSE answer_attempts END,
        check_attempts = CASE answer_state WHEN 'pending' THEN check_attempts ELSE 0 END,
        judgment_attempts = CASE answer_state WHEN 'pending' THEN judgment_attempts ELSE 0 END,
        touched_at = 'epoch'
    WHERE problem_id = ANY(CAST(:ids AS bigint[])) AND answer_state IN ('pending', 'written', 'unjudged')
    """
)

_GO_ON = sa.text(
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
"""A problem whose step is complete and that has no answers yet is searched: its decision is taken again."""

_DELETE_CANDIDATES = sa.text("DELETE FROM candidates WHERE problem_id = ANY(CAST(:ids AS bigint[]))")

_BEGIN_ANEW = sa.text(
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
    """Has failed problems of the run go on where they stopped; all of them, or those with these keys, or those whose
    reason holds this text, whatever the figures in it are.

    Raises RunNotFound, RunConflict where the run was cancelled, StoreError where it has no problem with such a key.
    """
    run, ids, left_alone = _chosen(connection, name, keys, reason)
    # Leases of workers that are gone would come back with the attempts that they had.
    workers.reclaim(connection)
    for statement in (_RESET_PROPOSALS, _RESET_SCORES, _RESET_JUDGMENTS, _RESET_ANSWERS):
        connection.execute(statement, {"ids": ids})
    found = connection.execute(_GO_ON, {"ids": ids}).all()
    # One whose step is under way again, or whose answers are, has more before it than the decision.
    repeating = [row.reason for row in found if row.state == ProblemState.SEARCHING and comes_again(row.reason or "")]
    return _retried(run, found, left_alone, len(repeating), sum(map(comes_again_anew, repeating)))


def begin_failed_anew(
    connection: sa.Connection, name: str, keys: Collection[str] = (), reason: str | None = None
) -> Retried:
    """Deletes what failed problems of the run came to and queues them again; see `retry_failed`."""
    run, ids, left_alone = _chosen(connection, name, keys, reason)
    connection.execute(_DELETE_CANDIDATES, {"ids": ids})
    found = connection.execute(_BEGIN_ANEW, {"ids": ids}).all()
    hopeless = sum(comes_again_anew(row.reason or "") for row in found)
    return _retried(run, found, left_alone, hopeless, hopeless)


def _retried(
    run: RunRow, found: Sequence[sa.Row[Any]], left_alone: Mapping[str, str], repeating: int, hopeless: int
) -> Retried:
    states = Counter(str(row.state) for row in found)
    return Retried(run.name, run.state, states, left_alone, repeating, hopeless)


def _chosen(
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
