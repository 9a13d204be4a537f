"""Real processes of the service with a database and a broker, to be watched and killed by tests."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import enqueue
from tests.support import forking
from tests.support.configurations import INSTANT
from tests.support.tables import Content, content, count, empty_tables

Process = forking.Forked | subprocess.Popen[bytes]

FAST = {
    "CORD_HEARTBEAT_SECONDS": "0.5",
    "CORD_WORKER_TIMEOUT_SECONDS": "3",
    "CORD_RESEND_SECONDS": "2",
    "CORD_SWEEP_SECONDS": "0.3",
    "CORD_GRACE_SECONDS": "3",
}

_GATE, _JUDGMENT_GATE = 4711, 4712
_RESULT_GATE = f"""
    CREATE OR REPLACE FUNCTION test_result_gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(
            CASE OLD.state WHEN 'judging' THEN {_JUDGMENT_GATE} ELSE {_GATE} END, pid
        ) FROM workers
        WHERE (%(only)s) AND id = CASE OLD.state
            WHEN 'proposing' THEN OLD.propose_worker_id WHEN 'scoring' THEN OLD.score_worker_id
            ELSE OLD.judgment_worker_id
        END;
        RETURN NEW;
    END $$;
    CREATE OR REPLACE TRIGGER test_result_gate BEFORE UPDATE ON candidates FOR EACH ROW
    WHEN (OLD.state IN ('proposing', 'scoring', 'judging') AND NEW.state IS DISTINCT FROM OLD.state)
    EXECUTE FUNCTION test_result_gate()
"""
"""The statement that ends a lease of `only` these candidates waits while a test holds the advisory lock (`_GATE` or
`_JUDGMENT_GATE`, pid of its worker)."""

_VERDICT_GATE = 4713
_VERDICT_GATED = f"""
    CREATE OR REPLACE FUNCTION test_verdict_gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared({_VERDICT_GATE}, pid) FROM workers WHERE id = OLD.verdict_worker_id;
        RETURN NEW;
    END $$;
    CREATE OR REPLACE TRIGGER test_verdict_gate BEFORE UPDATE ON trajectories FOR EACH ROW
    WHEN (OLD.answer_state = 'judging' AND NEW.answer_state <> 'judging') EXECUTE FUNCTION test_verdict_gate()
"""
"""Likewise for an LLM judge's verdicts (`_VERDICT_GATE`, pid of its worker)."""

_SESSIONS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE :name"
"""Sessions of one process, whose pid ends their name."""


class Cluster:
    """Coordinators and model workers as processes; `names` are `coordinator` or models of `config_path`."""

    def __init__(self, folder: Path, database_url: str, broker_url: str, config: str = INSTANT) -> None:
        self.config_path = folder / "cord.toml"
        self.config_path.write_text(config, encoding="utf-8")
        self.config = RunConfig.load(self.config_path)
        self._folder = folder
        self.environment = {
            **os.environ,
            **FAST,
            "CORD_DATABASE_URL": database_url,
            "CORD_BROKER_URL": broker_url,
            "CORD_KEY_PREFIX": f"cord-test-{os.getpid()}:",
            "OMP_NUM_THREADS": "1",
        }
        self.processes: dict[str, Process] = {}

    @property
    def names(self) -> list[str]:
        """The names of all kinds of process."""
        return ["coordinator", *self.config.models]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill_all()

    def kill_all(self) -> None:
        """SIGKILL to every process."""
        for name in self.processes:
            self.kill(name)

    def start(self, *names: str) -> None:
        """Starts processes; one of every kind if no names are given."""
        for name in names or self.names:
            role = ["coordinator"] if name == "coordinator" else ["worker", name, "--config", str(self.config_path)]
            log = self.log_of(name)
            self.processes[name] = forking.start(self.config, role, self.environment, log)

    def log_of(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self.processes[name].kill()
        self.processes[name].wait()

    @contextmanager
    def no_result_of(self, name: str, database: Database, only: str = "true") -> Iterator[None]:
        """For the length of a `with`, a model worker can lease work, but commits no proposal and no score of candidates
        for which `only` holds (SQL about OLD). If several are open, only the last one counts."""
        with self._shut(_GATE, name, database, _RESULT_GATE % {"only": only}):
            yield

    @contextmanager
    def no_judgment_of(self, name: str, database: Database, only: str = "true") -> Iterator[None]:
        """Like `no_result_of`, for judgments."""
        with self._shut(_JUDGMENT_GATE, name, database, _RESULT_GATE % {"only": only}):
            yield

    @contextmanager
    def _shut(self, key: int, name: str, database: Database, trigger: str) -> Iterator[None]:
        database.run(lambda connection: connection.execute(sa.text(trigger)))
        with database.transaction() as session:
            gate = {"gate": key, "pid": self.processes[name].pid}
            session.execute(sa.text("SELECT pg_advisory_xact_lock(:gate, :pid)"), gate)
            try:
                yield
            finally:
                self._end_sessions(session, name)

    def _end_sessions(self, session: sa.Connection, name: str) -> None:
        """Ends the sessions of a process that was killed at the gate. Otherwise PostgreSQL would commit the statement
        that waits there, even though its process is dead."""
        process = self.processes[name]
        if process.poll() is None:
            return
        ended = sa.text(f"SELECT pg_terminate_backend(pid, 10000) {_SESSIONS}")
        session.execute(ended, {"name": f"% {process.pid}"})

    def kill_holding_a_lease(self, name: str, database: Database, seconds: float = 120.0) -> None:
        """SIGKILL to a model worker as soon as it has leased proposals or scores; call under `no_result_of`."""
        self.wait_until(lambda: self.holds_a_lease(name, database), seconds)
        self.kill(name)

    def holds_a_lease(self, name: str, database: Database, only: str = "true") -> bool:
        """Whether a model worker has leased proposals, scores or judgments of candidates as in `no_result_of`."""
        holder = f"IN (SELECT id FROM workers WHERE pid = {self.processes[name].pid})"
        held = (
            f"(state = 'proposing' AND propose_worker_id {holder}) OR (state = 'scoring' AND score_worker_id {holder}) "
            f"OR (state = 'judging' AND judgment_worker_id {holder})"
        )
        return count(database, f"({held}) AND ({only.replace('OLD.', '')})", "candidates") > 0

    @contextmanager
    def no_verdict_of(self, name: str, database: Database) -> Iterator[None]:
        """For the length of a `with`, an LLM judge can lease answers, but none of its verdicts is committed."""
        with self._shut(_VERDICT_GATE, name, database, _VERDICT_GATED):
            yield

    def kill_giving_a_verdict(self, name: str, database: Database, seconds: float = 120.0) -> None:
        """SIGKILL to an LLM judge as soon as it has leased an answer; call under `no_verdict_of`."""
        holder = f"IN (SELECT id FROM workers WHERE pid = {self.processes[name].pid})"
        held = f"answer_state = 'judging' AND verdict_worker_id {holder}"
        self.wait_until(lambda: count(database, held, "trajectories") > 0, seconds)
        self.kill(name)

    def kill_judging(self, name: str, database: Database, seconds: float = 120.0) -> None:
        """SIGKILL to a model worker as soon as it has leased judgments; call under `no_judgment_of`."""
        holder = f"IN (SELECT id FROM workers WHERE pid = {self.processes[name].pid})"
        held = f"state = 'judging' AND judgment_worker_id {holder}"
        self.wait_until(lambda: count(database, held, "candidates") > 0, seconds)
        self.kill(name)

    def stop(self, name: str, seconds: float = 120.0) -> int:
        """SIGTERM; returns the exit code. Raises TimeoutExpired if the process does not end in time."""
        self.processes[name].send_signal(signal.SIGTERM)
        return self.processes[name].wait(timeout=seconds)

    def enqueue(
        self,
        database: Database,
        count: int,
        run: str = "run",
        addition: str = "",
        config: RunConfig | None = None,
    ) -> None:
        """Enqueues `count` problems, with the given configuration or else the cluster's; `addition` ends
        their questions."""
        records = [
            ProblemRecord(f"problem-{n}", f"What is {n} + {n}?{addition}", str(2 * n), None, {}, f"x:{n}")
            for n in range(count)
        ]
        database.run(lambda connection: enqueue(connection, run, config or self.config, records))

    def undisturbed(self, database: Database, problems: int) -> Content:
        """Waits until the problems are done, stops every process and empties the tables; returns what they held."""
        self.wait_until(lambda: count(database, "state = 'done'") == problems, 120)
        held = content(database)
        for name in self.names:
            assert self.stop(name) == 0
        empty_tables(database)
        return held

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Waits for `condition`; fails with the ends of the processes' logs after `seconds`."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = {path.name: path.read_text(errors="replace")[-1500:] for path in self._folder.glob("*.log")}
                raise AssertionError(f"not within {seconds} s; logs: {logs}")
            time.sleep(0.1)
