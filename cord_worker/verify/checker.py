"""`AnswerChecker`: comparing in a process of its own, which is killed when it takes too long; `call` has other
functions of hostile text done there, too.

math-verify's limits need SIGALRM in the main thread, and a thread that hangs in sympy cannot be ended; a process can.
The processes are spawned, not forked (the callers run threads), and kept warm by pebble's pool.
"""

from __future__ import annotations

import concurrent.futures
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from cord_worker.errors import VerificationError
from cord_worker.verify.comparison import compare
from cord_worker.verify.rule import Rule
from cord_worker.verify.verdict import Verdict

if TYPE_CHECKING:
    from pebble import ProcessPool

T = TypeVar("T")

TEXT_LIMIT = 20_000
"""Characters, from the end, of a generated text that are looked at."""

_MEMORY = 8 * 1024**3
"""Bytes of address space of a checking process: a runaway power fails in it and not in its neighbours."""

_PARENT_POLL = 1.0  # seconds
_GRACE = 2  # seconds that the pool has to kill a process before the kernel does


_BY_MATH = Rule()


class AnswerChecker:
    """Checks answers in warm processes; a context manager, usable from several threads at once.

    Args:
        timeout_seconds: after this a check ends as `correct=None`, method "timeout"; start-up does not count.
        workers: processes, hence checks at a time; each holds sympy, about 150 MiB.
    """

    def __init__(self, timeout_seconds: float = 5.0, workers: int = 1) -> None:
        if timeout_seconds <= 0 or workers < 1:
            raise VerificationError(
                f"An answer checker needs a positive timeout and at least one worker, "
                f"not {timeout_seconds} s and {workers}."
            )
        self._timeout = timeout_seconds
        self._workers = workers
        self._pool: ProcessPool | None = None
        self._futures: dict[concurrent.futures.Future[Any], ProcessPool] = {}
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> AnswerChecker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; checks that still run raise `VerificationError`."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            self._end(pool)

    def warm_up(self) -> None:
        """Has the processes start, which takes seconds, while the caller does other things."""
        self._running_pool()

    def check(self, generated_answer: str, reference: str, rule: Rule = _BY_MATH) -> Verdict:
        """The verdict by `rule` on the last `TEXT_LIMIT` characters of `generated_answer`; waits for a free process.

        Raises:
            VerificationError: the checker is closed, or its processes cannot be started.
        """
        from pebble import ProcessExpired

        if len(reference) > TEXT_LIMIT:
            return Verdict(None, "unsupported", None, f"the reference is longer than {TEXT_LIMIT} characters")
        try:
            return self.call(_compared, generated_answer[-TEXT_LIMIT:], reference, rule)
        except TimeoutError:
            return Verdict(None, "timeout", None, f"the comparison took longer than {self._timeout:g} s")
        except ProcessExpired as error:
            return Verdict(None, "crashed", None, f"the checking process ended with code {error.exitcode}")

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """`function` of `arguments` in a free process: a module's function that raises nothing; all must be picklable.

        Raises:
            TimeoutError: it took longer than a check may.
            pebble.ProcessExpired: its process died.
            VerificationError: the checker is closed, or its processes cannot be started.
        """
        for _ in range(2):
            pool = self._running_pool()
            future: concurrent.futures.Future[T] | None = None
            try:
                with self._lock:
                    future = pool.schedule(_limited, args=(function, arguments, self._timeout), timeout=self._timeout)
                    self._futures[future] = pool
                return future.result()
            except (RuntimeError, concurrent.futures.CancelledError):
                # An idle process was killed from outside, which pebble's pool does not survive: once more in a new one.
                self._discard(pool)
            finally:
                with self._lock:
                    if future is not None:
                        del self._futures[future]
        raise VerificationError(
            "The answer checker's processes cannot be started, or are killed while they wait: "
            "read their message above, and see whether math-verify is installed and memory is left."
        )

    def _running_pool(self) -> ProcessPool:
        import multiprocessing

        from pebble import ProcessPool

        with self._lock:
            if self._closed:
                raise VerificationError("This answer checker is closed: make a new one.")
            if self._pool is None:
                self._pool = ProcessPool(
                    max_workers=self._workers,
                    initializer=_start_child,
                    initargs=(os.getpid(),),
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
        # The pool leaves checks that it cut short without a result: whoever waits for one would do so for ever.
        with self._lock:
            cut_short = [future for future, owner in self._futures.items() if owner is pool]
        for future in cut_short:
            future.cancel()


def _limited(function: Callable[..., T], arguments: tuple[object, ...], seconds: float) -> T:
    """`function`, killed by the kernel shortly after its time, should nobody be left to do so."""
    signal.setitimer(signal.ITIMER_REAL, seconds + _GRACE)
    try:
        return function(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _compared(generated_answer: str, reference: str, rule: Rule) -> Verdict:
    """`compare`, whatever it raises."""
    try:
        return compare(generated_answer, reference, rule)
    except (MemoryError, RecursionError) as error:
        return Verdict(None, "crashed", None, f"the comparison failed with {type(error).__name__}")
    except Exception as error:  # noqa: BLE001 - sympy raises anything on what is no mathematics
        return Verdict(False, "none", None, f"not comparable: {type(error).__name__}")


def _start_child(parent: int) -> None:
    # The default action needs no Python to run: it also ends a power that holds the interpreter for minutes.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    # The slow import and the first use of the grammar are paid here, outside any check's time.
    compare(r"\boxed{x+1}", r"1+x")


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL)
    os._exit(0)
