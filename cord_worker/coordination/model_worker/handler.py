"""Handlers: what differs between kinds of work in a worker. `worker` holds what all kinds share."""

from __future__ import annotations

import importlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from cord_worker.coordination.fault_points import FaultPoint
from cord_worker.coordination.run_context import RunContext
from cord_worker.engines.protocol import Describe, Engine
from cord_worker.local.killable import KillablePool
from cord_worker.store.schema.kinds import WorkKind
from cord_worker.store.work.values import Claimed, Outcome
from cord_worker.verify import AnswerChecker


@dataclass(frozen=True, slots=True)
class Host:
    """What the worker's process provides for its handlers.

    `model` is the fingerprint of the model in `engine`. `repairers` are processes that repair broken JSON. `describe`
    is called with what keeps the process from its work.
    """

    engine: Engine
    worker_id: uuid.UUID
    model: str
    checker: AnswerChecker
    repairers: KillablePool
    describe: Describe


class ClaimFunction(Protocol):
    """Leases pieces of work of these problems: with `exclusive` the exclusive ones, else the shared ones."""

    def __call__(self, connection: sa.Connection, problem_ids: Sequence[int], *, exclusive: bool) -> Claimed: ...


class FinishFunction(Protocol):
    """Writes results whose lease is still held."""

    def __call__(self, connection: sa.Connection, results: Sequence[Any]) -> Outcome: ...


class Handler(Protocol):
    """One kind of work in this process. Its results have the fields that `accounting` counts.

    `finishes_at_once`: `finish` is one statement, or several that need not be committed together.
    """

    finishes_at_once: bool
    claim: ClaimFunction
    finish: FinishFunction

    def can_claim(self) -> bool:
        """Whether this process can do such work at all; if not, it reports that, and other workers do it."""

    async def handle(self, lease: Any, context: RunContext) -> Any:
        """Does the leased piece of work; returns its result.

        Raises UnavailableError or ProcessPoolError if it cannot be done now, and WorkImpossible if no worker can do it.
        """


class WorkImpossible(Exception):
    """No worker can do a piece of work, so its problem fails: `fail` writes that, at the fault point `point`."""

    def __init__(self, reason: str, point: FaultPoint, fail: Callable[[sa.Connection], None]) -> None:
        super().__init__(reason)
        self.point = point
        self.fail = fail


class AnyEngineHandler:
    """What most handlers share: every engine can do the work."""

    def can_claim(self) -> bool:
        """True."""
        return True


def load_handler(kind: WorkKind, host: Host) -> Handler:
    """The handler that the kind names. Raises ValueError for work of coordinators."""
    if kind.worker_class is None:
        raise ValueError(f"{kind.name} is not done by a model")
    module, _, name = kind.worker_class.partition(":")
    handler: Handler = getattr(importlib.import_module(module), name)(host)
    return handler
