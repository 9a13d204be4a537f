"""Checks that the tables are consistent and were not changed after they were written: `cordctl verify-db`.

It checks the invariants of `store.audit`, among them the digests of the rows and their history. It computes derived
columns again (`recomputing`), and compares trimmed runs with their sources (`trimmed_copies`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from cord_worker.coordination.run_context import RunContexts
from cord_worker.errors import ConfigError
from cord_worker.operations.recomputing import ComparedAnswers, wrong_candidates, wrong_check_results, wrong_run
from cord_worker.operations.trimmed_copies import is_without_source, wrong_copies
from cord_worker.store.audit.derived_columns import searches_to_recompute
from cord_worker.store.audit.digest_invariants import DIGEST_INVARIANTS, Undigested, count_undigested, run_digest
from cord_worker.store.audit.history_invariants import HISTORY_INVARIANTS
from cord_worker.store.audit.invariants import INVARIANTS, Invariant, InvariantReport, Violation, check
from cord_worker.store.audit.rescore_invariants import RESCORE_INVARIANTS
from cord_worker.store.audit.rollup_invariants import ROLLUP_INVARIANTS
from cord_worker.store.audit.row_names import finding_parts
from cord_worker.store.audit.stored_decisions import started_problems
from cord_worker.store.database import Database
from cord_worker.store.runs.runs import RunRow, list_runs, resolve_run


@dataclass(slots=True)
class Verification:
    """Result of checking the tables. `recomputed` is the number of candidates whose columns were computed again;
    `compared` is None if final answers were not compared again; `undigested` counts rows of older versions, which have
    no digest; `digests` are those of whole runs, by name; `without_source` names trimmed runs whose source was
    removed."""

    reports: list[InvariantReport] = field(default_factory=list)
    recomputed: int = 0
    compared: ComparedAnswers | None = None
    undigested: Undigested = field(default_factory=lambda: Undigested(0, 0, 0))
    digests: dict[str, str] = field(default_factory=dict)
    without_source: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[InvariantReport]:
        """The invariants that do not hold."""
        return [report for report in self.reports if report.violations]

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "broken": len(self.broken),
            "invariants": [report.to_json() for report in self.reports],
            "candidates_recomputed": self.recomputed,
            "answers_compared_again": None if self.compared is None else asdict(self.compared),
            "without_digests": asdict(self.undigested),
            "without_source": self.without_source,
            "digests": self.digests,
        }


DERIVED = Invariant(
    "derived",
    "reasons, duplicates, states, lineages, seeds and token caps follow from texts, siblings and parents, and no "
    "planned candidate is missing",
)
CONFIGURATION = Invariant("configuration", "fingerprints, teachers and models follow from the configuration of the run")
COPIES = Invariant(
    "copies",
    "winners of a trimmed run end at the first step from which every score is above its threshold, and are those of "
    "its source up to there",
)
COMPARISONS = Invariant("comparisons", "answers that are compared again get the stored result")
_PROBLEMS_AT_ONCE = 20
"""Problems whose rows are read and computed again at once."""


def verify_tables(database: Database, name: str | None, *, examples: int, compare: bool = False) -> Verification:
    """Checks every invariant, over all runs or only the run called `name`, and computes derived columns again. With
    `compare`, it also compares the final answers again. Keeps at most `examples` violations of each invariant. Raises
    RunNotFound."""

    def verify(connection: sa.Connection) -> tuple[list[RunRow], Verification]:
        runs = list_runs(connection) if name is None else [resolve_run(connection, name)]
        found = verify_runs(connection, RunContexts(database), runs, everything=name is None, examples=examples)
        return runs, found

    runs, found = database.run(verify, one_snapshot=True)
    if compare:
        violations = _Violations(COMPARISONS, examples)
        found.compared = ComparedAnswers()
        for run in runs:
            for problem, detail in wrong_check_results(database, run, found.compared):
                violations.add(Violation(run.name, problem, detail))
        found.reports.append(violations.report())
    return found


def verify_runs(
    connection: sa.Connection, contexts: RunContexts, runs: Sequence[RunRow], *, everything: bool, examples: int = 3
) -> Verification:
    """Checks these runs as `connection` sees them: all runs if `everything`, else a single one. See `verify_tables`."""
    found = Verification()
    run_id = None if everything or not runs else runs[0].id
    found.reports = [
        check(connection, one, run_id, examples=examples)
        for one in (
            *INVARIANTS,
            *RESCORE_INVARIANTS,
            *DIGEST_INVARIANTS,
            *HISTORY_INVARIANTS,
            *ROLLUP_INVARIANTS,
        )
    ]
    configuration, derived = _Violations(CONFIGURATION, examples), _Violations(DERIVED, examples)
    copies = _Violations(COPIES, examples)
    found.without_source = [run.name for run in runs if is_without_source(run)]
    for run in runs:
        for detail in wrong_run(connection, run):
            configuration.add(Violation(run.name, None, detail))
        try:
            context = contexts.of_run(run.id, connection)
        except ConfigError:  # already among the findings
            continue
        ids = started_problems(connection, run.id)
        for start in range(0, len(ids), _PROBLEMS_AT_ONCE):
            for search in searches_to_recompute(connection, ids[start : start + _PROBLEMS_AT_ONCE]):
                found.recomputed += len(search.candidates)
                for detail in wrong_candidates(context, search):
                    derived.add(Violation(run.name, search.candidates[0].key, detail))
            if context.trim_above is not None:
                for problem, detail in wrong_copies(
                    connection, context.trim_above, ids[start : start + _PROBLEMS_AT_ONCE]
                ):
                    copies.add(Violation(run.name, problem, detail))
        digest = run_digest(connection, run.id)
        if digest is not None:
            found.digests[run.name] = digest
    found.reports += [derived.report(), copies.report(), configuration.report()]
    found.undigested = count_undigested(connection, [run.id for run in runs])
    return found


class _Violations:
    """Counts violations and keeps the first few, in the order of `invariants.check`: the first of every problem, then
    the second of every problem, and so on. Within a problem, they are ordered by their number within the row, then by
    their number within the column."""

    def __init__(self, invariant: Invariant, examples: int) -> None:
        self._invariant = invariant
        self._examples = examples
        self._kept: list[tuple[int, Violation]] = []
        self._of_problem: list[Violation] = []
        self._count = 0

    def add(self, violation: Violation) -> None:
        """Counts one violation. Those of a problem must be added without others between them."""
        self._count += 1
        if self._of_problem and (violation.run, violation.problem) != (
            self._of_problem[0].run,
            self._of_problem[0].problem,
        ):
            self._keep_first()
        self._of_problem.append(violation)

    def report(self) -> InvariantReport:
        """The number of violations, and those that were kept."""
        self._keep_first()
        return InvariantReport(self._invariant, self._count, tuple(violation for _, violation in self._kept))

    def _keep_first(self) -> None:
        """Adds the first violations of the current problem to those that are kept."""
        of_row: Counter[str] = Counter()
        of_columns: Counter[str] = Counter()
        numbers = []
        for violation in self._of_problem:
            row, columns = finding_parts(violation.detail)
            numbers.append((of_row[row], of_columns[columns]))
            of_row[row] += 1
            of_columns[columns] += 1
        ordered = sorted(zip(numbers, self._of_problem, strict=True), key=lambda pair: pair[0])
        self._kept += [(number, violation) for number, (_, violation) in enumerate(ordered[: self._examples])]
        self._kept = sorted(self._kept, key=lambda pair: pair[0])[: self._examples]
        self._of_problem = []
