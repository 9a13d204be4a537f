"""Pauses, resumes, cancels and retries a run: for the commands and the Python client."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cord_worker.display_text import counted, shown
from cord_worker.errors import StoreError
from cord_worker.operations.run_watch import missing_workers
from cord_worker.progress import money, no_workers_sentence
from cord_worker.store.database import Database
from cord_worker.store.runs.lifecycle import cancel_run, pause_run, resume_run
from cord_worker.store.runs.retry import restart_failed, retry_failed
from cord_worker.store.runs.runs import resolve_run
from cord_worker.store.runs.spending import NewLimits

_UNCHANGED = NewLimits()


@dataclass(frozen=True, slots=True)
class Paused:
    """The result of pausing a run; `changed` is false if it was paused already."""

    run: str
    state: str
    changed: bool

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        if self.changed:
            return [f"run {self.run} is paused. Continue with: cordctl resume {self.run}"]
        return [f"run {self.run} was already paused"]


@dataclass(frozen=True, slots=True)
class Resumed:
    """The result of continuing a run; `changed` is false if it was active already. `missing_workers` names the roles
    and models that it needs but that have no process. `max_tokens` and `max_cost` are its spending limits now."""

    run: str
    state: str
    changed: bool
    missing_workers: Sequence[str]
    max_tokens: int | None = None
    max_cost: float | None = None
    currency: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        sentence = f"run {self.run} continues" if self.changed else f"run {self.run} was already active"
        limits = [] if self.max_tokens is None else [counted(self.max_tokens, "generated token")]
        limits += [] if self.max_cost is None else [money(self.max_cost, self.currency)]
        sentence += f", up to {' or '.join(limits)}" if limits else ""
        return [sentence, no_workers_sentence(self.missing_workers)] if self.missing_workers else [sentence]


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The result of cancelling a run; `cancelled` is the number of problems that were not finished."""

    run: str
    state: str
    cancelled: int

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        problems = f"{self.cancelled:,} {'problem was' if self.cancelled == 1 else 'problems were'} not finished"
        return [f"run {self.run} is cancelled: {problems}"]


@dataclass(frozen=True, slots=True)
class RetryResult:
    """The result of a retry: `retried` problems continue; `problems` counts them by their state now; `left_alone` are
    named problems that had not failed, with their states.

    `will_fail_again` is how many of the retried problems will certainly fail in the same way. Of these,
    `will_fail_again_from_scratch` will fail even with newly drawn candidates.
    """

    run: str
    state: str
    retried: int
    problems: Mapping[str, int]
    left_alone: Mapping[str, str]
    will_fail_again: int
    will_fail_again_from_scratch: int
    missing_workers: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        run = self.run
        lines = [
            f"problem {shown(key)} has not failed, it is {state}: left as it is"
            for key, state in self.left_alone.items()
        ]
        if self.retried:
            states = ", ".join(f"{count} {state}" for state, count in sorted(self.problems.items()))
            continues = "continues" if self.retried == 1 else "continue"
            lines.append(f"run {run}: {counted(self.retried, 'failed problem')} {continues} ({states})")
        elif not self.left_alone:
            lines.append(f"run {run} has no failed problems")
        again = self.will_fail_again - self.will_fail_again_from_scratch
        if again > 0:
            lines.append(
                f"{counted(again, 'problem')} will fail the same way again: the same candidates lead to the same "
                "decision (--from-scratch draws new ones)"
            )
        if self.will_fail_again_from_scratch:
            lines.append(
                f"{counted(self.will_fail_again_from_scratch, 'problem')} will fail the same way again, even with "
                "--from-scratch: no teacher has room for a step after the question. Change cord.toml as the reason "
                "says, and run under another name"
            )
        if self.retried and self.state == "paused":
            lines.append(f"run {run} is paused. Continue with: cordctl resume {run}")
        elif self.retried and self.missing_workers:
            lines.append(no_workers_sentence(self.missing_workers))
        return lines


def pause(database: Database, name: str) -> Paused:
    """Pauses the run: no new work starts, but the results of begun work are written. Raises RunNotFound,
    RunConflict."""
    changed = database.run(lambda connection: pause_run(connection, name))
    return Paused(name, "paused", changed)


def resume(database: Database, name: str, *, limits: NewLimits = _UNCHANGED, worker_timeout_seconds: float) -> Resumed:
    """Continues a paused run, with other spending limits if they are given.

    Raises RunNotFound; RunConflict if it was cancelled, or has reached a spending limit; ConfigError if prices are
    missing or do not fit it.
    """
    changed = database.run(lambda connection: resume_run(connection, name, limits))
    missing = database.run(lambda connection: missing_workers(connection, name, worker_timeout_seconds))
    run = database.run(lambda connection: resolve_run(connection, name))
    currency = None if run.prices is None else run.prices["currency"]
    return Resumed(name, "active", changed, missing, run.max_tokens, run.max_cost, currency)


def cancel(database: Database, name: str) -> Cancelled:
    """Ends the run for good; finished problems stay. Raises RunNotFound."""
    return Cancelled(name, "cancelled", database.run(lambda connection: cancel_run(connection, name)))


def retry(
    database: Database,
    name: str,
    *,
    problems: Collection[str] = (),
    reason: str | None = None,
    from_scratch: bool = False,
    worker_timeout_seconds: float,
) -> RetryResult:
    """Continues failed problems where they stopped: all of them, those with these ids, or those whose reason contains
    `reason` (numbers in it are ignored). With `from_scratch`, deletes their results and starts them over.

    Raises RunNotFound, RunConflict if the run was cancelled, StoreError if it has no such problem.
    """
    if problems and reason is not None:
        raise StoreError("give the ids of problems or a reason, not both")
    if reason is not None and not reason.strip():
        raise StoreError("the reason is empty: give the text of one, as cordctl status shows it")
    retry_them = restart_failed if from_scratch else retry_failed
    retried = database.run(lambda connection: retry_them(connection, name, problems, reason))
    if reason is not None and not retried.count:
        raise StoreError(
            f"run {name} has no failed problem whose reason contains {shown(reason)!r}: see cordctl status {name}"
        )
    missing = database.run(lambda connection: missing_workers(connection, name, worker_timeout_seconds))
    return RetryResult(
        run=retried.run,
        state=retried.run_state,
        retried=retried.count,
        problems=dict(retried.problems),  # `asdict` cannot copy a Counter
        left_alone=retried.left_alone,
        will_fail_again=retried.repeating,
        will_fail_again_from_scratch=retried.hopeless,
        missing_workers=missing,
    )
