"""`cordctl replay` and `verify-db`: decisions taken again from the stored rows and compared, and the tables checked.

Decisions are pure functions of rows (`search`), so they can be taken again on any machine at any time, without a model.
What is compared: the ranking of every step, who is kept and who is invalid, the beam and its finishes, what was
planned next (parents, teachers, samples, lineages, seeds, token caps), the winner and its path, and the seeds of the
final answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from cord_worker.coordination.context import RunContext, RunContexts
from cord_worker.coordination.deciding import answer_seeds, decide
from cord_worker.errors import StoreError
from cord_worker.search.decision import Decision, Expand, Fail, Finish, Retry
from cord_worker.search.types import Expansion, InvalidReason, SearchError
from cord_worker.store.database import Database
from cord_worker.store.invariants import INVARIANTS, Verdict, check
from cord_worker.store.models import CandidateState, ProblemState
from cord_worker.store.replaying import (
    StoredCandidate,
    StoredSearch,
    begun_problems,
    freeze,
    read_search,
    unknown_keys,
)
from cord_worker.store.runs import RunRow, resolve_run

_FINAL = {CandidateState.SCORED, CandidateState.UNSCORED, CandidateState.INVALID}


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where a stored row is not what the decision comes to; `round` and `step` say which decision."""

    problem: str
    step: int
    round: int
    what: str
    stored: str
    recomputed: str

    def __str__(self) -> str:
        place = f"problem {self.problem}, step {self.step}"
        if self.round:
            place += f", round {self.round}"
        return f"{place}: {self.what}: stored {self.stored}, recomputed {self.recomputed}"

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Replay:
    """What a replay came to: `differences` holds the first one of every problem that has any."""

    run: str
    problems: int = 0
    decisions: int = 0
    differences: list[Difference] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "run": self.run,
            "problems": self.problems,
            "decisions": self.decisions,
            "differences": [difference.to_json() for difference in self.differences],
        }


def replay_run(database: Database, name: str | None, keys: Sequence[str] = ()) -> Iterator[Replay]:
    """Replays the run called `name` (None: the newest), or only its problems called `keys`.

    Yields the same growing `Replay` after every problem, the last time when it is whole.
    Raises RunNotFound, and StoreError where the run has no problem of a name.
    """

    def find(connection: sa.Connection) -> tuple[RunRow, list[int]]:
        run = resolve_run(connection, name)
        unknown = unknown_keys(connection, run.id, keys)
        if unknown:
            raise StoreError(f"run {run.name!r} has no problem called {unknown[0]!r}")
        return run, begun_problems(connection, run.id, keys or None)

    run, problem_ids = database.run(find)
    contexts = RunContexts(database)
    context = contexts.of_run(run.id)
    replayed = Replay(run.name)
    yield replayed
    for problem_id in problem_ids:

        def one(connection: sa.Connection, problem_id: int = problem_id) -> Outcome:
            freeze(connection)
            return replay_problem(connection, context, problem_id)

        outcome = database.run(one)
        replayed.problems += 1
        replayed.decisions += outcome.decisions
        if outcome.difference is not None:
            replayed.differences.append(outcome.difference)
        yield replayed


def verify_tables(database: Database, name: str | None, *, examples: int) -> list[Verdict]:
    """Every invariant's verdict, all of one moment, on the run called `name` (None: on all). Raises RunNotFound."""

    def verdicts(connection: sa.Connection) -> list[Verdict]:
        freeze(connection)
        run_id = None if name is None else resolve_run(connection, name).id
        return [check(connection, invariant, run_id, examples=examples) for invariant in INVARIANTS]

    return database.run(verdicts)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Decisions of one problem that were taken again, and the first difference that was found."""

    decisions: int
    difference: Difference | None


def replay_problem(connection: sa.Connection, context: RunContext, problem_id: int) -> Outcome:
    """Replays one problem as `connection` sees it; one that is gone has no decisions."""
    search = read_search(connection, problem_id)
    if search is None:
        return Outcome(0, None)
    replayer = _Replayer(connection, context, search)
    difference = next(replayer.differences(), None)
    return Outcome(replayer.decisions, difference)


class _Replayer:
    """Takes one problem's decisions again, in their order."""

    def __init__(self, connection: sa.Connection, context: RunContext, search: StoredSearch) -> None:
        self._connection = connection
        self._context = context
        self._search = search
        self._at = (0, 0)
        self.decisions = 0

    def differences(self) -> Iterator[Difference]:
        """Every difference of a decision, and after the last decision those of the whole search."""
        search = self._search
        turns = sorted({(one.step, one.round) for one in search.candidates})
        at = (0, 0)
        for following in turns:
            yield from self._decision(at, following)
            at = following
        yield from self._last(at)

    def _decision(self, at: tuple[int, int], following: tuple[int, int]) -> Iterator[Difference]:
        """The decision taken at one step and round, after which `following` was planned."""
        self._at = at
        decision = self._decide()
        match decision:
            case str():
                yield self._difference("the decision", f"step {following[0]}, round {following[1]}", decision)
            case Expand():
                yield from self._equal("what follows", following, (decision.step, decision.round))
                yield from self._choice(decision.ranking, decision.invalid, beam=_slots(decision))
                yield from self._plan(following, decision.expansions)
            case Retry():
                yield from self._equal("what follows", following, (at[0], decision.round))
                yield from self._invalid(decision.invalid)
                yield from self._plan(following, decision.expansions)
            case Finish() | Fail():
                came_to = "the end of the search" if isinstance(decision, Finish) else f"failure ({decision.reason})"
                yield self._difference("the decision", f"step {following[0]}, round {following[1]}", came_to)

    def _last(self, at: tuple[int, int]) -> Iterator[Difference]:
        """The last step and round: the search ended there, failed there, or is still at it."""
        self._at = at
        search = self._search
        problem = search.problem
        yield from self._equal("where the problem stands", (problem.step, problem.round), at)
        ended = any(slot.step == at[0] for slot in search.slots)
        current = [one for one in search.candidates if (one.step, one.round) == at]
        if not ended:
            decided = problem.state == ProblemState.FAILED and all(one.state in _FINAL for one in current)
            if decided and problem.outstanding == 0:
                yield from self._failure()
            elif problem.state in (ProblemState.ANSWERING, ProblemState.VERIFYING, ProblemState.DONE):
                yield self._difference("the last beam", "none", f"one, as the problem is {problem.state}")
            return
        decision = self._decide()
        if not isinstance(decision, Finish):
            came_to = decision if isinstance(decision, str) else _words(decision)
            yield self._difference("the decision", "the end of the search", came_to)
            return
        yield from self._choice(decision.ranking, decision.invalid, beam=_slots(decision))
        yield from self._ending(decision)

    def _failure(self) -> Iterator[Difference]:
        decision = self._decide()
        stored = self._search.failure_reason or "no reason"
        match decision:
            case str():
                # A defect that ended the problem is recorded with a sentence of its own around the error.
                if decision not in stored:
                    yield self._difference("the failure", stored, decision)
            case Fail():
                yield from self._equal("the failure", stored, decision.reason)
                yield from self._invalid(decision.invalid)
            case _:
                yield self._difference("the decision", f"failure ({stored})", _words(decision))

    def _decide(self) -> Decision | str:
        """The decision, or the error that it ended in."""
        step, round = self._at
        self.decisions += 1
        try:
            return decide(self._connection, self._context, replace(self._search.problem, step=step, round=round))
        except SearchError as error:
            return str(error)

    def _choice(
        self, ranking: Sequence[int], invalid: dict[int, InvalidReason], *, beam: Sequence[tuple[int, str | None]]
    ) -> Iterator[Difference]:
        step, _ = self._at
        ranks = {id_: rank for rank, id_ in enumerate(ranking)}
        for one in self._current():
            yield from self._equal(f"rank of candidate {one.id}", one.rank, ranks.get(one.id))
        yield from self._invalid(invalid)
        stored = [(slot.candidate_id, slot.finish) for slot in self._search.slots if slot.step == step]
        yield from self._equal("the beam (candidate, finish)", stored, list(beam))

    def _invalid(self, invalid: dict[int, InvalidReason]) -> Iterator[Difference]:
        for one in self._current():
            yield from self._equal(
                f"why candidate {one.id} is invalid",
                one.invalid_reason,
                invalid[one.id].value if one.id in invalid else None,
            )

    def _plan(self, following: tuple[int, int], expansions: Sequence[Expansion]) -> Iterator[Difference]:
        rows = [one for one in self._search.candidates if (one.step, one.round) == following]
        yield from self._equal("number of candidates planned next", len(rows), len(expansions))
        for row, expansion in zip(rows, expansions, strict=False):
            for name in _PLANNED:
                yield from self._equal(f"{name} of candidate {row.id}", getattr(row, name), getattr(expansion, name))
            # What had no room in the integrator's context was cut off the end when it was merged.
            merged = row.sources == expansion.sources[: len(row.sources)] and bool(row.sources) == bool(
                expansion.sources
            )
            if not merged:
                yield self._difference(f"sources of candidate {row.id}", str(row.sources), str(expansion.sources))

    def _ending(self, decision: Finish) -> Iterator[Difference]:
        search = self._search
        rows = {row.candidate_id: row for row in search.trajectories}
        for id_, (steps, finish, dropped) in self._finished().items():
            row = rows.pop(id_, None)
            stored = None if row is None else (row.steps, row.finish, row.dropped_at_step)
            expected = (steps, finish, dropped)
            yield from self._equal(f"trajectory of candidate {id_} (steps, finish, dropped at)", stored, expected)
        for id_ in rows:
            yield self._difference(f"trajectory of candidate {id_}", "there", "never finished")
        winners = [row.candidate_id for row in search.trajectories if row.winner]
        winner = [] if decision.winner is None else [decision.winner.candidate_id]
        yield from self._equal("the winner", winners, winner)
        parents = {one.id: one.parent_id for one in search.candidates}
        path = set()
        at = winner[0] if winner else None
        while at is not None:
            path.add(at)
            at = parents[at]
        kept = {slot.candidate_id for slot in search.slots}
        for one in search.candidates:
            yield from self._equal(f"candidate {one.id} on the winner's path", one.winning, one.id in path)
            yield from self._equal(f"candidate {one.id} kept", bool(one.kept), one.id in kept)
        asked = {row.candidate_id: row.answer_seed for row in search.trajectories if row.answer_seed is not None}
        seeds = answer_seeds(self._context, search.problem.key, decision)
        expected_seeds = {one.candidate_id: seed for one, seed in zip(decision.answered, seeds, strict=True)}
        yield from self._equal("seeds of the final answers (by candidate)", asked, expected_seeds)

    def _finished(self) -> dict[int, tuple[int, str, int | None]]:
        """Finished trajectories by candidate: steps, finish, and the first later step whose beam is without it."""
        depths = {one.id: one.depth for one in self._search.candidates}
        beams: dict[int, dict[int, str | None]] = {}
        for slot in self._search.slots:
            beams.setdefault(slot.step, {})[slot.candidate_id] = slot.finish
        found: dict[int, tuple[int, str, int | None]] = {}
        for step in sorted(beams):
            for id_, (steps, finish, dropped) in list(found.items()):
                if dropped is None and id_ not in beams[step]:
                    found[id_] = (steps, finish, step)
            for id_, kind in beams[step].items():
                if kind is not None and id_ not in found:
                    found[id_] = (depths[id_], kind, None)
        return found

    def _current(self) -> Iterable[StoredCandidate]:
        return (one for one in self._search.candidates if (one.step, one.round) == self._at)

    def _equal(self, what: str, stored: Any, recomputed: Any) -> Iterator[Difference]:
        if stored != recomputed:
            yield self._difference(what, _shown(stored), _shown(recomputed))

    def _difference(self, what: str, stored: str, recomputed: str) -> Difference:
        step, round = self._at
        return Difference(self._search.problem.key, step, round, what, stored, recomputed)


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


def _slots(decision: Expand | Finish) -> list[tuple[int, str | None]]:
    return [(one.candidate_id, None if one.finish is None else one.finish.value) for one in decision.beam]


def _words(decision: Decision) -> str:
    match decision:
        case Expand():
            return f"step {decision.step}"
        case Retry():
            return f"another round ({decision.round})"
        case Finish():
            return "the end of the search"
        case Fail():
            return f"failure ({decision.reason})"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
