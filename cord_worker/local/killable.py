"""`KillablePool`: functions of hostile text done in processes of their own, which are killed when they take too long.

A thread that hangs in somebody's library cannot be ended; a process can. The processes are spawned, not forked (the
callers run threads), and kept warm by pebble's pool.
"""

from __future__ import annotations

import concurrent.futures
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cord_worker.errors import ProcessPoolError

if TYPE_CHECKING:
    from pebble import ProcessPool

T = TypeVar("T")

_MEMORY = 8 * 1024**3
"""Bytes of address space of a process: what runs away fails in it and not in its neighbours."""

_PARENT_POLL = 1.0  # seconds
_GRACE = 2  # seconds that the pool has to kill a process before the kernel does


class ProcessEnded(Exception):
    """The process that did a call ended in it; `code` is its exit code."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"its process ended with code {code}")
        self.code = code


class CallFailed(Exception):
    """What a call did raised an exception whose class is named `kind`. (The exception itself stays in its process:
    not all of them survive pickling.)"""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class KillablePool:
    """Warm processes; a context manager, usable from several threads at once. They start with the first call.

    Args:
        timeout_seconds: after this a call's process is killed; start-up does not count.
        workers: processes, hence calls at a time.
        prepare: done once in each process before its first call, a module's function; imports are paid here.
    """

    def __init__(
        self, timeout_seconds: float = 5.0, workers: int = 1, prepare: Callable[[], object] | None = None
    ) -> None:
        if timeout_seconds <= 0 or workers < 1:
            raise ProcessPoolError(
                f"a pool needs a positive timeout and at least one worker, not {timeout_seconds} s and {workers}"
            )
        self.timeout_seconds = timeout_seconds
        self._workers = workers
        self._prepare = prepare
        self._pool: ProcessPool | None = None
        self._futures: dict[concurrent.futures.Future[Any], ProcessPool] = {}
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
            pool, self._pool = self._pool, None
        if pool is not None:
            self._end(pool)

    def warm_up(self) -> None:
        """Has the processes start, which takes seconds, while the caller does other things."""
        self._running_pool()

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """`function` of `arguments` in a free process: a module's function; all must be picklable.

        Raises:
            TimeoutError: it took longer than it may.
            ProcessEnded: its process ended in it.
            CallFailed: it raised.
            ProcessPoolError: the pool is closed, or its processes cannot be started.
        """
        from pebble import ProcessExpired

        for _ in range(2):
            pool = self._running_pool()
            future: concurrent.futures.Future[T | _Raised] | None = None
            try:
                with self._lock:
                    future = pool.schedule(
                        _limited, args=(function, arguments, self.timeout_seconds), timeout=self.timeout_seconds
                    )
                    self._futures[future] = pool
                result = future.result()
            except TimeoutError as error:
                raise TimeoutError(f"it took longer than {self.timeout_seconds:g} s") from error
            except ProcessExpired as error:
                raise ProcessEnded(error.exitcode) from error
            except (RuntimeError, concurrent.futures.CancelledError):
                # An idle process was killed from outside, which pebble's pool does not survive: once more in a new one.
                self._discard(pool)
                continue
            finally:
                with self._lock:
                    if future is not None:
                        del self._futures[future]
            if isinstance(result, _Raised):
                raise CallFailed(result.kind, result.text)
            return result
        raise ProcessPoolError(
            "processes cannot be started, or are killed while they wait: read their message above, and see whether "
            "what they import is installed and memory is left"
        )

    def _running_pool(self) -> ProcessPool:
        import multiprocessing

        from pebble import ProcessPool

        with self._lock:
            if self._closed:
                raise ProcessPoolError("this pool of processes is closed: make a new one")
            if self._pool is None:
                self._pool = ProcessPool(
                    max_workers=self._workers,
                    initializer=_start_child,
                    initargs=(os.getpid(), self._prepare),
                    context=multiprocessing.get_context("spawn"),
                )
                # A pool starts its processes with the first call.
                self._pool.schedule(os.getpid)
            return self._pool

    def _discard(self, pool: ProcessPool) -> None:
        with self._lock:
            if self._pool is not pool:
                return  # somebody else ends it, and pebble's pools do not bear two who do
            self._pool = None
        self._end(pool)

    def _end(self, pool: ProcessPool) -> None:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()
        # The pool leaves calls that it cut short without a result: whoever waits for one would do so for ever.
        with self._lock:
            cut_short = [future for future, owner in self._futures.items() if owner is pool]
        for future in cut_short:
            future.cancel()


@dataclass(frozen=True, slots=True)
class _Raised:
    """That a function raised, and what; told apart from what the pool raises."""

    kind: str
    text: str


def _limited(function: Callable[..., T], arguments: tuple[object, ...], seconds: float) -> T | _Raised:
    """`function`, killed by the kernel shortly after its time, should nobody be left to do so."""
    signal.setitimer(signal.ITIMER_REAL, seconds + _GRACE)
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - told to the caller
        return _Raised(type(error).__name__, str(error))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _start_child(parent: int, prepare: Callable[[], object] | None) -> None:
    # The default action needs no Python to run: it also ends a power that holds the interpreter for minutes.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    if prepare is not None:
        prepare()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL)
    os._exit(0)
