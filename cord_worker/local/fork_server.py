"""A process that has imported what costs seconds, and makes others by forking: each of them starts in milliseconds.

Importing torch and transformers takes five seconds of a processor, and a run on one machine has four processes or more
that need them. `ForkServer` starts `python -m cord_worker.local.fork_server MODULE…`, which imports the modules with
no thread started and then forks on request. What it makes are children of the process that asked: it forks twice, and
the kernel hands the orphan to its nearest subreaper, which the asking process is for that moment. So they are waited
for, killed and restarted like any other child, and the end of the fork server ends none of them.

On Linux only, and never for what uses CUDA, which does not survive a fork.
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
_MOST_BYTES = 1 << 20
_ROOM_FOR_COMMAND = 400
"""Bytes of padding in the server's command line, into which its children write their own."""
_READY = b"ready"
# A pool of threads that a library starts when it is imported would be missing in the children.
_NO_THREADS = {"OPENBLAS_NUM_THREADS": "1"}


class ForkServerGone(Exception):
    """The fork server ended or cannot fork; processes are to be started the ordinary way."""


class ForkedProcess:
    """A child of this process that a fork server made; as `subprocess.Popen`, as far as a supervisor needs it."""

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
            except ChildProcessError:  # somebody else waited for it, and how it ended is lost
                self._code = 1
            else:
                self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code


class ForkServer:
    """Starts the server; its children are made by `fork`. Not safe for use from several threads.

    Once it ended before it could fork, `failure` says why: what it was to make starts the ordinary way.
    """

    failure: str | None = None

    def __init__(self, modules: Sequence[str]) -> None:
        """Raises OSError where it cannot be started."""
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
        """True while it cannot fork yet, but will."""
        return not self._ready and not self.wait_until_ready(0) and self._process.poll() is None

    def wait_until_ready(self, seconds: float) -> bool:
        """Waits until it can fork, or has ended; True where it can fork."""
        if self._ready or self._process.poll() is not None:
            return self._ready
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        if poll.poll(1000 * seconds):
            try:
                self._ready = self._channel.recv(64) == _READY
            except OSError:
                self._ready = False
            if not self._ready:
                self._process.wait()
                self.failure = self._last_words()
        return self._ready

    def fork(self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: int) -> ForkedProcess:
        """A new process that runs `python -m module arguments`, its output going to the file `log`.

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
        """Ends the server; what it has made goes on."""
        self._ready = False
        self._channel.close()
        self._process.kill()
        self._process.wait()
        self._output.close()

    def _last_words(self) -> str:
        self._output.seek(0)
        lines = self._output.read().decode("utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with exit code {self._process.returncode}"


def start_fork_server(modules: Sequence[str]) -> ForkServer | None:
    """A fork server that imports `modules`; None for no modules, or elsewhere than on Linux."""
    return ForkServer(modules) if modules and sys.platform.startswith("linux") else None


@dataclass(frozen=True, slots=True)
class _Request:
    module: str
    arguments: list[str]
    environment: dict[str, str]
    parent: int
    log: int


def _serve(channel: socket.socket) -> _Request | None:
    """Answers requests until the other side ends; in the new processes it returns what they are to do."""
    channel.send(_READY)
    while True:
        data, files, _, _ = socket.recv_fds(channel, _MOST_BYTES, 1)
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
                _settle(request, between)
                return request
            os.write(writing, str(child).encode())
            os._exit(0)
        os.close(writing)
        os.close(request.log)
        with os.fdopen(reading, "rb") as pipe:
            pid = pipe.read()
        # Once it has ended the child is the subreaper's.
        os.waitpid(between, 0)
        channel.send(pid)


def _settle(request: _Request, between: int) -> None:
    """Makes this new process what a freshly started one would be."""
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
    """Has `ps` show this command instead of the server's, which has room for it at its end."""
    # The name, field 2, may hold spaces and brackets; arg_start and arg_end are fields 48 and 49.
    fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if 0 < start < end:
        text = " ".join(command).encode()[: end - start - 2]
        # The kernel shows a whole title, up to its first zero, where the last byte is none.
        ctypes.memmove(start, text.ljust(end - start - 1, b"\0") + b".", end - start)


def _be_subreaper(wanted: bool) -> bool:
    result: int = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)
    return result == 0


def main(channel: socket.socket, modules: Sequence[str]) -> None:
    """Imports, then serves; in a new process, runs what it was made for."""
    # Nothing that an import makes is garbage soon; looking for it takes a tenth of the time.
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    if (threads := len(os.listdir("/proc/self/task"))) > 1:  # noqa: PTH208 - a count of names
        sys.exit(f"{threads - 1} threads were started by an import, so nothing is forked")
    # A collection in a child would write to, and so copy, every page.
    gc.freeze()
    gc.enable()
    try:
        request = _serve(channel)
    except BrokenPipeError:  # whom it was for is gone already
        return
    if request is not None:
        runpy.run_module(request.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), [module for module in sys.argv[2:] if module.strip()])
