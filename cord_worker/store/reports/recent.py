"""What happened in a run recently: rates over time, hits of the prefix cache, newest failures.

Rates and caches read only the candidates with the highest ids, so that they cost the same in a large table as in a
small one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

_NEWEST_CANDIDATES = 20_000


@dataclass(frozen=True, slots=True)
class RecentRates:
    """Counts for each of the last bins of `bin_seconds` seconds, oldest first: trajectories of done problems (without
    losers), proposed candidates and generated tokens.

    None means unknown: only the newest candidates are read, and older ones may belong to this bin.
    """

    bin_seconds: float
    trajectories: Sequence[int]
    candidates: Sequence[int | None]
    tokens: Sequence[int | None]


@dataclass(frozen=True, slots=True)
class RecentFailure:
    """A problem that failed: its key in the dataset, why, and when."""

    key: str
    reason: str
    at: datetime


_CANDIDATES = sa.text(
    """
    SELECT CAST(floor(extract(epoch FROM now() - c.proposed_at) / :bin) AS int) AS bin, count(*) AS candidates,
           coalesce(sum(c.completion_tokens) FILTER (WHERE c.propose_seconds IS NOT NULL), 0)::bigint AS tokens
    FROM candidates c JOIN problems p ON p.id = c.problem_id
    WHERE c.id > (SELECT coalesce(max(id), 0) FROM candidates) - :newest AND p.run_id = :run_id
      AND c.proposed_at > now() - make_interval(secs => :window)
    GROUP BY 1
    """
)

_AGE_OF_UNREAD = sa.text(
    """
    SELECT CAST(extract(epoch FROM now() - created_at) AS float8) FROM candidates
    WHERE id <= (SELECT max(id) FROM candidates) - :newest ORDER BY id DESC LIMIT 1
    """
)

_TRAJECTORIES = sa.text(
    """
    SELECT CAST(floor(extract(epoch FROM now() - p.finished_at) / :bin) AS int) AS bin, count(*) AS trajectories
    FROM problems p JOIN trajectories j ON j.problem_id = p.id AND j.answer_state <> 'none'
    WHERE p.run_id = :run_id AND p.state = 'done' AND p.finished_at > now() - make_interval(secs => :window)
    GROUP BY 1
    """
)

_CACHES = sa.text(
    """
    WITH newest AS (
        SELECT c.teacher_id, r.prover_model_id, c.prompt_tokens, c.cached_tokens, c.score_prompt_tokens,
               c.score_cached_tokens
        FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id
        WHERE c.id > (SELECT coalesce(max(id), 0) FROM candidates) - :newest AND p.run_id = :run_id
    )
    SELECT m.fingerprint AS model, CAST(sum(used.cached) AS float8) / sum(used.prompt) AS share
    FROM (
        SELECT t.model_id, n.prompt_tokens AS prompt, n.cached_tokens AS cached
        FROM newest n JOIN teachers t ON t.id = n.teacher_id
        UNION ALL
        SELECT prover_model_id, score_prompt_tokens, score_cached_tokens FROM newest
    ) used JOIN models m ON m.id = used.model_id
    WHERE used.cached IS NOT NULL
    GROUP BY m.fingerprint HAVING sum(used.prompt) > 0
    """
)

_FAILURES = sa.text(
    """
    SELECT key, coalesce(failure_reason, 'no reason was recorded') AS reason, finished_at AS at
    FROM problems WHERE run_id = :run_id AND state = 'failed' AND finished_at IS NOT NULL
    ORDER BY finished_at DESC, position LIMIT :most
    """
)


def recent_rates(
    connection: sa.Connection,
    run_id: int,
    *,
    bins: int = 60,
    bin_seconds: float = 10.0,
    newest_candidates: int = _NEWEST_CANDIDATES,
) -> RecentRates:
    """What the run finished and proposed in each of the last `bins` intervals of `bin_seconds` seconds."""
    window = {"run_id": run_id, "bin": bin_seconds, "window": bins * bin_seconds}
    newest = {"newest": newest_candidates}
    ended = {row.bin: row.trajectories for row in connection.execute(_TRAJECTORIES, window)}
    proposed = {row.bin: row for row in connection.execute(_CANDIDATES, window | newest)}
    unread_age = connection.execute(_AGE_OF_UNREAD, newest).scalar()

    def count_at(number: int, column: str) -> int | None:
        if unread_age is not None and (number + 1) * bin_seconds > unread_age:
            return None
        return getattr(proposed[number], column) if number in proposed else 0

    numbers = range(bins - 1, -1, -1)
    return RecentRates(
        bin_seconds=bin_seconds,
        trajectories=[ended.get(number, 0) for number in numbers],
        candidates=[count_at(number, "candidates") for number in numbers],
        tokens=[count_at(number, "tokens") for number in numbers],
    )


def recent_caches(
    connection: sa.Connection, run_id: int, *, newest_candidates: int = _NEWEST_CANDIDATES
) -> Mapping[str, float]:
    """Share of the prompt tokens of the run's newest proposals and scores that came from the prefix cache, in [0, 1],
    by the model's fingerprint."""
    parameters = {"run_id": run_id, "newest": newest_candidates}
    return {row.model: row.share for row in connection.execute(_CACHES, parameters)}


def newest_failures(connection: sa.Connection, run_id: int, most: int) -> list[RecentFailure]:
    """The `most` problems of the run that failed last, the newest first."""
    return [RecentFailure(**row._mapping) for row in connection.execute(_FAILURES, {"run_id": run_id, "most": most})]
