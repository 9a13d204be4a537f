"""Group commit: what the threads of one process want from the database at the same time goes in one transaction.

One commit costs the same disk flush whatever it holds, so a process with many tasks in flight writes in groups:
while one transaction commits, the next group gathers. At light load a group is a single item and waits for nobody.

There is no thread for it: of those who wait, the first one commits for all, in the thread that asked. To hand work to
another thread and back would be half of the switches that a statement takes on a busy machine.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from cord_worker.coordination.fault_points import FaultPoint, commit
from cord_worker.coordination.stuck_threads import working
from cord_worker.errors import StoreError
from cord_worker.store.database import Database

Item = TypeVar("Item")
Result = TypeVar("Result")

COMMITS = "a commit of claims and results"
"""What a thread is at that commits for all that wait."""
_MOST_ITEMS = 512


@dataclass(frozen=True, slots=True)
class Operation(Generic[Item, Result]):
    """A function of many items in one transaction that returns one result for each, in their order.

    `committed` is called with the results once they are durable; it must not block. A `single` one needs no
    transaction around its statements (`Database.run_single`).
    """

    point: FaultPoint
    run: Callable[[sa.Connection, Sequence[Item]], Sequence[Result]]
    committed: Callable[[Sequence[Result]], None] | None = None
    single: bool = False


@dataclass(slots=True, eq=False)
class _Entry:
    operation: Operation[Any, Any]
    item: Any
    woken: threading.Event = field(default_factory=threading.Event)
    is_done: bool = False
    result: Any = None
    error: BaseException | None = None

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        self.result, self.error, self.is_done = result, error, True
        self.woken.set()


class GroupCommitter:
    """Lets one thread of a process write at a time, for all that wait. Safe for use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = threading.Condition()
        self._waiting: deque[_Entry] = deque()
        self._is_led = False

    def submit(self, operation: Operation[Item, Result], item: Item) -> Result:
        """Returns the item's result once it is committed; raises what the transaction raised."""
        entry = _Entry(operation, item)
        with self._changed:
            self._waiting.append(entry)
            waits = self._is_led
            self._is_led = True
        if waits:
            entry.woken.wait()
        if not entry.is_done:
            self._lead()
        if entry.error is not None:
            raise entry.error
        result: Result = entry.result
        return result

    def close(self) -> None:
        """Returns once all that was submitted is committed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_led)

    def _lead(self) -> None:
        """Commits what waits, the caller's entry first, then leaves the lead to whoever has come meanwhile."""
        with self._changed:
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_ITEMS))]
        try:
            with working(COMMITS):
                self._commit(group)
        finally:
            for entry in group:  # where memory ends within the commit, nobody waits for ever
                if not entry.is_done:
                    entry.end(error=RuntimeError("the commit was cut short; its work is done again"))
            with self._changed:
                if self._waiting:
                    self._waiting[0].woken.set()
                else:
                    self._is_led = False
                    self._changed.notify_all()

    def _commit(self, group: Sequence[_Entry]) -> None:
        by_operation: dict[int, list[_Entry]] = defaultdict(list)
        for entry in group:
            by_operation[id(entry.operation)].append(entry)
        for entries in by_operation.values():
            self._commit_one(entries[0].operation, entries)

    def _commit_one(self, operation: Operation[Any, Any], entries: Sequence[_Entry]) -> None:
        items = [entry.item for entry in entries]
        try:
            results = commit(
                self._database,
                operation.point,
                lambda connection: operation.run(connection, items),
                single=operation.single,
            )
            if operation.committed is not None:
                operation.committed(results)
        except StoreError as error:
            for entry in entries:
                entry.end(error=error)
            return
        except BaseException as error:  # noqa: BLE001 - raised by those who wait for it
            if len(entries) == 1:
                entries[0].end(error=error)
            else:
                for entry in entries:  # alone, so that one bad item fails nobody else
                    self._commit_one(operation, [entry])
            return
        for entry, result in zip(entries, results, strict=True):
            entry.end(result)
