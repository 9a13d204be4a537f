"""The process behind `local.killable`: `killable_process.py SOCKET PARENT`, one request at a time over a socket.

It is run as a file and uses only the standard library until it receives its parent's `sys.path`. It shares no lock,
queue or manager with other processes, so that killing it, at any moment, breaks only one connection.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

LENGTH = struct.Struct("!I")
"""Before every message: its length in bytes."""

_MEMORY = 8 * 1024**3
"""Bytes of address space of a process, so that a call that takes too much memory harms no other process."""
_OOM_SCORE_ADJUSTMENT = "800"
"""When the machine's memory runs out, the kernel ends this process before the one that it works for."""
_PARENT_POLL_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def main(channel: socket.socket, parent: int) -> None:
    """Prepares, reports that it is ready, and answers until the other side ends."""
    _set_up(parent)
    path, prepare = pickle.loads(_receive(channel))
    sys.path[:] = path
    if prepare is not None:
        pickle.loads(prepare)()
    _send(channel, ("ready",))
    while True:
        seconds, longest, work = pickle.loads(_receive(channel))
        _send(channel, _result_of(work, seconds, longest))


def _set_up(parent: int) -> None:
    # Ctrl-C in a terminal is handled by the parent. The timers keep their default action, which runs without Python, so
    # that they also end a power operation that holds the interpreter for minutes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    if sys.platform == "linux":
        # This works even if this process was stopped, so that none of its threads can run. The kernel watches the
        # thread that started this process: `killable` has one that lives as long as the parent.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    # The parent may have ended before the prctl call, and other systems than Linux have no such call.
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE_ADJUSTMENT, encoding="ascii")


def _result_of(work: bytes, seconds: float, longest: float) -> tuple[Any, ...]:
    """The result of the work. The kernel ends this process if that takes more than `seconds` of processor time, or
    `longest` seconds by the clock."""
    try:
        function, arguments = pickle.loads(work)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, longest)
        try:
            return "result", function(*arguments)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
    except MemoryError:
        return ("memory",)
    except Exception as error:  # noqa: BLE001 - reported to the caller
        # The exception itself stays here: not all exceptions survive pickling.
        return "raised", type(error).__name__, str(error)


def _send(channel: socket.socket, message: tuple[Any, ...]) -> None:
    try:
        data = pickle.dumps(message)
    except Exception as error:  # noqa: BLE001 - reported to the caller
        data = pickle.dumps(("raised", type(error).__name__, str(error)))
    channel.sendall(LENGTH.pack(len(data)) + data)


def _receive(channel: socket.socket) -> bytes:
    return _receive_exactly(channel, LENGTH.unpack(_receive_exactly(channel, LENGTH.size))[0])


def _receive_exactly(channel: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = channel.recv(min(count - len(data), 1 << 16))
        if not part:
            os._exit(0)  # the parent has closed the connection
        data += part
    return bytes(data)


def _exit_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
