"""Threads that want to write at the same time share a transaction; a bad item fails alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for

import pytest
import sqlalchemy as sa

from cord_worker.coordination.model_worker.group_commit import GroupCommitter, Operation
from cord_worker.store.database import Database
from tests.support.waiting import wait_until

PATIENCE = 60.0


class Table:
    """A table of numbers, and the groups in which they were written."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.groups: list[list[int]] = []
        self.committed: list[int] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        database.run(lambda c: c.execute(sa.text("CREATE TABLE numbers (number int PRIMARY KEY CHECK (number >= 0))")))

    def write(self, connection: sa.Connection, numbers: Sequence[int]) -> list[int]:
        self.groups.append(list(numbers))
        self.entered.set()
        if 0 in numbers:
            assert self.gate.wait(PATIENCE)
        insert = sa.text("INSERT INTO numbers SELECT unnest(CAST(:numbers AS int[]))")
        connection.execute(insert, {"numbers": list(numbers)})
        return [2 * number for number in numbers]

    def numbers(self) -> list[int]:
        return self.database.run(
            lambda c: list(c.execute(sa.text("SELECT number FROM numbers ORDER BY number")).scalars())
        )

    def operation(self, *, single: bool = False) -> Operation:
        return Operation("finish score", self.write, "numbers", (self.committed.extend,), single=single)


def until_waiting(committer: GroupCommitter, entries: int) -> None:
    assert wait_until(lambda: len(committer._waiting) == entries, PATIENCE)


@pytest.fixture
def table(database: Database) -> Table:
    return Table(database)


@pytest.mark.parametrize("single", [False, True])
def test_items_that_arrive_during_a_commit_are_committed_together(table: Table, single: bool) -> None:
    committer, operation = GroupCommitter(table.database), table.operation(single=single)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(committer.submit, operation, [0])
        assert table.entered.wait(PATIENCE)
        others = [pool.submit(committer.submit, operation, [number]) for number in range(1, 8)]
        until_waiting(committer, len(others))
        table.gate.set()
        assert first.result(PATIENCE) == [0]
        assert all(sorted(other.result(PATIENCE)) == [2 * number for number in range(1, 8)] for other in others)
    committer.close()
    assert [sorted(group) for group in table.groups] == [[0], [1, 2, 3, 4, 5, 6, 7]]
    assert sorted(table.committed) == [2 * number for number in range(8)]
    assert table.numbers() == list(range(8))


@pytest.mark.parametrize("single", [False, True])
def test_a_bad_item_fails_alone(table: Table, single: bool) -> None:
    committer, operation = GroupCommitter(table.database), table.operation(single=single)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(committer.submit, operation, [0])
        assert table.entered.wait(PATIENCE)
        others = {number: pool.submit(committer.submit, operation, [number]) for number in (1, -1, 2)}
        until_waiting(committer, len(others))
        table.gate.set()
        assert first.result(PATIENCE) == [0]
        assert [others[number].result(PATIENCE) for number in (1, 2)] == [[2], [4]]
        with pytest.raises(sa.exc.IntegrityError):
            others[-1].result(PATIENCE)
    committer.close()
    assert table.numbers() == [0, 1, 2]


def test_closing_waits_for_submitted_items(table: Table) -> None:
    committer, operation = GroupCommitter(table.database), table.operation()
    committer.close()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(committer.submit, operation, [0])
        assert table.entered.wait(PATIENCE)
        closing = pool.submit(committer.close)
        assert wait_for([closing], timeout=0.3).done == set()
        table.gate.set()
        closing.result(PATIENCE)
        assert first.result(PATIENCE) == [0]


def test_many_threads_write_every_item_once(table: Table) -> None:
    table.gate.set()
    committer, operation = GroupCommitter(table.database), table.operation(single=True)
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda number: committer.submit(operation, [number]), range(400)))
    committer.close()
    assert all(2 * number in results[number] for number in range(400))
    assert sorted(table.committed) == [2 * number for number in range(400)]
    assert table.numbers() == list(range(400))
    assert sum(map(len, table.groups)) == 400
