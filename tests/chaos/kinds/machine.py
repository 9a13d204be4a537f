"""Faults of the machine's limits."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa

from cord_worker.store.runs.lifecycle import pause_run, resume_run
from tests.chaos.fleet import COORDINATOR
from tests.chaos.kinds.storm import TEACHERS, Storm, everything, kind
from tests.chaos.recovery import Watch, watch

_SHORT_SECONDS = 2.0
_HELD = """
    SELECT (SELECT count(*) FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id
            WHERE r.name = :run AND c.state IN ('proposing', 'scoring', 'judging'))
           + (SELECT count(*) FROM trajectories j JOIN problems p ON p.id = j.problem_id JOIN runs r ON r.id = p.run_id
              WHERE r.name = :run AND j.answer_state IN ('writing', 'judging'))
"""
"""Pieces of work of a run that a worker holds."""


@contextmanager
def _limited(pid: int, limit: int, soft: int) -> Iterator[None]:
    """For the length of a `with`, a running process has a lower limit."""
    try:
        before = resource.prlimit(pid, limit, (soft, resource.prlimit(pid, limit)[1]))
    except ProcessLookupError:
        yield
        return
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, limit, before)


def _short_of_handles(storm: Storm, what: str, *roles: str) -> Watch:
    """Opening any file or connection fails; its connections are cut, so that it must open new ones."""
    pid = storm.fleet.pid(storm.one_of(*roles))

    def strike() -> None:
        with _limited(pid, resource.RLIMIT_NOFILE, len(list(Path(f"/proc/{pid}/fd").iterdir()))):
            storm.servers.drop_connections()
            statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE :process"
            storm.database.run(lambda connection: connection.execute(sa.text(statement), {"process": f"cord % {pid}"}))
            time.sleep(_SHORT_SECONDS)

    return everything(storm, what, strike)


def _short_of_memory(storm: Storm, what: str, *roles: str) -> Watch:
    """The process gets no more address space: large allocations and every new thread fail."""
    pid = storm.fleet.pid(storm.one_of(*roles))

    def strike() -> None:
        used = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        with _limited(pid, resource.RLIMIT_AS, used):
            time.sleep(_SHORT_SECONDS)

    return everything(storm, what, strike)


@kind("worker without file handles")
def worker_handles(storm: Storm) -> Watch:
    return _short_of_handles(storm, "worker without file handles", *TEACHERS, "prover")


@kind("coordinator without file handles")
def coordinator_handles(storm: Storm) -> Watch:
    return _short_of_handles(storm, "coordinator without file handles", COORDINATOR)


@kind("worker without memory")
def worker_memory(storm: Storm) -> Watch:
    return _short_of_memory(storm, "worker without memory", *TEACHERS, "prover")


@kind("coordinator without memory")
def coordinator_memory(storm: Storm) -> Watch:
    return _short_of_memory(storm, "coordinator without memory", COORDINATOR)


@kind("/dev/shm is full", slow=True, needs=lambda servers: servers.has_shared_memory)
def full_shared_memory(storm: Storm) -> Watch:
    """PostgreSQL's parallel reads fail; and a coordinator returns to a machine without shared memory."""

    def strike() -> None:
        with storm.servers.parallel_reading(), storm.servers.full_shared_memory():
            storm.fleet.signal(storm.one_of(COORDINATOR), signal.SIGKILL)
            ends = time.monotonic() + _SHORT_SECONDS
            while time.monotonic() < ends:
                storm.fleet.revive()
                time.sleep(0.05)
            if not storm.servers.lacks_shared_memory():
                raise AssertionError("PostgreSQL had shared memory where there was none to have")

    return everything(storm, "/dev/shm is full", strike)


@kind("PostgreSQL's files may not grow", slow=True)
def postgres_files(storm: Storm) -> Watch:
    """A limit on the size of files: its writes fail, as on a full disk, until the limit is lifted."""

    def strike() -> None:
        with _all_limited(storm.servers.postgres.processes(), resource.RLIMIT_FSIZE, 8192):
            time.sleep(_SHORT_SECONDS)
        storm.servers.heal()

    return everything(storm, "PostgreSQL's files may not grow", strike)


@contextmanager
def _all_limited(pids: list[int], limit: int, soft: int) -> Iterator[None]:
    if not pids:
        yield
        return
    with _limited(pids[0], limit, soft), _all_limited(pids[1:], limit, soft):
        yield


@kind("paused while processes are killed", slow=True)
def pause_under_kills(storm: Storm) -> Watch:
    """No coordinator lives as long as a worker may be silent; yet no worker holds work forever."""
    seen = watch(storm.database, "paused while processes are killed")
    statement = "SELECT r.name FROM runs r JOIN problems p ON p.run_id = r.id WHERE r.state = 'active' LIMIT 1"
    run = storm.database.run(lambda connection: connection.execute(sa.text(statement)).scalar_one_or_none())
    if run is not None:
        for name in [storm.one_of(*TEACHERS), storm.one_of("prover")]:
            storm.fleet.signal(name, signal.SIGKILL)
        storm.database.run(lambda connection: pause_run(connection, run))
        began, fell = time.monotonic(), 0.0
        while storm.database.run(lambda connection: connection.execute(sa.text(_HELD), {"run": run}).scalar_one()):
            if time.monotonic() - began > 20 * storm.worker_timeout:
                raise AssertionError(f"workers hold work of a paused run after {20 * storm.worker_timeout:.0f} s")
            if time.monotonic() - fell > 0.7 * storm.worker_timeout:
                fell = time.monotonic()
                for name, member in storm.fleet.members.items():
                    if member.role == COORDINATOR:
                        storm.fleet.signal(name, signal.SIGKILL)
            storm.fleet.revive()
            time.sleep(0.05)
        storm.database.run(lambda connection: resume_run(connection, run))
    seen.began = time.monotonic()
    return seen
