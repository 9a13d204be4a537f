"""Waits for a run, for programs: returns its last snapshot, or raises an error that says why it does not continue."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from cord_worker.config import Settings
from cord_worker.display_text import counted
from cord_worker.errors import LimitReached, RunFailed, RunStopped, WaitTimeout, WorkersMissing
from cord_worker.operations.background import check_background, find_background
from cord_worker.operations.run_status import watch_of
from cord_worker.operations.run_watch import watch_run
from cord_worker.progress import Snapshot, duration, no_workers_sentence, shown
from cord_worker.store.database import Database
from cord_worker.store.reports.failure_causes import failure_causes
from cord_worker.store.runs.runs import resolve_run
from cord_worker.store.runs.spending import how_to_continue


class CallbackView:
    """A progress view for programs: calls `on_snapshot` and `on_message`, and raises an error if the run does not
    continue.

    `missing_seconds` is how long a model or the coordinator may be without a process; None: forever.
    """

    def __init__(
        self,
        on_snapshot: Callable[[Snapshot], None],
        on_message: Callable[[str], None] = lambda _: None,
        *,
        missing_seconds: float | None = None,
    ) -> None:
        self._on_snapshot = on_snapshot
        self._on_message = on_message
        self._missing_seconds = missing_seconds
        self._missing_since: float | None = None
        self._last: Snapshot | None = None

    @property
    def last(self) -> Snapshot:
        """The newest snapshot; call `show` before."""
        assert self._last is not None
        return self._last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def say(self, message: str) -> None:
        """Passes the message on."""
        self._on_message(message)

    def show(self, snapshot: Snapshot) -> None:
        """Passes the snapshot on. Raises LimitReached or RunStopped if the run is paused, WorkersMissing."""
        self._last = snapshot
        self._on_snapshot(snapshot)
        if snapshot.is_final:
            return
        if snapshot.pause_reason is not None:
            raise limit_reached(snapshot.run, snapshot.pause_reason)
        if snapshot.state == "paused":
            raise RunStopped(f"run {snapshot.run} is paused. Continue it: cordctl resume {snapshot.run}")
        now = time.monotonic()
        if not snapshot.missing:
            self._missing_since = None
            return
        self._missing_since = now if self._missing_since is None else self._missing_since
        if self._missing_seconds is not None and now - self._missing_since >= self._missing_seconds:
            raise WorkersMissing(
                f"run {snapshot.run} has been waiting for {duration(now - self._missing_since)}: "
                f"{no_workers_sentence(snapshot.missing)}"
            )


def wait_for_run(
    database: Database,
    run_name: str,
    settings: Settings,
    *,
    timeout_seconds: float | None,
    interval_seconds: float,
    missing_seconds: float | None,
    on_snapshot: Callable[[Snapshot], None],
) -> Snapshot:
    """The last snapshot, once every problem of the run is final; `on_snapshot` gets every snapshot.

    Raises:
        RunNotFound: there is no such run.
        LimitReached: a spending limit paused it.
        RunStopped: it is paused, or was cancelled.
        RunFailed: problems failed, and none is done.
        WorkersMissing: a model of it or the coordinator has had no process for `missing_seconds`.
        WaitTimeout: it is not final after `timeout_seconds`.
        LocalServiceError: the background processes of the state folder ended, or one of them was given up.
    """
    watched = watch_of(database, run_name, worker_timeout_seconds=settings.worker_timeout_seconds)
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    has_background = find_background(settings) is not None

    def on_round() -> None:
        if has_background:
            check_background(settings)

    def rest(seconds: float) -> None:
        if deadline is not None:
            seconds = min(seconds, deadline - time.monotonic())
            if seconds <= 0:
                raise WaitTimeout(f"run {run_name} is not final after {duration(timeout_seconds or 0.0)}; it continues")
        time.sleep(seconds)

    snapshot = watch_run(
        watched,
        CallbackView(on_snapshot, missing_seconds=missing_seconds),
        interval_seconds=interval_seconds,
        on_round=on_round,
        rest=rest,
    )
    check_end(database, snapshot)
    return snapshot


def limit_reached(run_name: str, reason: str) -> LimitReached:
    """The error for a run that a spending limit has paused."""
    return LimitReached(f"run {run_name} is paused: {reason}. Nothing is lost. {how_to_continue(run_name, reason)}")


def check_end(database: Database, snapshot: Snapshot) -> None:
    """Raises RunStopped if the run was cancelled, and RunFailed if problems failed and none is done, because then there
    is nothing to export. `snapshot` is the last one."""
    if snapshot.state == "cancelled":
        raise RunStopped(f"run {snapshot.run} was cancelled, which is final. Enqueue its dataset under another name.")
    problems = snapshot.counts.problems
    failed = problems.get("failed", 0)
    if not failed or problems.get("done", 0):
        return
    run = database.run(lambda connection: resolve_run(connection, snapshot.run))
    causes = database.run(lambda connection: failure_causes(connection, run.id, 1))
    why = f", {causes[0].count} of them because: {shown(causes[0].reason)}" if causes else ""
    raise RunFailed(
        f"run {snapshot.run}: {counted(failed, 'problem')} failed and none is done{why}. See cordctl status "
        f"{snapshot.run}"
    )
