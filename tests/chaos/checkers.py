"""The processes that compare answers: children of coordinators and of models that judge, and how faults hit them."""

from __future__ import annotations

import contextlib
import os

import psutil

from tests.chaos.fleet import Fleet

CHECKER = "killable_process"
"""Part of the command line of such a process."""


def checkers_of(fleet: Fleet, *roles: str) -> list[int]:
    """Pids of the processes whose parent is a living member with one of these roles (default: any role)."""
    found = []
    for name, member in list(fleet.members.items()):
        if roles and member.role not in roles:
            continue
        with contextlib.suppress(psutil.Error):
            found += [
                child.pid
                for child in psutil.Process(fleet.pid(name)).children()
                if any(CHECKER in part for part in child.cmdline())
            ]
    return found


def strike_checkers(fleet: Fleet, signal_number: int, *roles: str) -> int:
    """Sends a signal to all these processes (see `checkers_of`); returns how many there were."""
    pids = checkers_of(fleet, *roles)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)
    return len(pids)
