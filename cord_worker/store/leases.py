"""Leases: claiming work, writing its result once, and giving it back.

A lease is (state, worker, attempt). A result is written only by the holder of the current lease: where the
sweeper took a lease back, or another worker claimed the row since, the late result matches no row, is dropped
and counted (fencing). Every function takes many units at once, so that a process commits in groups.

A claim does not wait for the disk: if PostgreSQL crashes before it is flushed, the row is unclaimed again, its
worker's result comes late, and nothing that was committed is lost. Results are flushed before they count, and whatever
they rest on was written to the log before them.

Locks are always taken candidates first, then problems in key order; the coordinator locks a problem only when all
its candidates are final, so no circle can form.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from cord_worker.store.isolation import must_be_alone
from cord_worker.store.work import (
    AnswerResult,
    LeasedAnswer,
    LeasedProposal,
    LeasedScore,
    Outcome,
    ProblemProver,
    ProposalResult,
    ProposalUnit,
    ScoreResult,
    Source,
)

WITHOUT_FLUSH = "unflushed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))"
"""SQL: a table of a claim; whoever reads from `unflushed` does not wait for the disk when the transaction commits, see
above. In a statement of its own it would be one more round trip."""


def in_state(column: str, state: str) -> str:
    """SQL: the row is in `state`, said so that PostgreSQL does not look it up in the partial index of states.

    Rows are to be found by their keys. That index looks cheaper to the planner, by statistics that are always old, and
    holds a dead entry for every state that a row has left lately: hundreds for every one that is meant.
    """
    return f"{column} IS NOT DISTINCT FROM '{state}'"


_CLAIM_PROPOSALS = sa.text(
    f"""
    WITH {WITHOUT_FLUSH}, due AS (
        SELECT c.id
        FROM unflushed,
             unnest(CAST(:problem_ids AS bigint[]), CAST(:teacher_ids AS bigint[])) AS unit(problem_id, teacher_id)
        JOIN problems p ON p.id = unit.problem_id AND p.state = 'searching'
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN candidates c ON c.problem_id = p.id AND c.step = p.step AND c.teacher_id = unit.teacher_id
        WHERE {in_state("c.state", "pending")} AND {must_be_alone("c.propose_attempts")} = :alone
        ORDER BY c.id
        FOR UPDATE OF c SKIP LOCKED
    )
    UPDATE candidates c
    SET state = 'proposing', worker_id = :worker_id, propose_attempts = c.propose_attempts + 1, touched_at = now()
    FROM due, problems p
    WHERE c.id = due.id AND p.id = c.problem_id
    RETURNING c.id, c.propose_attempts, c.problem_id, c.teacher_id, c.parent_id, c.seed, c.max_tokens,
              c.whole, c.sources, p.question, p.passage
    """
)

_PATHS = sa.text(
    """
    WITH RECURSIVE path AS (
        SELECT c.id AS leaf, c.parent_id, c.depth, c.text FROM candidates c WHERE c.id = ANY(:leaves)
        UNION ALL
        SELECT path.leaf, parent.*
        FROM path, LATERAL (
            SELECT c.parent_id, c.depth, c.text FROM candidates c WHERE c.id = path.parent_id LIMIT 1
        ) parent
    )
    SELECT leaf, text FROM path ORDER BY leaf, depth
    """
)
"""Each parent is looked up by its key (LIMIT keeps the subquery whole): a plain join is planned for ten times as many
rows as there are leaves, and then reads all candidates at every step."""

_FINISH_PROPOSALS = sa.text(
    f"""
    UPDATE candidates c
    SET state = CASE WHEN r.invalid_reason IS NOT NULL THEN 'invalid'
                     WHEN run.prover_model_id IS NULL THEN 'unscored' ELSE 'proposed' END,
        thinking_tokens = CASE WHEN run.prover_model_id IS NULL THEN r.completion_tokens END,
        text = r.text, finish_reason = r.finish_reason, invalid_reason = r.invalid_reason,
        prompt_tokens = r.prompt_tokens, completion_tokens = r.completion_tokens,
        cached_tokens = r.cached_tokens, propose_seconds = r.seconds, reply = r.reply, answer_part = r.answer_part,
        sources = CASE WHEN r.merged IS NULL THEN c.sources
                       ELSE trim_array(c.sources, cardinality(c.sources) - r.merged) END,
        proposed_at = now(), touched_at = now()
    FROM unnest(
        CAST(:candidate_id AS bigint[]), CAST(:attempt AS int[]), CAST(:text AS text[]),
        CAST(:finish_reason AS text[]), CAST(:invalid_reason AS text[]), CAST(:prompt_tokens AS int[]),
        CAST(:completion_tokens AS int[]), CAST(:cached_tokens AS int[]), CAST(:seconds AS float8[]),
        CAST(:reply AS text[]), CAST(:answer_part AS text[]), CAST(:merged AS int[])
    ) AS r(id, attempt, text, finish_reason, invalid_reason, prompt_tokens, completion_tokens, cached_tokens, seconds,
           reply, answer_part, merged),
         problems p JOIN runs run ON run.id = p.run_id
         LEFT JOIN models prover ON prover.id = run.prover_model_id AND run.state = 'active' AND p.state = 'searching'
    WHERE c.id = r.id AND {in_state("c.state", "proposing")}
      AND c.worker_id = :worker_id AND c.propose_attempts = r.attempt AND p.id = c.problem_id
    RETURNING c.problem_id, c.state, p.step, prover.fingerprint AS prover_model
    """
)

_ADOPT_SCORING_MODE = sa.text(
    """
    UPDATE runs SET scoring_mode = :mode
    WHERE scoring_mode IS NULL AND id IN (SELECT run_id FROM problems WHERE id = ANY(:problem_ids))
    """
)

_CLAIM_SCORES = sa.text(
    f"""
    WITH {WITHOUT_FLUSH}, due AS (
        SELECT c.id
        FROM unflushed, problems p
        JOIN runs r ON r.id = p.run_id AND r.state = 'active' AND r.scoring_mode = :mode
        JOIN candidates c ON c.problem_id = p.id AND c.step = p.step
        WHERE p.id = ANY(:problem_ids) AND p.state = 'searching' AND {in_state("c.state", "proposed")}
          AND {must_be_alone("c.score_attempts")} = :alone
        ORDER BY c.id
        FOR UPDATE OF c SKIP LOCKED
    )
    UPDATE candidates c
    SET state = 'scoring', score_worker_id = :worker_id, score_attempts = c.score_attempts + 1, touched_at = now()
    FROM due, problems p
    WHERE c.id = due.id AND p.id = c.problem_id
    RETURNING c.id, c.score_attempts, c.problem_id, p.run_id, p.question, p.passage, p.answer
    """
)

_FINISH_SCORES = sa.text(
    f"""
    UPDATE candidates c
    SET state = CASE WHEN r.invalid_reason IS NOT NULL THEN 'invalid'
                     WHEN (SELECT u.reward_model_id FROM problems p JOIN runs u ON u.id = p.run_id
                           WHERE p.id = c.problem_id) IS NULL THEN 'scored'
                     ELSE 'unjudged' END,
        invalid_reason = r.invalid_reason, score = r.score, log_prob_sum = r.log_prob_sum,
        answer_tokens = r.answer_tokens, thinking_tokens = r.thinking_tokens,
        score_prompt_tokens = r.prompt_tokens, score_cached_tokens = r.cached_tokens, score_seconds = r.seconds,
        scoring_mode = :mode, scored_at = now(), touched_at = now()
    FROM unnest(
        CAST(:candidate_id AS bigint[]), CAST(:attempt AS int[]), CAST(:invalid_reason AS text[]),
        CAST(:score AS float8[]), CAST(:log_prob_sum AS float8[]), CAST(:answer_tokens AS int[]),
        CAST(:thinking_tokens AS int[]), CAST(:prompt_tokens AS int[]), CAST(:cached_tokens AS int[]),
        CAST(:seconds AS float8[])
    ) AS r(id, attempt, invalid_reason, score, log_prob_sum, answer_tokens, thinking_tokens, prompt_tokens,
           cached_tokens, seconds)
    WHERE c.id = r.id AND {in_state("c.state", "scoring")}
      AND c.score_worker_id = :worker_id AND c.score_attempts = r.attempt
    RETURNING c.problem_id, c.state
    """
)

_LOCK_PROBLEMS = sa.text("SELECT id FROM problems WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")

_LOWER_BARRIER = sa.text(
    """
    WITH locked AS MATERIALIZED (
        SELECT id FROM problems WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE problems p
    SET outstanding = p.outstanding - done.count, touched_at = now()
    FROM locked JOIN unnest(CAST(:ids AS bigint[]), CAST(:counts AS int[])) AS done(id, count) ON done.id = locked.id
    WHERE p.id = locked.id
    RETURNING p.id, p.outstanding, p.state
    """
)

_CLAIM_ANSWERS = sa.text(
    f"""
    WITH {WITHOUT_FLUSH}, due AS (
        SELECT t.id
        FROM unflushed, trajectories t
        JOIN problems p ON p.id = t.problem_id AND p.state = 'answering'
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN candidates c ON c.id = t.candidate_id
        JOIN teachers ON teachers.id = c.teacher_id
        JOIN models m ON m.id = teachers.model_id AND m.fingerprint = :model
        WHERE t.problem_id = ANY(:problem_ids) AND {in_state("t.answer_state", "pending")}
          AND {must_be_alone("t.answer_attempts")} = :alone
        ORDER BY t.id
        FOR UPDATE OF t SKIP LOCKED
    )
    UPDATE trajectories t
    SET answer_state = 'writing', worker_id = :worker_id, answer_attempts = t.answer_attempts + 1, touched_at = now()
    FROM due, problems p, candidates c
    WHERE t.id = due.id AND p.id = t.problem_id AND c.id = t.candidate_id
    RETURNING t.id, t.answer_attempts, t.problem_id, t.candidate_id, t.answer_seed, c.teacher_id,
              p.question, p.passage
    """
)

_FINISH_ANSWERS = sa.text(
    f"""
    UPDATE trajectories t
    SET answer_state = 'written', answer_text = r.text, answer_finish_reason = r.finish_reason,
        answer_prompt_tokens = r.prompt_tokens, answer_completion_tokens = r.completion_tokens,
        answer_cached_tokens = r.cached_tokens, answer_seconds = r.seconds, answered_at = now(), touched_at = now()
    FROM unnest(
        CAST(:trajectory_id AS bigint[]), CAST(:attempt AS int[]), CAST(:text AS text[]),
        CAST(:finish_reason AS text[]), CAST(:prompt_tokens AS int[]), CAST(:completion_tokens AS int[]),
        CAST(:cached_tokens AS int[]), CAST(:seconds AS float8[])
    ) AS r(id, attempt, text, finish_reason, prompt_tokens, completion_tokens, cached_tokens, seconds)
    WHERE t.id = r.id AND {in_state("t.answer_state", "writing")}
      AND t.worker_id = :worker_id AND t.answer_attempts = r.attempt
    RETURNING t.problem_id
    """
)

_RETURN_ANSWERS = sa.text(
    """
    UPDATE trajectories SET answer_state = 'pending', touched_at = now()
    WHERE id = ANY(:ids) AND answer_state = 'writing' AND worker_id = :worker_id
    """
)

_ANSWERED = sa.text(
    """
    UPDATE problems SET state = 'verifying', touched_at = now()
    WHERE id = ANY(:ids) AND state = 'answering' AND NOT EXISTS (
        SELECT 1 FROM trajectories t WHERE t.problem_id = problems.id AND t.answer_state IN ('pending', 'writing')
    )
    RETURNING id
    """
)

_COUNT_DROPPED = sa.text("UPDATE workers SET dropped_results = dropped_results + :count WHERE id = :worker_id")


def read_paths(connection: sa.Connection, leaves: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """Step texts from the root to each leaf candidate."""
    wanted = sorted(set(leaves))
    if not wanted:
        return {}
    texts: dict[int, list[str]] = defaultdict(list)
    for leaf, step_text in connection.execute(_PATHS, {"leaves": wanted}):
        texts[leaf].append(step_text)
    return {leaf: tuple(steps) for leaf, steps in texts.items()}


def claim_proposals(
    connection: sa.Connection, worker_id: uuid.UUID, units: Sequence[ProposalUnit], *, alone: bool = False
) -> list[LeasedProposal]:
    """Leases the pending candidates of `units`; those already claimed or no longer wanted are left out.

    `alone`: those that may only be done alone (`isolation`), else the others; so with every claim.
    """
    rows = connection.execute(
        _CLAIM_PROPOSALS,
        {
            "problem_ids": [unit.problem_id for unit in units],
            "teacher_ids": [unit.teacher_id for unit in units],
            "worker_id": worker_id,
            "alone": alone,
        },
    ).all()
    leaves = {row.parent_id for row in rows if row.parent_id is not None}
    paths = read_paths(connection, leaves.union(*(row.sources or () for row in rows)))
    return [
        LeasedProposal(
            candidate_id=row.id,
            attempt=row.propose_attempts,
            problem_id=row.problem_id,
            teacher_id=row.teacher_id,
            question=row.question,
            passage=row.passage,
            steps=paths.get(row.parent_id, ()),
            seed=row.seed,
            max_tokens=row.max_tokens,
            whole=row.whole,
            sources=tuple(Source(id_, paths[id_]) for id_ in row.sources or ()),
        )
        for row in sorted(rows, key=lambda row: row.id)
    ]


def finish_proposals(connection: sa.Connection, worker_id: uuid.UUID, results: Sequence[ProposalResult]) -> Outcome:
    """Writes proposals whose lease is still held; final at once are invalid ones, and all where nothing is scored."""
    rows = connection.execute(
        _FINISH_PROPOSALS,
        {
            "worker_id": worker_id,
            **columns(ProposalResult, results),
        },
    ).all()
    count_dropped(connection, worker_id, len(results) - len(rows))
    complete = lower_barrier(connection, [row.problem_id for row in rows if row.state != "proposed"])
    return Outcome(
        to_score=frozenset(
            ProblemProver(row.problem_id, row.step, row.prover_model)
            for row in rows
            if row.state == "proposed" and row.prover_model is not None
        ),
        to_advance=complete,
        dropped=len(results) - len(rows),
    )


def claim_scores(
    connection: sa.Connection,
    worker_id: uuid.UUID,
    problem_ids: Sequence[int],
    *,
    scoring_mode: str,
    alone: bool = False,
) -> list[LeasedScore]:
    """Leases every proposed candidate of the problems' current steps, for runs of this scoring mode.

    A run without a scoring mode takes this one.
    """
    wanted = set(problem_ids)
    asked = {"worker_id": worker_id, "mode": scoring_mode, "alone": alone}
    rows = list(connection.execute(_CLAIM_SCORES, {"problem_ids": sorted(wanted), **asked}))
    left = sorted(wanted.difference(row.problem_id for row in rows))
    if left and connection.execute(_ADOPT_SCORING_MODE, {"problem_ids": left, "mode": scoring_mode}).rowcount:
        rows += connection.execute(_CLAIM_SCORES, {"problem_ids": left, **asked})
    paths = read_paths(connection, (row.id for row in rows))
    return [
        LeasedScore(
            candidate_id=row.id,
            attempt=row.score_attempts,
            problem_id=row.problem_id,
            run_id=row.run_id,
            question=row.question,
            passage=row.passage,
            answer=row.answer,
            steps=paths[row.id],
        )
        for row in sorted(rows, key=lambda row: row.id)
    ]


def finish_scores(
    connection: sa.Connection, worker_id: uuid.UUID, results: Sequence[ScoreResult], *, scoring_mode: str
) -> Outcome:
    """Writes scores whose lease is still held, and lowers the barrier of their problems.

    In a run whose candidates are judged, valid ones are not final before that.
    """
    rows = connection.execute(
        _FINISH_SCORES,
        {
            "worker_id": worker_id,
            "mode": scoring_mode,
            **columns(ScoreResult, results),
        },
    ).all()
    count_dropped(connection, worker_id, len(results) - len(rows))
    return Outcome(
        to_judge=frozenset(row.problem_id for row in rows if row.state == "unjudged"),
        to_advance=lower_barrier(connection, [row.problem_id for row in rows if row.state != "unjudged"]),
        dropped=len(results) - len(rows),
    )


def claim_answers(
    connection: sa.Connection, worker_id: uuid.UUID, problem_ids: Sequence[int], *, model: str, alone: bool = False
) -> list[LeasedAnswer]:
    """Leases the final answers that are due for these problems and that teachers of `model` (a fingerprint) write."""
    parameters = {"problem_ids": sorted(set(problem_ids)), "worker_id": worker_id, "model": model, "alone": alone}
    rows = connection.execute(_CLAIM_ANSWERS, parameters).all()
    paths = read_paths(connection, (row.candidate_id for row in rows))
    return [
        LeasedAnswer(
            trajectory_id=row.id,
            attempt=row.answer_attempts,
            problem_id=row.problem_id,
            teacher_id=row.teacher_id,
            question=row.question,
            passage=row.passage,
            steps=paths[row.candidate_id],
            seed=row.answer_seed,
        )
        for row in sorted(rows, key=lambda row: row.id)
    ]


def finish_answers(connection: sa.Connection, worker_id: uuid.UUID, results: Sequence[AnswerResult]) -> Outcome:
    """Writes final answers whose lease is still held; a problem all of whose answers are written is to be verified."""
    rows = connection.execute(
        _FINISH_ANSWERS,
        {
            "worker_id": worker_id,
            **columns(AnswerResult, results),
        },
    ).all()
    count_dropped(connection, worker_id, len(results) - len(rows))
    ids = sorted({row.problem_id for row in rows})
    if ids:
        connection.execute(_LOCK_PROBLEMS, {"ids": ids})
    # A statement of its own after the lock: it sees the answers of whoever held the problem before.
    answered = connection.execute(_ANSWERED, {"ids": ids}).scalars().all() if ids else []
    return Outcome(to_advance=frozenset(answered), dropped=len(results) - len(rows))


def return_answers(connection: sa.Connection, worker_id: uuid.UUID, trajectory_ids: Sequence[int]) -> None:
    """Gives answers back that cannot be written."""
    connection.execute(_RETURN_ANSWERS, {"ids": list(trajectory_ids), "worker_id": worker_id})


def columns(kind: type, results: Sequence[Any]) -> dict[str, list[Any]]:
    """One array a field, as the statements unnest them."""
    return {field.name: [getattr(result, field.name) for result in results] for field in fields(kind)}


def lower_barrier(connection: sa.Connection, problem_ids: Sequence[int]) -> frozenset[int]:
    """Counts final candidates off their problems; returns the problems whose step is now complete."""
    if not problem_ids:
        return frozenset()
    final = Counter(problem_ids)
    rows = connection.execute(_LOWER_BARRIER, {"ids": list(final), "counts": list(final.values())}).all()
    return frozenset(row.id for row in rows if row.outstanding == 0 and row.state == "searching")


def count_dropped(connection: sa.Connection, worker_id: uuid.UUID, count: int) -> None:
    """Counts results that came late or twice."""
    if count:
        connection.execute(_COUNT_DROPPED, {"count": count, "worker_id": worker_id})
