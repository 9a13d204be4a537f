"""Group commit: concurrent operations of one kind in a process share a transaction.

Claims never share one with results, because claims switch flushing off for their transaction.

A commit costs the same disk flush whatever it holds. So a process with many tasks in flight writes in groups: while one
transaction commits, the next group gathers. At light load a group is a single entry and waits for nothing.

There is no writer thread: the first waiting caller commits the whole group on its own thread. Handing work to another
thread and back would double the thread switches of a statement on a busy machine.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cord_worker.coordination.stuck_threads import working
from cord_worker.coordination.transactions import commit
from cord_worker.errors import StoreError
from cord_worker.store.database import Database

COMMITS = "a commit of claims and results"
"""What a thread does while it commits a group (see `stuck_threads.working`)."""
_MAX_ENTRIES = 512


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """Calls `run(connection, …)` in one transaction with the fault point `point`.

    `items_name` is the parameter that gets the items. Each of `on_commit` is called with the result once that is
    durable, and must not block. A `single` operation needs no transaction around its statements
    (`Database.run` with `single`).
    """

    point: str
    run: Callable[..., Any]
    items_name: str
    on_commit: tuple[Callable[[Any], None], ...] = ()
    single: bool = False


@dataclass(slots=True, eq=False)
class _Entry:
    operation: Operation
    items: Sequence[Any]
    wake: threading.Event = field(default_factory=threading.Event)
    is_done: bool = False
    result: Any = None
    error: BaseException | None = None

    def finish(self, result: Any = None, error: BaseException | None = None) -> None:
        self.result, self.error, self.is_done = result, error, True
        self.wake.set()


class GroupCommitter:
    """Lets one thread at a time commit, for all threads that wait. Safe for use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = threading.Condition()
        self._waiting: deque[_Entry] = deque()
        self._is_led = False

    def submit(self, operation: Operation, items: Sequence[Any]) -> Any:
        """Commits the items, together with items that other threads submit; returns the result of the whole group.

        Raises what the transaction raised. If a group fails, but not by a StoreError, each caller's items are tried
        separately, so that one bad item does not fail other tasks.
        """
        entry = _Entry(operation, items)
        with self._changed:
            self._waiting.append(entry)
            waits = self._is_led
            self._is_led = True
        if waits:
            entry.wake.wait()
        if not entry.is_done:
            self._lead()
        if entry.error is not None:
            raise entry.error
        return entry.result

    def close(self) -> None:
        """Waits until everything that was submitted is committed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_led)

    def _lead(self) -> None:
        """Commits what waits, the caller's entry first, then wakes a later thread to lead next."""
        with self._changed:
            entries = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_ENTRIES))]
        groups: dict[Operation, list[_Entry]] = {}
        for entry in entries:
            groups.setdefault(entry.operation, []).append(entry)
        remaining = deque(groups.values())
        try:
            while remaining:
                group = remaining.popleft()
                operation = group[0].operation
                items = [item for entry in group for item in entry.items]
                run = functools.partial(operation.run, **{operation.items_name: items})
                try:
                    with working(COMMITS):
                        result = commit(self._database, operation.point, run, single=operation.single)
                    for call in operation.on_commit:
                        call(result)
                except BaseException as error:  # noqa: BLE001 - raised again by every caller that waits for it
                    if isinstance(error, StoreError) or len(group) == 1:
                        for entry in group:
                            entry.finish(error=error)
                    else:
                        remaining.extendleft([entry] for entry in reversed(group))
                else:
                    for entry in group:
                        entry.finish(result)
        finally:
            for entry in entries:  # if memory runs out during the commit, no caller waits forever
                if not entry.is_done:
                    entry.finish(error=RuntimeError("the commit was cut short; its work is done again"))
            with self._changed:
                if self._waiting:
                    self._waiting[0].wake.set()
                else:
                    self._is_led = False
                    self._changed.notify_all()
