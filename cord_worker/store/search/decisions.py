"""Reads the rows that a decision of the search needs, and writes the decision.

The beam is built from these tables, never from memory; `cordctl replay` reads the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cord_worker.search.decision import EndSearch, Expand, Fail, Resample
from cord_worker.search.types import Beam, Candidate, Expansion, Finish, InvalidReason, Trajectory
from cord_worker.store.schema import digests
from cord_worker.store.schema.rollups import write_rollups
from cord_worker.store.schema.tables import ProblemState


@dataclass(frozen=True, slots=True)
class ProblemSnapshot:
    """Where a problem's search stands. `is_tried_again`: its decision failed before, or was passed on."""

    id: int
    run_id: int
    key: str
    state: str
    run_state: str
    step: int
    round: int
    outstanding: int
    is_tried_again: bool = False


_LOCK_PROBLEM = sa.text(
    """
    SELECT p.id, p.run_id, p.key, p.state, r.state AS run_state, p.step, p.round, p.outstanding,
           p.decision_due_at IS NOT NULL AS is_tried_again
    FROM problems p JOIN runs r ON r.id = p.run_id
    WHERE p.id = :problem_id FOR NO KEY UPDATE OF p
    """
)

_READ_CANDIDATES = sa.text(
    """
    SELECT c.id, c.parent_id, c.step, c.round, t.ordinal AS teacher, c.sample, c.lineage, c.text, c.finish_reason,
           c.score, c.thinking_tokens, c.invalid_reason, c.parent_rank, c.depth, c.whole, c.judgment
    FROM candidates c JOIN teachers t ON t.id = c.teacher_id
    WHERE c.problem_id = :problem_id AND c.step = :step AND c.round = :round
    ORDER BY c.id
    """
)

_READ_EARLIER = sa.text(
    """
    SELECT c.id, c.parent_id, c.step, c.round, t.ordinal AS teacher, c.sample, c.lineage, NULL AS text,
           c.finish_reason, c.score, c.thinking_tokens, c.invalid_reason, c.parent_rank, c.depth, c.whole, c.judgment
    FROM candidates c JOIN teachers t ON t.id = c.teacher_id
    WHERE c.problem_id = :problem_id AND c.step < :step
    ORDER BY c.id
    """
)

_READ_SPENT = sa.text(
    """
    SELECT coalesce(sum(completion_tokens), 0) FROM candidates
    WHERE problem_id = :problem_id AND (step, round) <= (:step, :round)
    """
)

_READ_BEAM = sa.text(
    """
    SELECT b.candidate_id, c.depth AS steps, c.score, b.finish, c.parent_rank, t.ordinal AS teacher, c.sample,
           c.thinking_tokens, c.lineage, c.judgment
    FROM beams b
    JOIN candidates c ON c.id = b.candidate_id
    JOIN teachers t ON t.id = c.teacher_id
    WHERE b.problem_id = :problem_id AND b.step = :step
    ORDER BY b.rank
    """
)

_PLANNED = """
    planned AS (
        INSERT INTO candidates
            (problem_id, parent_id, parent_rank, step, round, teacher_id, sample, lineage, seed, max_tokens, depth,
             whole, sources)
        SELECT :problem_id, r.parent_id, r.parent_rank, :next_step, :next_round, r.teacher_id, r.sample, r.lineage,
               r.seed, r.max_tokens, r.depth, r.whole, CAST(r.sources AS bigint[])
        FROM unnest(
            CAST(:parent_id AS bigint[]), CAST(:parent_rank AS int[]), CAST(:teacher_id AS bigint[]),
            CAST(:sample AS int[]), CAST(:lineage AS text[]), CAST(:seed AS bigint[]), CAST(:max_tokens AS int[]),
            CAST(:depth AS int[]), CAST(:whole AS boolean[]), CAST(:sources AS text[])
        ) WITH ORDINALITY
            AS r(parent_id, parent_rank, teacher_id, sample, lineage, seed, max_tokens, depth, whole, sources, place)
        ORDER BY r.place
    )
    UPDATE problems
    SET step = :next_step, round = :next_round, outstanding = :planned, unproposed = :planned, touched_at = now()
    WHERE id = :problem_id
"""
"""SQL: the end of a statement; it plans the candidates of the next step or round."""

_CHOSEN = """
    ranked AS (
        UPDATE candidates c
        SET rank = r.rank - 1, kept = c.id = ANY(CAST(:beam AS bigint[]))
        FROM unnest(CAST(:ranking AS bigint[])) WITH ORDINALITY AS r(id, rank)
        WHERE c.id = r.id
    ), member AS (
        INSERT INTO beams (problem_id, step, rank, candidate_id, finish)
        SELECT :problem_id, :step, r.place - 1, r.candidate_id, r.finish
        FROM unnest(CAST(:beam AS bigint[]), CAST(:finish AS text[])) WITH ORDINALITY AS r(candidate_id, finish, place)
        RETURNING rank, candidate_id, finish
    ), finished AS (
        INSERT INTO trajectories (problem_id, candidate_id, steps, score, finish)
        SELECT :problem_id, m.candidate_id, c.depth, c.score, m.finish
        FROM member m JOIN candidates c ON c.id = m.candidate_id
        WHERE m.finish IS NOT NULL
        ORDER BY m.rank
        ON CONFLICT (candidate_id) DO NOTHING
    ), dropped AS (
        UPDATE trajectories SET dropped_at_step = :step
        WHERE problem_id = :problem_id AND dropped_at_step IS NULL AND candidate_id <> ALL(CAST(:beam AS bigint[]))
    )
"""
"""SQL: tables of a statement; they write the ranking and the beam of a step, the trajectories that finished in it, and
those that lost their slot."""

_PLAN = sa.text(f"WITH {_PLANNED}")
_CHOOSE_AND_PLAN = sa.text(f"WITH {_CHOSEN}, {_PLANNED}")
_CHOOSE = sa.text(f"WITH {_CHOSEN} SELECT 1")
"""Each is one statement, which takes one round trip instead of six: problems wait for their decisions."""

_KEEP_EARLIER = sa.text(
    "UPDATE candidates SET kept = true WHERE id = ANY(CAST(:ids AS bigint[])) AND kept IS DISTINCT FROM true"
)
"""A tree search may return to a candidate that did not enter the beam of its own step."""

_WRITE_INVALID = sa.text(
    """
    UPDATE candidates c SET state = 'invalid', invalid_reason = r.reason, kept = false
    FROM unnest(CAST(:ids AS bigint[]), CAST(:reasons AS text[])) AS r(id, reason)
    WHERE c.id = r.id
    """
)

_LINK_DUPLICATES = sa.text(
    """
    UPDATE candidates c SET duplicate_of = (
        SELECT sibling.id FROM candidates sibling JOIN teachers t ON t.id = sibling.teacher_id
        WHERE sibling.problem_id = c.problem_id AND sibling.step = c.step AND sibling.round = c.round
              AND sibling.parent_rank = c.parent_rank
              AND sibling.parent_id IS NOT DISTINCT FROM c.parent_id AND sibling.id <> c.id
              AND sibling.invalid_reason IS DISTINCT FROM 'duplicate'
              AND btrim(regexp_replace(sibling.text, '\\s+', ' ', 'g'))
                  = btrim(regexp_replace(c.text, '\\s+', ' ', 'g'))
        ORDER BY t.ordinal, sibling.sample LIMIT 1
    )
    WHERE c.id = ANY(CAST(:ids AS bigint[])) AND c.invalid_reason = 'duplicate' AND c.duplicate_of IS NULL
    """
)
"""Candidates that a worker of an older release proposed have no text key: only the decision finds their duplicates."""

_ASK_ANSWERS = sa.text(
    """
    UPDATE trajectories j SET answer_state = 'pending', answer_seed = r.seed, touched_at = now()
    FROM unnest(CAST(:candidate_ids AS bigint[]), CAST(:seeds AS bigint[])) AS r(candidate_id, seed)
    WHERE j.candidate_id = r.candidate_id
    """
)

_MARK_WINNER = sa.text("UPDATE trajectories SET winner = true WHERE candidate_id = :candidate_id")

_MARK_WINNING_PATH = sa.text(
    """
    WITH RECURSIVE path AS (
        SELECT c.id, c.parent_id FROM candidates c WHERE c.id = :candidate_id
        UNION ALL
        SELECT c.id, c.parent_id FROM path JOIN candidates c ON c.id = path.parent_id
    )
    UPDATE candidates SET winning = true WHERE id IN (SELECT id FROM path)
    """
)

_TAKEN_DIGEST = digests.ANSWER.sql({"answer_text": "c.answer_part", "answer_finish_reason": "'eos'"})

_TAKE_ANSWERS = sa.text(
    f"""
    UPDATE trajectories j
    SET answer_state = 'written', answer_text = c.answer_part, answer_finish_reason = 'eos',
        answer_digest = {_TAKEN_DIGEST}, answered_at = now(), touched_at = now()
    FROM candidates c
    WHERE j.problem_id = :problem_id AND j.answer_state = 'pending'
      AND c.id = j.candidate_id AND c.answer_part IS NOT NULL
    """
)
"""Takes the final answers that an integrator wrote with its trajectory; no model needs to write them."""

_SET_ANSWERING = sa.text(
    """
    UPDATE problems SET touched_at = now(), state = CASE WHEN EXISTS (
        SELECT 1 FROM trajectories j WHERE j.problem_id = problems.id AND j.answer_state = 'pending'
    ) THEN 'answering' ELSE 'verifying' END
    WHERE id = :problem_id RETURNING state
    """
)

_SET_FAILED = sa.text(
    """
    UPDATE problems SET state = 'failed', failure_reason = :reason, finished_at = now(), touched_at = now()
    WHERE id = :problem_id AND state IN ('queued', 'searching', 'answering', 'verifying') RETURNING id
    """
)


def lock_problem(connection: sa.Connection, problem_id: int) -> ProblemSnapshot | None:
    """Locks the problem's row until the transaction ends; None if it was deleted."""
    row = connection.execute(_LOCK_PROBLEM, {"problem_id": problem_id}).one_or_none()
    return None if row is None else ProblemSnapshot(**row._mapping)


def read_candidates(connection: sa.Connection, problem_id: int, step: int, round: int) -> list[Candidate]:
    """Every candidate of one step and round.

    Candidates that are already marked as duplicates are returned without the mark, so that a decision and its replay
    find the duplicates themselves.
    """
    rows = connection.execute(_READ_CANDIDATES, {"problem_id": problem_id, "step": step, "round": round})
    return [_without_duplicate_mark(Candidate(**row._mapping)) for row in rows]


def read_earlier(connection: sa.Connection, problem_id: int, step: int) -> list[Candidate]:
    """Every candidate of the steps before `step`, all rounds, without its text; these rows no longer change."""
    rows = connection.execute(_READ_EARLIER, {"problem_id": problem_id, "step": step})
    return [Candidate(**row._mapping) for row in rows]


def read_spent(connection: sa.Connection, problem_id: int, step: int, round: int) -> int:
    """Tokens of all proposals up to this step and round, in their teachers' tokenizers; includes invalid ones."""
    parameters = {"problem_id": problem_id, "step": step, "round": round}
    return int(connection.execute(_READ_SPENT, parameters).scalar_one())


def read_beam(connection: sa.Connection, problem_id: int, step: int) -> Beam:
    """The beam chosen after `step`, in rank order; empty for step 0."""
    rows = connection.execute(_READ_BEAM, {"problem_id": problem_id, "step": step})
    return tuple(
        Trajectory(**{**row._mapping, "finish": None if row.finish is None else Finish(row.finish)}) for row in rows
    )


def write_expand(
    connection: sa.Connection, problem: ProblemSnapshot, decision: Expand, teacher_ids: Sequence[int]
) -> None:
    """Writes the ranking and beam of the problem's current step and plans the candidates of the next one."""
    plan = _plan(problem.id, decision.step, decision.round, decision.expansions, teacher_ids)
    if problem.step == 0:
        connection.execute(_PLAN, plan)
        return
    _write_invalid(connection, decision.invalid)
    connection.execute(_CHOOSE_AND_PLAN, {**_choice(problem, decision.ranking, decision.beam), **plan})
    _keep_earlier(connection, decision.ranking, decision.beam)


def write_resample(
    connection: sa.Connection, problem: ProblemSnapshot, decision: Resample, teacher_ids: Sequence[int]
) -> None:
    """Plans another round of the problem's step, whose candidates were all invalid."""
    _write_invalid(connection, decision.invalid)
    plan = _plan(problem.id, problem.step, decision.round, decision.expansions, teacher_ids)
    connection.execute(_PLAN, plan)


def write_end(
    connection: sa.Connection, problem: ProblemSnapshot, decision: EndSearch, *, answer_seeds: Sequence[int]
) -> bool:
    """Writes the last beam and marks its winner, if there is one; returns whether a model must write final answers.

    `answer_seeds` are the seeds of the answers to the trajectories `decision.to_answer`. A model must write these
    answers, except one that an integrator wrote with its trajectory.
    """
    _write_invalid(connection, decision.invalid)
    connection.execute(_CHOOSE, _choice(problem, decision.ranking, decision.beam))
    _keep_earlier(connection, decision.ranking, decision.beam)
    to_answer = [trajectory.candidate_id for trajectory in decision.to_answer]
    connection.execute(_ASK_ANSWERS, {"candidate_ids": to_answer, "seeds": list(answer_seeds)})
    if decision.winner is not None:
        winner = {"candidate_id": decision.winner.candidate_id}
        connection.execute(_MARK_WINNER, winner)
        connection.execute(_MARK_WINNING_PATH, winner)
    connection.execute(_TAKE_ANSWERS, {"problem_id": problem.id})
    state = connection.execute(_SET_ANSWERING, {"problem_id": problem.id}).scalar_one()
    return bool(state == ProblemState.ANSWERING)


def write_fail(connection: sa.Connection, problem: ProblemSnapshot, decision: Fail) -> None:
    """Records that the problem failed."""
    _write_invalid(connection, decision.invalid)
    fail_problem(connection, problem.id, decision.reason)


def fail_problem(connection: sa.Connection, problem_id: int, reason: str) -> None:
    """Records that the problem failed, unless it is final already."""
    failed = connection.execute(_SET_FAILED, {"problem_id": problem_id, "reason": reason}).scalars()
    write_rollups(connection, list(failed))


def _choice(problem: ProblemSnapshot, ranking: Sequence[int], beam: Beam) -> dict[str, Any]:
    return {
        "problem_id": problem.id,
        "step": problem.step,
        "ranking": list(ranking),
        "beam": [trajectory.candidate_id for trajectory in beam],
        "finish": [None if trajectory.finish is None else trajectory.finish.value for trajectory in beam],
    }


def _keep_earlier(connection: sa.Connection, ranking: Sequence[int], beam: Beam) -> None:
    """Marks the candidates of earlier steps that are in the beam as kept."""
    earlier = {trajectory.candidate_id for trajectory in beam}.difference(ranking)
    if earlier:
        connection.execute(_KEEP_EARLIER, {"ids": sorted(earlier)})


def _write_invalid(connection: sa.Connection, invalid: Mapping[int, InvalidReason]) -> None:
    """Marks candidates invalid for these reasons; duplicates get a link to their sibling."""
    if invalid:
        connection.execute(
            _WRITE_INVALID, {"ids": list(invalid), "reasons": [reason.value for reason in invalid.values()]}
        )
    repeated = [id_ for id_, reason in invalid.items() if reason == InvalidReason.DUPLICATE]
    if repeated:
        connection.execute(_LINK_DUPLICATES, {"ids": repeated})


def _plan(
    problem_id: int, step: int, round: int, expansions: Sequence[Expansion], teacher_ids: Sequence[int]
) -> dict[str, Any]:
    return {
        "problem_id": problem_id,
        "next_step": step,
        "next_round": round,
        "planned": len(expansions),
        "parent_id": [expansion.parent_id for expansion in expansions],
        "parent_rank": [expansion.parent_rank for expansion in expansions],
        "teacher_id": [teacher_ids[expansion.teacher] for expansion in expansions],
        "sample": [expansion.sample for expansion in expansions],
        "lineage": [expansion.lineage for expansion in expansions],
        "seed": [expansion.seed for expansion in expansions],
        "max_tokens": [expansion.max_tokens for expansion in expansions],
        "depth": [expansion.depth for expansion in expansions],
        "whole": [expansion.whole for expansion in expansions],
        "sources": [_array_text(expansion.sources) for expansion in expansions],
    }


def _array_text(ids: Sequence[int]) -> str | None:
    """The ids as an array in PostgreSQL's notation; None if there are none."""
    return f"{{{','.join(map(str, ids))}}}" if ids else None


def _without_duplicate_mark(candidate: Candidate) -> Candidate:
    if candidate.invalid_reason != InvalidReason.DUPLICATE:
        return candidate
    values = {name: getattr(candidate, name) for name in Candidate.__slots__}
    return Candidate(**{**values, "invalid_reason": None})
