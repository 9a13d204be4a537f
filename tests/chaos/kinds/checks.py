"""Faults of the processes that compare final answers; their coordinators live."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from chaos.checkers import checkers_of, strike_checkers
from chaos.fleet import COORDINATOR
from chaos.kinds.storm import Storm, everything, killed, kind
from chaos.recovery import Watch

_SPELL_SECONDS = 1.5


def _again_and_again(storm: Storm, number: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        strike_checkers(storm.fleet, COORDINATOR, number)
        time.sleep(storm.chance.uniform(0.02, 0.2))


@kind("checkers killed again and again")
def kill_checkers(storm: Storm) -> Watch:
    """While they start, wait and compare, in all coordinators."""
    return everything(
        storm,
        "checkers killed again and again",
        lambda: _again_and_again(storm, signal.SIGKILL, _SPELL_SECONDS),
    )


@kind("checkers stopped")
def stop_checkers(storm: Storm) -> Watch:
    """Whoever waits for them is not to wait for ever; nobody continues them."""
    return everything(storm, "checkers stopped", lambda: _again_and_again(storm, signal.SIGSTOP, _SPELL_SECONDS))


@kind("checkers of models killed")
def kill_checkers_of_models(storm: Storm) -> Watch:
    """Those that judgments and the repair of replies rest on."""

    def strike() -> None:
        deadline = time.monotonic() + _SPELL_SECONDS
        while time.monotonic() < deadline:
            for pid in checkers_of(storm.fleet, "prover", "referee"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(storm.chance.uniform(0.02, 0.3))

    return everything(storm, "checkers of models killed", strike)


@kind("checkers cannot be started")
def no_checkers(storm: Storm) -> Watch:
    """A coordinator comes back without a file handle to spare, so that its checks are the other's."""
    name = storm.one_of(COORDINATOR)
    seen = killed(storm, name, "checkers cannot be started")
    storm.fleet.kill(name)
    storm.fleet.start(name)
    deadline = time.monotonic() + _SPELL_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError):
            for pid in checkers_of(storm.fleet, COORDINATOR):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return seen
