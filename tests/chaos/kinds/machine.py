"""Faults of the machine's limits, and of commands that are killed and called again."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import sqlalchemy as sa

from chaos.configurations import configuration, problems
from chaos.fleet import COORDINATOR, REPOSITORY
from chaos.kinds.storm import TEACHERS, Storm, everything, kind
from chaos.recovery import Watch, watch
from cord_worker.config import RunConfig
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.runs.lifecycle import pause_run, resume_run
from cord_worker.store.runs.removal import remove_run
from cord_worker.store.schema.version import head_revision

_SHORT_SECONDS = 2.0
_ROWS = 3000
_NUMBERS = itertools.count()
_HELD = """
    SELECT (SELECT count(*) FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id
            WHERE r.name = :run AND c.state IN ('proposing', 'scoring', 'judging'))
           + (SELECT count(*) FROM trajectories j JOIN problems p ON p.id = j.problem_id JOIN runs r ON r.id = p.run_id
              WHERE r.name = :run AND j.answer_state IN ('writing', 'judging'))
"""
"""Pieces of work of a run that some worker holds."""


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
    """Whatever it opens fails; its connections are cut, so that it must open some."""
    pid = storm.fleet.pid(storm.one_of(*roles))

    def strike() -> None:
        with _limited(pid, resource.RLIMIT_NOFILE, len(list(Path(f"/proc/{pid}/fd").iterdir()))):
            storm.servers.drop_connections()
            statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE :process"
            storm.database.run(lambda connection: connection.execute(sa.text(statement), {"process": f"cord % {pid}"}))
            time.sleep(_SHORT_SECONDS)

    return everything(storm, what, strike)


def _short_of_memory(storm: Storm, what: str, *roles: str) -> Watch:
    """It gets no more addresses: what needs much, and every new thread, fails."""
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


@kind("PostgreSQL's files may not grow", slow=True)
def postgres_files(storm: Storm) -> Watch:
    """A limit of a file's size: what it writes fails, as on a full disk, until the limit is lifted."""

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


def _cordctl(storm: Storm, *arguments: str, database: str | None = None) -> subprocess.Popen[str]:
    variables = {**os.environ, **storm.fleet.environment, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, "-m", "cord_worker.cli", *arguments],
        env=variables if database is None else {**variables, "CORD_DATABASE_URL": database},
        cwd=storm.fleet.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _killed_in(command: subprocess.Popen[str], is_in_the_middle: Callable[[], bool]) -> bool:
    """Kills a command in the middle of its work; False where it was through before that was seen."""
    while command.poll() is None:
        if is_in_the_middle():
            command.kill()
            break
        time.sleep(0.002)
    command.communicate()
    return command.returncode == -signal.SIGKILL


def _must_end_well(command: subprocess.Popen[str]) -> None:
    said, _ = command.communicate(timeout=120)
    if command.returncode:
        raise AssertionError(f"called again it ended with {command.returncode}: {said}")


def _paused_run(storm: Storm, count: int) -> tuple[str, RunConfig]:
    """A run that nobody works on, with so many problems."""
    name = f"paused-{next(_NUMBERS)}"
    config = RunConfig.parse(configuration("cord"), source=name, folder=storm.fleet.folder)

    def begin(connection: sa.Connection) -> None:
        enqueue(connection, name, config, problems(count))
        pause_run(connection, name)

    storm.database.run(begin)
    return name, config


def _count(storm: Storm, run: str) -> int:
    statement = "SELECT count(*) FROM problems p JOIN runs r ON r.id = p.run_id WHERE r.name = :run"
    return int(storm.database.run(lambda connection: connection.execute(sa.text(statement), {"run": run}).scalar_one()))


def _asks(storm: Storm, words: str) -> Callable[[], bool]:
    """Whether a command is at a statement that begins so."""
    statement = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cordctl' AND query LIKE :words"

    def look() -> bool:
        found = storm.database.run(
            lambda connection: connection.execute(sa.text(statement), {"words": f"{words}%"}).scalar_one()
        )
        return bool(found)

    return look


@kind("enqueue killed", slow=True)
def kill_enqueue(storm: Storm) -> Watch:
    """While it copies its rows: none is there. Called again: all are there, once."""

    def strike() -> None:
        name, _ = _paused_run(storm, 1)
        dataset = storm.fleet.folder / f"{name}.jsonl"
        dataset.write_text(
            "".join(json.dumps({"id": f"r-{n}", "question": f"{n}?", "answer": f"{n}"}) + "\n" for n in range(_ROWS))
        )
        (storm.fleet.folder / "enqueued.toml").write_text(configuration("cord"), encoding="utf-8")
        arguments = ("enqueue", str(dataset), "--config", "enqueued.toml", "--run", name)
        if _killed_in(_cordctl(storm, *arguments), _asks(storm, "COPY staged")) and _count(storm, name) != 1:
            raise AssertionError("a killed enqueue has left some of its rows")
        _must_end_well(_cordctl(storm, *arguments))
        if _count(storm, name) != 1 + _ROWS:
            raise AssertionError(f"after a killed enqueue there are {_count(storm, name)} problems of {1 + _ROWS}")
        remove_run(storm.database, name)

    return everything(storm, "enqueue killed", strike)


@kind("rm killed", slow=True)
def kill_rm(storm: Storm) -> Watch:
    """Between two batches. Called again it deletes the rest, and the run."""

    def strike() -> None:
        name, _ = _paused_run(storm, _ROWS)
        _killed_in(_cordctl(storm, "rm", name, "--yes"), lambda: _count(storm, name) < _ROWS)
        if _count(storm, name):
            _must_end_well(_cordctl(storm, "rm", name, "--yes"))
        statement = sa.text("SELECT count(*) FROM runs WHERE name = :run")
        if storm.database.run(lambda connection: connection.execute(statement, {"run": name}).scalar_one()):
            _must_end_well(_cordctl(storm, "rm", name, "--yes"))

    return everything(storm, "rm killed", strike)


@kind("export killed", slow=True)
def kill_export(storm: Storm) -> Watch:
    """What was there before stays whole; called again it is replaced, and nothing is left beside it."""

    def strike() -> None:
        name = storm.database.run(
            lambda connection: connection.execute(
                sa.text("SELECT name FROM runs ORDER BY id DESC LIMIT 1")
            ).scalar_one()
        )
        folder = storm.fleet.folder / f"exports-{next(_NUMBERS)}"
        folder.mkdir()
        output, old = folder / "out.jsonl", '{"id": "old", "trajectory": "kept"}\n'
        output.write_text(old, encoding="utf-8")
        killed = _killed_in(_cordctl(storm, "export", name, "-o", str(output)), lambda: len(list(folder.iterdir())) > 1)
        if killed and len(list(folder.iterdir())) > 1 and output.read_text(encoding="utf-8") != old:
            raise AssertionError("a killed export has touched the file that was there")
        _must_end_well(_cordctl(storm, "export", name, "-o", str(output)))
        if [file.name for file in folder.iterdir()] != ["out.jsonl"] or output.read_text(encoding="utf-8") == old:
            raise AssertionError(f"an export after a killed one has left {[file.name for file in folder.iterdir()]}")

    return everything(storm, "export killed", strike)


@kind("db upgrade killed", slow=True)
def kill_upgrade(storm: Storm) -> Watch:
    """In a database of its own, while it holds the migration's lock. Called again it goes on."""

    def strike() -> None:
        name = f"fresh_{next(_NUMBERS)}"
        plain = storm.servers.postgres.url.replace("+psycopg", "")
        fresh = storm.servers.postgres.url.replace("/cord?", f"/{name}?")
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")

            def migrates() -> bool:
                held = connection.execute(
                    "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
                    "WHERE d.datname = %s AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'",
                    [name],
                ).fetchone()
                return bool(held and held[0])

            _killed_in(_cordctl(storm, "db", "upgrade", database=fresh), migrates)
            _must_end_well(_cordctl(storm, "db", "upgrade", database=fresh))
            with psycopg.connect(fresh.replace("+psycopg", "")) as there:
                found = there.execute("SELECT version_num FROM alembic_version").fetchone()
            if found is None or found[0] != head_revision():
                raise AssertionError(f"after a killed upgrade the schema is {found}")
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    return everything(storm, "db upgrade killed", strike)


@kind("paused while processes are killed", slow=True)
def pause_under_kills(storm: Storm) -> Watch:
    """Coordinators fall so often that none lives as long as a worker may be silent; yet nobody holds work for ever."""
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
