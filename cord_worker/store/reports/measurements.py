"""Queries for `cordctl bench`: progress, requests with their times, metrics ports. Also writes made-up rows."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.schema.tables import Base

_PACE = sa.text(
    """
    SELECT count(*) AS problems,
           count(*) FILTER (WHERE state IN ('done', 'failed', 'cancelled')) AS final,
           count(*) FILTER (WHERE state = 'failed') AS failed,
           extract(epoch FROM max(finished_at) - min(admitted_at))::float8 AS seconds
    FROM problems WHERE run_id = :run_id
    """
)

_CANDIDATES = sa.text(
    """
    SELECT count(*) FROM candidates c JOIN problems p ON p.id = c.problem_id
    WHERE p.run_id = :run_id AND c.state IN ('scored', 'unscored', 'invalid')
    """
)

_WORKER_PORTS = sa.text(
    """
    SELECT pid, metrics_port FROM workers
    WHERE pid = ANY(:pids) AND stopped_at IS NULL AND ready_at IS NOT NULL AND metrics_port IS NOT NULL
    """
)

_REQUESTS = sa.text(
    """
    SELECT c.id AS candidate_id, c.parent_id, p.position, p.question, p.passage, p.answer, c.step, c.round,
           t.name AS teacher, c.seed, c.max_tokens, c.text, c.completion_tokens, c.prompt_tokens, c.cached_tokens,
           c.score, c.score_prompt_tokens, c.score_cached_tokens,
           extract(epoch FROM c.proposed_at)::float8 - c.propose_seconds AS proposing_began,
           extract(epoch FROM c.scored_at)::float8 - c.score_seconds AS scoring_began
    FROM candidates c
    JOIN problems p ON p.id = c.problem_id
    JOIN teachers t ON t.id = c.teacher_id
    WHERE p.run_id = :run_id AND c.prompt_tokens IS NOT NULL
    ORDER BY p.position, c.step, c.round, c.parent_rank, t.ordinal, c.sample
    """
)

_ANSWER_REQUESTS = sa.text(
    """
    SELECT j.candidate_id, p.position, t.name AS teacher, j.answer_seed AS seed,
           j.answer_completion_tokens AS completion_tokens, j.answer_cached_tokens AS cached_tokens,
           extract(epoch FROM j.answered_at)::float8 - j.answer_seconds AS began
    FROM trajectories j
    JOIN problems p ON p.id = j.problem_id
    JOIN candidates c ON c.id = j.candidate_id
    JOIN teachers t ON t.id = c.teacher_id
    WHERE p.run_id = :run_id AND j.answer_state = 'written'
    ORDER BY p.position, j.id
    """
)

_EMPTY = sa.text(f"TRUNCATE {', '.join(Base.metadata.tables)}")

_DONE_PROBLEMS = sa.text(
    """
    INSERT INTO problems (run_id, position, key, content_hash, question, answer, attributes, state, step, admitted_at,
                          finished_at)
    SELECT :run_id, n, 'bench-' || n, md5(n::text), 'How many apples are left of ' || n || '?', (n % 997)::text, '{}',
           'done', :steps, now(), now()
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) n
    """
)

_DONE_STEP = sa.text(
    """
    INSERT INTO candidates (problem_id, parent_id, parent_rank, step, depth, round, teacher_id, sample, lineage, seed,
                            max_tokens, whole, state, text, finish_reason, score, log_prob_sum, answer_tokens,
                            thinking_tokens, completion_tokens, rank, kept, winning)
    SELECT p.id, parent.id, 0, CAST(:step AS int), CAST(:step AS int), 0, t.id, 0,
           md5(p.key || ' ' || CAST(:step AS text)), 1, 64, false, 'scored',
           ' ' || CAST(:text AS text) || p.position,
           CASE WHEN CAST(:step AS int) = CAST(:steps AS int) THEN 'think_end' ELSE 'step' END, 0.5,
           -0.6931471805599453, 1, 60 * CAST(:step AS int), 60, 0, true, true
    FROM problems p
    JOIN teachers t ON t.run_id = p.run_id AND t.ordinal = 0
    LEFT JOIN candidates parent ON parent.problem_id = p.id AND parent.step = CAST(:step AS int) - 1
    WHERE p.run_id = :run_id AND p.position BETWEEN :first AND :last
    """
)

_DONE_TRAJECTORIES = sa.text(
    """
    INSERT INTO trajectories (problem_id, candidate_id, steps, score, finish, winner, answer_state, answer_text,
                              answer_finish_reason, correct, verification)
    SELECT p.id, c.id, :steps, 0.5, 'think_end', true, 'written', 'The final answer is ' || p.answer || '.', 'eos',
           true, '{"method": "exact"}'
    FROM problems p JOIN candidates c ON c.problem_id = p.id AND c.step = :steps
    WHERE p.run_id = :run_id AND p.position BETWEEN :first AND :last
    """
)


@dataclass(frozen=True, slots=True)
class CandidateRequests:
    """The requests to a teacher and to the prover about one candidate, and their results.

    The values of the score are None if the candidate was not scored; `…_began` are seconds since the epoch.
    """

    candidate_id: int
    parent_id: int | None
    position: int
    question: str
    passage: str | None
    answer: str
    step: int
    round: int
    teacher: str
    seed: int
    max_tokens: int
    text: str
    completion_tokens: int
    prompt_tokens: int
    cached_tokens: int
    score: float | None
    score_prompt_tokens: int | None
    score_cached_tokens: int | None
    proposing_began: float
    scoring_began: float | None


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """The request for one final answer (of a winner or a sample). `candidate_id` is the trajectory's last step; `began`
    is in seconds since the epoch."""

    candidate_id: int
    position: int
    teacher: str
    seed: int
    completion_tokens: int
    cached_tokens: int | None
    began: float


@dataclass(frozen=True, slots=True)
class Pace:
    """The progress of a run. `seconds` are from its first admission to the end of its last final problem; None until
    both exist."""

    problems: int
    final: int
    failed: int
    seconds: float | None


def pace_of(connection: sa.Connection, run_id: int) -> Pace:
    """The progress of the run."""
    return Pace(**connection.execute(_PACE, {"run_id": run_id}).one()._mapping)


def count_final_candidates(connection: sa.Connection, run_id: int) -> int:
    """Number of the run's final candidates: scored, unscored or invalid."""
    return int(connection.execute(_CANDIDATES, {"run_id": run_id}).scalar_one())


def metrics_ports(connection: sa.Connection, pids: list[int]) -> dict[int, int]:
    """Metrics ports by process id, for those processes of `pids` (on this machine) that are ready."""
    return {row.pid: row.metrics_port for row in connection.execute(_WORKER_PORTS, {"pids": pids})}


def candidate_requests(connection: sa.Connection, run_id: int) -> list[CandidateRequests]:
    """The run's requests about candidates, by problem, step and round, in the order of planning."""
    return [CandidateRequests(**row._mapping) for row in connection.execute(_REQUESTS, {"run_id": run_id})]


def answer_requests(connection: sa.Connection, run_id: int) -> list[AnswerRequest]:
    """The run's requests for final answers, by problem."""
    return [AnswerRequest(**row._mapping) for row in connection.execute(_ANSWER_REQUESTS, {"run_id": run_id})]


def empty_tables(connection: sa.Connection) -> None:
    """Empties every table: only for a database that a measurement made for itself."""
    connection.execute(_EMPTY)


def add_winners(connection: sa.Connection, run_id: int, *, first: int, last: int, steps: int, text: str) -> None:
    """Adds done problems at the positions `first` to `last`, each with a winner of `steps` steps that begin with
    `text`: only for a database that a measurement made for itself."""
    positions = {"run_id": run_id, "first": first, "last": last}
    connection.execute(_DONE_PROBLEMS, {**positions, "steps": steps})
    for step in range(1, steps + 1):
        connection.execute(_DONE_STEP, {**positions, "step": step, "steps": steps, "text": text})
    connection.execute(_DONE_TRAJECTORIES, {**positions, "steps": steps})
