"""Worker processes: registration, heartbeats, shards, and declaring silent workers lost."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

import cord_worker
from cord_worker.errors import EngineLoadError, ModelLost
from cord_worker.store.schema import digests
from cord_worker.store.schema.tables import WorkerRole

_REGISTER = sa.text(
    """
    INSERT INTO workers (
        id, role, model_id, hostname, pid, version, shard, metrics_port, condition, condition_since, started_at,
        ready_at
    ) VALUES (
        :id, :role, :model_id, :hostname, :pid, :version, :shard, :metrics_port, :condition,
        now() - make_interval(secs => CAST(:condition_seconds AS float8)),
        now() - make_interval(secs => CAST(:age AS float8)), CASE WHEN :is_ready THEN now() END
    )
    """
)

_SHARD_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('cord shard of model ' || :model_id, 0))")

_FREE_SHARD = sa.text(
    """
    SELECT min(free.shard)
    FROM generate_series(0, (SELECT count(*) FROM workers WHERE stopped_at IS NULL)) AS free(shard)
    WHERE NOT EXISTS (
        SELECT 1 FROM workers w WHERE w.model_id = :model_id AND w.stopped_at IS NULL AND w.shard = free.shard
    )
    """
)

_LIVE_SHARDS = sa.text(
    """
    SELECT m.fingerprint AS model, array_agg(DISTINCT w.shard ORDER BY w.shard) AS shards
    FROM workers w JOIN models m ON m.id = w.model_id
    WHERE w.stopped_at IS NULL AND w.ready_at IS NOT NULL AND w.shard IS NOT NULL
    GROUP BY m.fingerprint
    """
)

_READY = sa.text(
    "UPDATE workers SET ready_at = now(), condition = :condition, "
    "condition_since = now() - make_interval(secs => CAST(:condition_seconds AS float8)) WHERE id = :id"
)
_LEAVE_SHARD = sa.text("UPDATE workers SET shard = NULL WHERE id = :id")

_ADOPT_DIGEST = sa.text(
    f"""
    UPDATE models m SET weights_digest = :digest, digest = {digests.MODEL.sql({"weights_digest": ":digest"})}
    WHERE id = :model_id AND (weights_digest IS NULL OR weights_digest = :digest AND m.digest IS NULL)
    """
)
_READ_DIGEST = sa.text("SELECT weights_digest, path FROM models WHERE id = :model_id")

_OTHER_SCORING_MODES = sa.text(
    """
    SELECT r.name, r.scoring_mode, false AS is_rescoring FROM runs r
    WHERE r.state <> 'cancelled' AND (CAST(:mode AS text) IS NULL OR r.scoring_mode <> :mode)
      AND r.prover_model_id = :model_id
      AND EXISTS (SELECT 1 FROM problems p WHERE p.run_id = r.id AND p.state IN ('queued', 'searching'))
    UNION ALL
    SELECT r.name || '@' || q.name, q.scoring_mode, true
    FROM rescorings q JOIN runs r ON r.id = q.run_id AND r.state <> 'cancelled'
    WHERE (CAST(:mode AS text) IS NULL OR q.scoring_mode <> :mode) AND q.model_id = :model_id
      AND EXISTS (SELECT 1 FROM rescores x WHERE x.rescoring_id = q.id AND x.state IN ('queued', 'pending', 'scoring'))
    """
)

_HEARTBEAT = sa.text(
    """
    UPDATE workers
    SET heartbeat_at = now(), stopped_at = NULL, stop_reason = NULL, condition = :condition,
        condition_since = now() - make_interval(secs => CAST(:condition_seconds AS float8))
    WHERE id = :id
    RETURNING drain_requested_at IS NOT NULL AS drain, (SELECT version_num FROM alembic_version) AS revision
    """
)

_STOP = sa.text("UPDATE workers SET stopped_at = now(), stop_reason = :reason WHERE id = :id AND stopped_at IS NULL")

_HEARTBEATS = sa.text("SELECT id, heartbeat_at FROM workers WHERE stopped_at IS NULL")

_EXPIRE = sa.text(
    """
    UPDATE workers w SET stopped_at = now(), stop_reason = 'lost'
    FROM unnest(CAST(:ids AS uuid[]), CAST(:heard AS timestamptz[])) AS silent(id, heard)
    WHERE w.id = silent.id AND w.stopped_at IS NULL AND w.heartbeat_at = silent.heard
    RETURNING w.id
    """
)


@dataclass(frozen=True, slots=True)
class Condition:
    """What keeps a worker from its work: a `text` of one sentence, and for how many seconds so far."""

    text: str
    seconds: float


def _condition_columns(condition: Condition | None) -> dict[str, object]:
    if condition is None:
        return {"condition": None, "condition_seconds": None}
    return {"condition": condition.text, "condition_seconds": condition.seconds}


def register(
    connection: sa.Connection,
    worker_id: uuid.UUID,
    role: WorkerRole,
    *,
    hostname: str,
    pid: int,
    model_id: int | None,
    metrics_port: int | None = None,
    condition: Condition | None = None,
    shard: int | None = None,
    is_ready: bool = False,
    age_seconds: float = 0.0,
) -> int | None:
    """Registers a process. A worker with a model gets the lowest shard that no living replica has, which is returned.

    A process whose row was lost registers again, with its `shard`, its age, and `is_ready` if it takes work. Raises
    ModelLost if the row of its model was lost too.
    """
    if model_id is not None and shard is None:
        connection.execute(_SHARD_LOCK, {"model_id": str(model_id)})
        shard = connection.execute(_FREE_SHARD, {"model_id": model_id}).scalar_one()
    row = {
        "id": worker_id,
        "role": role.value,
        "model_id": model_id,
        "hostname": hostname,
        "pid": pid,
        "version": cord_worker.__version__,
        "shard": shard,
        "metrics_port": metrics_port,
        "is_ready": is_ready,
        "age": age_seconds,
        **_condition_columns(condition),
    }
    try:
        connection.execute(_REGISTER, row)
    except sa.exc.IntegrityError as error:
        raise ModelLost(
            "the database no longer knows the model of this worker: an older state of it was restored. Start the "
            "worker again"
        ) from error
    return shard


def live_shards(connection: sa.Connection) -> dict[str, tuple[int, ...]]:
    """Shards that living replicas take work from, by model fingerprint."""
    return {row.model: tuple(row.shards) for row in connection.execute(_LIVE_SHARDS)}


def mark_ready(connection: sa.Connection, worker_id: uuid.UUID, condition: Condition | None = None) -> None:
    """Marks the worker ready: it takes work from now on. `condition` says what still keeps it from its work, if
    anything does."""
    connection.execute(_READY, {"id": worker_id, **_condition_columns(condition)})


def leave_shard(connection: sa.Connection, worker_id: uuid.UUID) -> None:
    """Removes the worker from its shard: nothing more is sent to it."""
    connection.execute(_LEAVE_SHARD, {"id": worker_id})


def check_weights(connection: sa.Connection, model_id: int, digest: str) -> None:
    """Records `digest`, the weights digest of this worker's files, if no worker has recorded one for the model; adds
    the digest of the model's row if an older version wrote none. Raises EngineLoadError if other workers of the model
    have other files.
    """
    connection.execute(_ADOPT_DIGEST, {"model_id": model_id, "digest": digest})
    row = connection.execute(_READ_DIGEST, {"model_id": model_id}).one()
    if row.weights_digest != digest:
        raise EngineLoadError(
            f"model {row.path}: the files here (digest {digest}) are not the ones that other workers of this model "
            f"serve (digest {row.weights_digest}). Copy the same files here, or pin `revision` in cord.toml."
        )


@dataclass(frozen=True, slots=True)
class OtherScores:
    """An unfinished run or rescoring (RUN@NAME) of a prover whose scores have another scoring mode, or none yet."""

    name: str
    scoring_mode: str | None
    is_rescoring: bool

    @property
    def kind(self) -> str:
        """`run` or `rescoring`."""
        return "rescoring" if self.is_rescoring else "run"

    @property
    def ending(self) -> str:
        """The command that ends it."""
        run, _, name = self.name.partition("@")
        return f"cordctl rescore {run} --remove {name}" if self.is_rescoring else f"cordctl cancel {run}"


def find_other_scores(connection: sa.Connection, model_id: int, mode: str | None) -> list[OtherScores]:
    """Unfinished runs and rescorings of this prover whose scores have another scoring mode than `mode`; all of them if
    `mode` is None."""
    rows = connection.execute(_OTHER_SCORING_MODES, {"model_id": model_id, "mode": mode})
    return [OtherScores(**row._mapping) for row in rows]


@dataclass(frozen=True, slots=True)
class Orders:
    """The answer to a heartbeat: whether the process is asked to leave, and the revision of the schema (None while a
    dump is restored)."""

    drain: bool
    revision: str | None


def write_heartbeat(
    connection: sa.Connection, worker_id: uuid.UUID, condition: Condition | None = None
) -> Orders | None:
    """Writes a heartbeat, with the condition that keeps the worker from its work; returns None if it has no row.

    A worker that was declared lost is alive again, but its lost leases stay lost.
    """
    row = connection.execute(_HEARTBEAT, {"id": worker_id, **_condition_columns(condition)}).one_or_none()
    return None if row is None else Orders(drain=row.drain, revision=row.revision)


def mark_stopped(connection: sa.Connection, worker_id: uuid.UUID, reason: str) -> None:
    """Marks the worker stopped."""
    connection.execute(_STOP, {"id": worker_id, "reason": reason})


def read_heartbeats(connection: sa.Connection) -> dict[uuid.UUID, datetime]:
    """The last heartbeat of each worker that is not marked stopped, by PostgreSQL's clock."""
    return {row.id: row.heartbeat_at for row in connection.execute(_HEARTBEATS)}


def expire(connection: sa.Connection, silent: Mapping[uuid.UUID, datetime]) -> list[uuid.UUID]:
    """Declares each of these workers lost if its heartbeat is still the given one; returns the ids of the lost ones."""
    parameters = {"ids": list(silent), "heard": list(silent.values())}
    return list(connection.execute(_EXPIRE, parameters).scalars())
