"""The sweeper: sends again what is owed and was not claimed. Recovery comes from the database, never from the broker.

Every coordinator runs one; an advisory lock makes one of them the leader. The lock belongs to a transaction, because
that also works through a connection pooler. The leader keeps this transaction open until its next round is due. If it
dies, its connection closes, and another sweeper leads from its next round on. If the leader hangs, PostgreSQL ends its
idle transaction, with the same effect. All sweepers read the heartbeats, so that a new leader knows which workers are
silent.

A leader that only waits for a slow broker keeps its lead from step to step. If a single step takes too long, it
finishes its round concurrently with the new leader. That is harmless, because each of its commits is valid by itself.
A sweeper that loses the lead keeps its observations of silent workers; only an outage of the database makes it forget
them.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from cord_worker import metrics
from cord_worker.config import Settings
from cord_worker.coordination.coordinator.liveness import LivenessMonitor
from cord_worker.coordination.coordinator.spending_limits import SpendingLimits
from cord_worker.coordination.fault_points import FaultPoint
from cord_worker.coordination.log_once import LogOnce
from cord_worker.coordination.messaging.messenger import COORDINATOR_QUEUE, Messenger
from cord_worker.coordination.messaging.routing import Shards
from cord_worker.coordination.stuck_threads import working
from cord_worker.coordination.transactions import commit, open_transaction, read
from cord_worker.errors import BrokerError, StoreError
from cord_worker.local.limits import log_error
from cord_worker.store.database import Database
from cord_worker.store.identity import database_identity
from cord_worker.store.runs.admission import admit
from cord_worker.store.schema.rollups import fill_rollups
from cord_worker.store.search import decisions
from cord_worker.store.work import rescore, sweep, workers
from cord_worker.store.work.check_answer import give_up_checks
from cord_worker.store.work.returning import reclaim
from cord_worker.store.work.values import Due

logger = logging.getLogger(__name__)

_LEAD_SECONDS = 10.0
"""After this time without a statement of the leader, PostgreSQL ends its lead; another sweeper takes over."""

_ROLLUPS_AT_ONCE = 50
_ROUNDS_BETWEEN_ROLLUPS = 150
"""Looking for problems without a rollup reads all ended problems, which takes half a second for 200,000."""


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
        self._spending_limits = SpendingLimits()
        self._lead: sa.Connection | None = None
        self._lead_seconds = max(_LEAD_SECONDS, 3 * settings.sweep_seconds)
        self._led_until = -math.inf
        self._queues: dict[str, set[str]] = {}
        self._identity: str | None = None
        self._may_have_lost_messages = False
        """The broker was away or emptied, and what is owed has not been sent since."""
        self._rollups_after = 0
        self._rounds_without_rollups = 0
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

    @property
    def leads(self) -> bool:
        """Whether this sweeper leads; also True between two rounds, False if it hung until its lead was lost."""
        return time.monotonic() < self._led_until

    def _work(self) -> None:
        while not self._ended.is_set():
            try:
                self._round()
                continue
            except (StoreError, DBAPIError) as error:
                logger.warning("sweeper interrupted: %s", str(error).partition("\n")[0])
            except Exception as error:  # noqa: BLE001 - all recovery depends on the sweeper: it continues
                log_error(logger, error, "sweeper interrupted")
            self._led_until = -math.inf
            self._liveness.forget()  # after an outage, this sweeper may be back before the heartbeats
            self._ended.wait(self._settings.sweep_seconds)

    def _round(self) -> None:
        """Leads until the next round is due, unless another sweeper leads."""
        try:
            with open_transaction(self._database) as connection:
                with working("the sweeper"):
                    leads = sweep.try_lead(connection, self._lead_seconds)
                    self._lead = connection if leads else None
                    if not leads:
                        self._led_until = -math.inf
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
                "the sweeper lost its lead within a round: it waited for the broker for longer than "
                f"{self._lead_seconds:g} s, or its connection was cut. The round was finished; another coordinator may "
                "sweep concurrently",
            )
            return
        finally:
            self._lead = None
        self._ended.wait(self._settings.sweep_seconds)

    def _read_heartbeats(self) -> None:
        """Reads the heartbeats; a leader does it in its open transaction, which shows PostgreSQL that it is alive."""
        if self._lead is not None:
            try:
                self._liveness.observe(workers.read_heartbeats(self._lead))
                self._led_until = time.monotonic() + self._lead_seconds
                return
            except DBAPIError as error:
                self._lead, self._led_until = None, -math.inf
                logger.debug("the lead is lost: %s", error)
                # Fails if this is an outage:
                heartbeats = read(self._database, workers.read_heartbeats, retry_seconds=0.0)
        else:
            heartbeats = read(self._database, workers.read_heartbeats)
        self._liveness.observe(heartbeats)

    def sweep(self) -> None:
        """One round: expire silent workers, park exhausted work, pause runs at a spending limit, resend what is
        owed, admit what has room."""
        self._expire_workers()
        for returned in commit(self._database, FaultPoint.RECLAIM, _reclaim):
            logger.info("%d leases of workers that have stopped or are lost were returned", returned)
            metrics.LOST_LEASES.inc(returned)
        commit(self._database, FaultPoint.PARK, _park)
        self._fill_rollups()
        self._read_heartbeats()
        self._spending_limits.check(self._database)
        self._read_heartbeats()
        try:
            self._look_for_lost_messages()
            self._read_heartbeats()
            models = self._models_short_of_messages()
            self._read_heartbeats()
            self._empty_unread_queues(models)
            self._read_heartbeats()
            no_message_waits = not self._messenger.lengths([COORDINATOR_QUEUE])[COORDINATOR_QUEUE]
        except BrokerError as error:
            self._may_have_lost_messages = True
            self._log_once.log("broker", f"nothing is sent again: {error}")
            return
        self._log_once.log_recovery("broker", "owed messages are sent again")
        self._read_heartbeats()
        age = 0.0 if self._may_have_lost_messages else self._settings.resend_seconds

        sent_again = 0

        def due(connection: sa.Connection) -> list[Due]:
            nonlocal sent_again
            owed = sweep.due_coordination(connection, age) if no_message_waits else []
            owed += sweep.due_model_work(connection, models, age) if models else []
            sent_again = len(owed)
            return owed + admit(connection) + rescore.admit(connection)

        self._may_have_lost_messages = not self._messenger.send(commit(self._database, FaultPoint.SWEEP, due))
        metrics.RECOVERED_FAULTS.labels("lost_message").inc(sent_again)

    def _fill_rollups(self) -> None:
        """Writes rollups that could not be written when their problems ended, a batch in each round. Once it has
        looked at all problems, it pauses for `_ROUNDS_BETWEEN_ROLLUPS`."""
        if self._rounds_without_rollups:
            self._rounds_without_rollups -= 1
            return
        fill = partial(fill_rollups, after=self._rollups_after, most=_ROLLUPS_AT_ONCE)
        try:
            looked_at = commit(self._database, FaultPoint.SWEEP, fill)
        except DBAPIError as error:
            # Statistics are correct without rollups, and no repair may wait for them.
            self._log_once.log("rollups", f"some rollups cannot be written: {str(error).partition(chr(10))[0]}")
            looked_at = []
        self._rollups_after = looked_at[-1] if looked_at else 0
        self._rounds_without_rollups = 0 if looked_at else _ROUNDS_BETWEEN_ROLLUPS

    def _look_for_lost_messages(self) -> None:
        """Notes whether the broker was emptied, or whether another service takes messages of this one."""
        if self._identity is None:
            self._identity = read(self._database, database_identity, retry_seconds=0.0)
        before = self._messenger.exchange_owner(self._identity)
        if before is None:
            logger.warning("the broker has lost all messages; everything owed is sent again")
            metrics.RECOVERED_FAULTS.labels("emptied_broker").inc()
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
        lost = self._liveness.lost_workers()
        if not lost:
            return
        for worker_id in commit(self._database, FaultPoint.EXPIRE, lambda connection: workers.expire(connection, lost)):
            logger.warning("worker %s is lost; its work goes to others", worker_id)
            metrics.RECOVERED_FAULTS.labels("lost_worker").inc()

    def _empty_unread_queues(self, models: Iterable[str]) -> None:
        """Empties the queues of replicas that are gone: their work was sent to others, and no process reads them."""
        for model in models:
            read_queues = set(self._shards.queues_of(model))
            for queue in self._queues.get(model, set()) - read_queues:
                self._messenger.discard(queue)
            self._queues[model] = read_queues

    def _models_short_of_messages(self) -> list[str]:
        """Models whose queues hold fewer messages than their unclaimed work needs."""
        waiting = read(self._database, sweep.waiting_messages)
        if not waiting:
            return []
        queues = {model: self._shards.queues_of(model) for model in waiting}
        lengths = self._messenger.lengths(queue for listed in queues.values() for queue in listed)
        return [
            model for model, messages in waiting.items() if sum(lengths[queue] for queue in queues[model]) < messages
        ]


def _reclaim(connection: sa.Connection) -> list[int]:
    returned = reclaim(connection)
    return [returned] if returned else []


def _park(connection: sa.Connection) -> list[sweep.ExhaustedWork | int]:
    exhausted = sweep.exhausted(connection)
    for parked in exhausted:
        logger.error("problem %s failed: %s", parked.problem_id, parked.reason, extra={"problem": parked.problem_id})
        metrics.GIVEN_UP_WORK.inc()
        decisions.fail_problem(connection, parked.problem_id, parked.reason)
    undecided = give_up_checks(connection)
    for problem_id in undecided:
        logger.error(
            "problem %s: an answer stays undecided, because its check used up its attempts",
            problem_id,
            extra={"problem": problem_id},
        )
        metrics.GIVEN_UP_WORK.inc()
    given_up = rescore.give_up_rescores(connection)
    for candidate_id in given_up:
        logger.error("candidate %s was not scored again: its rescore used up its attempts", candidate_id)
        metrics.GIVEN_UP_WORK.inc()
    return [*exhausted, *undecided, *given_up]
