"""Decisions that fail though their problems are sound, and threads that stand still."""

from __future__ import annotations

import time

import sqlalchemy as sa

from cord_worker.coordination.fault_points import VARIABLE, FaultPoint
from tests.chaos.fleet import COORDINATOR
from tests.chaos.kinds.storm import Storm, everything, killed, kind
from tests.chaos.recovery import Watch
from tests.chaos.servers import faketime_library

_REFUSE = """
    CREATE OR REPLACE FUNCTION chaos_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'nothing is decided for a moment';
    END $$;
    CREATE OR REPLACE TRIGGER chaos_refuse BEFORE INSERT OR UPDATE OF rank ON candidates FOR EACH ROW
    EXECUTE FUNCTION chaos_refuse()
"""
_MOST_SECONDS = 10.0
_HANGS = [
    FaultPoint.ADVANCE,
    FaultPoint.HEARTBEAT,
    "claim check_answer",
    "finish check_answer",
    FaultPoint.ADMIT,
    FaultPoint.SWEEP,
    "send propose",
    FaultPoint.ACKNOWLEDGE,
]
"""Every thread of a coordinator passes one of them."""
_ALLOW = "DROP TRIGGER chaos_refuse ON candidates"


def _come_back(storm: Storm, what: str, **environment: str) -> Watch:
    """A coordinator is killed and returns with this environment."""
    name = storm.one_of(COORDINATOR)
    seen = killed(storm, name, what)
    storm.fleet.kill(name)
    storm.fleet.start(name, **environment)
    return seen


@kind("coordinator with a broken installation")
def broken_installation(storm: Storm) -> Watch:
    """Its decisions fail whatever the problem is, also those that it tries after it has stepped back."""
    return _come_back(storm, "coordinator with a broken installation", **{VARIABLE: "advance:raise:1-6"})


@kind("decisions fail everywhere for a moment")
def fail_everywhere(storm: Storm) -> Watch:
    def strike() -> None:
        storm.database.run(lambda connection: connection.execute(sa.text(_REFUSE)))
        time.sleep(1.0)
        storm.database.run(lambda connection: connection.execute(sa.text(_ALLOW)))

    return everything(storm, "decisions fail everywhere for a moment", strike)


@kind("coordinator in another century", needs=lambda servers: servers.has_clock)
def another_century(storm: Storm) -> Watch:
    clock = storm.chance.choice(["@1970-01-01 00:00:01", "@1969-12-31 00:00:00", "@2100-01-01 00:00:00"])
    return _come_back(
        storm,
        "coordinator in another century",
        LD_PRELOAD=str(faketime_library()),
        FAKETIME=clock,
        DONT_FAKE_MONOTONIC="1",
        NO_FAKE_STAT="1",
    )


@kind("a thread of a coordinator hangs", slow=True)
def hung_thread(storm: Storm) -> Watch:
    """A thread hangs in a transaction that locks a problem, an answer or its row of workers, or before a message that
    it sends. Its process ends because of it."""
    plan = f"{storm.chance.choice(_HANGS)}:hang:1"
    seen = _come_back(storm, "a thread of a coordinator hangs", **{VARIABLE: plan, "CORD_STUCK_SECONDS": "2"})
    name = next(name for name, member in storm.fleet.members.items() if member.environment.get(VARIABLE) == plan)
    deadline = time.monotonic() + _MOST_SECONDS
    while storm.fleet.is_alive(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    return seen
