"""Faults of the processes that compare final answers; their coordinators live."""

from __future__ import annotations

import signal
import time

from tests.chaos.checkers import strike_checkers
from tests.chaos.fleet import COORDINATOR
from tests.chaos.kinds.storm import Storm, everything, killed, kind
from tests.chaos.recovery import Watch, look

_SPELL_SECONDS, _LONGEST_SPELL_SECONDS = 1.5, 4.0
_FEWEST = 3
_LONGEST_SECONDS = 30.0


def _again_and_again(storm: Storm, number: int, *roles: str) -> None:
    """Tries for a while, until a process was hit."""
    began, struck = time.monotonic(), 0
    while time.monotonic() < began + (_SPELL_SECONDS if struck >= _FEWEST else _LONGEST_SPELL_SECONDS):
        struck += strike_checkers(storm.fleet, number, *roles)
        time.sleep(storm.chance.uniform(0.02, 0.2))


@kind("checkers killed again and again")
def kill_checkers(storm: Storm) -> Watch:
    """While they start, wait and compare, in all coordinators."""
    return everything(
        storm,
        "checkers killed again and again",
        lambda: _again_and_again(storm, signal.SIGKILL, COORDINATOR),
    )


@kind("checkers stopped")
def stop_checkers(storm: Storm) -> Watch:
    """Their callers must not wait forever; they are never continued."""
    return everything(storm, "checkers stopped", lambda: _again_and_again(storm, signal.SIGSTOP, COORDINATOR))


@kind("checkers of models killed")
def kill_checkers_of_models(storm: Storm) -> Watch:
    """The processes that judgments and the repair of replies need."""
    return everything(
        storm,
        "checkers of models killed",
        lambda: _again_and_again(storm, signal.SIGKILL, "prover", "referee"),
    )


@kind("checkers cannot be started", slow=True)
def no_checkers(storm: Storm) -> Watch:
    """One coordinator returns to a machine whose new processes end at once: the other one does its checks."""
    name = storm.one_of(COORDINATOR)
    folder = storm.fleet.folder / "broken"
    folder.mkdir(exist_ok=True)
    broken = folder / "sitecustomize.py"
    broken.write_text("import os\nos._exit(1)\n", encoding="ascii")
    seen = killed(storm, name, "checkers cannot be started")
    storm.fleet.kill(name)
    storm.fleet.start(name, PYTHONPATH=str(folder))
    deadline = time.monotonic() + _LONGEST_SECONDS
    while seen.seconds is None and time.monotonic() < deadline:
        time.sleep(0.05)
        storm.fleet.revive()
        look(storm.database, [seen])
    broken.unlink()
    return seen
