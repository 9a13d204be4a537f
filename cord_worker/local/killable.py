"""`KillablePool`: runs functions on hostile text in separate processes, which are killed when they take too long.

A thread that hangs in a library cannot be ended; a process can. Each process is a clean start of Python (the callers
run threads, so nothing is forked), gets one call at a time over a socket, and is replaced when it ends. Nothing here
waits without a limit: whenever a process is killed or stopped, the call returns or raises.

The time limit of a call is in seconds of a processor, so that it does not depend on other load of the machine.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from cord_worker.errors import ProcessPoolError
from cord_worker.local import killable_process
from cord_worker.local.killable_process import LENGTH

logger = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 3
"""Attempts at a call if its process ends each time although other processes work."""

_START_SECONDS = 120.0
_STARTS = 2
_PATIENCE, _PATIENCE_SECONDS = 4, 5.0
"""By the clock, a call may take this many times its processor seconds plus these seconds, because machines are busy."""
_LOOK_SECONDS = 0.5
_REAP_SECONDS = 5.0
_MAX_PROBE_SECONDS = 2.0
_GRACE_SECONDS = 2.0
"""Seconds after the parent's limit at which the kernel ends the process, in case the parent is gone."""


class ProcessEnded(Exception):
    """The process ended during a call. `code` is its exit code, None if it ran out of memory, was stopped or got too
    little processor time."""

    def __init__(self, code: int | None, text: str | None = None) -> None:
        super().__init__(text or f"its process ended with code {code}")
        self.code = code


class CallFailed(Exception):
    """A call raised an exception whose class is named `kind`. (The exception itself stays in its process: not all
    exceptions survive pickling.)"""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class KillablePool:
    """Warm processes; a context manager, usable from several threads at once. They start with the first call.

    Args:
        timeout_seconds: processor time after which a call's process is killed; start-up does not count.
        workers: number of processes, and so of concurrent calls.
        prepare: called once in each process before its first call, for its imports; a function of a module.
    """

    def __init__(
        self, timeout_seconds: float = 5.0, workers: int = 1, prepare: Callable[[], object] | None = None
    ) -> None:
        if timeout_seconds <= 0 or workers < 1:
            raise ProcessPoolError(
                f"a pool needs a positive timeout and at least one worker, not {timeout_seconds} s and {workers}"
            )
        self.timeout_seconds = timeout_seconds
        self._prepare = None if prepare is None else pickle.dumps(prepare)
        self._permits = threading.Semaphore(workers)
        self._free: list[_Process] = []
        self._all: set[_Process] = set()
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes; calls that still run raise ProcessPoolError."""
        with self._lock:
            self._closed = True
            processes = list(self._all)
            self._free.clear()
        for process in processes:
            process.kill()
        for process in processes:
            self._end(process)

    def warm_up(self) -> None:
        """Starts a process, which takes seconds, so that it is ready when a call comes."""
        if not self._permits.acquire(blocking=False):
            return
        try:
            if not self._free:
                self._keep(self._start())
        except ProcessPoolError as error:
            logger.debug("not warmed up: %s", error)
        finally:
            self._permits.release()

    def probe(self, seconds: float = 0.0) -> None:
        """Lets a process sleep for `seconds`, to test whether processes survive.

        Raises ProcessPoolError if none can be started, or if the sleeping one is killed or stopped.
        """
        try:
            self._call_once(time.sleep, (min(seconds, _MAX_PROBE_SECONDS),))
        except ProcessEnded as error:
            raise ProcessPoolError(
                f"processes are killed or stopped while they work (the last one: {error}): see whether memory is left"
            ) from error

    def call(self, function: Callable[..., T], *arguments: object, attempts: int = ATTEMPTS) -> T:
        """Calls `function` with `arguments` in a free process; all must be picklable, so `function` must belong to a
        module.

        If the process ends during the call, another process sleeps for as long as the call took. If that one is killed
        as well, the machine is at fault, not the call. If not, the call is repeated, up to `attempts` times in all.

        Raises:
            TimeoutError: the call took longer than it may.
            ProcessEnded: its process ended each time, and the sleeping ones did not.
            CallFailed: the function raised.
            ProcessPoolError: the pool is closed, or its processes cannot be started, or are killed whatever they do.
        """
        while True:
            begun = time.monotonic()
            try:
                return self._call_once(function, arguments)
            except ProcessEnded:
                self.probe(time.monotonic() - begun)
                attempts -= 1
                if attempts <= 0:
                    raise

    def _call_once(self, function: Callable[..., T], arguments: tuple[object, ...]) -> T:
        work = pickle.dumps((function, arguments))
        with self._ready_process() as process:
            try:
                kind, *found = process.ask(work, self.timeout_seconds)
            except (ProcessEnded, TimeoutError):
                self._check_open()  # closing the pool kills the busy processes
                raise
        if kind == "memory":
            raise ProcessEnded(None, "it ran out of memory")
        if kind == "raised":
            raise CallFailed(*found)
        result: T = found[0]
        return result

    @contextmanager
    def _ready_process(self) -> Iterator[_Process]:
        """A process that waits for work; it is kept for the next call if this call ends well."""
        self._permits.acquire()
        try:
            process = self._one_ready()
            try:
                yield process
            except BaseException:
                self._end(process)
                raise
            if process.is_spent:
                self._end(process)
            else:
                self._keep(process)
        finally:
            self._permits.release()

    def _one_ready(self) -> _Process:
        failure = ""
        while True:
            self._check_open()
            with self._lock:
                process = self._free.pop() if self._free else None
            if process is None:
                break
            if process.is_alive():
                with contextlib.suppress(ProcessEnded):
                    process.wait_until_ready()
                    return process
            self._end(process)
        for _ in range(_STARTS):
            process = self._start()
            try:
                process.wait_until_ready()
            except ProcessEnded as error:
                failure = str(error)
                self._end(process)
                self._check_open()
            else:
                return process
        raise ProcessPoolError(
            f"processes cannot be started ({failure}): read their message above, and see whether what they import is "
            "installed, memory is left, and nothing kills them"
        )

    def _start(self) -> _Process:
        try:
            process = _Process(self._prepare)
        except OSError as error:
            raise ProcessPoolError(
                f"processes cannot be started ({error.strerror or error}): see whether the machine has memory, "
                "processes and file handles left"
            ) from error
        with self._lock:
            self._all.add(process)
            closed = self._closed
        if closed:
            self._end(process)
        self._check_open()
        return process

    def _keep(self, process: _Process) -> None:
        with self._lock:
            if not self._closed:
                self._free.append(process)
                return
        self._end(process)

    def _end(self, process: _Process) -> None:
        process.end()
        with self._lock:
            self._all.discard(process)

    def _check_open(self) -> None:
        if self._closed:
            raise ProcessPoolError("this pool of processes is closed: make a new one")


class _Starter:
    """A thread that starts processes and lives as long as this process. The kernel kills a process when the thread that
    started it ends; a thread that calls a pool may end while others use the processes."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Resets the object in a forked process, in which its thread does not exist."""
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[tuple[Future[subprocess.Popen[bytes]], list[str], int]] = queue.SimpleQueue()
        self._is_started = False

    def start(self, command: list[str], descriptor: int) -> subprocess.Popen[bytes]:
        """The process of `command`, which inherits `descriptor`. Raises OSError unless it starts in time."""
        with self._lock:
            if not self._is_started:
                try:
                    threading.Thread(target=self._work, name="process-starter", daemon=True).start()
                except RuntimeError as error:
                    raise OSError(errno.EAGAIN, str(error)) from error
                self._is_started = True
        started: Future[subprocess.Popen[bytes]] = Future()
        self._requests.put((started, command, descriptor))
        try:
            return started.result(_START_SECONDS)
        except TimeoutError:
            started.cancel()
            raise

    def _work(self) -> None:
        while True:
            started, command, descriptor = self._requests.get()
            if not started.set_running_or_notify_cancel():
                continue
            try:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[descriptor])
            except BaseException as error:  # noqa: BLE001 - raised again by the waiting caller
                started.set_exception(error)
            else:
                started.set_result(process)
            del started


_STARTER = _Starter()
os.register_at_fork(after_in_child=_STARTER.renew)


class _Process:
    """One process and the socket to it; for one thread at a time, except `kill`."""

    def __init__(self, prepare: bytes | None) -> None:
        """Starts the process. Raises OSError."""
        self.is_spent = False
        """True once it ran out of memory."""
        self._is_ready = False
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                file = str(Path(killable_process.__file__))
                self._process = _STARTER.start(
                    [sys.executable, "-P", file, str(theirs.fileno()), str(os.getpid())], theirs.fileno()
                )
        except BaseException:
            self._socket.close()
            raise
        with contextlib.suppress(ProcessEnded):  # `wait_until_ready` raises it again
            self._send(pickle.dumps((sys.path, prepare)), time.monotonic() + _LOOK_SECONDS)

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Waits until it is prepared. Raises ProcessEnded if it ended, was stopped or takes too long."""
        if not self._is_ready:
            self._receive(time.monotonic() + _START_SECONDS)
            self._is_ready = True

    def ask(self, work: bytes, seconds: float) -> tuple[Any, ...]:
        """The result of the work. Raises ProcessEnded, and TimeoutError if the work took more than `seconds` of
        processor time."""
        longest = _PATIENCE * seconds + _PATIENCE_SECONDS
        deadline = time.monotonic() + longest
        try:
            self._send(pickle.dumps((seconds, longest + _GRACE_SECONDS, work)), deadline)
            reply = self._receive(deadline)
        except TimeoutError as error:
            raise TimeoutError(f"it took longer than {seconds:g} s") from error
        self.is_spent = reply[0] == "memory"
        return reply

    def kill(self) -> None:
        """Ends it, whatever it does; calls that wait for it raise."""
        self._process.kill()

    def end(self) -> None:
        """Kills it and frees its resources."""
        self._process.kill()
        try:
            self._process.wait(_REAP_SECONDS)
        except subprocess.TimeoutExpired:  # it hangs in the kernel, where it cannot be ended
            logger.warning("process %d does not end", self._process.pid)
        self._socket.close()

    def _send(self, data: bytes, deadline: float) -> None:
        unsent = memoryview(LENGTH.pack(len(data)) + data)
        while unsent:
            unsent = unsent[self._wait(partial(self._socket.send, unsent), deadline) :]

    def _receive(self, deadline: float) -> tuple[Any, ...]:
        length = LENGTH.unpack(self._exactly(LENGTH.size, deadline))[0]
        reply: tuple[Any, ...] = pickle.loads(self._exactly(length, deadline))
        return reply

    def _exactly(self, count: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            part = self._wait(partial(self._socket.recv, min(count - len(data), 1 << 16)), deadline)
            if not part:
                raise self._ended()
            data += part
        return bytes(data)

    def _wait(self, operation: Callable[[], T], deadline: float) -> T:
        while True:
            self._socket.settimeout(_LOOK_SECONDS)
            try:
                return operation()
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise ProcessEnded(None, "its process got too little processor time") from None
                if self._is_stopped():
                    raise ProcessEnded(None, "its process was stopped") from None
            except OSError:
                raise self._ended() from None

    def _ended(self) -> Exception:
        """The error of a process that closed its connection: TimeoutError if its work reached the time limit."""
        try:
            code = self._process.wait(_REAP_SECONDS)
        except subprocess.TimeoutExpired:
            return ProcessEnded(None, "its process closed the connection")
        return TimeoutError() if code == -signal.SIGPROF else ProcessEnded(code)

    def _is_stopped(self) -> bool:
        """True if it was stopped (by SIGSTOP or a debugger), so that it does not continue by itself."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] in {"T", "t"}
