"""A worker that hosts one model: it leases work, calls the engine, commits the results and sends messages.

No transaction is open while the model runs. A task is one message: all pieces of one kind of work that a problem has
for this model. The handlers (`handler`) contain what differs between kinds.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import uuid
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from cord_worker import metrics
from cord_worker.coordination.fault_points import FaultPoint, claim_point, finish_point
from cord_worker.coordination.log_fields import note
from cord_worker.coordination.messaging.messenger import Messenger
from cord_worker.coordination.model_worker.accounting import NO_TRANSIT, Transit, Waits, count
from cord_worker.coordination.model_worker.group_commit import GroupCommitter, Operation
from cord_worker.coordination.model_worker.handler import Handler, Host, WorkImpossible, load_handler
from cord_worker.coordination.model_worker.held_leases import HeldLeases
from cord_worker.coordination.model_worker.isolation_gate import IsolationGate
from cord_worker.coordination.run_context import RunContext, RunContexts
from cord_worker.coordination.transactions import commit
from cord_worker.engines.protocol import Describe, Engine, ignore_condition
from cord_worker.errors import ProcessPoolError, UnavailableError
from cord_worker.local.killable import KillablePool
from cord_worker.store.database import Database
from cord_worker.store.schema import kinds
from cord_worker.store.schema.kinds import WorkKind
from cord_worker.store.work.returning import return_all, return_leases
from cord_worker.verify import AnswerChecker

logger = logging.getLogger(__name__)

T = TypeVar("T")

_MIN_REST_SECONDS, _MAX_REST_SECONDS = 0.5, 5.0
"""Pause between returning work and claiming it again; it doubles while nothing gets done."""
_UNKNOWN_LEASE_SECONDS = 2.0
"""A lease that no task of this worker knows is returned at this age; a younger one may belong to a claim under way."""
_UNDONE = object()
"""Stands for the result of a piece that the engine cannot do now."""


@dataclass(frozen=True, slots=True)
class _Done:
    """How many pieces a task did, and whether work remains that needs the other mode (exclusive or shared)."""

    count: int
    has_held_back: bool = False


@dataclass(frozen=True, slots=True)
class _KindOfWork:
    """A kind of work in this process: its handler, and its commits."""

    kind: WorkKind
    handler: Handler
    claim: Operation
    claim_exclusive: Operation
    finish: Operation


class ModelWorker:
    """Does the tasks of all kinds of work of a model; safe for use from several threads.

    The engine lives on `loop`, which runs in its own thread for the life of the process; the engine works on `width`
    requests at once. `describe` is called when there is work that this worker cannot do.
    """

    def __init__(
        self,
        database: Database,
        messenger: Messenger,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        worker_id: uuid.UUID,
        model_fingerprint: str,
        *,
        width: int,
        describe: Describe = ignore_condition,
    ) -> None:
        self._database = database
        self._engine = engine
        self._loop = loop
        self._worker_id = worker_id
        self._contexts = RunContexts(database)
        self._held = HeldLeases(width)
        self._gate = IsolationGate()
        self._running: set[asyncio.Future[Any]] = set()
        self._aborted = False
        self._refusing = threading.Event()
        self._is_unavailable = False
        self._waiting: set[Future[None]] = set()
        self._committer = GroupCommitter(database)
        self._checker = AnswerChecker()  # its processes start with the first judgment
        self._repairers = KillablePool()  # its processes start with the first reply to be repaired
        self._host = Host(engine, worker_id, model_fingerprint, self._checker, self._repairers, describe)
        self._kinds_of_work = {kind.name: self._work_of(kind, messenger) for kind in kinds.served_by_models()}

    def _work_of(self, kind: WorkKind, messenger: Messenger) -> _KindOfWork:
        handler = load_handler(kind, self._host)
        hold, post = functools.partial(self._held.add, kind), messenger.post_due

        def claiming(*, exclusive: bool) -> Operation:
            claim = functools.partial(handler.claim, exclusive=exclusive)
            return Operation(claim_point(kind), claim, "problem_ids", (hold, post), single=True)

        finish = Operation(finish_point(kind), handler.finish, "results", (post,), single=handler.finishes_at_once)
        return _KindOfWork(kind, handler, claiming(exclusive=False), claiming(exclusive=True), finish)

    def handle(self, kind: str, problem_id: int, transit: Transit = NO_TRANSIT) -> int:
        """Does the problem's pieces of this kind that belong to this model; returns how many.

        First it does the shared pieces. If there is none, it does the exclusive ones. `transit` is how long the message
        took; the metrics of overhead and delay include it.
        """
        work = self._kinds_of_work[kind]
        with self._gate.shared():
            done = self._do(work, work.claim, problem_id, transit)
        if done.count or not done.has_held_back:
            return done.count
        with self._gate.exclusive():
            return self._do(work, work.claim_exclusive, problem_id, transit).count

    def _do(self, work: _KindOfWork, claim: Operation, problem_id: int, transit: Transit) -> _Done:
        """Claims the problem's pieces, calls the engine for each, and writes the results.

        What the engine cannot do now is returned. Another worker does it, or this task after a pause.
        """
        kind, done, rest = work.kind, 0, _MIN_REST_SECONDS
        while True:
            if not work.handler.can_claim():
                return _Done(done)
            with ExitStack() as stack:
                with metrics.timed(kind.name, "room") as room_time:
                    self._wait_for_engine()
                    stack.enter_context(self._held.claiming())
                with metrics.timed(kind.name, "lease") as lease_time:
                    claimed = self._committer.submit(claim, [problem_id])
            leases = claimed.take(problem_id)
            if not leases:
                return _Done(done, problem_id in claimed.held_back)
            with self._held.forgetting(kind, leases):
                context = self._contexts.of_run(leases[0].run_id)
                note(run=context.name)
                try:
                    with metrics.timed(kind.name, "engine"):
                        results, undone = self._in_engine(work, leases, context)
                except WorkImpossible as error:
                    commit(self._database, error.point, error.fail)
                    return _Done(0)
                with metrics.timed(kind.name, "write") as write_time:
                    if results:
                        self._committer.submit(work.finish, results)
                if undone:
                    self._return(kind, undone)
            if results:
                count(kind, results, transit, Waits(room_time.seconds, lease_time.seconds, write_time.seconds))
                rest = _MIN_REST_SECONDS
            done += len(results)
            if not undone:
                return _Done(done)
            self._refusing.wait(rest)
            rest = min(2 * rest, _MAX_REST_SECONDS)

    def _return(self, kind: WorkKind, undone: Sequence[Any]) -> None:
        keys = [(getattr(lease, kind.key), lease.attempt) for lease in undone]
        commit(
            self._database,
            FaultPoint.RETURN_LEASES,
            lambda connection: return_leases(connection, self._worker_id, kind, keys),
        )

    def _wait_for_engine(self) -> None:
        """Waits until the engine takes requests. Raises CancelledError if this worker is told to leave meanwhile."""
        if not self._is_unavailable:
            return
        future = asyncio.run_coroutine_threadsafe(self._engine.available(), self._loop)
        self._waiting.add(future)
        try:
            if self._refusing.is_set():
                future.cancel()
            future.result()
        finally:
            self._waiting.discard(future)
        self._is_unavailable = False

    def leased_candidates(self) -> int:
        """Number of candidates that this process works on."""
        return self._held.candidate_count()

    @property
    def takes_more(self) -> bool:
        """Whether more work can begin here: not during exclusive work, nor while a task waits for it or the engine."""
        return not (self._gate.is_isolating or self._is_unavailable)

    def refuse(self) -> None:
        """Claims nothing more: tasks that have no lease yet raise CancelledError."""
        self._refusing.set()
        for future in list(self._waiting):
            future.cancel()
        self._gate.close()
        self._held.close()

    def reconcile(self, connection: sa.Connection) -> None:
        """Returns leases that no task of this process knows: the claim was committed, but its reply was lost."""
        return_all(
            connection,
            [self._worker_id],
            forgiven=False,
            known=self._held.by_table(),
            grace_seconds=_UNKNOWN_LEASE_SECONDS,
        )

    def forget_held_leases(self) -> None:
        """Forgets all leases, because a thread of this process hangs; the next heartbeat returns them (`reconcile`).

        Claims nothing until the engine's loop moves again. Results that still arrive are dropped as late.
        """
        self._is_unavailable = True
        self._held.forget()

    def abort(self) -> None:
        """Cancels what the engine is doing; the tasks raise CancelledError and their leases are returned."""

        def cancel() -> None:
            self._aborted = True
            for future in self._running:
                future.cancel()

        self._loop.call_soon_threadsafe(cancel)

    def close(self) -> None:
        """Waits for commits under way, then ends the helper processes."""
        self._committer.close()
        self._checker.close()
        self._repairers.close()

    def _in_engine(self, work: _KindOfWork, leased: Sequence[Any], context: RunContext) -> tuple[list[Any], list[Any]]:
        """The results, and the leases of the pieces that the engine cannot do now."""

        async def piece(lease: Any) -> Any:
            try:
                return await work.handler.handle(lease, context)
            except UnavailableError as error:
                logger.info("%s %d is returned: %s", work.kind.name, getattr(lease, work.kind.key), error)
                self._is_unavailable = True
                return _UNDONE
            except ProcessPoolError as error:
                logger.error("%s %d is returned: %s", work.kind.name, getattr(lease, work.kind.key), error)
                return _UNDONE

        async def together() -> list[Any]:
            gathered = asyncio.gather(*(piece(lease) for lease in leased))
            self._running.add(gathered)
            if self._aborted:
                gathered.cancel()
            try:
                return list(await gathered)
            finally:
                self._running.discard(gathered)

        found = self._wait(together())
        results = [result for result in found if result is not _UNDONE]
        return results, [lease for lease, result in zip(leased, found, strict=True) if result is _UNDONE]

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
