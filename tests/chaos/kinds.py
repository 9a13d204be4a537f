"""The faults, by name. Each strikes and returns what it hit, to be watched until it has recovered."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from chaos.fleet import COORDINATOR, Fleet
from chaos.recovery import Watch, look, watch
from chaos.servers import Servers, faketime_library, stop_and_continue
from cord_worker.coordination.faults import VARIABLE, FaultPoint, Side
from cord_worker.store.database import Database

TEACHERS = ("alpha", "beta")
_MOMENT = 3.0


@dataclass(slots=True)
class Storm:
    """Where faults strike. `crashes` are the spans of time in which PostgreSQL lost what was not flushed."""

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
        """Looks whether PostgreSQL crashed since that time: an unlogged table is empty after every crash."""
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
        """What the process called `name` does, as a watch calls it."""
        return self.fleet.members[name].role


Fault = Callable[[Storm], Watch]
KINDS: dict[str, Fault] = {}


def kind(name: str) -> Callable[[Fault], Fault]:
    """Enters a fault under its name."""

    def enter(fault: Fault) -> Fault:
        def strike(storm: Storm) -> Watch:
            began = time.time()
            seen = fault(storm)
            storm.note_crash(began)
            return seen

        KINDS[name] = strike
        return strike

    return enter


def _killed(storm: Storm, name: str, what: str) -> Watch:
    seen = _busy(storm, name, what)
    storm.fleet.signal(name, signal.SIGKILL)
    seen.began = time.monotonic()
    return seen


def _busy(storm: Storm, name: str, what: str) -> Watch:
    """Stops the process at a moment when it has something in hand, if one comes soon, and watches that."""
    deadline = time.monotonic() + _MOMENT
    while True:
        storm.fleet.pause(name)
        seen = watch(storm.database, what, storm.model_of(name), [storm.fleet.pid(name)])
        if seen.held or time.monotonic() > deadline:
            return seen
        storm.fleet.resume(name)
        time.sleep(0.05)


@kind("coordinator killed")
def kill_coordinator(storm: Storm) -> Watch:
    return _killed(storm, storm.one_of(COORDINATOR), "coordinator killed")


@kind("leader killed")
def kill_leader(storm: Storm) -> Watch:
    return _killed(storm, storm.leader(), "leader killed")


@kind("teacher killed")
def kill_teacher(storm: Storm) -> Watch:
    return _killed(storm, storm.one_of(*TEACHERS), "teacher killed")


@kind("prover killed")
def kill_prover(storm: Storm) -> Watch:
    return _killed(storm, storm.one_of("prover", "critic"), "prover killed")


@kind("judge killed")
def kill_judge(storm: Storm) -> Watch:
    return _killed(storm, storm.one_of("referee"), "judge killed")


@kind("all processes killed")
def kill_all(storm: Storm) -> Watch:
    seen = watch(storm.database, "all processes killed")
    for name in storm.fleet.members:
        storm.fleet.signal(name, signal.SIGKILL)
    seen.began = time.monotonic()
    return seen


@kind("killed at a point")
def kill_at_point(storm: Storm) -> Watch:
    """At the next passing of a commit or a send."""
    points = [point for point in FaultPoint if point.value.startswith(("claim", "finish", "send", "advance", "admit"))]
    point = storm.chance.choice(points)
    coordinator = point.value in {"advance", "admit", "send propose", "send verdict", "send answer"}
    name = storm.one_of(COORDINATOR) if coordinator else storm.one_of(*TEACHERS, "prover")
    seen = _killed(storm, name, "killed at a point")
    storm.fleet.kill(name)
    storm.fleet.start(name, **{VARIABLE: f"{point}:{storm.chance.choice(list(Side))}:{storm.chance.randint(1, 3)}"})
    return seen


@kind("worker asked to end")
def terminate(storm: Storm) -> Watch:
    name = storm.one_of(*TEACHERS, "prover", COORDINATOR)
    seen = watch(storm.database, "worker asked to end", storm.model_of(name), [storm.fleet.pid(name)])
    storm.fleet.signal(name, signal.SIGTERM)
    return seen


@kind("stale worker")
def stale_worker(storm: Storm) -> Watch:
    """A worker that is stopped until its leases are others', and then commits."""
    name = storm.one_of(*TEACHERS, "prover")
    seen = _busy(storm, name, "stale worker")
    deadline = time.monotonic() + 3 * storm.worker_timeout + 20
    while seen.seconds is None and time.monotonic() < deadline:
        time.sleep(0.05)
        look(storm.database, [seen])
    storm.fleet.resume(name)
    return seen


@kind("stale leader")
def stale_leader(storm: Storm) -> Watch:
    """The coordinator that sweeps hangs, and a worker dies meanwhile."""
    name = storm.leader()
    storm.fleet.pause(name)
    seen = _killed(storm, storm.one_of(*TEACHERS), "stale leader")
    deadline = time.monotonic() + 4 * storm.worker_timeout + 20
    while seen.seconds is None and time.monotonic() < deadline:
        time.sleep(0.05)
        storm.fleet.revive()
        look(storm.database, [seen])
    storm.fleet.resume(name)
    return seen


def _everything(storm: Storm, what: str, strike: Callable[[], object]) -> Watch:
    seen = watch(storm.database, what)
    strike()
    seen.began = time.monotonic()
    return seen


@kind("Redis emptied")
def flush(storm: Storm) -> Watch:
    def strike() -> None:
        with storm.servers.client() as client:
            client.flushall()

    return _everything(storm, "Redis emptied", strike)


@kind("Redis killed")
def kill_redis(storm: Storm) -> Watch:
    def strike() -> None:
        storm.servers.signal_redis(signal.SIGKILL)
        storm.servers.await_redis_end()
        time.sleep(storm.chance.random())
        storm.servers.start_redis()

    return _everything(storm, "Redis killed", strike)


@kind("Redis restarted")
def restart_redis(storm: Storm) -> Watch:
    def strike() -> None:
        storm.servers.signal_redis(signal.SIGTERM)
        storm.servers.await_redis_end()
        storm.servers.start_redis()

    return _everything(storm, "Redis restarted", strike)


@kind("Redis paused")
def pause_redis(storm: Storm) -> Watch:
    return _everything(
        storm,
        "Redis paused",
        lambda: stop_and_continue(storm.servers.redis.processes(), storm.chance.uniform(1, 4)),
    )


@kind("Redis connections dropped")
def drop_redis(storm: Storm) -> Watch:
    return _everything(storm, "Redis connections dropped", storm.servers.drop_connections)


@kind("messages doubled")
def double(storm: Storm) -> Watch:
    return _everything(storm, "messages doubled", storm.servers.double)


@kind("messages reordered")
def reorder(storm: Storm) -> Watch:
    return _everything(storm, "messages reordered", lambda: storm.servers.shuffle(storm.chance))


@kind("messages delayed")
def delay(storm: Storm) -> Watch:
    return _everything(storm, "messages delayed", lambda: storm.servers.delay(storm.chance.uniform(1, 4)))


@kind("messages lost")
def lose(storm: Storm) -> Watch:
    return _everything(storm, "messages lost", lambda: storm.servers.lose(storm.chance))


def _crash(storm: Storm, number: int) -> None:
    storm.servers.stop_postgres(number)
    time.sleep(storm.chance.random())
    storm.servers.start_postgres()


@kind("PostgreSQL restarted at once")
def restart_postgres(storm: Storm) -> Watch:
    return _everything(storm, "PostgreSQL restarted at once", lambda: _crash(storm, signal.SIGQUIT))


@kind("PostgreSQL killed")
def kill_postgres(storm: Storm) -> Watch:
    return _everything(storm, "PostgreSQL killed", lambda: _crash(storm, signal.SIGKILL))


@kind("PostgreSQL paused")
def pause_postgres(storm: Storm) -> Watch:
    return _everything(
        storm,
        "PostgreSQL paused",
        lambda: stop_and_continue(storm.servers.postgres.processes(), storm.chance.uniform(1, 4)),
    )


@kind("PostgreSQL connections dropped")
def drop_postgres(storm: Storm) -> Watch:
    statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'cord %'"
    return _everything(
        storm,
        "PostgreSQL connections dropped",
        lambda: storm.database.run(lambda connection: connection.execute(sa.text(statement)).all()),
    )


@kind("disk full")
def full_disk(storm: Storm) -> Watch:
    def strike() -> None:
        with storm.servers.full_disk():
            time.sleep(storm.chance.uniform(2, 4))
        storm.servers.heal()

    return _everything(storm, "disk full", strike)


def _clock(storm: Storm, what: str, seconds: float) -> Watch:
    def strike() -> None:
        storm.servers.set_clock(seconds)
        time.sleep(1.5)  # libfaketime looks once a second

    return _everything(storm, what, strike)


@kind("clock set forward")
def clock_forward(storm: Storm) -> Watch:
    storm.servers.clock += storm.chance.choice([20, 300, 7200])
    return _clock(storm, "clock set forward", storm.servers.clock)


@kind("clock set back")
def clock_back(storm: Storm) -> Watch:
    storm.servers.clock -= storm.chance.choice([20, 300, 7200])
    return _clock(storm, "clock set back", storm.servers.clock)


@kind("worker with a wrong clock")
def wrong_clock(storm: Storm) -> Watch:
    """A worker is killed and comes back with a clock that is hours wrong."""
    library = faketime_library()
    name = storm.one_of(*TEACHERS, COORDINATOR)
    seen = _killed(storm, name, "worker with a wrong clock")
    storm.fleet.kill(name)
    wrong = f"{storm.chance.choice([-1, 1]) * storm.chance.randint(60, 90_000):+d}"
    storm.fleet.start(name, LD_PRELOAD=str(library), FAKETIME=wrong, DONT_FAKE_MONOTONIC="1", NO_FAKE_STAT="1")
    return seen


SLOW = {"stale worker", "stale leader", "disk full", "clock set forward", "clock set back"}
"""Those that are not joined by a second one: they wait for something themselves."""


def available(servers: Servers) -> list[str]:
    """Kinds that this machine can do."""
    kinds = dict(KINDS)
    if not servers.has_disk:
        kinds.pop("disk full")
    if not servers.has_clock:
        for name in ("clock set forward", "clock set back", "worker with a wrong clock"):
            kinds.pop(name)
    return list(kinds)
