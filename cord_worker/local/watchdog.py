"""Watches the embedded servers of one state folder: `python -m cord_worker.local.watchdog STATE_DIR`.

While an owner lives, it restarts servers that crashed; when none lives, it stops both servers and ends. It also ends
when it is no longer the recorded watchdog. `services.py` starts it and reads the pid that it prints.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from cord_worker.errors import LocalServiceError
from cord_worker.local import processes
from cord_worker.local.services import LocalServices
from cord_worker.local.state import Services

INTERVAL_SECONDS = 1.0
_MAX_PAUSE_SECONDS = 60.0
_HANDSHAKE_SECONDS = 10.0


def watch(services: LocalServices) -> None:
    """Watches until no process needs the servers or another watchdog has taken over."""
    me = processes.current()
    # The command that started this process records it at once. The record is read without the lock, because the lock
    # would make a file, and the folder may be about to be deleted.
    deadline = time.monotonic() + _HANDSHAKE_SECONDS
    while (recorded := services.state.read()).watchdog != me and time.monotonic() < deadline:
        time.sleep(0.02)
    pause = INTERVAL_SECONDS
    while True:
        latest = services.state.read()
        if _is_deleted(services, recorded):
            _say("the state folder was deleted; stopping the servers")
            _end_servers(services, recorded)
            return
        recorded = latest
        if recorded.watchdog != me:
            return
        if recorded.living_owners() and services.are_running():
            pause = INTERVAL_SECONDS
        else:
            try:
                if _act(services, me):
                    return
                pause = INTERVAL_SECONDS
            except Exception as error:  # noqa: BLE001 - the watchdog survives every error: servers depend on it
                _say(str(error) if isinstance(error, LocalServiceError) else repr(error))
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)
        time.sleep(pause)


def _act(services: LocalServices, me: processes.ProcessId) -> bool:
    """Restarts or stops the servers, after another look under the lock; True if there is nothing left to watch."""
    with services.state.locked():
        recorded = services.state.read()
        if _is_deleted(services, recorded):
            return False
        if recorded.watchdog != me:
            return True
        if recorded.living_owners():
            if not services.are_running():
                _say("a server is gone; starting it again")
                services.start_missing()
            return False
        _say("no owner is left; stopping the servers")
        services.stop()
        return True


def _is_deleted(services: LocalServices, recorded: Services) -> bool:
    # A server without its data must not be restarted: it would come back empty under a running owner.
    data_is_gone = recorded.postgres is not None and not services.postgres.has_data()
    return data_is_gone or not services.state.has_record()


def _end_servers(services: LocalServices, recorded: Services) -> None:
    """Ends the servers that the record names, and those that work in this state folder."""
    known = [server.process for server in (recorded.redis, recorded.postgres) if server is not None]
    # If a folder is deleted right after the start, its record was never read.
    started = [*services.redis.processes(), *services.postgres.processes()]
    processes.terminate(
        dict.fromkeys([*(process.pid for process in known if process.is_alive()), *started]),
        ((signal.SIGTERM, 2.0), (signal.SIGINT, 5.0), (signal.SIGKILL, 5.0)),
    )


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _detach() -> None:
    """Makes this process a session leader without terminal and parent; prints its pid."""
    if os.fork():
        os._exit(0)
    os.setsid()
    print(os.getpid(), flush=True)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, sys.stdout.fileno())
    os.chdir("/")


if __name__ == "__main__":
    _detach()
    watch(LocalServices(Path(sys.argv[1])))
