"""Results and failed problems of a run, streamed in dataset order; and what an export needs to know of the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cord_worker.dataset.jsontext import StrictDecoder

AttributeKinds = dict[str, frozenset[str]]
"""JSON types by field: string, boolean, integer (at most 15 digits, exact in a float), wide (an integer of 16 to 18
digits), number (a float holds it exactly), exact (any other number: a float would change it), object, array, null."""


@dataclass(frozen=True, slots=True)
class ResultStep:
    """One step of a trajectory. `score` is that of the trajectory up to this step, None in a run without scores;
    `tokens` is the number of tokens that the teacher generated."""

    step: int
    teacher: str
    text: str
    score: float | None
    finish_reason: str | None
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Result:
    """A done problem with its winning trajectory or one of its samples. `position` is the problem's place in the
    dataset, from 0. `base_score` is the prover's score before any step; None if it is not known. `sample` is the
    sample's number among those of its teacher; None for a winner."""

    position: int
    key: str
    question: str
    answer: str
    passage: str | None
    attributes: dict[str, Any]
    base_score: float | None
    score: float | None
    finish: str
    answer_text: str
    correct: bool | None
    verification: dict[str, Any] | None
    steps: tuple[ResultStep, ...]
    sample: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed problem, and why."""

    key: str
    question: str
    answer: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Provenance:
    """What produced a run's trajectories; the same for all of them. `datasets` are the enqueued datasets of the hub:
    id, revision (a commit) and split of each."""

    run: str
    config_fingerprint: str
    seed: int
    prover_model: str | None
    scoring_mode: str | None
    code_version: str
    config: dict[str, Any]
    datasets: list[dict[str, str]]


_STREAMED = {"stream_results": True, "yield_per": 200}
"""A server-side cursor that reads this many rows at a time: it limits the memory of an export."""

_RESULTS = sa.text(
    """
    SELECT p.position, p.key, p.question, p.answer, p.passage, CAST(p.attributes AS text) AS attributes,
           CASE WHEN NOT j.winner THEN last_step.sample END AS sample,
           p.base_score, j.score, j.finish, j.answer_text, j.correct, j.verification,
           (WITH RECURSIVE path AS (
                SELECT c.* FROM candidates c WHERE c.id = j.candidate_id
                UNION ALL
                SELECT c.* FROM path JOIN candidates c ON c.id = path.parent_id
            )
            SELECT jsonb_agg(
                jsonb_build_array(c.depth, t.name, c.text, c.score, c.finish_reason, c.completion_tokens)
                ORDER BY c.depth
            )
            FROM path c JOIN teachers t ON t.id = c.teacher_id) AS steps
    FROM problems p
    JOIN trajectories j ON j.problem_id = p.id AND j.answer_state <> 'none'
    JOIN candidates last_step ON last_step.id = j.candidate_id
    JOIN teachers last_teacher ON last_teacher.id = last_step.teacher_id
    WHERE p.run_id = :run_id AND p.state = 'done' AND (j.correct IS TRUE OR NOT :only_correct)
          AND (j.score >= :min_score OR CAST(:min_score AS double precision) IS NULL)
    ORDER BY p.position, last_teacher.ordinal, last_step.sample
    """
)

_COUNT_RESULTS = sa.text(
    """
    SELECT count(*) FROM problems p JOIN trajectories j ON j.problem_id = p.id AND j.answer_state <> 'none'
    WHERE p.run_id = :run_id AND p.state = 'done'
    """
)

_FAILURES = sa.text(
    """
    SELECT key, question, answer, failure_reason AS reason FROM problems
    WHERE run_id = :run_id AND state = 'failed' ORDER BY position
    """
)

_ATTRIBUTE_KINDS = sa.text(
    r"""
    WITH cells AS (
        SELECT cell.key, jsonb_typeof(cell.value) AS kind, CAST(cell.value AS text) AS written
        FROM problems p, jsonb_each(p.attributes) cell WHERE p.run_id = :run_id
    ), kinds AS (
        SELECT key, CASE WHEN kind <> 'number' THEN kind
                         WHEN written ~ '^-?[0-9]{1,15}$' THEN 'integer'
                         WHEN written ~ '^-?[0-9]{1,18}$' THEN 'wide'
                         WHEN length(written) > 40 THEN 'exact'
                         WHEN CAST(CAST(CAST(written AS float8) AS text) AS numeric) = CAST(written AS numeric)
                         THEN 'number'
                         ELSE 'exact' END AS kind
        FROM cells
    )
    SELECT key, array_agg(DISTINCT kind) AS kinds FROM kinds GROUP BY key ORDER BY key LIMIT :most
    """
)

_HAS_PASSAGES = sa.text("SELECT EXISTS (SELECT FROM problems WHERE run_id = :run_id AND passage IS NOT NULL)")

_PROVENANCE = sa.text(
    """
    SELECT r.name AS run, r.config_fingerprint, r.seed, m.path AS prover_model, r.scoring_mode, r.code_version,
           r.config, r.datasets
    FROM runs r LEFT JOIN models m ON m.id = r.prover_model_id WHERE r.id = :run_id
    """
)


def stream_results(
    connection: sa.Connection, run_id: int, *, only_correct: bool = False, min_score: float | None = None
) -> Iterator[Result]:
    """Results in dataset order, samples by teacher; with `only_correct` those found right, with `min_score` those with
    at least this score. A server-side cursor reads them, so keep the transaction open meanwhile."""
    parameters = {"run_id": run_id, "only_correct": only_correct, "min_score": min_score}
    for row in connection.execute(_RESULTS, parameters, execution_options=_STREAMED):
        values = dict(row._mapping)
        values["steps"] = tuple(_step(*step) for step in row.steps or ())
        # The query returns them as text, so that no number loses digits on its way through Python.
        values["attributes"] = StrictDecoder().decode(row.attributes)[0]
        values["answer_text"] = row.answer_text or ""
        yield Result(**values)


def count_results(connection: sa.Connection, run_id: int) -> int:
    """How many results the run has: one for each done problem, or each of its samples."""
    return int(connection.execute(_COUNT_RESULTS, {"run_id": run_id}).scalar_one())


def attribute_kinds(connection: sa.Connection, run_id: int, most: int) -> AttributeKinds:
    """The dataset's other fields (`metadata` in an export), at most `most` of them, and their JSON types.

    A `wide` integer fits 64 bits, but not a float; an `exact` number fits neither.
    """
    rows = connection.execute(_ATTRIBUTE_KINDS, {"run_id": run_id, "most": most})
    return {row.key: frozenset(row.kinds) for row in rows}


def has_passages(connection: sa.Connection, run_id: int) -> bool:
    """Whether any problem of the run has a passage."""
    return bool(connection.execute(_HAS_PASSAGES, {"run_id": run_id}).scalar_one())


def stream_failures(connection: sa.Connection, run_id: int) -> Iterator[Failure]:
    """Failed problems in dataset order. A server-side cursor reads them, so keep the transaction open meanwhile."""
    for row in connection.execute(_FAILURES, {"run_id": run_id}, execution_options=_STREAMED):
        yield Failure(**row._mapping)


def read_provenance(connection: sa.Connection, run_id: int) -> Provenance:
    """What produced the run's trajectories."""
    return Provenance(**connection.execute(_PROVENANCE, {"run_id": run_id}).one()._mapping)


def _step(
    step: int, teacher: str, text: str, score: float | None, finish_reason: str | None, tokens: int | None
) -> ResultStep:
    # JSON knows one kind of number: a score of exactly 1 comes back as an integer.
    exact = None if score is None else float(score)
    return ResultStep(step, teacher, text, exact, finish_reason, tokens)
