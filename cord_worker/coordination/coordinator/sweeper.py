"""The sweeper: sends again what is owed and was not claimed. Recovery comes from the database, never from the broker.

Every coordinator runs one; an advisory lock makes one of them the leader. The lock belongs to a transaction, because
that also works through a pooler. The leader keeps this transaction open until its next round is due. If the leader
dies, its connection closes, and another sweeper leads from its next round on. If the leader hangs, PostgreSQL ends its
idle transaction, with the same effect. All sweepers read the heartbeats, so that a new leader knows which workers are
silent.

A leader that only waits for a slow broker keeps its lead from step to step. If a single step takes too long, it
finishes its round concurrently with the new leader. That is harmless: each of its commits is valid by itself. It keeps
its observations of silent workers; only an outage of the database makes it forget them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from cord_worker.config import Settings
from cord_worker.coordination.coordinator.liveness import LivenessMonitor
from cord_worker.coordination.fault_points import FaultPoint
from cord_worker.coordination.log_once import LogOnce
from cord_worker.coordination.messaging.messenger import COORDINATOR_QUEUE, Messenger
from cord_worker.coordination.messaging.routing import Shards
from cord_worker.coordination.stuck_threads import working
from cord_worker.coordination.transactions import commit, open_transaction, read
from cord_worker.errors import BrokerError, StoreError
from cord_worker.local.limits import tell
from cord_worker.store.database import Database
from cord_worker.store.identity import database_identity
from cord_worker.store.runs.admission import admit
from cord_worker.store.search import decisions
from cord_worker.store.work import sweep, workers
from cord_worker.store.work.check_answer import give_up_checks
from cord_worker.store.work.returning import reclaim
from cord_worker.store.work.values import Due

logger = logging.getLogger(__name__)

_LEAD_SECONDS = 10.0
"""After this time without a statement of the leader, PostgreSQL ends its lead; another sweeper takes over."""


class _LeadLost(Exception):
    """PostgreSQL ended the leader's transaction."""


class Sweeper:
    """A thread that sweeps every `sweep_seconds` while it leads."""

    def __init__(self, database: Database, messenger: Messenger, shards: Shards, settings: Settings) -> None:
        self._database = database
        self._messenger = messenger
        self._shards = shards
        self._settings = settings
        self._ended = threading.Event()
        self._liveness = LivenessMonitor(settings.worker_timeout_seconds)
        self._lead: sa.Connection | None = None
        self._queues: dict[str, set[str]] = {}
        self._identity: str | None = None
        self._may_have_lost_messages = False
        """The broker was away or emptied, and what is owed has not been sent since."""
        self._log_once = LogOnce(logger)
        self._thread = threading.Thread(target=self._work, name="sweeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=5.0)

    def _work(self) -> None:
        while not self._ended.is_set():
            try:
                self._round()
                continue
            except (StoreError, DBAPIError) as error:
                logger.warning("sweeper interrupted: %s", str(error).partition("\n")[0])
            except Exception as error:  # noqa: BLE001 - all recovery depends on the sweeper: it continues
                tell(logger, error, "sweeper interrupted")
            self._liveness.forget()  # after an outage, heartbeats and this sweeper come back in any order
            self._ended.wait(self._settings.sweep_seconds)

    def _round(self) -> None:
        """Leads until the next round is due, unless another sweeper leads."""
        seconds = max(_LEAD_SECONDS, 3 * self._settings.sweep_seconds)
        try:
            with open_transaction(self._database) as connection:
                with working("the sweeper"):
                    leads = sweep.try_lead(connection, seconds)
                    self._lead = connection if leads else None
                    self._read_heartbeats()
                    if leads:
                        self.sweep()
                if leads:
                    self._ended.wait(self._settings.sweep_seconds)
                    with working("the sweeper"):
                        self._read_heartbeats()
                    if self._lead is None:
                        raise _LeadLost  # there is nothing left to commit
                    self._log_once.log_recovery("lead", "the sweeper keeps its lead again")
                    return
        except _LeadLost:
            self._log_once.log(
                "lead",
                f"the sweeper lost its lead within a round: it waited for the broker for longer than {seconds:g} s, or "
                "its connection was cut. The round was finished; another coordinator may sweep concurrently",
            )
            return
        finally:
            self._lead = None
        self._ended.wait(self._settings.sweep_seconds)

    def _read_heartbeats(self) -> None:
        """Reads the heartbeats; a leader does it in its open transaction, which shows PostgreSQL that it is alive."""
        if self._lead is not None:
            try:
                self._liveness.observe(workers.heartbeats(self._lead))
                return
            except DBAPIError as error:
                self._lead = None
                logger.debug("the lead is lost: %s", error)
                heard = read(self._database, workers.heartbeats, retry_seconds=0.0)  # fails if this is an outage
        else:
            heard = read(self._database, workers.heartbeats)
        self._liveness.observe(heard)

    def sweep(self) -> None:
        """One round: expire silent workers, park exhausted work, resend what is owed, admit what has room."""
        self._expire_workers()
        for taken in commit(self._database, FaultPoint.RECLAIM, _reclaim):
            logger.info("%d leases of workers that have stopped or are lost were returned", taken)
        commit(self._database, FaultPoint.PARK, _park)
        self._read_heartbeats()
        try:
            self._look_for_lost_messages()
            self._read_heartbeats()
            models = self._models_short_of_messages()
            self._read_heartbeats()
            self._empty_unread_queues(models)
            self._read_heartbeats()
            coordinators = not self._messenger.lengths([COORDINATOR_QUEUE])[COORDINATOR_QUEUE]
        except BrokerError as error:
            self._may_have_lost_messages = True
            self._log_once.log("broker", f"nothing is sent again: {error}")
            return
        self._log_once.log_recovery("broker", "owed messages are sent again")
        self._read_heartbeats()
        age = 0.0 if self._may_have_lost_messages else self._settings.resend_seconds

        def due(connection: sa.Connection) -> list[Due]:
            owed = sweep.due_coordination(connection, age) if coordinators else []
            owed += sweep.due_model_work(connection, models, age) if models else []
            return owed + admit(connection)

        self._may_have_lost_messages = not self._messenger.send(commit(self._database, FaultPoint.SWEEP, due))

    def _look_for_lost_messages(self) -> None:
        """Notes whether the broker was emptied, or whether another service takes messages of this one."""
        if self._identity is None:
            self._identity = read(self._database, database_identity, retry_seconds=0.0)
        before = self._messenger.exchange_owner(self._identity)
        if before is None:
            logger.warning("the broker has lost all messages; everything owed is sent again")
        elif before != self._identity:
            self._log_once.log(
                "owner",
                "this broker also carries the messages of another database under the same CORD_KEY_PREFIX, or did so "
                "before. If both services are up, each takes messages of the other, and both wait for them to be sent "
                "again: give one of them another CORD_KEY_PREFIX",
            )
        self._may_have_lost_messages |= before != self._identity

    def _expire_workers(self) -> None:
        """Declares silent workers lost."""
        lost = self._liveness.lost()
        if not lost:
            return
        for worker_id in commit(self._database, FaultPoint.EXPIRE, lambda connection: workers.expire(connection, lost)):
            logger.warning("worker %s is lost; its work goes to others", worker_id)

    def _empty_unread_queues(self, models: Iterable[str]) -> None:
        """Empties the queues of replicas that are gone: their work was sent to others, and no process reads them."""
        for model in models:
            listened = set(self._shards.queues_of(model))
            for queue in self._queues.get(model, set()) - listened:
                self._messenger.discard(queue)
            self._queues[model] = listened

    def _models_short_of_messages(self) -> list[str]:
        """Models whose queues hold fewer messages than their unclaimed work needs."""
        waiting = read(self._database, sweep.waiting)
        if not waiting:
            return []
        queues = {model: self._shards.queues_of(model) for model in waiting}
        lengths = self._messenger.lengths(queue for listed in queues.values() for queue in listed)
        return [
            model for model, messages in waiting.items() if sum(lengths[queue] for queue in queues[model]) < messages
        ]


def _reclaim(connection: sa.Connection) -> list[int]:
    taken = reclaim(connection)
    return [taken] if taken else []


def _park(connection: sa.Connection) -> list[sweep.ParkedWork | int]:
    exhausted = sweep.exhausted(connection)
    for parked in exhausted:
        logger.error("problem %s failed: %s", parked.problem_id, parked.reason)
        decisions.fail_problem(connection, parked.problem_id, parked.reason)
    undecided = give_up_checks(connection)
    for problem_id in undecided:
        logger.error("problem %s: an answer stays undecided, because its check used up its attempts", problem_id)
    return [*exhausted, *undecided]
