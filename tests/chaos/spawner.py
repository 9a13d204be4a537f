"""Forks processes of the service from one that has imported it: a start costs a tenth of what the interpreter does.

Reads one JSON object per line: `role` (`coordinator`, or a model of `config`), `name`, `config`, `environment`, `log`;
answers with the pid. A process with LD_PRELOAD in its environment is started by its own interpreter instead.
The file named by the argument gets `PID STATUS` of every one that ended. What is forked dies with this process, which
ends when its input does.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from cord_worker.config import RunConfig, Settings
from cord_worker.coordination.process import main as processes
from cord_worker.engines import instant
from cord_worker.local import child
from cord_worker.operations.fleet import model_named

_IMPORTED = (instant, child)


def _become(order: dict[str, Any], spawner: int) -> None:
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
    if os.getppid() != spawner:
        os._exit(1)
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(order["environment"])
    if "LD_PRELOAD" in order["environment"]:
        role = (
            ["coordinator"]
            if order["role"] == "coordinator"
            else ["worker", order["role"], "--config", order["config"]]
        )
        os.execve(sys.executable, [sys.executable, "-m", "cord_worker.cli", *role], os.environ)
    settings = Settings.from_environment()
    if order["role"] == "coordinator":
        sys.exit(processes.run_coordinator(settings))
    model = model_named(RunConfig.load(Path(order["config"])), order["role"])
    sys.exit(processes.run_model_worker(model, settings, name=order["name"]))


def _import(order: dict[str, Any]) -> None:
    """Imports the engine for model servers once, if the configuration uses it: that takes seconds."""
    if order["role"] != "coordinator":
        model = model_named(RunConfig.load(Path(order["config"])), order["role"])
        if model.engine == "openai":
            importlib.import_module("cord_worker.engines.openai.engine")


def main() -> None:
    """Forks until the input ends."""
    ended = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def reap(*_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                os.write(ended, f"{found[0]} {os.waitstatus_to_exitcode(found[1])}\n".encode())

    signal.signal(signal.SIGCHLD, reap)
    spawner = os.getpid()
    for line in sys.stdin:
        order = json.loads(line)
        _import(order)
        pid = os.fork()
        if pid == 0:
            _become(order, spawner)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
