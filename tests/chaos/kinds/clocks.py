"""Wrong clocks."""

from __future__ import annotations

import time

from tests.chaos.fleet import COORDINATOR
from tests.chaos.kinds.storm import TEACHERS, Storm, everything, killed, kind
from tests.chaos.recovery import Watch
from tests.chaos.servers import faketime_library


def _clock(storm: Storm, what: str, seconds: float) -> Watch:
    def strike() -> None:
        storm.servers.set_clock(seconds)
        time.sleep(1.5)  # libfaketime reads the offset once a second

    return everything(storm, what, strike)


@kind("clock set forward", slow=True, needs=lambda servers: servers.has_clock)
def clock_forward(storm: Storm) -> Watch:
    storm.servers.clock += storm.chance.choice([20, 300, 7200])
    return _clock(storm, "clock set forward", storm.servers.clock)


@kind("clock set back", slow=True, needs=lambda servers: servers.has_clock)
def clock_back(storm: Storm) -> Watch:
    storm.servers.clock -= storm.chance.choice([20, 300, 7200])
    return _clock(storm, "clock set back", storm.servers.clock)


@kind("worker with a wrong clock", needs=lambda servers: servers.has_clock)
def wrong_clock(storm: Storm) -> Watch:
    """A worker is killed and returns with a clock that is hours wrong."""
    library = faketime_library()
    name = storm.one_of(*TEACHERS, COORDINATOR)
    seen = killed(storm, name, "worker with a wrong clock")
    storm.fleet.kill(name)
    wrong = f"{storm.chance.choice([-1, 1]) * storm.chance.randint(60, 90_000):+d}"
    storm.fleet.start(name, LD_PRELOAD=str(library), FAKETIME=wrong, DONT_FAKE_MONOTONIC="1", NO_FAKE_STAT="1")
    return seen
