"""Recovery: when the work that a fault hit continues."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.errors import StoreError
from cord_worker.store.database import Database
from cord_worker.store.schema.verification_sql import IS_JUDGED, OWED_TO_CHECK

SILENCES = 5
"""Timeouts of a silent worker that a recovery may take: a lost leader has to be replaced before it finds a lost worker,
its leases are reclaimed in a later round, and lost messages are sent again, within two such timeouts by default."""
UNDISTURBED_RUNS = 15
"""Undisturbed runs that a recovery may take in addition: their time shows how fast the machine is under its load.

Three would be enough for 840 of 842 recoveries measured here. The other two took twelve: two faults hit Redis at the
same time, under other load. 261 further recoveries from such faults took less than one. The cause is not known."""

_ACTIVE = "JOIN runs r ON r.id = p.run_id AND r.state = 'active'"

_UNITS = f"""
    SELECT 'candidate' AS owner, c.id, c.state || ' ' || c.propose_attempts || ' ' || c.score_attempts || ' '
           || c.judgment_attempts || coalesce(' ' || c.propose_worker_id, '') || coalesce(' ' || c.score_worker_id, '')
           || coalesce(' ' || c.judgment_worker_id, '') AS mark, m.path AS model,
           CASE c.state WHEN 'proposing' THEN c.propose_worker_id WHEN 'scoring' THEN c.score_worker_id
                        WHEN 'judging' THEN c.judgment_worker_id END AS holder
    FROM candidates c
    JOIN problems p ON p.id = c.problem_id AND p.state = 'searching' AND p.step = c.step
    {_ACTIVE}
    JOIN teachers t ON t.id = c.teacher_id
    JOIN models m ON m.id = CASE WHEN c.state IN ('pending', 'proposing') THEN t.model_id
                                 WHEN c.state IN ('proposed', 'scoring') THEN r.prover_model_id
                                 ELSE coalesce(r.selection_model_id, r.prover_model_id) END
    WHERE c.state IN ('pending', 'proposing', 'proposed', 'scoring', 'unjudged', 'judging')
    UNION ALL
    SELECT 'trajectory', j.id, j.answer_state || ' ' || j.answer_attempts || ' ' || j.check_attempts || ' '
           || j.verdict_attempts || coalesce(' ' || j.check_worker_id, '')
           || coalesce(' ' || j.answer_worker_id, '') || coalesce(' ' || j.verdict_worker_id, ''), m.path,
           CASE j.answer_state WHEN 'writing' THEN j.answer_worker_id WHEN 'judging' THEN j.verdict_worker_id END
    FROM trajectories j
    JOIN problems p ON p.id = j.problem_id AND p.state IN ('answering', 'verifying')
    {_ACTIVE}
    JOIN candidates c ON c.id = j.candidate_id
    JOIN teachers t ON t.id = c.teacher_id
    JOIN models m ON m.id = CASE WHEN j.answer_state IN ('pending', 'writing') THEN t.model_id ELSE r.judge_model_id END
    WHERE j.answer_state IN ('pending', 'writing', 'unjudged', 'judging') OR j.answer_state = 'written' AND {IS_JUDGED}
    UNION ALL
    SELECT 'trajectory', j.id, j.answer_state || ' ' || j.check_attempts || coalesce(' ' || j.check_worker_id, ''),
           'coordinator', CASE j.answer_state WHEN 'checking' THEN j.check_worker_id END
    FROM trajectories j
    JOIN problems p ON p.id = j.problem_id AND p.state = 'verifying'
    {_ACTIVE}
    WHERE j.answer_state = 'checking' OR {OWED_TO_CHECK}
    UNION ALL
    SELECT 'problem', p.id, p.state || ' ' || p.step || ' ' || p.round || ' ' || p.outstanding, 'coordinator', NULL
    FROM problems p {_ACTIVE}
    WHERE (p.state = 'searching' AND p.outstanding = 0) OR p.state = 'verifying'
"""
"""Due work: its model's path or `coordinator`, its holder, and a mark that changes whenever the work does."""

_DONE = """
    SELECT (SELECT count(*) FROM candidates WHERE proposed_at IS NOT NULL) + (SELECT count(*) FROM beams)
           + (SELECT count(*) FROM candidates WHERE scored_at IS NOT NULL)
           + (SELECT count(*) FROM trajectories WHERE answered_at IS NOT NULL OR judged_at IS NOT NULL)
           + (SELECT count(*) FROM problems WHERE state IN ('done', 'failed'))
"""


@dataclass(slots=True)
class Watch:
    """A fault, and the work that was due at its time: each piece must be claimed, done, or held by another worker.

    `held`: whether the processes that it hits held leases. `seconds`: from `began` to the recovery."""

    kind: str
    began: float
    marks: dict[tuple[str, int], str]
    done: int
    held: bool = False
    seconds: float | None = None
    over: float | None = None
    """When the fault was over, and any fault injected with it; a time of the monotonic clock, like `began`."""

    @property
    def after(self) -> float | None:
        """Seconds from the end of the fault to the recovery; 0 if it came before the end, None if it has not come."""
        if self.seconds is None:
            return None
        return self.seconds if self.over is None else max(0.0, self.began + self.seconds - self.over)


def longest_recovery(worker_timeout: float, undisturbed: Sequence[float]) -> float:
    """The most seconds that work may take to continue after a fault.

    `worker_timeout` is the service's setting; `undisturbed` are the seconds of whole runs without faults, here and now.
    """
    if not undisturbed:
        raise ValueError("a limit of recovery needs the time of an undisturbed run on this machine")
    return SILENCES * worker_timeout + UNDISTURBED_RUNS * max(undisturbed)


def late(watches: Sequence[Watch], limit: float) -> list[Watch]:
    """The watches that recovered too late after their faults, without those that have not recovered at all."""
    return [one for one in watches if one.after is not None and one.after > limit]


def watch(database: Database, kind: str, model: str | None = None, pids: Sequence[int] = ()) -> Watch:
    """Watches what a fault is about to hit: work held by the processes `pids`, or else waiting for `model`, or all."""

    def read(connection: sa.Connection) -> Watch:
        workers = sa.text("SELECT id FROM workers WHERE pid = ANY(:pids) AND stopped_at IS NULL")
        holders = set(connection.execute(workers, {"pids": list(pids)}).scalars())
        units = connection.execute(sa.text(_UNITS)).all()
        hit = [unit for unit in units if unit.holder in holders]
        held = bool(hit)
        if not hit:
            hit = [unit for unit in units if model in (None, unit.model)]
        marks = {(unit.owner, unit.id): unit.mark for unit in hit}
        return Watch(kind, time.monotonic(), marks, int(connection.execute(sa.text(_DONE)).scalar_one()), held)

    return database.run(read)


def look(database: Database, watches: Sequence[Watch]) -> None:
    """Sets the seconds of the watches that have recovered by now."""

    def read(connection: sa.Connection) -> tuple[dict[tuple[str, int], str], int]:
        units = {(unit.owner, unit.id): unit.mark for unit in connection.execute(sa.text(_UNITS))}
        return units, int(connection.execute(sa.text(_DONE)).scalar_one())

    waiting = [one for one in watches if one.seconds is None]
    if not waiting:
        return
    try:
        units, done = database.run(read, retry_seconds=0.0)
    except StoreError:
        return
    for one in waiting:
        one.marks = {key: mark for key, mark in one.marks.items() if units.get(key) == mark}
        if not one.marks and (done > one.done or not units):
            one.seconds = time.monotonic() - one.began
