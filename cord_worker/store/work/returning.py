"""Leases that go back unfinished: of workers that are gone, or of pieces of work that a worker cannot do now.

A `forgiven` attempt does not count towards the limit: the worker handed its work back in good order. `touched_at` goes
far back, so that whoever looks for waiting work finds it at once.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.work.sweep import Kind


@dataclass(frozen=True, slots=True)
class _Held:
    """How a kind of work is leased: names of its table and columns, its state while it is held, and the SQL of
    the one that it goes back to (of the row `h`)."""

    table: str
    state: str
    worker: str
    attempts: str
    held: str
    free: str

    @property
    def of_workers(self) -> sa.TextClause:
        """What workers hold, but for the known and the young."""
        return sa.text(
            f"""
            UPDATE {self.table} h
            SET {self.state} = {self.free}, {self.attempts} = {self.attempts} - :forgiven, touched_at = 'epoch'
            WHERE {self.state} = '{self.held}' AND {self.worker} = ANY(:workers)
              AND id <> ALL(CAST(:known AS bigint[]))
              AND touched_at NOT BETWEEN now() - make_interval(secs => :grace) AND now() + make_interval(secs => :grace)
            """
        )

    @property
    def of_leases(self) -> sa.TextClause:
        """What one worker holds by these leases, found by their keys."""
        return sa.text(
            f"""
            UPDATE {self.table} h
            SET {self.state} = {self.free}, {self.attempts} = h.{self.attempts} - :forgiven, touched_at = 'epoch'
            FROM unnest(CAST(:ids AS bigint[]), CAST(:attempts AS int[])) AS given(id, attempt)
            WHERE h.id = given.id AND h.{self.state} IS NOT DISTINCT FROM '{self.held}'
              AND h.{self.worker} = :worker_id AND h.{self.attempts} = given.attempt
            RETURNING h.id
            """
        )


_HELD = {
    Kind.PROPOSE: _Held("candidates", "state", "worker_id", "propose_attempts", "proposing", "'pending'"),
    Kind.SCORE: _Held("candidates", "state", "score_worker_id", "score_attempts", "scoring", "'proposed'"),
    Kind.JUDGE: _Held("candidates", "state", "judgment_worker_id", "judgment_attempts", "judging", "'unjudged'"),
    Kind.ANSWER: _Held("trajectories", "answer_state", "worker_id", "answer_attempts", "writing", "'pending'"),
    Kind.VERIFY: _Held("trajectories", "answer_state", "check_worker_id", "check_attempts", "checking", "'written'"),
    Kind.VERDICT: _Held(
        "trajectories",
        "answer_state",
        "judgment_worker_id",
        "judgment_attempts",
        "judging",
        # An answer that a comparison left undecided waits for the judge in a state of its own.
        "CASE WHEN h.verification IS NULL THEN 'written' ELSE 'unjudged' END",
    ),
}
_OF_WORKERS = {kind: held.of_workers for kind, held in _HELD.items()}
_OF_LEASES = {kind: held.of_leases for kind, held in _HELD.items()}


def give_back(
    connection: sa.Connection,
    workers: Collection[uuid.UUID],
    *,
    forgiven: bool,
    known_candidates: Collection[int] = (),
    known_trajectories: Collection[int] = (),
    grace_seconds: float = -1.0,
) -> int:
    """Takes back the leases of `workers`, except the known ones and those younger than the grace; returns how many."""
    count = 0
    for kind, statement in _OF_WORKERS.items():
        known = known_candidates if _HELD[kind].table == "candidates" else known_trajectories
        count += connection.execute(
            statement,
            {
                "workers": list(workers),
                "known": list(known),
                "forgiven": int(forgiven),
                "grace": grace_seconds,
            },
        ).rowcount
    return count


def return_leases(
    connection: sa.Connection,
    worker_id: uuid.UUID,
    kind: Kind,
    leases: Sequence[tuple[int, int]],
    *,
    forgiven: bool = True,
) -> list[int]:
    """Gives back work that cannot be done now, as (key, attempt), where its lease is still held; the attempts only
    count where they are not `forgiven`. Returns the keys."""
    given = {
        "ids": [key for key, _ in leases],
        "attempts": [attempt for _, attempt in leases],
        "worker_id": worker_id,
        "forgiven": int(forgiven),
    }
    return list(connection.execute(_OF_LEASES[kind], given).scalars())
