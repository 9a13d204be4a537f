"""A process that may open no more files waits, as it waits for an absent database."""

from __future__ import annotations

import errno
import logging
import os
import resource
import threading

import pytest
import sqlalchemy as sa

from cord_worker.errors import StoreError
from cord_worker.store.database import Database


def _too_many_open_files(times: int) -> list[OSError]:
    return [OSError(errno.EMFILE, os.strerror(errno.EMFILE)) for _ in range(times)]


def test_a_connection_waits_until_the_process_may_open_files_again(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(database_url)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lifted = threading.Timer(0.5, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, before))
    lifted.start()
    try:
        # Open files stay open.
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        with caplog.at_level(logging.WARNING):
            found = database.run(lambda connection: connection.execute(sa.text("SELECT 1")).scalar_one())
    finally:
        lifted.join()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        database.close()
    assert found == 1
    assert any("trying again" in message for message in caplog.messages)


def test_a_transaction_that_met_the_limit_is_repeated_as_a_whole(database: Database) -> None:
    database.run(lambda connection: connection.execute(sa.text("CREATE TABLE written (number int)")))
    failures = _too_many_open_files(2)

    def work(connection: sa.Connection) -> int:
        connection.execute(sa.text("INSERT INTO written VALUES (1)"))
        if failures:
            raise failures.pop()
        return int(connection.execute(sa.text("SELECT count(*) FROM written")).scalar_one())

    assert database.run(work) == 1


def test_a_limit_that_lasts_ends_in_one_line_that_names_it(database: Database) -> None:
    def work(_: sa.Connection) -> None:
        raise _too_many_open_files(1)[0]

    with pytest.raises(StoreError, match=r"Too many open files: raise the limit of open files \(ulimit -n 4096\)"):
        database.run(work, retry_seconds=0.0)
