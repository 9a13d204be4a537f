"""A process that imports slow modules once and then forks others, each of which starts in milliseconds.

Importing torch and transformers takes five seconds of a processor, and a run on one machine has four or more processes
that need them. `ForkServer` starts `python -m cord_worker.local.fork_server MODULE…`. That process imports the modules
without starting a thread, and then forks on request. The processes that it makes become children of the process that
asked: the fork server forks twice, and the kernel gives the orphan to its nearest subreaper, which is the asking
process at that moment. So the asking process waits for them, kills and restarts them like any other children, and they
survive the end of the fork server.

It works on Linux only, and never for processes that use CUDA, which does not survive a fork.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cord_worker.local import processes

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_ANSWER_SECONDS = 30.0
_MAX_REQUEST_BYTES = 1 << 20
_ROOM_FOR_COMMAND = 400
"""Bytes of padding in the server's command line; its children write their own command lines into it."""
_READY = b"ready"
# A library's thread pool that starts at import would be missing in the children.
_NO_THREADS = {"OPENBLAS_NUM_THREADS": "1"}


class ForkServerGone(Exception):
    """The fork server ended or cannot fork; start the process in the ordinary way."""


class ForkedProcess:
    """A child of this process that a fork server made; has the part of `subprocess.Popen` that a supervisor needs."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        """Waits for its end; returns the exit code."""
        code = self._reap(0)
        return 1 if code is None else code

    def send_signal(self, number: int) -> None:
        """Sends a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _reap(self, options: int) -> int | None:
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # other code waited for it, so its exit code is lost
                self._code = 1
            else:
                self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code


class ForkServer:
    """Starts the server process; `fork` makes children. Not safe for use from several threads.

    If the server ended before it could fork, `failure` says why; its processes then start in the ordinary way.
    """

    failure: str | None = None

    def __init__(self, modules: Sequence[str]) -> None:
        """Raises OSError if the server process cannot be started."""
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ready = False
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
        with theirs:
            command = [sys.executable, "-P", "-m", "cord_worker.local.fork_server", str(theirs.fileno()), *modules]
            self._process = subprocess.Popen(
                [*command, " " * _ROOM_FOR_COMMAND],
                env={**processes.python_environment(), **_NO_THREADS, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @property
    def is_importing(self) -> bool:
        """True while the server imports; it cannot fork yet."""
        return not self._ready and not self.wait_until_ready(0) and self._process.poll() is None

    def wait_until_ready(self, seconds: float) -> bool:
        """Waits until the server can fork, or has ended; True if it can fork."""
        if self._ready:
            return True
        if self._process.poll() is not None:
            if self.failure is None and not self._output.closed:
                self.failure = self._last_output()
            return False
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        if poll.poll(1000 * seconds):
            try:
                self._ready = self._channel.recv(64) == _READY
            except OSError:
                self._ready = False
            if not self._ready:
                self._process.wait()
                self.failure = self._last_output()
        return self._ready

    def fork(self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: int) -> ForkedProcess:
        """A new process that runs `python -m module arguments` and writes its output to the file `log`.

        Raises ForkServerGone.
        """
        request = {"module": module, "arguments": list(arguments), "environment": dict(environment)}
        if not self._ready or not _be_subreaper(True):
            raise ForkServerGone
        try:
            self._channel.settimeout(_ANSWER_SECONDS)
            socket.send_fds(self._channel, [json.dumps({**request, "parent": os.getpid()}).encode()], [log])
            answer = self._channel.recv(64)
        except OSError:
            answer = b""
        finally:
            _be_subreaper(False)
        if not answer.isdigit():
            self.close()
            raise ForkServerGone
        return ForkedProcess(int(answer))

    def close(self) -> None:
        """Ends the server; its children continue."""
        self._ready = False
        self._channel.close()
        self._process.kill()
        self._process.wait()
        self._output.close()

    def _last_output(self) -> str:
        self._output.seek(0)
        lines = self._output.read().decode("utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with exit code {self._process.returncode}"


def start_fork_server(modules: Sequence[str]) -> ForkServer | None:
    """A fork server that imports `modules`; None if there are none, or on other systems than Linux."""
    return ForkServer(modules) if modules and sys.platform.startswith("linux") else None


@dataclass(frozen=True, slots=True)
class _Request:
    module: str
    arguments: list[str]
    environment: dict[str, str]
    parent: int
    log: int


def _serve(channel: socket.socket) -> _Request | None:
    """Answers requests until the other side ends (None); in each new process, returns the request that made it."""
    channel.send(_READY)
    while True:
        data, files, _, _ = socket.recv_fds(channel, _MAX_REQUEST_BYTES, 1)
        if not data:
            return None
        request = _Request(**json.loads(data), log=files[0])
        reading, writing = os.pipe()
        between = os.fork()
        if not between:
            between = os.getpid()
            child = os.fork()
            if not child:
                os.close(reading)
                os.close(writing)
                channel.close()
                _become_fresh(request, between)
                return request
            os.write(writing, str(child).encode())
            os._exit(0)
        os.close(writing)
        os.close(request.log)
        with os.fdopen(reading, "rb") as pipe:
            pid = pipe.read()
        # Once the process in between has ended, the subreaper is the parent of the child.
        os.waitpid(between, 0)
        channel.send(pid)


def _become_fresh(request: _Request, between: int) -> None:
    """Makes this new process like one that was started in the ordinary way; `between` is its parent until the
    subreaper takes over."""
    os.setsid()
    os.dup2(request.log, 1)
    os.dup2(request.log, 2)
    os.close(request.log)
    libc = ctypes.CDLL(None, use_errno=True)
    while os.getppid() == between:
        time.sleep(0.0002)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != request.parent:
        os._exit(1)
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv = [request.module, *request.arguments]
    libc.prctl(_PR_SET_NAME, " ".join(request.arguments).encode()[:15])
    _show_command([sys.executable, "-m", request.module, *request.arguments])


def _show_command(command: Sequence[str]) -> None:
    """Makes `ps` show this command instead of the server's, which has room for it at its end."""
    # The name, field 2, may hold spaces and brackets; arg_start and arg_end are fields 48 and 49.
    fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if 0 < start < end:
        text = " ".join(command).encode()[: end - start - 2]
        # If the last byte is not zero, the kernel shows the title up to its first zero.
        ctypes.memmove(start, text.ljust(end - start - 1, b"\0") + b".", end - start)


def _be_subreaper(wanted: bool) -> bool:
    result: int = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)
    return result == 0


def main(channel: socket.socket, modules: Sequence[str]) -> None:
    """Imports, then serves; in a new process, runs the requested module."""
    # Objects made by imports stay alive, and a search for garbage among them takes a tenth of the import time.
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    if (threads := len(os.listdir("/proc/self/task"))) > 1:  # noqa: PTH208 - a count of names
        sys.exit(f"{threads - 1} threads were started by an import, so nothing is forked")
    # A garbage collection in a child would write to every page and thereby copy it.
    gc.freeze()
    gc.enable()
    try:
        request = _serve(channel)
    except BrokenPipeError:  # the process that started this one is gone
        return
    if request is not None:
        runpy.run_module(request.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), [module for module in sys.argv[2:] if module.strip()])
