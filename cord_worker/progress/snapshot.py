"""The state of a run at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cord_worker.display_text import shown
from cord_worker.progress.number_format import duration

if TYPE_CHECKING:
    from cord_worker.store.reports.status import Counts, LiveWorkers, Totals, WorkerCondition
    from cord_worker.store.runs.spending import Spending


@dataclass(frozen=True, slots=True)
class Condition:
    """What keeps one process of the run from its work; `model` is the model's name in cord.toml."""

    model: str
    process: str
    text: str
    since: datetime
    seconds: float

    def __str__(self) -> str:
        return f"{shown(self.model)} {shown(self.text)} (for {duration(self.seconds)})"

    def to_json(self) -> dict[str, Any]:
        """A document for scripts; its keys are stable."""
        return {
            "model": self.model,
            "process": self.process,
            "condition": self.text,
            "since": self.since.isoformat(),
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment.

    `workers`: number of processes by name of role or model. `missing`: roles and models that unfinished problems need
    but that have no process. `conditions`: what keeps workers from their work. `waiting`: while there are no results,
    why the run waits, as predicates (`is being started (3 scores)`) by the name of the role or model. `is_beginning`:
    the command starts workers itself, and there has been no result since it began. `invalid_reasons`: number of invalid
    candidates by teacher and reason, the most frequent first. `spending`: what the run has spent, if it has a spending
    limit; `pause_reason` says which limit paused it.
    """

    run: str
    state: str
    counts: Counts
    totals: Totals
    workers: Mapping[str, int]
    missing: Sequence[str]
    eta_seconds: float | None
    conditions: Sequence[Condition] = ()
    waiting: Mapping[str, str] = field(default_factory=dict)
    is_beginning: bool = False
    invalid_reasons: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    spending: Spending | None = None
    pause_reason: str | None = None

    @property
    def awaits_first_result(self) -> bool:
        """True before the first proposal of the run, and if `is_beginning`; False once every problem is final."""
        return not self.is_final and (self.is_beginning or not self.totals.proposed)

    @property
    def is_final(self) -> bool:
        """True if every problem of the run is final."""
        return self.counts.final == self.counts.total

    def seconds_since_start(self) -> float | None:
        """Seconds from the first admitted problem to the last finished one, or to now while problems are unfinished."""
        first, last = self.totals.first_admitted_at, self.totals.last_finished_at
        if first is None:
            return None
        end = last if self.is_final and last is not None else datetime.now(UTC)
        return (end - first).total_seconds()

    def to_json(self) -> dict[str, Any]:
        """A document for scripts; its keys are stable."""
        counts, totals = self.counts, self.totals
        return {
            "run": self.run,
            "state": self.state,
            "pause_reason": self.pause_reason,
            "spending": None if self.spending is None else self.spending.to_json(),
            "problems": {"total": counts.total, "active": counts.active, **counts.problems},
            "candidates": {**totals.candidates, **counts.working},
            "steps": counts.steps,
            "proposed": totals.proposed,
            "steps_per_second": round(counts.steps_per_second, 3),
            "tokens_per_second": round(counts.tokens_per_second, 3),
            "scores_per_second": round(counts.scores_per_second, 3),
            "mean_score": totals.mean_score,
            "accuracy": totals.accuracy,
            "checked": totals.checked,
            "correct": totals.correct,
            "wrong": totals.checked - totals.correct,
            "undecided": totals.undecided,
            "without_result": totals.without_result,
            "mean_steps": totals.mean_steps,
            "cut_answers": totals.cut_answers,
            "full_contexts": totals.full_contexts,
            "tokens": totals.tokens,
            "teachers": {
                teacher.name: {
                    "share": teacher.share,
                    "proposed": teacher.proposed,
                    "invalid": teacher.invalid,
                    "invalid_reasons": dict(self.invalid_reasons.get(teacher.name, {})),
                    "shared": teacher.shared,
                    "kept": teacher.kept,
                    "winning": teacher.winning,
                    "mean_score": teacher.mean_score,
                    "tokens": teacher.tokens,
                    "request_seconds": round(teacher.request_seconds, 3),
                }
                for teacher in totals.teachers
            },
            "prover": {"tokens": totals.scored_tokens, "request_seconds": round(totals.prover_seconds, 3)},
            "engine_seconds": round(totals.engine_seconds, 3),
            "workers": dict(self.workers),
            "missing_workers": list(self.missing),
            "conditions": [condition.to_json() for condition in self.conditions],
            "idle_seconds": round(counts.idle_seconds, 1),
            "waiting_for": dict(self.waiting),
            "eta_seconds": None if self.eta_seconds is None else round(self.eta_seconds, 1),
        }


def named_workers(workers: Sequence[LiveWorkers], names: Mapping[str, str]) -> dict[str, int]:
    """Number of processes by the model's name in cord.toml, else by its path; coordinators by their role. `names` has
    the names by fingerprint."""
    named: dict[str, int] = {}
    for worker in workers:
        name = worker.role if worker.model is None else names.get(worker.model, worker.path or worker.model)
        named[name] = named.get(name, 0) + worker.count
    return named


def named_conditions(conditions: Sequence[WorkerCondition], names: Mapping[str, str]) -> list[Condition]:
    """The conditions of the run's workers, with `names` as in `named_workers`. If `names` is empty, those of all
    workers."""
    return [
        Condition(
            model=names.get(found.model or "", found.path or "coordinator"),
            process=found.process,
            text=found.text,
            since=found.since,
            seconds=found.seconds,
        )
        for found in conditions
        if not names or found.model is None or found.model in names
    ]
