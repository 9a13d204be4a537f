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

from cord_worker.coordination.coordinator.liveness import Silence
from cord_worker.coordination.fault_points import FaultPoint
from cord_worker.coordination.stuck_threads import working
from cord_worker.coordination.transactions import commit, read
from cord_worker.errors import CordError, SchemaMismatch, StoreError
from cord_worker.local.limits import tell
from cord_worker.search.validity import storable
from cord_worker.store.database import Database
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.schema.version import check_schema, head_revision
from cord_worker.store.work import workers
from cord_worker.store.work.returning import return_all

logger = logging.getLogger(__name__)

_MOST_CHARACTERS = 500


class Presence:
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
        """With `expires_seconds`, this process declares others lost that are silent for that long."""
        self.worker_id = uuid.uuid4()
        self.shard: int | None = None
        self._database = database
        self._role = role
        self._model_id = model_id
        self._metrics_port = metrics_port
        self._seconds = heartbeat_seconds
        self._on_beat: Callable[[sa.Connection], None] | None = None
        self._describing = threading.Lock()
        self._conditions: dict[str, tuple[str, float]] = {}
        self._others = None if expires_seconds is None else Silence(expires_seconds)
        self.describe(condition)
        self._drain: Callable[[], None] | None = None
        self._fail: Callable[[CordError], None] | None = None
        self._ended = threading.Event()
        self._has_left = False
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self.shard = commit(
            self._database,
            FaultPoint.REGISTER,
            lambda connection: workers.register(
                connection,
                self.worker_id,
                self._role,
                hostname=socket.gethostname(),
                pid=os.getpid(),
                model_id=self._model_id,
                metrics_port=self._metrics_port,
                condition=self._described(),
            ),
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._has_left:
            return
        self._ended.set()
        self._thread.join(timeout=self._seconds)
        # An interruption by a newer schema is no fault of the work.
        forgiven = error is None or isinstance(error, SchemaMismatch)
        self._leave(_last_words(error) if isinstance(error, Exception) else "shutdown", forgiven=forgiven)
        self._has_left = True

    def describe(self, condition: str | None, *, since: float | None = None, topic: str = "") -> None:
        """Notes what keeps this process from its work, from now on or from `since` (on `time.monotonic`).

        `condition` is a sentence without its subject, such as "loads model X", or None; there is one for each `topic`.
        The next heartbeat writes it. May be called from any thread.
        """
        with self._describing:
            conditions = {other: said for other, said in self._conditions.items() if other != topic}
            if condition is not None:
                before = self._conditions.get(topic)
                begun = time.monotonic() if since is None else since
                if since is None and before is not None and before[0] == condition:
                    begun = before[1]
                conditions[topic] = storable(condition), begun
            self._conditions = conditions

    def describe_broker(self, condition: str | None) -> None:
        """Like `describe`, for what keeps the broker from sending messages here."""
        self.describe(condition, topic="broker")

    def _described(self) -> workers.Condition | None:
        described = self._conditions
        if not described:
            return None
        texts = "; ".join(text for text, _ in described.values())
        begun = min(begun for _, begun in described.values())
        return workers.Condition(texts[:_MOST_CHARACTERS], time.monotonic() - begun)

    def sign_off(self) -> None:
        """Leaves at once and returns every lease, forgiven."""
        self._ended.set()
        self._leave("shutdown", forgiven=True)

    def _leave(self, reason: str, *, forgiven: bool) -> None:
        def leave(connection: sa.Connection) -> None:
            return_all(connection, [self.worker_id], forgiven=forgiven)
            workers.stop(connection, self.worker_id, reason)

        try:
            commit(self._database, FaultPoint.SIGN_OFF, leave, retry_seconds=5.0)
        except (StoreError, DBAPIError) as failure:
            logger.warning("could not sign off; the sweeper will take the leases back: %s", failure)

    def obey(self, *, drain: Callable[[], None], fail: Callable[[CordError], None]) -> None:
        """Sets what heartbeats call: `drain` if the process is asked to leave, `fail` if the schema is not its own."""
        self._drain, self._fail = drain, fail

    def on_beat(self, call: Callable[[sa.Connection], None]) -> None:
        """Sets `call`, which is then called within the transaction of every heartbeat."""
        self._on_beat = call

    def ready(self) -> None:
        """Marks the process ready: work is sent to it from now on."""
        self.describe(None)
        commit(self._database, FaultPoint.READY, lambda connection: workers.ready(connection, self.worker_id))

    def drain(self) -> None:
        """Leaves the shard: nothing more is sent to this process."""
        try:
            commit(
                self._database,
                FaultPoint.LEAVE_SHARD,
                lambda connection: workers.leave_shard(connection, self.worker_id),
                retry_seconds=1.0,
            )
        except StoreError as failure:
            logger.warning("could not leave the shard; other replicas will help: %s", failure)

    def _beat(self) -> None:
        def beat(connection: sa.Connection) -> workers.Orders:
            orders = workers.heartbeat(connection, self.worker_id, self._described())
            if self._on_beat is not None:
                self._on_beat(connection)
            return orders

        while not self._ended.wait(self._seconds):
            with working("the heartbeat"):
                try:
                    self._follow(commit(self._database, FaultPoint.HEARTBEAT, beat, retry_seconds=self._seconds))
                    if self._others is not None:
                        self._listen(self._others)
                    continue
                except StoreError as failure:
                    logger.warning("no heartbeat: %s", failure)
                except Exception as error:  # noqa: BLE001 - without its heartbeat this process loses its leases
                    tell(logger, error, "no heartbeat")
                    self._check_schema()
            if self._others is not None:
                self._others.forget()

    def _listen(self, others: Silence) -> None:
        """Declares silent processes lost, if coordinators do not live long enough to do it: each new coordinator starts
        its observation from zero. So if coordinators fail again and again, dead workers would keep their work."""
        others.look(read(self._database, workers.heartbeats, retry_seconds=0.0))
        lost = others.lost()
        if lost:
            commit(
                self._database,
                FaultPoint.EXPIRE,
                lambda connection: workers.expire(connection, lost),
                retry_seconds=self._seconds,
            )

    def _follow(self, orders: workers.Orders) -> None:
        if orders.revision != head_revision() and self._fail is not None:
            self._check_schema()
        elif orders.drain and self._drain is not None:
            self._drain()

    def _check_schema(self) -> None:
        """Ends this process if the heartbeat failed because of a migration."""
        try:
            check_schema(self._database)
        except SchemaMismatch as error:
            if self._fail is not None:
                logger.critical("this worker ends: %s", error)
                self._fail(error)
        except StoreError as failure:
            logger.warning("the version of the schema could not be read: %s", failure)


def _last_words(error: BaseException) -> str:
    return f"failed: {str(error).strip() or type(error).__name__}".replace("\0", "")[:_MOST_CHARACTERS]
