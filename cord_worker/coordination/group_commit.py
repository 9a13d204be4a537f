"""Group commit: what the threads of one process want from the database at the same time goes in one transaction.

One commit costs the same disk flush whatever it holds, so a process with many tasks in flight writes in groups:
while one transaction commits, the next group gathers. At light load a group is a single item and waits for nobody.
"""

from __future__ import annotations

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from cord_worker.coordination.faults import FaultPoint, commit
from cord_worker.errors import StoreError
from cord_worker.store.database import Database

Item = TypeVar("Item")
Result = TypeVar("Result")

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


@dataclass(frozen=True, slots=True)
class _Entry:
    operation: Operation[Any, Any]
    item: Any
    future: Future[Any]


class GroupCommitter:
    """The one thread of a process that writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._entries: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="group-commit", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation[Item, Result], item: Item) -> Result:
        """Returns the item's result once it is committed; raises what the transaction raised."""
        future: Future[Result] = Future()
        self._entries.put(_Entry(operation, item, future))
        return future.result()

    def close(self) -> None:
        """Commits what was submitted and ends the thread."""
        self._entries.put(None)
        self._thread.join()

    def _work(self) -> None:
        ended = False
        while not ended:
            group: list[_Entry] = []
            entry = self._entries.get()
            while True:
                if entry is None:
                    ended = True
                    break
                group.append(entry)
                if len(group) >= _MOST_ITEMS:
                    break
                try:
                    entry = self._entries.get_nowait()
                except queue.Empty:
                    break
            self._commit(group)

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
                entry.future.set_exception(error)
            return
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            if len(entries) == 1:
                entries[0].future.set_exception(error)
            else:
                for entry in entries:  # alone, so that one bad item fails nobody else
                    self._commit_one(operation, [entry])
            return
        for entry, result in zip(entries, results, strict=True):
            entry.future.set_result(result)
