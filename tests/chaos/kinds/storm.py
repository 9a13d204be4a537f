"""The argument of every fault, and the tables of kinds: `KINDS` by name, `SLOW` and `NEEDS`."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import redis
import sqlalchemy as sa

from cord_worker.coordination.broker.redis_transport import is_wrong_type
from cord_worker.store.database import Database
from tests.chaos.fleet import COORDINATOR, Fleet
from tests.chaos.recovery import Watch, watch
from tests.chaos.servers import Servers

TEACHERS = ("alpha", "beta")
_MOMENT = 3.0


@dataclass(slots=True)
class Storm:
    """The processes and servers that faults hit. `crashes`: times at which PostgreSQL lost unflushed commits."""

    servers: Servers
    fleet: Fleet
    database: Database
    chance: random.Random
    worker_timeout: float
    crashes: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        statement = sa.text("CREATE UNLOGGED TABLE IF NOT EXISTS chaos_alive (alive int NOT NULL)")
        self.database.run(lambda connection: connection.execute(statement))
        self._was_emptied()

    def note_crash(self, began: float) -> None:
        """Notes whether PostgreSQL crashed since that time: an unlogged table is empty after every crash."""
        if self._was_emptied():
            self.crashes.append((began, time.time()))

    def _was_emptied(self) -> bool:
        statement = sa.text("INSERT INTO chaos_alive SELECT 1 WHERE NOT EXISTS (SELECT FROM chaos_alive)")
        return bool(self.database.run(lambda connection: connection.execute(statement).rowcount))

    def one_of(self, *roles: str) -> str:
        """The name of a living process of one of these roles."""
        names = [
            name for name, member in self.fleet.members.items() if member.role in roles and self.fleet.is_alive(name)
        ]
        return self.chance.choice(sorted(names)) if names else self.fleet.revive()[0]

    def leader(self) -> str:
        """The coordinator that sweeps."""
        statement = """
            SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
            WHERE l.locktype = 'advisory' AND l.objid = 1400333680 AND l.granted
        """
        for _ in range(100):
            found = self.database.run(lambda connection: connection.execute(sa.text(statement)).scalars().all())
            for name in self.fleet.members:
                if any(application == f"cord coordinator {self.fleet.pid(name)}" for application in found):
                    return name
            time.sleep(0.1)
        return self.one_of(COORDINATOR)

    def model_of(self, name: str) -> str:
        """The model of the process called `name`, as `watch` takes it."""
        return self.fleet.members[name].role


Fault = Callable[[Storm], Watch]
KINDS: dict[str, Fault] = {}
SLOW: set[str] = set()
"""Kinds that are injected alone, because they wait for something themselves."""
NEEDS: dict[str, Callable[[Servers], bool]] = {}
"""The ability that a kind needs of a machine, if not all machines have it."""


def kind(name: str, *, slow: bool = False, needs: Callable[[Servers], bool] | None = None) -> Callable[[Fault], Fault]:
    """Registers a fault under its name."""

    def enter(fault: Fault) -> Fault:
        def strike(storm: Storm) -> Watch:
            began = time.time()
            seen = fault(storm)
            storm.note_crash(began)
            return seen

        if name in KINDS:
            raise ValueError(f"two kinds of faults are called {name!r}")
        KINDS[name] = strike
        if slow:
            SLOW.add(name)
        if needs is not None:
            NEEDS[name] = needs
        return strike

    return enter


def available(servers: Servers) -> list[str]:
    """Kinds that this machine can inject."""
    return [name for name in KINDS if name not in NEEDS or NEEDS[name](servers)]


def killed(storm: Storm, name: str, what: str) -> Watch:
    """Kills the process while it holds work, if that happens soon, and watches that work."""
    seen = busy(storm, name, what)
    storm.fleet.signal(name, signal.SIGKILL)
    seen.began = time.monotonic()
    return seen


def busy(storm: Storm, name: str, what: str) -> Watch:
    """Stops the process while it holds work, if that happens soon, and watches that work."""
    deadline = time.monotonic() + _MOMENT
    while True:
        storm.fleet.pause(name)
        seen = watch(storm.database, what, storm.model_of(name), [storm.fleet.pid(name)])
        if seen.held or time.monotonic() > deadline:
            return seen
        storm.fleet.resume(name)
        time.sleep(0.05)


def everything(storm: Storm, what: str, strike: Callable[[], object]) -> Watch:
    """Calls `strike` and watches all work that was due before it."""
    seen = watch(storm.database, what)
    try:
        strike()
    except redis.ResponseError as error:
        # Another fault has changed the type of a key just now: that one has struck.
        if not is_wrong_type(error):
            raise
    seen.began = time.monotonic()
    return seen
