"""Fault points: a test can make a process fail at a named commit or send.

`CORD_FAULT="finish score:before:3"` makes a process kill itself (SIGKILL) right before it reaches that point for the
third time; with `after`, right after it. `advance:raise:1-20` raises an exception the first 20 times, right before the
commit or send, as a bad installation would. `advance:hang:2` makes a thread hang there forever. Commas separate
several faults. A commit that changed nothing does not count. Tests use this to show that nothing is lost. Without the
variable a point costs one comparison.

`transactions` calls `reach` at every point. Tests are generated from `all_points`: they fail for a point without a
test, and for a commit or send without a point.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from dataclasses import dataclass, field
from enum import StrEnum

from cord_worker.errors import ConfigError
from cord_worker.store.schema import kinds
from cord_worker.store.schema.kinds import ADVANCE, VERIFY, WorkKind

logger = logging.getLogger(__name__)

VARIABLE = "CORD_FAULT"


class Side(StrEnum):
    """Whether the process is killed before or after the commit or send."""

    BEFORE = "before"
    AFTER = "after"


class FaultAction(StrEnum):
    """What happens instead of a kill, right before a commit or send."""

    RAISE = "raise"
    HANG = "hang"


class InjectedFault(Exception):
    """Raised by a point that is set to raise."""


class FaultPoint(StrEnum):
    """Every commit and every send of `coordination`, except those of each kind of work (`claim_point` and so on)."""

    ENTER_MODEL = "enter model"
    CHECK_WEIGHTS = "check weights"
    REGISTER = "register"
    READY = "ready"
    HEARTBEAT = "heartbeat"
    LEAVE_SHARD = "leave shard"
    SIGN_OFF = "sign off"

    FAIL_ANSWER = "fail answer"
    RETURN_LEASES = "return leases"
    STEAL_WORK = "steal work"

    ADVANCE = "advance"
    FAIL_DECISION = "fail decision"
    PASS_ON = "pass on"
    STEP_BACK = "step back"
    RETURN_CHECKS = "return checks"
    END_VERIFIED = "end verified"
    ADMIT = "admit"

    EXPIRE = "expire"
    RECLAIM = "reclaim"
    PARK = "park"
    SPENDING_LIMIT = "spending limit"
    SWEEP = "sweep"

    MARK_BROKER = "mark broker"
    DISCARD_QUEUE = "discard queue"
    ACKNOWLEDGE = "acknowledge"


def claim_point(kind: WorkKind) -> str:
    """The point at which pieces of this kind are claimed."""
    return f"claim {kind.name}"


def finish_point(kind: WorkKind) -> str:
    """The point at which results of this kind are written."""
    return f"finish {kind.name}"


def send_point(message: str) -> str:
    """The point at which a message (a kind of work, or a coordinator's) is sent."""
    return f"send {message}"


def all_points() -> tuple[str, ...]:
    """Every point: the fixed ones, and those of every kind of work."""
    claims = (point(kind) for kind in kinds.KINDS for point in (claim_point, finish_point))
    sends = (send_point(message) for message in (ADVANCE, VERIFY, *(kind.name for kind in kinds.served_by_models())))
    return (*(point.value for point in FaultPoint), *claims, *sends)


@dataclass(slots=True)
class _Fault:
    """A point at which this process fails, from the `first` time it is reached to the `last`."""

    point: str
    kind: Side | FaultAction
    first: int
    last: int
    reached: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def parse(cls, plan: str) -> _Fault:
        """Reads `POINT:KIND:N` or `POINT:KIND:N-M`. Raises ValueError."""
        name, kind, times = plan.strip().split(":")
        first, _, last = times.partition("-")
        if name not in all_points():
            raise ValueError(name)
        return cls(name, FaultAction(kind) if kind in set(FaultAction) else Side(kind), int(first), int(last or first))

    def reach(self, point: str, side: Side) -> None:
        if point != self.point or side is not (self.kind if isinstance(self.kind, Side) else Side.BEFORE):
            return
        with self.lock:
            self.reached += 1
            is_due = self.first <= self.reached <= self.last
        if not is_due:
            return
        if self.kind is FaultAction.RAISE:
            raise InjectedFault(f"the point {str(point)!r} is set to raise")
        if self.kind is FaultAction.HANG:
            threading.Event().wait()
        os.kill(os.getpid(), signal.SIGKILL)


_faults: tuple[_Fault, ...] = ()


def arm() -> None:
    """Reads CORD_FAULT; call it when the process starts. Raises ConfigError for a point that does not exist."""
    global _faults
    plans = os.environ.get(VARIABLE)
    if not plans:
        _faults = ()
        return
    try:
        _faults = tuple(map(_Fault.parse, plans.split(",")))
    except ValueError as error:
        points = ", ".join(all_points())
        raise ConfigError(
            f"{VARIABLE}={plans!r}: must be POINT:before|after|raise|hang:N, with which a test makes a process die, "
            f"raise or hang when it reaches the point for the N-th time; points: {points}. Unset it outside of tests."
        ) from error
    logger.critical("%s is set: a test makes this process fail at %s", VARIABLE, plans)


def is_armed() -> bool:
    """Whether this process has a fault planned."""
    return bool(_faults)


def reach(point: str, side: Side) -> None:
    """Lets the faults planned for this point and side happen."""
    for fault in _faults:
        fault.reach(point, side)
