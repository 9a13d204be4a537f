"""Faults of commands that are killed in the middle of their work and called again."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.export.jsonl import FAILURE_FIELDS
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.runs.lifecycle import pause_run
from cord_worker.store.runs.removal import remove_run
from cord_worker.store.schema.version import head_revision
from tests.chaos.configurations import configuration, problems
from tests.chaos.fleet import REPOSITORY
from tests.chaos.kinds.storm import Storm, everything, kind
from tests.chaos.recovery import Watch

_ROWS = 3000
_NUMBERS = itertools.count()
_GONE_SECONDS = 30.0


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


def _killed_in(command: subprocess.Popen[str], is_in_the_middle: Callable[[], bool], pause: float = 0.002) -> bool:
    """Kills a command in the middle of its work; False if it ended before that was seen."""
    while command.poll() is None:
        if is_in_the_middle():
            command.kill()
            break
        time.sleep(pause)
    command.communicate()
    return command.returncode == -signal.SIGKILL


def _must_end_well(command: subprocess.Popen[str]) -> str:
    """Runs the command to its end and returns its output."""
    said, _ = command.communicate(timeout=120)
    if command.returncode:
        raise AssertionError(f"called again it ended with {command.returncode}: {said}")
    return said


def _paused_run(storm: Storm, count: int, *, verify: str | None = None) -> tuple[str, RunConfig]:
    """A paused run of this number of problems, whose answers are compared by the method `verify`, if any."""
    name = f"paused-{next(_NUMBERS)}"
    config = RunConfig.parse(configuration("cord"), source=name, folder=storm.fleet.folder)
    records = problems(count)
    if verify is not None:
        records = [replace(record, metadata={"verify": verify}) for record in records]

    def begin(connection: sa.Connection) -> None:
        enqueue(connection, name, config, records)
        pause_run(connection, name)

    storm.database.run(begin)
    return name, config


def _count(storm: Storm, run: str) -> int:
    statement = "SELECT count(*) FROM problems p JOIN runs r ON r.id = p.run_id WHERE r.name = :run"
    return int(storm.database.run(lambda connection: connection.execute(sa.text(statement), {"run": run}).scalar_one()))


def _asks(storm: Storm, words: str) -> Callable[[], bool]:
    """Whether a command executes a statement that begins with this text."""
    statement = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cordctl' AND query LIKE :words"

    def look() -> bool:
        found = storm.database.run(
            lambda connection: connection.execute(sa.text(statement), {"words": f"{words}%"}).scalar_one()
        )
        return bool(found)

    return look


@kind("enqueue killed", slow=True)
def kill_enqueue(storm: Storm) -> Watch:
    """Killed while it copies its rows: no row stays. Called again: all rows are there, once."""

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
    """Killed between two batches. Called again it deletes the rest, and the run."""

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
    """The earlier file stays whole; called again it is replaced, and nothing is left beside it."""

    def strike() -> None:
        name = storm.database.run(
            lambda connection: connection.execute(
                sa.text("SELECT name FROM runs ORDER BY id DESC LIMIT 1")
            ).scalar_one()
        )
        folder = storm.fleet.folder / f"exports-{next(_NUMBERS)}"
        folder.mkdir()
        output, old = folder / "out.jsonl", f"{json.dumps(dict.fromkeys(FAILURE_FIELDS, 'kept'))}\n"
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
    """In its own database, killed while it holds the migration's lock. Called again it continues."""

    def strike() -> None:
        name = f"fresh_{next(_NUMBERS)}"
        fresh = storm.servers.postgres.url.replace("/cord?", f"/{name}?")
        with storm.servers.administrator() as administrator:
            administrator.execute(f"CREATE DATABASE {name}")

            def migrates() -> bool:
                held = administrator.execute(
                    "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
                    "WHERE d.datname = %s AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'",
                    [name],
                )
                return held != [(0,)]

            _killed_in(_cordctl(storm, "db", "upgrade", database=fresh), migrates)
            _must_end_well(_cordctl(storm, "db", "upgrade", database=fresh))
            with psycopg.connect(fresh.replace("+psycopg", "")) as there:
                found = there.execute("SELECT version_num FROM alembic_version").fetchone()
            if found is None or found[0] != head_revision():
                raise AssertionError(f"after a killed upgrade the schema is {found}")
            administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")

    return everything(storm, "db upgrade killed", strike)


@contextmanager
def _held(storm: Storm, statement: str, **parameters: object) -> Iterator[None]:
    """For the length of a `with`, another session holds the rows that a statement locks."""
    with storm.servers.administrator() as administrator, administrator.connect() as session, session.transaction():
        session.execute(statement, parameters)
        yield


def _waits(storm: Storm) -> Callable[[], bool]:
    """Whether a command waits for held rows, or behind another session that waits for them."""
    statement = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cordctl' AND wait_event_type = 'Lock'"
    )
    return lambda: bool(storm.database.run(lambda connection: connection.execute(statement).scalar_one()))


def _all_gone(storm: Storm) -> bool:
    """Whether no transaction of a command is left in the database, not even of a killed one."""
    statement = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cordctl'"
    return not storm.database.run(lambda connection: connection.execute(sa.text(statement)).scalar_one())


def _await_gone(storm: Storm) -> None:
    deadline = time.monotonic() + _GONE_SECONDS
    while not _all_gone(storm):
        if time.monotonic() > deadline:
            raise AssertionError("the transaction of a killed command stays in the database")
        time.sleep(0.02)


@kind("retry killed", slow=True)
def kill_retry(storm: Storm) -> Watch:
    """Running problems fail; the command that retries them is killed: all of them are still failed.
    Called again: all continue where they stopped, and the result of the run is compared as always."""
    fail = sa.text(
        """
        UPDATE problems p SET state = 'failed', failure_reason = 'the decision failed: by a test',
                              finished_at = now(), touched_at = now()
        FROM runs r
        WHERE r.id = p.run_id AND r.name = :run AND p.state IN ('searching', 'answering', 'verifying')
        """
    )
    failed = sa.text(
        "SELECT count(*) FROM problems p JOIN runs r ON r.id = p.run_id WHERE r.name = :run AND p.state = 'failed'"
    )
    worked_on = sa.text(
        """
        SELECT r.name FROM problems p JOIN runs r ON r.id = p.run_id
        WHERE r.state = 'active' AND p.state IN ('searching', 'answering', 'verifying')
        GROUP BY r.name ORDER BY count(*) DESC, r.name LIMIT 1
        """
    )

    def strike() -> None:
        run = storm.database.run(lambda connection: connection.execute(worked_on).scalar_one_or_none())
        if run is None:
            return

        def count_failed() -> int:
            return int(storm.database.run(lambda c: c.execute(failed, {"run": run}).scalar_one()))

        count = storm.database.run(lambda connection: connection.execute(fail, {"run": run}).rowcount)
        if not count:
            return
        last = """
            SELECT 1 FROM problems WHERE id = (
                SELECT max(p.id) FROM problems p JOIN runs r ON r.id = p.run_id
                WHERE r.name = %(run)s AND p.state = 'failed'
            ) FOR UPDATE
        """
        with _held(storm, last, run=run):
            if not _killed_in(_cordctl(storm, "retry", run), _waits(storm), 0.1):
                raise AssertionError("a retry did not wait for a problem that somebody else holds")
        _await_gone(storm)
        if (left := count_failed()) != count:
            raise AssertionError(f"after a killed retry {left} of {count} problems are failed")
        said = json.loads(_must_end_well(_cordctl(storm, "retry", run, "--json")))
        if said["retried"] != count or count_failed():
            raise AssertionError(f"called again, retry said {said} of {count} problems; {count_failed()} are failed")
        said = json.loads(_must_end_well(_cordctl(storm, "retry", run, "--json")))
        if said["retried"]:
            raise AssertionError(f"called a third time, retry had something to do: {said}")

    return everything(storm, "retry killed", strike)


_MADE = (
    """
    INSERT INTO candidates (problem_id, parent_rank, step, depth, round, teacher_id, sample, lineage, seed, max_tokens,
                            whole, state, text, finish_reason)
    SELECT p.id, 0, 1, 1, 0, (SELECT min(t.id) FROM teachers t WHERE t.run_id = p.run_id), 0, 'made', 1, 1, false,
           'unscored', 'made', 'eos'
    FROM problems p JOIN runs r ON r.id = p.run_id WHERE r.name = :run
    """,
    """
    INSERT INTO trajectories (problem_id, candidate_id, steps, finish, winner, answer_state, answer_text,
                              correct, verification)
    SELECT p.id, c.id, 1, 'eos', true, 'written', '\\boxed{' || p.answer || '}', NULL,
           jsonb_build_object('method', 'crashed')
    FROM problems p JOIN runs r ON r.id = p.run_id JOIN candidates c ON c.problem_id = p.id WHERE r.name = :run
    """,
    """
    UPDATE problems p SET state = 'done', step = 1, finished_at = now() FROM runs r
    WHERE r.id = p.run_id AND r.name = :run
    """,
    "UPDATE runs SET digest = NULL WHERE name = :run",
)
"""A finished run whose checks all had no result; as of a version that wrote no digests, as these rows have none."""
_ANSWERS = 250


@kind("recheck killed", slow=True)
def kill_recheck(storm: Storm) -> Watch:
    """Killed between two batches: what was written stays. Called again it does the rest, and a third time nothing."""
    checked = sa.text(
        """
        SELECT count(*) FILTER (WHERE j.correct), count(*) FILTER (WHERE j.correct IS NULL), count(*)
        FROM trajectories j JOIN problems p ON p.id = j.problem_id JOIN runs r ON r.id = p.run_id WHERE r.name = :run
        """
    )
    last = """
        SELECT 1 FROM trajectories WHERE id = (
            SELECT max(j.id) FROM trajectories j JOIN problems p ON p.id = j.problem_id
            JOIN runs r ON r.id = p.run_id WHERE r.name = %(run)s
        ) FOR UPDATE
    """

    def strike() -> None:
        run, _ = _paused_run(storm, _ANSWERS, verify="exact")

        def make(connection: sa.Connection) -> None:
            for statement in _MADE:
                connection.execute(sa.text(statement), {"run": run})

        def count() -> tuple[int, ...]:
            return tuple(storm.database.run(lambda connection: connection.execute(checked, {"run": run}).one()))

        storm.database.run(make)
        patient = ("--timeout", "60", "--processes", "1")  # the machine is busy
        with _held(storm, last, run=run):
            if not _killed_in(_cordctl(storm, "recheck", run, *patient), _waits(storm), 0.1):
                raise AssertionError("a recheck did not wait for an answer that somebody else holds")
        _await_gone(storm)
        right, undecided, all_ = count()
        if not 0 < right < _ANSWERS or right + undecided != all_ or all_ != _ANSWERS:
            raise AssertionError(f"a killed recheck has left {right} right and {undecided} undecided of {all_} answers")
        for rest in (undecided, 0):
            said = json.loads(_must_end_well(_cordctl(storm, "recheck", run, "--json", *patient)))
            if said["rewritten"] != rest or said["checked"] != _ANSWERS or count() != (_ANSWERS, 0, _ANSWERS):
                raise AssertionError(f"after a killed recheck {rest} answers were left, and it said {said}")
        remove_run(storm.database, run)

    return everything(storm, "recheck killed", strike)
