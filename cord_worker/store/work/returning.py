"""Returns leases without results: for a worker that cannot do the work now, or one that is gone.

A `forgiven` attempt does not count. `touched_at` is set far back, so that the sweeper and other workers find the work
at once.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from cord_worker.store.schema import kinds
from cord_worker.store.schema.kinds import WorkKind


@functools.cache
def _return_worker_leases(kind: WorkKind) -> sa.TextClause:
    """Returns the leases of these workers, except the `:known` ones and those of the last `:grace` seconds."""
    row = kind.alias
    return sa.text(
        f"""
        UPDATE {kind.table} {row}
        SET {kind.state} = {kind.free_state}, {kind.attempts} = {kind.attempts} - :forgiven, touched_at = 'epoch'
        WHERE {kind.state} = '{kind.working}' AND {kind.worker} = ANY(:workers)
          AND id <> ALL(CAST(:known AS bigint[]))
          AND touched_at NOT BETWEEN now() - make_interval(secs => :grace) AND now() + make_interval(secs => :grace)
        """
    )


@functools.cache
def _return_given_leases(kind: WorkKind) -> sa.TextClause:
    """Returns these leases of one worker, found by their keys."""
    row = kind.alias
    return sa.text(
        f"""
        UPDATE {kind.table} {row}
        SET {kind.state} = {kind.free_state}, {kind.attempts} = {row}.{kind.attempts} - :forgiven, touched_at = 'epoch'
        FROM unnest(CAST(:ids AS bigint[]), CAST(:attempts AS int[])) AS given(id, attempt)
        WHERE {row}.id = given.id AND {row}.{kind.state} IS NOT DISTINCT FROM '{kind.working}'
          AND {row}.{kind.worker} = :worker_id AND {row}.{kind.attempts} = given.attempt
        RETURNING {row}.id
        """
    )


@functools.cache
def _gone_holders(all_kinds: tuple[WorkKind, ...]) -> sa.TextClause:
    """Finds workers that hold leases but have stopped or have no row (a failover or a restored dump can lose the
    row)."""
    holders = " UNION ".join(
        f"SELECT {kind.worker} AS id FROM {kind.table} WHERE {kind.state} = '{kind.working}'" for kind in all_kinds
    )
    return sa.text(
        f"""
        SELECT holder.id FROM ({holders}) holder LEFT JOIN workers w ON w.id = holder.id
        WHERE holder.id IS NOT NULL AND (w.id IS NULL OR w.stopped_at IS NOT NULL)
        """
    )


def return_all(
    connection: sa.Connection,
    workers: Collection[uuid.UUID],
    *,
    forgiven: bool,
    known: Mapping[str, Collection[int]] | None = None,
    grace_seconds: float = -1.0,
) -> int:
    """Returns the leases of `workers`, except the `known` ones (keys by table) and those claimed in the last
    `grace_seconds` (a negative time spares none); returns their number."""
    return sum(
        connection.execute(
            _return_worker_leases(kind),
            {
                "workers": list(workers),
                "known": list((known or {}).get(kind.table, ())),
                "forgiven": int(forgiven),
                "grace": grace_seconds,
            },
        ).rowcount
        for kind in kinds.KINDS
    )


def return_leases(
    connection: sa.Connection,
    worker_id: uuid.UUID,
    kind: WorkKind,
    leases: Sequence[tuple[int, int]],
    *,
    forgiven: bool = True,
) -> list[int]:
    """Returns leases, given as (key, attempt), that the worker still holds; the attempts count unless they are
    `forgiven`. Returns their keys."""
    parameters = {
        "ids": [key for key, _ in leases],
        "attempts": [attempt for _, attempt in leases],
        "worker_id": worker_id,
        "forgiven": int(forgiven),
    }
    return list(connection.execute(_return_given_leases(kind), parameters).scalars())


def reclaim(connection: sa.Connection) -> int:
    """Returns every lease of a worker that has stopped or has no row; returns their number."""
    gone = list(connection.execute(_gone_holders(tuple(kinds.KINDS))).scalars())
    return return_all(connection, gone, forgiven=False) if gone else 0
