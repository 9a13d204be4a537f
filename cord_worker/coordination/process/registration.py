"""A process's row in the workers table: registered at start, kept alive by a thread, signed off at the end."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from cord_worker.coordination.coordinator.liveness import LivenessMonitor
from cord_worker.coordination.fault_points import FaultPoint
from cord_worker.coordination.periodic_thread import PeriodicThread
from cord_worker.coordination.stuck_threads import working
from cord_worker.coordination.transactions import commit, read
from cord_worker.errors import CordError, ModelLost, SchemaMismatch, StoreError, TablesMissing
from cord_worker.search.validity import storable
from cord_worker.store.database import Database
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.schema.version import check_schema, head_revision
from cord_worker.store.work import workers
from cord_worker.store.work.returning import return_all

logger = logging.getLogger(__name__)

_MAX_CHARACTERS = 500
"""Maximum length of a condition or a stop reason."""


class Registration:
    """The registration of one start of one process. Its leases live as long as its heartbeat, however slow its work."""

    def __init__(
        self,
        database: Database,
        role: WorkerRole,
        *,
        heartbeat_seconds: float,
        model_id: int | None = None,
        metrics_port: int | None = None,
        condition: str | None = None,
        expires_seconds: float | None = None,
    ) -> None:
        """With `expires_seconds`, this process declares other processes lost after a silence of that length."""
        self.worker_id = uuid.uuid4()
        self.shard: int | None = None
        self._database = database
        self._role = role
        self._model_id = model_id
        self._metrics_port = metrics_port
        self._heartbeat_seconds = heartbeat_seconds
        self._on_heartbeat: Callable[[sa.Connection], None] | None = None
        self._lock = threading.Lock()
        self._conditions: dict[str, tuple[str, float]] = {}
        self._liveness = None if expires_seconds is None else LivenessMonitor(expires_seconds)
        self.describe(condition)
        self._drain: Callable[[], None] | None = None
        self._fail: Callable[[CordError], None] | None = None
        self._is_ready = False
        self._started = time.monotonic()
        self._has_signed_off = False
        self._thread = PeriodicThread(
            "heartbeat", self._beat, self._heartbeat_seconds, failure="no heartbeat", logger=logger
        )

    def __enter__(self) -> Self:
        self.shard = commit(self._database, FaultPoint.REGISTER, self._register)
        self._thread.start()
        return self

    def _register(self, connection: sa.Connection) -> int | None:
        return workers.register(
            connection,
            self.worker_id,
            self._role,
            hostname=socket.gethostname(),
            pid=os.getpid(),
            model_id=self._model_id,
            metrics_port=self._metrics_port,
            condition=self._condition(),
            shard=self.shard,
            is_ready=self._is_ready,
            age_seconds=time.monotonic() - self._started,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._has_signed_off:
            return
        self._thread.stop()
        self._thread.join(timeout=self._heartbeat_seconds)
        # An interruption by a newer schema is not a fault of the work.
        forgiven = error is None or isinstance(error, SchemaMismatch)
        self._leave(_stop_reason(error) if isinstance(error, Exception) else "shutdown", forgiven=forgiven)
        self._has_signed_off = True

    def describe(self, condition: str | None, *, since: float | None = None, topic: str = "") -> None:
        """Notes what keeps this process from its work, from now on or from `since` (on `time.monotonic`).

        `condition` is a sentence without its subject, such as "loads model X", or None; there is one for each `topic`.
        The next heartbeat writes it. May be called from any thread.
        """
        with self._lock:
            conditions = {key: value for key, value in self._conditions.items() if key != topic}
            if condition is not None:
                before = self._conditions.get(topic)
                start = time.monotonic() if since is None else since
                if since is None and before is not None and before[0] == condition:
                    start = before[1]
                conditions[topic] = storable(condition), start
            self._conditions = conditions

    def describe_broker(self, condition: str | None) -> None:
        """Like `describe`, for what keeps the broker from sending messages here."""
        self.describe(condition, topic="broker")

    def _condition(self) -> workers.Condition | None:
        described = self._conditions
        if "broker" in described:  # it already says why nothing can be sent
            described = {topic: said for topic, said in described.items() if topic != "sending"}
        if not described:
            return None
        texts = "; ".join(text for text, _ in described.values())
        start = min(start for _, start in described.values())
        return workers.Condition(texts[:_MAX_CHARACTERS], time.monotonic() - start)

    def sign_off(self) -> None:
        """Leaves at once and returns every lease, forgiven."""
        self._thread.stop()
        self._leave("shutdown", forgiven=True)

    def _leave(self, reason: str, *, forgiven: bool) -> None:
        def leave(connection: sa.Connection) -> None:
            return_all(connection, [self.worker_id], forgiven=forgiven)
            workers.mark_stopped(connection, self.worker_id, reason)

        try:
            commit(self._database, FaultPoint.SIGN_OFF, leave, retry_seconds=5.0)
        except (StoreError, DBAPIError) as failure:
            logger.warning("could not sign off; the sweeper will take the leases back: %s", failure)

    def set_handlers(self, *, drain: Callable[[], None], fail: Callable[[CordError], None]) -> None:
        """Sets what heartbeats call: `drain` if the process is asked to leave, `fail` if the schema does not fit."""
        self._drain, self._fail = drain, fail

    def on_heartbeat(self, call: Callable[[sa.Connection], None]) -> None:
        """Sets `call`, which is then called within the transaction of every heartbeat."""
        self._on_heartbeat = call

    def mark_ready(self) -> None:
        """Marks the process ready: work is sent to it from now on."""
        self.describe(None)
        self._is_ready = True
        commit(
            self._database,
            FaultPoint.READY,
            lambda connection: workers.mark_ready(connection, self.worker_id, self._condition()),
        )

    def leave_shard(self) -> None:
        """Leaves the shard: nothing more is sent to this process."""
        try:
            commit(
                self._database,
                FaultPoint.LEAVE_SHARD,
                lambda connection: workers.leave_shard(connection, self.worker_id),
                retry_seconds=1.0,
            )
        except StoreError as failure:
            logger.warning("could not leave the shard; other replicas will take over its work: %s", failure)

    def _beat(self) -> None:
        def beat(connection: sa.Connection) -> workers.Orders | None:
            orders = workers.write_heartbeat(connection, self.worker_id, self._condition())
            if orders is None:
                self._register(connection)
            if self._on_heartbeat is not None:
                self._on_heartbeat(connection)
            return orders

        with working("the heartbeat"):
            try:
                orders = commit(self._database, FaultPoint.HEARTBEAT, beat, retry_seconds=self._heartbeat_seconds)
                if orders is None:
                    logger.warning("the database had lost the row of this worker: it is registered again")
                else:
                    self._apply_orders(orders)
                if self._liveness is not None:
                    self._expire_silent_workers(self._liveness)
            except ModelLost as error:
                self._end_process(error)
                raise
            except Exception:
                if self._liveness is not None:
                    self._liveness.forget()
                self._check_schema()
                raise

    def _expire_silent_workers(self, liveness: LivenessMonitor) -> None:
        """Declares silent processes lost, in case no coordinator lives long enough to do it.

        Each new coordinator starts its observation from zero. If coordinators fail again and again, dead workers would
        otherwise keep their leases.
        """
        liveness.observe(read(self._database, workers.read_heartbeats, retry_seconds=0.0))
        lost = liveness.lost_workers()
        if lost:
            commit(
                self._database,
                FaultPoint.EXPIRE,
                lambda connection: workers.expire(connection, lost),
                retry_seconds=self._heartbeat_seconds,
            )

    def _apply_orders(self, orders: workers.Orders) -> None:
        if orders.revision != head_revision():
            self._check_schema()
        elif orders.drain and self._drain is not None:
            self._drain()

    def _check_schema(self) -> None:
        """Ends this process if a migration has changed the schema.

        If there are no tables, the process waits, because somebody may be restoring a dump.
        """
        try:
            check_schema(self._database, retry_seconds=0.0)
        except TablesMissing:
            logger.debug("the tables are missing")
        except SchemaMismatch as error:
            self._end_process(error)
        except (StoreError, DBAPIError) as failure:
            logger.debug("the version of the schema could not be read: %s", failure)

    def _end_process(self, error: CordError) -> None:
        if self._fail is not None:
            logger.critical("this worker ends: %s", error)
            self._fail(error)


def _stop_reason(error: BaseException) -> str:
    return f"failed: {str(error).strip() or type(error).__name__}".replace("\0", "")[:_MAX_CHARACTERS]
