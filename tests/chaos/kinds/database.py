"""Faults of PostgreSQL and of its disk."""

from __future__ import annotations

import signal
import time

import sqlalchemy as sa

from tests.chaos.kinds.storm import Storm, everything, kind
from tests.chaos.recovery import Watch
from tests.chaos.servers import stop_and_continue


def _crash(storm: Storm, signal_number: int) -> None:
    storm.servers.stop_postgres(signal_number)
    time.sleep(storm.chance.random())
    storm.servers.start_postgres()


@kind("PostgreSQL restarted at once")
def restart_postgres(storm: Storm) -> Watch:
    return everything(storm, "PostgreSQL restarted at once", lambda: _crash(storm, signal.SIGQUIT))


@kind("PostgreSQL killed")
def kill_postgres(storm: Storm) -> Watch:
    return everything(storm, "PostgreSQL killed", lambda: _crash(storm, signal.SIGKILL))


@kind("PostgreSQL paused")
def pause_postgres(storm: Storm) -> Watch:
    return everything(
        storm,
        "PostgreSQL paused",
        lambda: stop_and_continue(storm.servers.postgres.processes(), storm.chance.uniform(1, 4)),
    )


@kind("PostgreSQL connections dropped")
def drop_postgres(storm: Storm) -> Watch:
    statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'cord %'"
    return everything(
        storm,
        "PostgreSQL connections dropped",
        lambda: storm.database.run(lambda connection: connection.execute(sa.text(statement)).all()),
    )


@kind("disk full", slow=True, needs=lambda servers: servers.has_disk)
def full_disk(storm: Storm) -> Watch:
    def strike() -> None:
        with storm.servers.full_disk():
            time.sleep(storm.chance.uniform(2, 4))
        storm.servers.heal()

    return everything(storm, "disk full", strike)
