"""Faults of processes: killed, stopped, told to end."""

from __future__ import annotations

import signal
import time

from cord_worker.coordination.fault_points import VARIABLE, Side, all_points
from tests.chaos.fleet import COORDINATOR
from tests.chaos.kinds.storm import TEACHERS, Storm, busy, killed, kind
from tests.chaos.recovery import Watch, look, watch


@kind("coordinator killed")
def kill_coordinator(storm: Storm) -> Watch:
    return killed(storm, storm.one_of(COORDINATOR), "coordinator killed")


@kind("leader killed")
def kill_leader(storm: Storm) -> Watch:
    return killed(storm, storm.leader(), "leader killed")


@kind("teacher killed")
def kill_teacher(storm: Storm) -> Watch:
    return killed(storm, storm.one_of(*TEACHERS), "teacher killed")


@kind("prover killed")
def kill_prover(storm: Storm) -> Watch:
    return killed(storm, storm.one_of("prover", "critic"), "prover killed")


@kind("judge killed")
def kill_judge(storm: Storm) -> Watch:
    return killed(storm, storm.one_of("referee"), "judge killed")


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
    points = [point for point in all_points() if point.startswith(("claim", "finish", "send", "advance", "admit"))]
    point = storm.chance.choice(points)
    coordinator = point in {"advance", "admit", "send propose", "send judge_answer", "send answer"}
    name = storm.one_of(COORDINATOR) if coordinator else storm.one_of(*TEACHERS, "prover")
    seen = killed(storm, name, "killed at a point")
    storm.fleet.kill(name)
    storm.fleet.start(name, **{VARIABLE: f"{point}:{storm.chance.choice(list(Side))}:{storm.chance.randint(1, 3)}"})
    return seen


@kind("worker asked to end")
def terminate(storm: Storm) -> Watch:
    name = storm.one_of(*TEACHERS, "prover", COORDINATOR)
    seen = watch(storm.database, "worker asked to end", storm.model_of(name), [storm.fleet.pid(name)])
    storm.fleet.signal(name, signal.SIGTERM)
    return seen


@kind("stale worker", slow=True)
def stale_worker(storm: Storm) -> Watch:
    """A worker that is stopped until others hold its leases, and then commits."""
    name = storm.one_of(*TEACHERS, "prover")
    seen = busy(storm, name, "stale worker")
    deadline = time.monotonic() + 3 * storm.worker_timeout + 20
    while seen.seconds is None and time.monotonic() < deadline:
        time.sleep(0.05)
        look(storm.database, [seen])
    storm.fleet.resume(name)
    return seen


@kind("stale leader", slow=True)
def stale_leader(storm: Storm) -> Watch:
    """The leading coordinator hangs, and a worker dies meanwhile."""
    name = storm.leader()
    storm.fleet.pause(name)
    seen = killed(storm, storm.one_of(*TEACHERS), "stale leader")
    deadline = time.monotonic() + 4 * storm.worker_timeout + 20
    while seen.seconds is None and time.monotonic() < deadline:
        time.sleep(0.05)
        storm.fleet.revive()
        look(storm.database, [seen])
    storm.fleet.resume(name)
    return seen
