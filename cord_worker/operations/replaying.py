"""Takes the decisions of a run again from its stored rows, and compares them: `cordctl replay`.

Decisions are pure functions of rows (`search`), so they can be taken again on any machine at any time, without a model.
A replay compares the ranking of every step, the kept and the invalid candidates, the beam and its finishes, the next
plan (parents, teachers, samples, lineages, seeds, token caps), the winner and its path, and the seeds of the final
answers. It also checks the rows behind the decisions, as `table_verification` does. All findings have the form
`problem KEY: ROW: COLUMN: what is wrong`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from cord_worker.coordination.decision import answer_seeds, decide
from cord_worker.coordination.run_context import RunContext, RunContexts
from cord_worker.errors import ConfigError, StoreError
from cord_worker.operations.recomputing import IMPOSSIBLE_ROW_ERRORS, contradiction, wrong_candidates, wrong_run
from cord_worker.operations.trimmed_copies import is_without_source, wrong_copies
from cord_worker.search.decision import Decision, EndSearch, Expand, Fail, Resample
from cord_worker.search.types import Expansion, InvalidReason, SearchError
from cord_worker.store.audit.derived_columns import searches_to_recompute
from cord_worker.store.audit.digest_invariants import DIGEST_INVARIANTS
from cord_worker.store.audit.history_invariants import HISTORY_INVARIANTS
from cord_worker.store.audit.invariants import INVARIANTS, check, first_broken
from cord_worker.store.audit.rescore_invariants import RESCORE_INVARIANTS
from cord_worker.store.audit.stored_decisions import (
    StoredCandidate,
    StoredSearch,
    read_stored_search,
    started_problems,
    unknown_keys,
)
from cord_worker.store.database import Database
from cord_worker.store.runs.runs import RunRow, resolve_run
from cord_worker.store.schema.tables import CandidateState, ProblemState

_PROBLEMS_AT_ONCE = 20
"""Problems in which one statement looks for violations."""
_FINAL = {CandidateState.SCORED, CandidateState.UNSCORED, CandidateState.INVALID}


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where a stored row was changed after it was written, or differs from the decision taken again. `what`
    names the row, by its stored values, and the column; `problem` is None for the run's own row."""

    problem: str | None
    what: str
    stored: str | None = None
    recomputed: str | None = None

    def __str__(self) -> str:
        place = "" if self.problem is None else f"problem {self.problem}: "
        found = "" if self.recomputed is None else f": stored {self.stored}, recomputed {self.recomputed}"
        return f"{place}{self.what}{found}"

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Replay:
    """Result of a replay: `differences` holds all differences in the run's own rows, and the first one of each problem
    that has any. `is_without_source`: the run was trimmed from one that was removed, so there was nothing to compare
    its copies with."""

    run: str
    problems: int = 0
    decisions: int = 0
    is_without_source: bool = False
    differences: list[Difference] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "run": self.run,
            "problems": self.problems,
            "decisions": self.decisions,
            "without_source": self.is_without_source,
            "differences": [difference.to_json() for difference in self.differences],
        }


def replay_run(database: Database, name: str | None, keys: Sequence[str] = ()) -> Iterator[Replay]:
    """Replays the run called `name` (None: the newest), or only its problems called `keys`.

    Yields one growing `Replay` again after every problem; it is complete the last time. Raises RunNotFound, and
    StoreError if the run has no problem with one of these keys.
    """

    def find(connection: sa.Connection) -> tuple[RunRow, list[int], list[str]]:
        run = resolve_run(connection, name)
        unknown = unknown_keys(connection, run.id, keys)
        if unknown:
            raise StoreError(f"run {run.name!r} has no problem called {unknown[0]!r}")
        return run, started_problems(connection, run.id, keys or None), list(wrong_run(connection, run))

    run, problem_ids, wrong = database.run(find)
    replayed = Replay(
        run.name,
        is_without_source=is_without_source(run),
        differences=[Difference(None, f"run {run.name}: {one}") for one in wrong],
    )
    yield replayed
    try:
        context = RunContexts(database).of_run(run.id)
    except ConfigError:
        if wrong:  # the error is among the findings
            return
        raise
    for start in range(0, len(problem_ids), _PROBLEMS_AT_ONCE):
        sound = []
        for problem_id in problem_ids[start : start + _PROBLEMS_AT_ONCE]:

            def replay(connection: sa.Connection, problem_id: int = problem_id) -> Outcome:
                return replay_problem(connection, context, problem_id)

            outcome = database.run(replay, one_snapshot=True)
            replayed.problems += 1
            replayed.decisions += outcome.decisions
            if outcome.difference is None:
                sound.append(problem_id)
            else:
                replayed.differences.append(outcome.difference)
            yield replayed
        replayed.differences += database.run(lambda connection, ids=sound: first_violations(connection, ids))  # type: ignore[misc]
    yield replayed


@dataclass(frozen=True, slots=True)
class Outcome:
    """Number of decisions taken again for one problem, and the first difference found."""

    decisions: int
    difference: Difference | None


def replay_problem(connection: sa.Connection, context: RunContext, problem_id: int) -> Outcome:
    """Replays one problem as `connection` sees it; a problem that was removed has no decisions.

    Rows that were changed are reported first: they are the cause if decisions differ as well. A problem of a trimmed
    run has one decision, the cut of its winner.
    """
    search = read_stored_search(connection, problem_id)
    if search is None:
        return Outcome(0, None)
    if context.trim_above is not None:
        wrong = wrong_copies(connection, context.trim_above, [problem_id])
        copies = (Difference(problem, detail) for problem, detail in wrong)
        return Outcome(1, next(itertools.chain(_changed_rows(connection, context, problem_id), copies), None))
    replayer = _Replayer(connection, context, search)
    differences = itertools.chain(_changed_rows(connection, context, problem_id), replayer.differences())
    try:
        difference = next(differences, None)
    except IMPOSSIBLE_ROW_ERRORS as error:
        difference = Difference(search.problem.key, contradiction(error))
    return Outcome(replayer.decisions, difference)


def _changed_rows(connection: sa.Connection, context: RunContext, problem_id: int) -> Iterator[Difference]:
    """Rows of the problem that do not match their digests, or whose derived columns are wrong."""
    for invariant in DIGEST_INVARIANTS:
        for violation in check(connection, invariant, None, problem_id=problem_id, examples=1).examples:
            yield Difference(violation.problem, violation.detail)
    for search in searches_to_recompute(connection, [problem_id]):
        for detail in wrong_candidates(context, search):
            yield Difference(search.candidates[0].key, detail)


_OF_ONE_PROBLEM = tuple(one for one in (*INVARIANTS, *RESCORE_INVARIANTS, *HISTORY_INVARIANTS) if not one.of_whole_runs)


def first_violations(connection: sa.Connection, problem_ids: Sequence[int]) -> list[Difference]:
    """The first violation of each of these problems that has any."""
    found = first_broken(connection, _OF_ONE_PROBLEM, problem_ids)
    return [Difference(violation.problem, violation.detail) for violation in found.values()]


class _Replayer:
    """Takes one problem's decisions again, in their order. A point of the search is a pair (step, round)."""

    def __init__(self, connection: sa.Connection, context: RunContext, search: StoredSearch) -> None:
        self._connection = connection
        self._context = context
        self._search = search
        self._at = (0, 0)
        """The point of the decision that is taken again."""
        self.decisions = 0

    def differences(self) -> Iterator[Difference]:
        """The differences of every decision, then those of the whole search."""
        search = self._search
        rounds = sorted({(one.step, one.round) for one in search.candidates})
        at = (0, 0)
        for following in rounds:
            yield from self._decision(at, following)
            at = following
        yield from self._last(at)

    def _decision(self, at: tuple[int, int], following: tuple[int, int]) -> Iterator[Difference]:
        """Compares the decision at one point, after which the candidates of the point `following` were planned."""
        self._at = at
        decision = self._decide()
        match decision:
            case str():
                yield self._step_difference("the decision", f"step {following[0]}, round {following[1]}", decision)
            case Expand():
                yield from self._same("what follows", following, (decision.step, decision.round))
                yield from self._choice(decision.ranking, decision.invalid, beam=_slots(decision))
                yield from self._plan(following, decision.expansions)
            case Resample():
                yield from self._same("what follows", following, (at[0], decision.round))
                yield from self._invalid(decision.invalid)
                yield from self._plan(following, decision.expansions)
            case EndSearch() | Fail():
                recomputed = _words(decision)
                yield self._step_difference("the decision", f"step {following[0]}, round {following[1]}", recomputed)

    def _last(self, at: tuple[int, int]) -> Iterator[Difference]:
        """Compares the last point: the search ended or failed there, or has not yet decided there."""
        self._at = at
        search = self._search
        problem = search.problem
        yield from self._same("where the problem stands", (problem.step, problem.round), at)
        ended = any(slot.step == at[0] for slot in search.slots)
        current = [one for one in search.candidates if (one.step, one.round) == at]
        if not ended:
            decided = problem.state == ProblemState.FAILED and all(one.state in _FINAL for one in current)
            if decided and problem.outstanding == 0:
                yield from self._failure()
            elif problem.state in (ProblemState.ANSWERING, ProblemState.VERIFYING, ProblemState.DONE):
                yield self._step_difference("the last beam", "none", f"one, because the problem is {problem.state}")
            return
        decision = self._decide()
        if not isinstance(decision, EndSearch):
            recomputed = decision if isinstance(decision, str) else _words(decision)
            yield self._step_difference("the decision", "the end of the search", recomputed)
            return
        yield from self._choice(decision.ranking, decision.invalid, beam=_slots(decision))
        yield from self._ending(decision)

    def _failure(self) -> Iterator[Difference]:
        """Compares the decision with the stored failure of the problem."""
        decision = self._decide()
        stored = self._search.failure_reason or "no reason"
        match decision:
            case str():
                # If a defect ended the problem, the stored sentence contains the error.
                if decision not in stored:
                    yield self._step_difference("the failure", stored, decision)
            case Fail():
                yield from self._same("the failure", stored, decision.reason)
                yield from self._invalid(decision.invalid)
            case _:
                yield self._step_difference("the decision", f"failure ({stored})", _words(decision))

    def _decide(self) -> Decision | str:
        """The decision, or the error that it raised."""
        step, round = self._at
        self.decisions += 1
        try:
            return decide(self._connection, self._context, replace(self._search.problem, step=step, round=round))
        except SearchError as error:
            return str(error)

    def _choice(
        self, ranking: Sequence[int], invalid: dict[int, InvalidReason], *, beam: Sequence[tuple[int, str | None]]
    ) -> Iterator[Difference]:
        """Compares the ranks, the invalid candidates and the beam."""
        step, _ = self._at
        ranks = {id_: rank for rank, id_ in enumerate(ranking)}
        for one in self._current():
            yield from self._equal(f"{one.name}: rank", one.rank, ranks.get(one.id))
        yield from self._invalid(invalid)
        stored = [(slot.candidate_id, slot.finish) for slot in self._search.slots if slot.step == step]
        yield from self._same("the beam (candidate, finish)", stored, list(beam))

    def _invalid(self, invalid: dict[int, InvalidReason]) -> Iterator[Difference]:
        for one in self._current():
            yield from self._equal(
                f"{one.name}: invalid_reason",
                one.invalid_reason,
                invalid[one.id].value if one.id in invalid else None,
            )

    def _plan(self, following: tuple[int, int], expansions: Sequence[Expansion]) -> Iterator[Difference]:
        """Compares the candidates of the point `following` with those that the decision plans."""
        rows = [one for one in self._search.candidates if (one.step, one.round) == following]
        planned = {(one.parent_id, one.parent_rank, one.teacher, one.sample) for one in expansions}
        stored = {(one.parent_id, one.parent_rank, one.teacher, one.sample): one for one in rows}
        if len(rows) != len(expansions):
            for key in sorted(stored.keys() - planned, key=lambda key: stored[key].id):
                yield self._difference(f"{stored[key].name}: its row", "there", "never planned")
            self._at = following
            yield self._step_difference("number of candidates", str(len(rows)), str(len(expansions)))
            return
        for row, expansion in zip(rows, expansions, strict=False):
            for name in _PLANNED:
                yield from self._equal(f"{row.name}: {name}", getattr(row, name), getattr(expansion, name))
            # The last sources are left out if the integrator's context has no room for them.
            are_first_sources = row.sources == expansion.sources[: len(row.sources)]
            if not are_first_sources or bool(row.sources) != bool(expansion.sources):
                yield self._difference(f"{row.name}: sources", str(row.sources), str(expansion.sources))

    def _ending(self, decision: EndSearch) -> Iterator[Difference]:
        """Compares the finished trajectories, the winner with its path, and the seeds of the final answers."""
        search = self._search
        rows = {row.candidate_id: row for row in search.trajectories}
        names = {one.id: one.name for one in search.candidates}
        for id_, (steps, finish, dropped) in self._finished().items():
            row = rows.pop(id_, None)
            stored = None if row is None else (row.steps, row.finish, row.dropped_at_step)
            expected = (steps, finish, dropped)
            name = names.get(id_, f"candidate {id_}")  # of another problem, if the slot was moved
            yield from self._equal(f"trajectory of {name}: steps, finish, dropped_at_step", stored, expected)
        for id_ in rows:
            yield self._difference(
                f"trajectory of {names.get(id_, f'candidate {id_}')}: its row", "there", "never finished"
            )
        winners = [row.candidate_id for row in search.trajectories if row.winner]
        winner = [] if decision.winner is None else [decision.winner.candidate_id]
        yield from self._same("the winner (candidate)", winners, winner)
        parents = {one.id: one.parent_id for one in search.candidates}
        path = set()
        on_path = winner[0] if winner else None
        while on_path is not None and on_path not in path:
            path.add(on_path)
            on_path = parents.get(on_path)
        kept = {slot.candidate_id for slot in search.slots}
        for one in search.candidates:
            yield from self._equal(f"{one.name}: winning", one.winning, one.id in path)
            yield from self._equal(f"{one.name}: kept", bool(one.kept), one.id in kept)
        stored_seeds = {row.candidate_id: row.answer_seed for row in search.trajectories if row.answer_seed is not None}
        yield from self._same(
            "answer_seed of the final answers (by candidate)", stored_seeds, self._seeds(decision, stored_seeds)
        )

    def _seeds(self, decision: EndSearch, stored_seeds: Mapping[int, int]) -> dict[int, int]:
        """Seeds of the final answers by candidate: the stored seed if it is one of the possible seeds, else the
        first."""
        found = {}
        for one in decision.to_answer:
            teacher = self._context.teachers[one.teacher].name
            seeds = answer_seeds(self._context, self._search.problem.key, one.lineage, teacher)
            stored = stored_seeds.get(one.candidate_id)
            found[one.candidate_id] = stored if stored in seeds else seeds[0]
        return found

    def _finished(self) -> dict[int, tuple[int | None, str, int | None]]:
        """Finished trajectories by candidate: steps, finish, and the first later step whose beam lacks it."""
        depths = {one.id: one.depth for one in self._search.candidates}
        beams: dict[int, dict[int, str | None]] = {}
        for slot in self._search.slots:
            beams.setdefault(slot.step, {})[slot.candidate_id] = slot.finish
        found: dict[int, tuple[int | None, str, int | None]] = {}
        for step in sorted(beams):
            for id_, (steps, finish, dropped) in list(found.items()):
                if dropped is None and id_ not in beams[step]:
                    found[id_] = (steps, finish, step)
            for id_, kind in beams[step].items():
                if kind is not None and id_ not in found:
                    found[id_] = (depths.get(id_), kind, None)
        return found

    def _current(self) -> Iterable[StoredCandidate]:
        return (one for one in self._search.candidates if (one.step, one.round) == self._at)

    def _equal(self, what: str, stored: Any, recomputed: Any) -> Iterator[Difference]:
        """Compares a column; `what` names its row as well."""
        if stored != recomputed:
            yield self._difference(what, _shown(stored), _shown(recomputed))

    def _same(self, what: str, stored: Any, recomputed: Any) -> Iterator[Difference]:
        """Compares a value that belongs to no single row; the difference names the current point."""
        if stored != recomputed:
            yield self._step_difference(what, _shown(stored), _shown(recomputed))

    def _step_difference(self, what: str, stored: str, recomputed: str) -> Difference:
        step, round = self._at
        return self._difference(f"step {step}{f', round {round}' if round else ''}: {what}", stored, recomputed)

    def _difference(self, what: str, stored: str, recomputed: str) -> Difference:
        return Difference(self._search.problem.key, what, stored, recomputed)


_PLANNED = (
    "parent_id",
    "parent_rank",
    "teacher",
    "sample",
    "lineage",
    "seed",
    "max_tokens",
    "depth",
    "whole",
)


def _slots(decision: Expand | EndSearch) -> list[tuple[int, str | None]]:
    return [(one.candidate_id, None if one.finish is None else one.finish.value) for one in decision.beam]


def _words(decision: Decision) -> str:
    match decision:
        case Expand():
            return f"step {decision.step}"
        case Resample():
            return f"another round ({decision.round})"
        case EndSearch():
            return "the end of the search"
        case Fail():
            return f"failure ({decision.reason})"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
