"""Transactions and sends, each under the name of its fault point (`fault_points`).

All writes use `commit` and name their point; `read` cannot write. `stuck_threads` notices a thread that hangs in one of
them, or in a send.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa

from cord_worker.coordination.fault_points import Side, is_armed, reach
from cord_worker.coordination.stuck_threads import working
from cord_worker.store.database import Database

T = TypeVar("T")

TRANSACTION, MESSAGE = "a transaction", "a message to the broker"
"""What a thread does when a transaction or a message is not part of a longer piece of work."""


def commit(
    database: Database,
    point: str,
    work: Callable[[sa.Connection], T],
    *,
    retry_seconds: float | None = None,
    single: bool = False,
) -> T:
    """`database.run(work, single=single)` with the fault point `point` before and after its commit.

    If `work` returns `[]`, it changed nothing, and the point does not count as reached. A process with a planned fault
    ignores `single`: without a transaction there would be no moment before its commit.
    """
    _refuse_on_an_event_loop()
    with working(TRANSACTION):
        if not is_armed():
            return database.run(work, retry_seconds=retry_seconds, single=single)

        def before(connection: sa.Connection) -> T:
            result = work(connection)
            if _changed_something(result):
                reach(point, Side.BEFORE)
            return result

        result = database.run(before, retry_seconds=retry_seconds)
        if _changed_something(result):
            reach(point, Side.AFTER)
        return result


def read(database: Database, work: Callable[[sa.Connection], T], *, retry_seconds: float | None = None) -> T:
    """`database.run(work)` in a transaction that cannot write, and so needs no name."""
    _refuse_on_an_event_loop()
    with working(TRANSACTION):
        return database.run(work, retry_seconds=retry_seconds, read_only=True)


def _refuse_on_an_event_loop() -> None:
    """Raises RuntimeError on an event loop: the caller would wait for the database and stop the loop's engine."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("the database must not be called on the thread of an event loop, which would have to wait")


@contextmanager
def open_transaction(database: Database) -> Iterator[sa.Connection]:
    """A transaction that writes nothing itself: others commit, with their points, while it holds its locks.

    `stuck_threads` watches its beginning and its end, not the time in between.
    """
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
def sending(point: str) -> Iterator[None]:
    """Surrounds a send to the broker, with the fault point `point` before and after it."""
    with working(MESSAGE):
        reach(point, Side.BEFORE)
        yield
        reach(point, Side.AFTER)


def _changed_something(result: object) -> bool:
    return result != []
