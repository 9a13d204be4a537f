"""Fault points: the name of every commit and every send of the coordination, and a process that dies at one of them.

`CORD_FAULT="finish scores:before:3"` has a process kill itself (SIGKILL) right before the third passing of the point;
`after` right after it. `advance:raise:1-20` has the first 20 passings raise an exception right before they commit or
send, as a bad installation would, and `advance:hang:2` has a thread stand still there for ever. Several are divided by
commas. A commit that changed nothing (its work returns an empty list) is no passing. This is for tests of what is lost
then: nothing. Without the variable a point costs one comparison.

Whoever writes goes through `commit` and names its point; `read` cannot write. A thread that stands still in one of
them, or in a send, is noticed (`stuck_threads`). Tests are driven from `FaultPoint`: a
point without a test fails them, and so does a commit or a send without a point.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

import sqlalchemy as sa

from cord_worker.coordination.stuck_threads import working
from cord_worker.errors import ConfigError
from cord_worker.store.database import Database
from cord_worker.store.sweep import Kind

logger = logging.getLogger(__name__)

T = TypeVar("T")

VARIABLE = "CORD_FAULT"

TRANSACTION, MESSAGE = "a transaction", "a message to the broker"
"""What a thread is at, where that is no part of something longer."""


class Side(StrEnum):
    """Before a transaction commits or a message goes out, or after it."""

    BEFORE = "before"
    AFTER = "after"


class Mishap(StrEnum):
    """What befalls a process right before a transaction commits or a message goes out, other than its death."""

    RAISE = "raise"
    HANG = "hang"


class InjectedFault(Exception):
    """What a point raises that is told to."""


class FaultPoint(StrEnum):
    """Every commit and every send of the coordination."""

    ENTER_MODEL = "enter model"
    CHECK_WEIGHTS = "check weights"
    REGISTER = "register"
    READY = "ready"
    HEARTBEAT = "heartbeat"
    LEAVE_SHARD = "leave shard"
    SIGN_OFF = "sign off"

    CLAIM_PROPOSALS = "claim proposals"
    FINISH_PROPOSALS = "finish proposals"
    CLAIM_SCORES = "claim scores"
    FINISH_SCORES = "finish scores"
    CLAIM_JUDGMENTS = "claim judgments"
    FINISH_JUDGMENTS = "finish judgments"
    CLAIM_ANSWERS = "claim answers"
    FINISH_ANSWERS = "finish answers"
    FAIL_ANSWER = "fail answer"
    GIVE_BACK = "give back"
    CLAIM_VERDICTS = "claim verdicts"
    FINISH_VERDICTS = "finish verdicts"
    HELP = "help"

    ADVANCE = "advance"
    FAIL_DECISION = "fail decision"
    PASS_ON = "pass on"
    STEP_BACK = "step back"
    CLAIM_CHECKS = "claim checks"
    FINISH_CHECKS = "finish checks"
    RETURN_CHECKS = "return checks"
    END_VERIFIED = "end verified"
    ADMIT = "admit"

    EXPIRE = "expire"
    RECLAIM = "reclaim"
    PARK = "park"
    SWEEP = "sweep"

    SEND_ADVANCE = "send advance"
    SEND_PROPOSE = "send propose"
    SEND_SCORE = "send score"
    SEND_JUDGE = "send judge"
    SEND_ANSWER = "send answer"
    SEND_VERDICT = "send verdict"
    SEND_VERIFY = "send verify"
    MARK_BROKER = "mark broker"
    DISCARD_QUEUE = "discard queue"
    ACKNOWLEDGE = "acknowledge"

    @classmethod
    def of_send(cls, kind: Kind) -> FaultPoint:
        """The point of a message of this kind."""
        return cls(f"send {kind}")


@dataclass(slots=True)
class _Fault:
    """A place at which this process kills itself, or something else befalls it, from one passing to another."""

    point: FaultPoint
    kind: Side | Mishap
    first: int
    last: int
    passed: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def parse(cls, plan: str) -> _Fault:
        """Raises ValueError."""
        name, kind, passings = plan.strip().split(":")
        first, _, last = passings.partition("-")
        return cls(
            FaultPoint(name), Mishap(kind) if kind in set(Mishap) else Side(kind), int(first), int(last or first)
        )

    def pass_by(self, point: FaultPoint, side: Side) -> None:
        if point is not self.point or side is not (self.kind if isinstance(self.kind, Side) else Side.BEFORE):
            return
        with self.lock:
            self.passed += 1
            strikes = self.first <= self.passed <= self.last
        if not strikes:
            return
        if self.kind is Mishap.RAISE:
            raise InjectedFault(f"the point {point.value!r} was told to raise")
        if self.kind is Mishap.HANG:
            threading.Event().wait()
        os.kill(os.getpid(), signal.SIGKILL)


_faults: tuple[_Fault, ...] = ()


def arm() -> None:
    """Reads CORD_FAULT; to be called at a process's start. Raises ConfigError for a point that does not exist."""
    global _faults
    plans = os.environ.get(VARIABLE)
    if not plans:
        _faults = ()
        return
    try:
        _faults = tuple(map(_Fault.parse, plans.split(",")))
    except ValueError as error:
        points = ", ".join(FaultPoint)
        raise ConfigError(
            f"{VARIABLE}={plans!r}: must be POINT:before|after|raise|hang:N, a test's order to die, raise or hang at "
            f"the N-th passing; points: {points}. Unset it where nothing is tested."
        ) from error
    logger.critical("%s is set: a test has this process fail at %s", VARIABLE, plans)


def _pass_by(point: FaultPoint, side: Side) -> None:
    for fault in _faults:
        fault.pass_by(point, side)


def commit(
    database: Database,
    point: FaultPoint,
    work: Callable[[sa.Connection], T],
    *,
    retry_seconds: float | None = None,
    single: bool = False,
) -> T:
    """`database.run(work)` under the name of its commit; `database.run_single(work)` where it is `single`.

    A process that is to die at a fault point always has a transaction around it: else there would be no moment
    before its commit.
    """
    _refuse_on_an_event_loop()
    with working(TRANSACTION):
        if not _faults:
            run = database.run_single if single else database.run
            return run(work, retry_seconds=retry_seconds)

        def before(connection: sa.Connection) -> T:
            result = work(connection)
            if _changed_something(result):
                _pass_by(point, Side.BEFORE)
            return result

        result = database.run(before, retry_seconds=retry_seconds)
        if _changed_something(result):
            _pass_by(point, Side.AFTER)
        return result


def read(database: Database, work: Callable[[sa.Connection], T], *, retry_seconds: float | None = None) -> T:
    """`database.run(work)` in a transaction that cannot write, and so needs no name."""
    _refuse_on_an_event_loop()
    with working(TRANSACTION):
        return database.run(work, retry_seconds=retry_seconds, read_only=True)


def _refuse_on_an_event_loop() -> None:
    """Whoever asks the database waits for it, and an event loop must not: its engine would stand still meanwhile."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("the database is asked on the thread of an event loop, which would wait for it; ask elsewhere")


@contextmanager
def held_open(database: Database) -> Iterator[sa.Connection]:
    """A transaction that writes nothing itself: others commit by their points while it holds its locks. How long it is
    held is not watched, only its beginning and its end."""
    transaction = database.transaction()
    with working(TRANSACTION):
        connection = transaction.__enter__()
    try:
        yield connection
    except BaseException:
        with working(TRANSACTION):
            transaction.__exit__(*sys.exc_info())
        raise
    with working(TRANSACTION):
        transaction.__exit__(None, None, None)


@contextmanager
def sending(point: FaultPoint) -> Iterator[None]:
    """Around whatever goes to the broker."""
    with working(MESSAGE):
        _pass_by(point, Side.BEFORE)
        yield
        _pass_by(point, Side.AFTER)


def _changed_something(result: object) -> bool:
    return result != []
