"""Proposals: claims candidates that wait for their text, and writes the texts."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cord_worker.store.schema import digests
from cord_worker.store.schema.kinds import PROPOSE, SCORE
from cord_worker.store.work.leases import (
    claim_statement,
    claimed_from,
    finish_candidates,
    in_state,
    is_held,
    lease_fields,
    lower_barrier,
    steps_to,
)
from cord_worker.store.work.values import Claimed, Outcome

_CLAIM = claim_statement(
    PROPOSE,
    condition=f"c.step = p.step AND {in_state('c.state', 'pending')}",
    read="p.passage,",
    taken=", c.teacher_id, c.parent_id, c.seed, c.max_tokens, c.whole, c.sources",
    found=f""", due.passage, claimed.teacher_id, {steps_to("claimed.parent_id")} AS steps, claimed.seed,
          claimed.max_tokens, claimed.whole, claimed.sources""",
)

_PATHS = sa.text(
    f"""
    SELECT leaf, {steps_to("leaf")} AS steps FROM unnest(CAST(:leaves AS bigint[])) AS leaf
    """
)

_SOURCES = """CASE WHEN r.merged IS NULL THEN c.sources
                           ELSE trim_array(c.sources, cardinality(c.sources) - r.merged) END"""
"""SQL: the sources that the integrator merged, which are the first ones; the others did not fit."""
_DIGEST = digests.PROPOSAL.sql(
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
        "sources": _SOURCES,
    },
    owner=digests.CANDIDATE_OWNER,
)

_FINISH = sa.text(
    f"""
    WITH written AS (
        UPDATE candidates c
        SET state = CASE WHEN r.invalid_reason IS NOT NULL THEN 'invalid'
                         WHEN run.prover_model_id IS NULL THEN 'unscored' ELSE 'proposed' END,
            thinking_tokens = CASE WHEN run.prover_model_id IS NULL THEN r.completion_tokens END,
            text = r.text, text_key = r.text_key, finish_reason = r.finish_reason, invalid_reason = r.invalid_reason,
            prompt_tokens = r.prompt_tokens, completion_tokens = r.completion_tokens,
            cached_tokens = r.cached_tokens, propose_seconds = r.seconds, reply = r.reply, answer_part = r.answer_part,
            sources = {_SOURCES},
            proposal_digest = {_DIGEST},
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
        WHERE {is_held(PROPOSE)} AND p.id = c.problem_id
        RETURNING c.problem_id, true AS is_text, c.state <> 'proposed' AS is_final, p.step,
                  prover.fingerprint AS next_model
    ), {lower_barrier("lowered.unproposed = 0 AND lowered.outstanding > 0")}
    """
)


@dataclass(frozen=True, slots=True)
class Source:
    """A trajectory that an integrator merges with others."""

    candidate_id: int
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeasedProposal:
    """The lease of a proposal. `steps` are the texts of the trajectory that the candidate extends. A `whole` candidate
    is the rest of the trajectory. `sources`, best first, are what an integrator merges; empty for a teacher."""

    candidate_id: int
    attempt: int
    problem_id: int
    run_id: int
    teacher_id: int
    question: str
    passage: str | None
    steps: tuple[str, ...]
    seed: int
    max_tokens: int
    whole: bool
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class ProposalResult:
    """The result of a proposal; with an `invalid_reason` it never enters the beam.

    `text_key` is equal for equal texts (`search.validity`); None if the candidate is invalid, or in a search where
    equal texts are no duplicates. An integrator's result has its unchanged `reply`, the `answer_part` in it, and how
    many of the best sources were `merged`.
    """

    candidate_id: int
    attempt: int
    text: str
    finish_reason: str | None
    invalid_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    seconds: float | None
    reply: str | None = None
    answer_part: str | None = None
    merged: int | None = None
    text_key: uuid.UUID | None = None


def claim(
    connection: sa.Connection, problem_ids: Sequence[int], *, worker_id: uuid.UUID, model: str, exclusive: bool = False
) -> Claimed:
    """Leases the pending candidates of the problems' current steps that teachers of `model` (a fingerprint) write.

    It leaves out candidates that are already claimed or no longer needed. With `exclusive` it leases those that must be
    exclusive (`schema.isolation`), else the others; the claims of other kinds do the same.
    """
    parameters = {
        "problem_ids": sorted(set(problem_ids)),
        "worker_id": worker_id,
        "model": model,
        "exclusive": exclusive,
    }
    rows = connection.execute(_CLAIM, parameters).all()
    sources = sorted({source for row in rows for source in row.sources or ()})
    paths = {row.leaf: tuple(row.steps) for row in connection.execute(_PATHS, {"leaves": sources})} if sources else {}

    def leased(row: sa.Row[Any]) -> LeasedProposal:
        values = lease_fields(row)
        return LeasedProposal(**{**values, "sources": tuple(Source(id_, paths[id_]) for id_ in row.sources or ())})

    return claimed_from(rows, leased)


def finish(connection: sa.Connection, results: Sequence[ProposalResult], *, worker_id: uuid.UUID) -> Outcome:
    """Writes proposals whose lease is still held. Invalid ones are final at once; in a run without scores, all are
    final.

    When the last text of a step is written, a message to the prover is due.
    """
    return finish_candidates(connection, _FINISH, ProposalResult, results, worker_id=worker_id, next_kind=SCORE.name)
