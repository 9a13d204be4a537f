"""Rescores: candidates of finished problems are scored again by another prover, in addition to the scores of their
search.

A rescoring may hold millions of candidates, so only the rescores of a window of problems are `pending`: they need
messages, and the sweeper reads them in every sweep. The others are `queued`; `admit` advances the window.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cord_worker.store.schema import digests
from cord_worker.store.schema.isolation import MAX_ATTEMPTS
from cord_worker.store.schema.kinds import RESCORE
from cord_worker.store.work.leases import (
    claim_statement,
    claimed_from,
    count_dropped,
    field_arrays,
    in_state,
    is_held,
    lease_fields,
    steps_to,
)
from cord_worker.store.work.values import Claimed, Due, Outcome

GIVEN_UP = "given_up"
"""The `invalid_reason` of a rescore that used up its attempts."""

_MOST_PROBLEMS = 512
"""Problems of one rescoring that are pending at once. They are several seconds of work for a fast prover, enough until
the next sweep, and half a MiB of messages."""

_ADOPT_SCORING_MODE = sa.text(
    """
    UPDATE rescorings SET scoring_mode = :mode
    WHERE scoring_mode IS NULL AND id = ANY(CAST(:rescoring_ids AS bigint[]))
    """
)

_CLAIM = claim_statement(
    RESCORE,
    condition=f"{in_state('x.state', 'pending')} AND coalesce(q.scoring_mode, :mode) = :mode",
    joins=RESCORE.joins,
    read="x.candidate_id, p.passage, p.answer, q.id AS rescoring_id, q.prover, q.system_prompt, "
    "q.scoring_mode IS NULL AS is_first,",
    only="NOT due.is_first",
    taken=", x.candidate_id",
    found=", due.candidate_id, due.passage, due.answer, due.rescoring_id, due.prover, due.system_prompt, "
    f"due.is_first, {steps_to('claimed.candidate_id')} AS steps",
)

_OWNER = "CAST(json_build_array(p.run_id, p.key, c.lineage, q.name) AS text)"

_DIGEST = digests.RESCORE.sql(
    {
        **{
            name: f"r.{name}"
            for name in (
                *("score", "log_prob_sum", "mean_probability", "answer_tokens", "thinking_tokens", "invalid_reason"),
                *("prompt_tokens", "cached_tokens", "seconds"),
            )
        },
        "scoring_mode": ":mode",
    },
    owner=_OWNER,
)

_FINISH = sa.text(
    f"""
    UPDATE rescores x
    SET state = CASE WHEN r.invalid_reason IS NULL THEN 'scored' ELSE 'invalid' END,
        invalid_reason = r.invalid_reason, score = r.score, log_prob_sum = r.log_prob_sum,
        mean_probability = r.mean_probability, answer_tokens = r.answer_tokens,
        thinking_tokens = r.thinking_tokens, prompt_tokens = r.prompt_tokens,
        cached_tokens = r.cached_tokens, seconds = r.seconds, scoring_mode = :mode, digest = {_DIGEST},
        scored_at = now(), touched_at = now()
    FROM unnest(
        CAST(:rescore_id AS bigint[]), CAST(:attempt AS int[]), CAST(:invalid_reason AS text[]),
        CAST(:score AS float8[]), CAST(:log_prob_sum AS float8[]), CAST(:answer_tokens AS int[]),
        CAST(:thinking_tokens AS int[]), CAST(:prompt_tokens AS int[]), CAST(:cached_tokens AS int[]),
        CAST(:seconds AS float8[]), CAST(:mean_probability AS float8[])
    ) AS r(id, attempt, invalid_reason, score, log_prob_sum, answer_tokens, thinking_tokens, prompt_tokens,
           cached_tokens, seconds, mean_probability),
         rescorings q, problems p, candidates c
    WHERE {is_held(RESCORE)} AND q.id = x.rescoring_id AND p.id = x.problem_id AND c.id = x.candidate_id
    RETURNING x.id
    """
)

_ADMIT = sa.text(
    """
    WITH open AS (
        SELECT q.id, m.fingerprint AS model, :most - (
            SELECT count(DISTINCT x.problem_id) FROM rescores x
            WHERE x.state IN ('pending', 'scoring') AND x.rescoring_id = q.id
        ) AS places
        FROM rescorings q JOIN runs r ON r.id = q.run_id AND r.state = 'active' JOIN models m ON m.id = q.model_id
        WHERE EXISTS (SELECT 1 FROM rescores x WHERE x.rescoring_id = q.id AND x.state = 'queued')
    ), next AS (
        SELECT open.id, open.model, chosen.problem_id
        FROM open CROSS JOIN LATERAL (
            SELECT DISTINCT x.problem_id FROM rescores x WHERE x.rescoring_id = open.id AND x.state = 'queued'
            ORDER BY x.problem_id LIMIT greatest(0, open.places)
        ) chosen
    )
    UPDATE rescores x SET state = 'pending', touched_at = now()
    FROM next WHERE x.rescoring_id = next.id AND x.problem_id = next.problem_id AND x.state = 'queued'
    RETURNING x.problem_id, next.model
    """
)

_GIVEN_UP_DIGEST = digests.RESCORE.sql(
    {
        **{name: "NULL" for group in digests.RESCORE.groups for name in group},
        "invalid_reason": f"'{GIVEN_UP}'",
        "score": "CAST(NULL AS float8)",
        "log_prob_sum": "CAST(NULL AS float8)",
        "mean_probability": "CAST(NULL AS float8)",
        "seconds": "CAST(NULL AS float8)",
    },
    owner=_OWNER,
)

_GIVE_UP = sa.text(
    f"""
    UPDATE rescores x
    SET state = 'invalid', invalid_reason = '{GIVEN_UP}', digest = {_GIVEN_UP_DIGEST}, scored_at = now(),
        touched_at = now()
    FROM rescorings q, runs r, problems p, candidates c
    WHERE x.state = 'pending' AND x.rescore_attempts >= {MAX_ATTEMPTS} AND q.id = x.rescoring_id AND r.id = q.run_id
      AND p.id = x.problem_id AND c.id = x.candidate_id
    RETURNING x.candidate_id
    """
)


@dataclass(frozen=True, slots=True)
class LeasedRescore:
    """The lease of a rescore. `steps` are the texts of the trajectory up to the candidate, `prover` is the table
    [prover] without its model."""

    rescore_id: int
    attempt: int
    problem_id: int
    run_id: int
    candidate_id: int
    question: str
    passage: str | None
    answer: str
    prover: dict[str, Any]
    system_prompt: str | None
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RescoreResult:
    """The result of a rescore: either all figures or an `invalid_reason`."""

    rescore_id: int
    attempt: int
    invalid_reason: str | None
    score: float | None
    log_prob_sum: float | None
    answer_tokens: int | None
    thinking_tokens: int | None
    prompt_tokens: int | None
    cached_tokens: int | None
    seconds: float | None
    mean_probability: float | None


def claim(
    connection: sa.Connection,
    problem_ids: Sequence[int],
    *,
    worker_id: uuid.UUID,
    model: str,
    scoring_mode: str,
    exclusive: bool = False,
) -> Claimed:
    """Leases the pending rescores of these problems whose prover is `model` (a fingerprint).

    Rescorings of another scoring mode are left out; one without a scoring mode takes this one.
    """
    parameters = {"worker_id": worker_id, "model": model, "mode": scoring_mode, "exclusive": exclusive}
    rows = list(connection.execute(_CLAIM, {"problem_ids": sorted(set(problem_ids)), **parameters}))
    first = [row for row in rows if row.is_first]
    if first:
        connection.execute(
            _ADOPT_SCORING_MODE, {"rescoring_ids": sorted({row.rescoring_id for row in first}), "mode": scoring_mode}
        )
        rows = [row for row in rows if not row.is_first]
        rows += connection.execute(_CLAIM, {"problem_ids": sorted({row.problem_id for row in first}), **parameters})
    return claimed_from(rows, lambda row: LeasedRescore(**lease_fields(row, "is_first", "rescoring_id")))


def finish(
    connection: sa.Connection, results: Sequence[RescoreResult], *, worker_id: uuid.UUID, scoring_mode: str
) -> Outcome:
    """Writes rescores whose lease is still held. No message is due then, because `admit` returns those of the next
    ones."""
    parameters = {"worker_id": worker_id, "mode": scoring_mode, **field_arrays(RescoreResult, results)}
    written = connection.execute(_FINISH, parameters).all()
    return Outcome((), count_dropped(connection, worker_id, len(results) - len(written)))


def admit(connection: sa.Connection) -> list[Due]:
    """Sets queued rescores of active runs to `pending`, at most `_MOST_PROBLEMS` problems of each rescoring at a time,
    in the order of their keys; returns the messages that they need."""
    rows = connection.execute(_ADMIT, {"most": _MOST_PROBLEMS})
    due = {Due(RESCORE.name, row.problem_id, 0, row.model) for row in rows}
    return sorted(due, key=lambda item: (item.problem_id, item.model or ""))


def give_up_rescores(connection: sa.Connection) -> list[int]:
    """Sets rescores that used up their attempts (`run.max_attempts`) to `invalid`; returns the keys of their
    candidates. `cordctl rescore --retry` queues them again."""
    return list(connection.execute(_GIVE_UP).scalars())
