"""Transactions and sends, each under the name of its fault point (`fault_points`).

Whoever writes goes through `commit` and names its point; `read` cannot write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa

from cord_worker.coordination.fault_points import Side, is_armed, pass_by
from cord_worker.store.database import Database

T = TypeVar("T")


def commit(
    database: Database,
    point: str,
    work: Callable[[sa.Connection], T],
    *,
    retry_seconds: float | None = None,
    single: bool = False,
) -> T:
    """`database.run(work)` under the name of its commit; `database.run_single(work)` where it is `single`.

    A result of `[]` says that nothing was changed: that is no passing of the point. A process that is to die at a point
    always has a transaction around it: else there would be no moment before its commit.
    """
    _refuse_on_an_event_loop()
    if not is_armed():
        run = database.run_single if single else database.run
        return run(work, retry_seconds=retry_seconds)

    def before(connection: sa.Connection) -> T:
        result = work(connection)
        if _changed_something(result):
            pass_by(point, Side.BEFORE)
        return result

    result = database.run(before, retry_seconds=retry_seconds)
    if _changed_something(result):
        pass_by(point, Side.AFTER)
    return result


def read(database: Database, work: Callable[[sa.Connection], T], *, retry_seconds: float | None = None) -> T:
    """`database.run(work)` in a transaction that cannot write, and so needs no name."""
    _refuse_on_an_event_loop()
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
    """A transaction that writes nothing itself: others commit by their points while it holds its locks."""
    with database.transaction() as connection:
        yield connection


@contextmanager
def sending(point: str) -> Iterator[None]:
    """Around whatever goes to the broker."""
    pass_by(point, Side.BEFORE)
    yield
    pass_by(point, Side.AFTER)


def _changed_something(result: object) -> bool:
    return result != []
