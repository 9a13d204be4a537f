"""A supervisor in the background: `python -m cord_worker.local.daemon SPEC.json`, started by `start_daemon`.

While it runs it owns the embedded servers of its state folder (if its spec says so), keeps the processes of its spec
running, and reports them in `services.json`. At SIGTERM or SIGINT the processes stop (at a second signal without a
grace period), and then the servers, unless another process owns them. At SIGHUP it restarts the processes that ended
normally or were given up. When it is killed, its processes die with it and the servers' watchdog stops the servers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from cord_worker.errors import LocalServiceError
from cord_worker.local import processes
from cord_worker.local.fork_server import start_fork_server
from cord_worker.local.processes import ProcessId
from cord_worker.local.services import LocalServices
from cord_worker.local.state import StateDir, Worker, write_atomically
from cord_worker.local.supervisor import ProcessSpec, RestartPolicy, State, Supervisor

_INTERVAL_SECONDS = 0.2
_START_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class DaemonSpec:
    """What a daemon does: which processes it keeps running, and whether it owns the embedded servers."""

    state_dir: Path
    processes: tuple[ProcessSpec, ...] = ()
    embedded: bool = True
    grace_seconds: float = 30.0
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    preload: tuple[str, ...] = ()
    """Modules that a fork server imports for the processes that it can make; if empty, there is no fork server."""

    def to_json(self) -> str:
        """The spec as the JSON text that `from_json` reads."""
        listed = [
            {"name": p.name, "argv": list(p.argv), "env": dict(p.env), "log": str(p.log_path), "module": p.module}
            for p in self.processes
        ]
        return json.dumps(
            {
                "state_dir": str(self.state_dir),
                "embedded": self.embedded,
                "grace_seconds": self.grace_seconds,
                "policy": asdict(self.policy),
                "preload": list(self.preload),
                "processes": listed,
            },
            indent=2,
        )

    @classmethod
    def from_json(cls, text: str) -> DaemonSpec:
        """Reads a spec; `embedded`, `grace_seconds`, `policy`, `preload`, `env` and `module` may be left out.

        Raises:
            LocalServiceError: a key is missing or of the wrong kind.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            listed = tuple(
                ProcessSpec(
                    p["name"], tuple(map(str, p["argv"])), Path(p["log"]), dict(p.get("env", {})), p.get("module")
                )
                for p in data["processes"]
            )
            return cls(
                Path(data["state_dir"]),
                listed,
                bool(data.get("embedded", True)),
                float(data.get("grace_seconds", 30.0)),
                RestartPolicy(**data.get("policy", {})),
                tuple(map(str, data.get("preload", ()))),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LocalServiceError(f"The daemon's spec is not understood: {error!r}.") from error


def start_daemon(spec: DaemonSpec) -> ProcessId:
    """Starts a daemon in the background; returns once the servers and all its processes were started.

    Raises:
        LocalServiceError: a daemon already runs for this state folder, or this one did not start (with the end of its
            log).
    """
    state = StateDir.open(spec.state_dir)
    running = state.read().living_daemon()
    if running is not None:
        raise LocalServiceError(
            f"A daemon (pid {running.pid}) already runs for {state.path}. Stop it first (cordctl down)."
        )
    path = state.path / "daemon.json"
    text = replace(spec, state_dir=state.path).to_json()
    is_repeated = path.exists() and path.read_text(encoding="utf-8") == text
    write_atomically(path, text)
    log_path = state.logs / "daemon.log"
    with log_path.open("ab") as log:
        starter = subprocess.Popen(
            [sys.executable, "-m", "cord_worker.local.daemon", str(path)],
            env=processes.python_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        daemon = state.read().living_daemon()
        if daemon is not None and daemon.pid == starter.pid:
            # It outlives this process: nothing will wait for it, and Python should not warn about that.
            starter.returncode = 0
            return daemon
        if starter.poll() is not None:
            # A killed command had begun to start an equal daemon, which registered first.
            if daemon is not None and is_repeated:
                return daemon
            break
        time.sleep(0.05)
    starter.terminate()
    raise LocalServiceError(
        f"The background daemon of {state.path} did not start. The end of {log_path}:\n{processes.tail(log_path)}"
    )


def stop_daemon(state_dir: Path | None = None, seconds: float = 90.0) -> bool:
    """Stops the daemon of a state folder, its processes and the servers that only it owns; False if none runs.

    Raises:
        LocalServiceError: it did not end in time. It is left running, so that its work is not cut short.
    """
    state = StateDir.open(state_dir)
    daemon = state.read().living_daemon()
    if daemon is None:
        return False
    if processes.terminate([daemon.pid], ((signal.SIGTERM, seconds),)):
        raise LocalServiceError(
            f"The daemon (pid {daemon.pid}) of {state.path} still runs {seconds:g} s after it was asked to stop. Wait, "
            "or end it with kill -9: its processes and servers end with it, and nothing committed is lost."
        )
    return True


def start_stopped(state_dir: Path, seconds: float = 10.0) -> None:
    """Makes the daemon of a state folder start its stopped and given-up processes again.

    Raises LocalServiceError if it does not within `seconds`.
    """
    state = StateDir.open(state_dir)
    daemon = state.read().living_daemon()
    if daemon is not None and _stopped_names(state):
        os.kill(daemon.pid, signal.SIGHUP)
    deadline = time.monotonic() + seconds
    while down := _stopped_names(state):
        if daemon is None or not daemon.is_alive() or time.monotonic() > deadline:
            raise LocalServiceError(
                f"The daemon of {state.path} did not start {', '.join(down)} again; look at its logs/daemon.log."
            )
        time.sleep(_INTERVAL_SECONDS)


def _stopped_names(state: StateDir) -> list[str]:
    return [one.name for one in state.read().workers if one.state in (State.STOPPED, State.GIVEN_UP)]


class Daemon:
    """One daemon's work, from its spec to the signal that ends it."""

    def __init__(self, spec: DaemonSpec) -> None:
        self._spec = spec
        self._state = StateDir.open(spec.state_dir)
        self._services = LocalServices(spec.state_dir, token="daemon") if spec.embedded else None
        self._fork_server = start_fork_server(spec.preload)
        self._supervisor = Supervisor(
            spec.processes, policy=spec.policy, grace_seconds=spec.grace_seconds, fork_server=self._fork_server
        )
        self._asked_to_start = False
        self._asked_to_stop = False
        self._asked_twice = False
        self._is_waiting = False

    def run(self) -> None:
        """Works until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_hangup)
        try:
            if self._services is not None:
                self._services.ensure_started()
            with self._supervisor:
                self._supervisor.wait_until_launched(_START_SECONDS / 2)
                if self._fork_server is not None and self._fork_server.failure is not None:
                    _say(f"without a fork server each process does its own imports: {self._fork_server.failure}")
                self._register()
                while not self._asked_to_stop:
                    if self._asked_to_start:
                        self._asked_to_start = False
                        self._supervisor.start()
                    self._report()
                    time.sleep(_INTERVAL_SECONDS)
                _say("stopping")
                self._stop()
        finally:
            if self._fork_server is not None:
                self._fork_server.close()
            if self._services is not None:
                self._services.release()
            self._unregister()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the handler's form
        if not self._asked_to_stop:
            self._asked_to_stop = True
        elif not self._asked_twice:
            self._asked_twice = True
            if self._is_waiting:
                raise KeyboardInterrupt

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the handler's form
        self._asked_to_start = True

    def _stop(self) -> None:
        try:
            self._is_waiting = True
            if not self._asked_twice:
                self._supervisor.stop()
                return
        except KeyboardInterrupt:
            pass
        finally:
            self._is_waiting = False
        _say("asked twice: running work is given up")
        self._supervisor.stop(0.0)

    def _register(self) -> None:
        me = processes.current()
        with self._state.locked():
            other = self._state.read().living_daemon()
            if other not in {None, me}:
                raise LocalServiceError(f"Another daemon (pid {other.pid if other else 0}) was started first.")
            self._state.update(daemon=me, workers=self._workers())

    def _unregister(self) -> None:
        with self._state.locked():
            if self._state.read().daemon == processes.current():
                self._state.update(daemon=None, workers=())

    def _report(self) -> None:
        events = self._supervisor.poll()
        for event in events:
            _say(str(event.error or event))
        if events:
            self._state.update(workers=self._workers())

    def _workers(self) -> tuple[Worker, ...]:
        return tuple(
            Worker(s.name, s.state.value, s.pid, s.restarts, str(s.error) if s.error else None)
            for s in self._supervisor.status()
        )


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main(spec_path: Path) -> int:
    """Runs the daemon of a spec file; returns its exit code."""
    try:
        spec = DaemonSpec.from_json(spec_path.read_text(encoding="utf-8"))
        Daemon(spec).run()
    except LocalServiceError as error:
        _say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
