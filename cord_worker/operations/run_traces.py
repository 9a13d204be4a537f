"""Writes the traces of a run: reads problems in batches, makes their spans, and sends them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol

import sqlalchemy as sa

from cord_worker.display_text import counted
from cord_worker.operations.tracing import RunTracer, Span
from cord_worker.store.database import Database
from cord_worker.store.reports.trace_rows import ProblemRow, chosen_problem_ids, problem_rows
from cord_worker.store.runs.runs import resolve_run

_PROBLEMS_AT_ONCE = 20
_SPANS_AT_ONCE = 512


def _read(problems: Sequence[int], connection: sa.Connection) -> list[ProblemRow]:
    return list(problem_rows(connection, problems))


class SpanWriter(Protocol):
    """Receives spans."""

    def write(self, spans: list[Span]) -> None:
        """Writes the spans. Raises a CordError if that fails."""
        ...


@dataclass(frozen=True, slots=True)
class Traced:
    """What was written: `spans` in `traces`. There is one trace for each of the `problems` that have begun, and one for
    the run."""

    run: str
    problems: int
    traces: int
    spans: int

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        of = f"of {counted(self.problems, 'begun problem')}"
        return [f"run {self.run}: {counted(self.spans, 'span')} in {counted(self.traces, 'trace')} {of}"]


def write_traces(
    database: Database, run_name: str | None, writer: SpanWriter, *, problems: Collection[str] | None = None
) -> Traced:
    """Writes the spans of the run (by default the newest), or only of the named problems.

    Raises RunNotFound, StoreError if it has no such problem, and what `writer` raises.
    """
    run = database.run(lambda connection: resolve_run(connection, run_name))
    problem_ids = database.run(lambda connection: chosen_problem_ids(connection, run.id, run.name, problems))
    tracer = RunTracer(run)
    begun = written = 0
    waiting: list[Span] = []

    def write(*, at_least: int) -> None:
        """Writes the waiting spans in batches, as long as `at_least` of them wait."""
        nonlocal written, waiting
        while len(waiting) >= at_least and waiting:
            sent, waiting = waiting[:_SPANS_AT_ONCE], waiting[_SPANS_AT_ONCE:]
            writer.write(sent)
            written += len(sent)

    for start in range(0, len(problem_ids), _PROBLEMS_AT_ONCE):
        batch = problem_ids[start : start + _PROBLEMS_AT_ONCE]
        for problem in database.run(partial(_read, batch)):
            spans = tracer.of_problem(problem)
            begun += bool(spans)
            waiting += spans
            write(at_least=_SPANS_AT_ONCE)
    waiting += tracer.of_run()
    write(at_least=1)
    return Traced(run.name, begun, begun + 1 if begun else 0, written)
