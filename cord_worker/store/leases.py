"""Leases: claiming work, writing its result once, and giving it back.

A lease is (state, worker, attempt). A result is written only by the holder of the current lease: where the
sweeper took a lease back, or another worker claimed the row since, the late result matches no row, is dropped
and counted (fencing). Every function takes many units at once, so that a process commits in groups.

A claim does not wait for the disk: if PostgreSQL crashes before it is flushed, the row is unclaimed again, its
worker's result comes late, and nothing that was committed is lost. Results are flushed before they count, and whatever
they rest on was written to the log before them.

A claim, and the finish of candidates, is one statement, so that it can be a transaction of its own
(`Database.run_single`). It finds its rows by their keys, whatever the planner believes of the tables.

Locks are always taken candidates first, then problems in key order; the coordinator locks a problem only when all
its candidates are final, so no circle can form.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import sqlalchemy as sa

from cord_worker.store import digests
from cord_worker.store.isolation import must_be_alone
from cord_worker.store.work import (
    AnswerResult,
    Claimed,
    LeasedAnswer,
    LeasedProposal,
    LeasedScore,
    Next,
    Outcome,
    ProposalResult,
    ScoreResult,
    Source,
)

Lease = TypeVar("Lease")

WITHOUT_FLUSH = "unflushed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))"
"""SQL: a table of a claim; whoever reads from `unflushed` does not wait for the disk when the transaction commits, see
above. In a statement of its own it would be one more round trip."""


def in_state(column: str, state: str) -> str:
    """SQL: the row is in `state`, said so that PostgreSQL does not look it up in the partial index of states.

    Rows are to be found by their keys. That index looks cheaper to the planner, by statistics that are always old, and
    holds a dead entry for every state that a row has left lately: hundreds for every one that is meant.
    """
    return f"{column} IS NOT DISTINCT FROM '{state}'"


def steps_to(leaf: str) -> str:
    """SQL: step texts from the root to the candidate with this key (a column), NULL where that is NULL.

    Each parent is looked up by its key (LIMIT keeps the subquery whole): a plain join is planned for ten times as many
    rows as there are, and then reads all candidates at every step.
    """
    return f"""
        (WITH RECURSIVE path AS (
            SELECT c.parent_id, c.depth, c.text FROM candidates c WHERE c.id = {leaf}
            UNION ALL
            SELECT parent.* FROM path, LATERAL (
                SELECT c.parent_id, c.depth, c.text FROM candidates c WHERE c.id = path.parent_id LIMIT 1
            ) parent
        ) SELECT array_agg(path.text ORDER BY path.depth) FROM path)"""


def writer_of(candidate: str) -> str:
    """SQL: fingerprint of the model behind the candidate in this row (an alias); never a way to find candidates by."""
    return f"""
        (SELECT m.fingerprint FROM teachers t JOIN models m ON m.id = t.model_id WHERE t.id = {candidate}.teacher_id)"""


def lower_barrier(moves_on: str) -> str:
    """SQL: the end of a statement whose table `written` (problem_id, is_text, is_final, …) holds the candidates that it
    wrote.

    Counts new texts and final candidates off their problems. Says of each candidate whether its problem's step is
    complete now, and where that `moves_on` (SQL about `written` and `lowered`, the problem) to the next model.
    """
    return f"""
    locked AS MATERIALIZED (
        SELECT p.id, done.texts, done.final
        FROM (
            SELECT problem_id, count(*) FILTER (WHERE is_text) AS texts, count(*) FILTER (WHERE is_final) AS final
            FROM written WHERE is_text OR is_final GROUP BY problem_id
        ) done
        JOIN problems p ON p.id = done.problem_id
        ORDER BY p.id FOR NO KEY UPDATE OF p
    ), lowered AS (
        UPDATE problems p
        SET outstanding = p.outstanding - locked.final, unproposed = p.unproposed - locked.texts, touched_at = now()
        FROM locked WHERE p.id = locked.id
        RETURNING p.id, p.outstanding, p.unproposed, p.state = 'searching' AS is_searched
    )
    SELECT written.problem_id, written.step, written.next_model,
           coalesce(lowered.is_searched AND lowered.outstanding = 0, false) AS is_complete,
           coalesce(written.next_model IS NOT NULL AND {moves_on}, false) AS moves_on
    FROM written LEFT JOIN lowered ON lowered.id = written.problem_id
"""


def is_compared(candidate: str, problem: str) -> str:
    """SQL: all siblings that the candidate in this row may repeat (those before it, by teacher and sample) have their
    texts. It waits for no others: a slow teacher holds up the scores of those after it only."""
    return f"""
        ({problem}.unproposed = 0 OR NOT EXISTS (
            SELECT 1 FROM candidates s
            JOIN teachers st ON st.id = s.teacher_id JOIN teachers ct ON ct.id = {candidate}.teacher_id
            WHERE s.problem_id = {candidate}.problem_id AND s.step = {candidate}.step AND s.round = {candidate}.round
              AND s.parent_rank = {candidate}.parent_rank AND s.parent_id IS NOT DISTINCT FROM {candidate}.parent_id
              AND s.state IN ('pending', 'proposing') AND (st.ordinal, s.sample) < (ct.ordinal, {candidate}.sample)
        ))"""


_CLAIM_PROPOSALS = sa.text(
    f"""
    WITH {WITHOUT_FLUSH}, due AS MATERIALIZED (
        SELECT c.id, p.id AS problem_id, p.run_id, p.question, p.passage,
               {must_be_alone("c.propose_attempts")} = :alone AS fits
        FROM unflushed, problems p
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN candidates c ON c.problem_id = p.id AND c.step = p.step
        WHERE p.id = ANY(CAST(:problem_ids AS bigint[])) AND p.state = 'searching' AND {in_state("c.state", "pending")}
          AND {writer_of("c")} = :model
        ORDER BY c.id
        FOR UPDATE OF c SKIP LOCKED
    ), claimed AS (
        UPDATE candidates c
        SET state = 'proposing', worker_id = :worker_id, propose_attempts = c.propose_attempts + 1, touched_at = now()
        FROM due WHERE c.id = due.id AND due.fits
        RETURNING c.id, c.propose_attempts AS attempt, c.teacher_id, c.parent_id, c.seed, c.max_tokens, c.whole,
                  c.sources
    )
    SELECT due.problem_id, due.run_id, claimed.id AS candidate_id, claimed.attempt, claimed.teacher_id, due.question,
           due.passage, {steps_to("claimed.parent_id")} AS steps, claimed.seed, claimed.max_tokens, claimed.whole,
           claimed.sources
    FROM due LEFT JOIN claimed ON claimed.id = due.id
    ORDER BY due.id
    """
)

_PATHS = sa.text(
    f"""
    SELECT leaf, {steps_to("leaf")} AS steps FROM unnest(CAST(:leaves AS bigint[])) AS leaf
    """
)

_OWNER = "CAST(json_build_array(p.run_id, p.key, c.lineage) AS text)"
_MERGED = """CASE WHEN r.merged IS NULL THEN c.sources
                           ELSE trim_array(c.sources, cardinality(c.sources) - r.merged) END"""
_PROPOSAL_DIGEST = digests.PROPOSAL.sql(
    {
        **{
            name: f"r.{name}"
            for name in (
                "text",
                "finish_reason",
                "invalid_reason",
                "reply",
                "answer_part",
                "prompt_tokens",
                "completion_tokens",
                "cached_tokens",
            )
        },
        "propose_seconds": "r.seconds",
        "sources": _MERGED,
    },
    owner=_OWNER,
)

_FINISH_PROPOSALS = sa.text(
    f"""
    WITH written AS (
        UPDATE candidates c
        SET state = CASE WHEN r.invalid_reason IS NOT NULL THEN 'invalid'
                         WHEN run.prover_model_id IS NULL THEN 'unscored' ELSE 'proposed' END,
            thinking_tokens = CASE WHEN run.prover_model_id IS NULL THEN r.completion_tokens END,
            text = r.text, text_key = r.text_key, finish_reason = r.finish_reason, invalid_reason = r.invalid_reason,
            prompt_tokens = r.prompt_tokens, completion_tokens = r.completion_tokens,
            cached_tokens = r.cached_tokens, propose_seconds = r.seconds, reply = r.reply, answer_part = r.answer_part,
            sources = {_MERGED},
            proposal_digest = {_PROPOSAL_DIGEST},
            proposed_at = now(), touched_at = now()
        FROM unnest(
            CAST(:candidate_id AS bigint[]), CAST(:attempt AS int[]), CAST(:text AS text[]),
            CAST(:finish_reason AS text[]), CAST(:invalid_reason AS text[]), CAST(:prompt_tokens AS int[]),
            CAST(:completion_tokens AS int[]), CAST(:cached_tokens AS int[]), CAST(:seconds AS float8[]),
            CAST(:reply AS text[]), CAST(:answer_part AS text[]), CAST(:merged AS int[]), CAST(:text_key AS uuid[])
        ) AS r(id, attempt, text, finish_reason, invalid_reason, prompt_tokens, completion_tokens, cached_tokens,
               seconds, reply, answer_part, merged, text_key),
             problems p JOIN runs run ON run.id = p.run_id
             LEFT JOIN models prover ON prover.id = run.prover_model_id AND run.state = 'active'
                                        AND p.state = 'searching'
        WHERE c.id = r.id AND {in_state("c.state", "proposing")}
          AND c.worker_id = :worker_id AND c.propose_attempts = r.attempt AND p.id = c.problem_id
        RETURNING c.problem_id, true AS is_text, c.state <> 'proposed' AS is_final, p.step,
                  prover.fingerprint AS next_model
    ), {lower_barrier("lowered.unproposed = 0 AND lowered.outstanding > 0")}
    """
)

_ADOPT_SCORING_MODE = sa.text(
    """
    UPDATE runs SET scoring_mode = :mode
    WHERE scoring_mode IS NULL AND id IN (SELECT run_id FROM problems WHERE id = ANY(CAST(:problem_ids AS bigint[])))
    """
)

_CLAIM_SCORES = sa.text(
    f"""
    WITH {WITHOUT_FLUSH}, written AS MATERIALIZED (
        SELECT c.id, CASE WHEN c.text_key IS NULL THEN c.id ELSE first_value(c.id) OVER (
                   PARTITION BY c.problem_id, c.parent_id, c.parent_rank, c.text_key ORDER BY t.ordinal, c.sample
               ) END AS original
        FROM unflushed, problems p
        JOIN candidates c ON c.problem_id = p.id AND c.step = p.step AND c.round = p.round
        JOIN teachers t ON t.id = c.teacher_id
        WHERE p.id = ANY(CAST(:problem_ids AS bigint[])) AND p.state = 'searching'
    ), due AS MATERIALIZED (
        SELECT c.id, written.original, p.id AS problem_id, p.run_id, p.question, p.passage, p.answer,
               r.scoring_mode IS NULL AS is_first, {must_be_alone("c.score_attempts")} = :alone AS fits
        FROM written
        JOIN candidates c ON c.id = written.id
        JOIN problems p ON p.id = c.problem_id
        JOIN runs r ON r.id = p.run_id AND r.state = 'active' AND coalesce(r.scoring_mode, :mode) = :mode
        WHERE {in_state("c.state", "proposed")} AND {is_compared("c", "p")}
        ORDER BY c.id
        FOR UPDATE OF c SKIP LOCKED
    ), claimed AS (
        UPDATE candidates c
        SET state = 'scoring', score_worker_id = :worker_id, score_attempts = c.score_attempts + 1, touched_at = now()
        FROM due WHERE c.id = due.id AND due.original = due.id AND due.fits AND NOT due.is_first
        RETURNING c.id, c.score_attempts AS attempt
    ), repeated AS (
        UPDATE candidates c
        SET state = 'invalid', invalid_reason = 'duplicate', duplicate_of = due.original, touched_at = now()
        FROM due WHERE c.id = due.id AND due.original <> due.id
        RETURNING c.problem_id
    ), locked AS MATERIALIZED (
        SELECT p.id, done.final
        FROM (SELECT problem_id, count(*) AS final FROM repeated GROUP BY problem_id) done
        JOIN problems p ON p.id = done.problem_id
        ORDER BY p.id FOR NO KEY UPDATE OF p
    ), lowered AS (
        UPDATE problems p SET outstanding = p.outstanding - locked.final, touched_at = now()
        FROM locked WHERE p.id = locked.id
        RETURNING p.id, p.outstanding = 0 AS is_complete
    )
    SELECT due.problem_id, due.is_first, due.original <> due.id AS is_repeated,
           coalesce(lowered.is_complete, false) AS is_complete, claimed.id AS candidate_id, claimed.attempt, due.run_id,
           due.question, due.passage, due.answer, {steps_to("claimed.id")} AS steps
    FROM due LEFT JOIN claimed ON claimed.id = due.id LEFT JOIN lowered ON lowered.id = due.problem_id
    ORDER BY due.id
    """
)
"""A candidate is claimed once all texts are there that it may repeat, so whoever claims it, and whenever, finds the
same: of equal texts the first by teacher and sample stands. What repeats it is final with that."""

_SCORE_DIGEST = digests.SCORE.sql(
    {
        **{
            name: f"r.{name}"
            for name in ("score", "log_prob_sum", "answer_tokens", "thinking_tokens", "invalid_reason")
        },
        "scoring_mode": ":mode",
        "score_prompt_tokens": "r.prompt_tokens",
        "score_cached_tokens": "r.cached_tokens",
        "score_seconds": "r.seconds",
    },
    owner=_OWNER,
)

_FINISH_SCORES = sa.text(
    f"""
    WITH written AS (
        UPDATE candidates c
        SET state = CASE WHEN r.invalid_reason IS NOT NULL THEN 'invalid'
                         WHEN run.reward_model_id IS NULL THEN 'scored' ELSE 'unjudged' END,
            invalid_reason = r.invalid_reason, score = r.score, log_prob_sum = r.log_prob_sum,
            answer_tokens = r.answer_tokens, thinking_tokens = r.thinking_tokens,
            score_prompt_tokens = r.prompt_tokens, score_cached_tokens = r.cached_tokens, score_seconds = r.seconds,
            scoring_mode = :mode, score_digest = {_SCORE_DIGEST}, scored_at = now(), touched_at = now()
        FROM unnest(
            CAST(:candidate_id AS bigint[]), CAST(:attempt AS int[]), CAST(:invalid_reason AS text[]),
            CAST(:score AS float8[]), CAST(:log_prob_sum AS float8[]), CAST(:answer_tokens AS int[]),
            CAST(:thinking_tokens AS int[]), CAST(:prompt_tokens AS int[]), CAST(:cached_tokens AS int[]),
            CAST(:seconds AS float8[])
        ) AS r(id, attempt, invalid_reason, score, log_prob_sum, answer_tokens, thinking_tokens, prompt_tokens,
               cached_tokens, seconds),
             problems p JOIN runs run ON run.id = p.run_id
             LEFT JOIN models judge ON judge.id = run.reward_model_id AND run.state = 'active'
                                       AND p.state = 'searching'
        WHERE c.id = r.id AND {in_state("c.state", "scoring")}
          AND c.score_worker_id = :worker_id AND c.score_attempts = r.attempt AND p.id = c.problem_id
        RETURNING c.problem_id, false AS is_text, c.state <> 'unjudged' AS is_final, p.step,
                  judge.fingerprint AS next_model
    ), {lower_barrier("NOT written.is_final")}
    """
)

_LOCK_PROBLEMS = sa.text("SELECT id FROM problems WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")

_CLAIM_ANSWERS = sa.text(
    f"""
    WITH {WITHOUT_FLUSH}, due AS MATERIALIZED (
        SELECT t.id, p.id AS problem_id, p.run_id, p.key, t.candidate_id, c.teacher_id, c.lineage, p.question,
               p.passage, {must_be_alone("t.answer_attempts")} = :alone AS fits
        FROM unflushed, problems p
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN trajectories t ON t.problem_id = p.id
        JOIN candidates c ON c.id = t.candidate_id
        WHERE p.id = ANY(CAST(:problem_ids AS bigint[])) AND p.state = 'answering'
          AND {in_state("t.answer_state", "pending")} AND {writer_of("c")} = :model
        ORDER BY t.id
        FOR UPDATE OF t SKIP LOCKED
    ), claimed AS (
        UPDATE trajectories t
        SET answer_state = 'writing', worker_id = :worker_id, answer_attempts = t.answer_attempts + 1,
            touched_at = now()
        FROM due WHERE t.id = due.id AND due.fits
        RETURNING t.id, t.answer_attempts AS attempt, t.answer_seed AS seed
    )
    SELECT due.problem_id, due.run_id, claimed.id AS trajectory_id, claimed.attempt, due.teacher_id, due.question,
           due.passage, {steps_to("due.candidate_id")} AS steps, claimed.seed, due.key, due.lineage
    FROM due LEFT JOIN claimed ON claimed.id = due.id
    ORDER BY due.id
    """
)

_ANSWER_DIGEST = digests.ANSWER.sql(
    {
        "answer_text": "r.text",
        "answer_finish_reason": "r.finish_reason",
        "answer_prompt_tokens": "r.prompt_tokens",
        "answer_completion_tokens": "r.completion_tokens",
        "answer_cached_tokens": "r.cached_tokens",
        "answer_seconds": "r.seconds",
    }
)

_FINISH_ANSWERS = sa.text(
    f"""
    UPDATE trajectories j
    SET answer_state = 'written', answer_seed = coalesce(r.seed, j.answer_seed),
        answer_text = r.text, answer_finish_reason = r.finish_reason,
        answer_prompt_tokens = r.prompt_tokens, answer_completion_tokens = r.completion_tokens,
        answer_cached_tokens = r.cached_tokens, answer_seconds = r.seconds, answer_digest = {_ANSWER_DIGEST},
        answered_at = now(), touched_at = now()
    FROM unnest(
        CAST(:trajectory_id AS bigint[]), CAST(:attempt AS int[]), CAST(:text AS text[]),
        CAST(:finish_reason AS text[]), CAST(:prompt_tokens AS int[]), CAST(:completion_tokens AS int[]),
        CAST(:cached_tokens AS int[]), CAST(:seconds AS float8[]), CAST(:seed AS bigint[])
    ) AS r(id, attempt, text, finish_reason, prompt_tokens, completion_tokens, cached_tokens, seconds, seed)
    WHERE j.id = r.id AND {in_state("j.answer_state", "writing")}
      AND j.worker_id = :worker_id AND j.answer_attempts = r.attempt
    RETURNING j.problem_id
    """
)

_RETURN_ANSWERS = sa.text(
    """
    UPDATE trajectories SET answer_state = 'pending', touched_at = now()
    WHERE problem_id = :problem_id AND answer_state = 'writing' AND worker_id = :worker_id
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


def claim_proposals(
    connection: sa.Connection, worker_id: uuid.UUID, problem_ids: Sequence[int], *, model: str, alone: bool = False
) -> Claimed[LeasedProposal]:
    """Leases the pending candidates of the problems' current steps that teachers of `model` (a fingerprint) write;
    those already claimed or no longer wanted are left out.

    `alone`: those that may only be done alone (`isolation`), else the others; so with every claim.
    """
    asked = {"problem_ids": sorted(set(problem_ids)), "worker_id": worker_id, "model": model, "alone": alone}
    rows = connection.execute(_CLAIM_PROPOSALS, asked).all()
    sources = sorted({source for row in rows for source in row.sources or ()})
    paths = {row.leaf: tuple(row.steps) for row in connection.execute(_PATHS, {"leaves": sources})} if sources else {}

    def leased(row: sa.Row[Any]) -> LeasedProposal:
        values = of_lease(row)
        return LeasedProposal(**{**values, "sources": tuple(Source(id_, paths[id_]) for id_ in row.sources or ())})

    return claimed_rows(rows, leased)


def finish_proposals(connection: sa.Connection, worker_id: uuid.UUID, results: Sequence[ProposalResult]) -> Outcome:
    """Writes proposals whose lease is still held; final at once are invalid ones, and all where nothing is scored.

    The step's candidates are passed on to the prover together, with the last text.
    """
    return finish(connection, _FINISH_PROPOSALS, worker_id, ProposalResult, results)


def claim_scores(
    connection: sa.Connection,
    worker_id: uuid.UUID,
    problem_ids: Sequence[int],
    *,
    scoring_mode: str,
    alone: bool = False,
) -> Claimed[LeasedScore]:
    """Leases every proposed candidate of the problems' current steps that `is_compared`, for runs of this scoring mode.
    What repeats a sibling is not leased: it is invalid from now on, and points at the sibling.

    A run without a scoring mode takes this one.
    """
    asked = {"worker_id": worker_id, "mode": scoring_mode, "alone": alone}
    rows = list(connection.execute(_CLAIM_SCORES, {"problem_ids": sorted(set(problem_ids)), **asked}))
    complete = frozenset(row.problem_id for row in rows if row.is_complete)
    first = sorted({row.problem_id for row in rows if row.is_first})
    if first:
        connection.execute(_ADOPT_SCORING_MODE, {"problem_ids": first, "mode": scoring_mode})
        rows = [row for row in rows if not row.is_first]
        rows += connection.execute(_CLAIM_SCORES, {"problem_ids": first, **asked})
        complete |= {row.problem_id for row in rows if row.is_complete}
    claimed = claimed_rows(
        (row for row in rows if not row.is_repeated),
        lambda row: LeasedScore(**of_lease(row, "is_first", "is_repeated", "is_complete")),
    )
    return dataclasses.replace(claimed, complete=complete)


def finish_scores(
    connection: sa.Connection, worker_id: uuid.UUID, results: Sequence[ScoreResult], *, scoring_mode: str
) -> Outcome:
    """Writes scores whose lease is still held, and lowers the barrier of their problems.

    In a run whose candidates are judged, valid ones are not final before that.
    """
    return finish(connection, _FINISH_SCORES, worker_id, ScoreResult, results, mode=scoring_mode)


def claim_answers(
    connection: sa.Connection, worker_id: uuid.UUID, problem_ids: Sequence[int], *, model: str, alone: bool = False
) -> Claimed[LeasedAnswer]:
    """Leases the final answers that are due for these problems and that teachers of `model` (a fingerprint) write."""
    asked = {"problem_ids": sorted(set(problem_ids)), "worker_id": worker_id, "model": model, "alone": alone}
    return claimed_rows(connection.execute(_CLAIM_ANSWERS, asked), lambda row: LeasedAnswer(**of_lease(row)))


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


def return_answers(connection: sa.Connection, worker_id: uuid.UUID, problem_id: int) -> None:
    """Gives the problem's answers back, one of which cannot be written."""
    connection.execute(_RETURN_ANSWERS, {"problem_id": problem_id, "worker_id": worker_id})


def columns(kind: type, results: Sequence[Any]) -> dict[str, list[Any]]:
    """One array a field, as the statements unnest them."""
    return {field.name: [getattr(result, field.name) for result in results] for field in fields(kind)}


def of_lease(row: sa.Row[Any], *without: str) -> dict[str, Any]:
    """The fields of what is leased, from a claim's row."""
    values = {name: value for name, value in row._mapping.items() if name not in without}
    return {**values, "steps": tuple(row.steps or ())}


def claimed_rows(rows: Iterable[sa.Row[Any]], leased: Callable[[sa.Row[Any]], Lease]) -> Claimed[Lease]:
    """What a claim's rows came to: those without an attempt were not claimed."""
    leases, held_back = [], set()
    for row in rows:
        if row.attempt is None:
            held_back.add(row.problem_id)
        else:
            leases.append(leased(row))
    return Claimed(leases, frozenset(held_back))


def finish(
    connection: sa.Connection,
    statement: sa.TextClause,
    worker_id: uuid.UUID,
    kind: type,
    results: Sequence[Any],
    **parameters: object,
) -> Outcome:
    """Writes results of candidates by a statement that ends as `lower_barrier` says."""
    rows = connection.execute(statement, {"worker_id": worker_id, **columns(kind, results), **parameters}).all()
    count_dropped(connection, worker_id, len(results) - len(rows))
    return Outcome(
        to_advance=frozenset(row.problem_id for row in rows if row.is_complete),
        dropped=len(results) - len(rows),
        to_pass_on=frozenset(Next(row.problem_id, row.step, row.next_model) for row in rows if row.moves_on),
    )


def count_dropped(connection: sa.Connection, worker_id: uuid.UUID, count: int) -> None:
    """Counts results that came late or twice."""
    if count:
        connection.execute(_COUNT_DROPPED, {"count": count, "worker_id": worker_id})
