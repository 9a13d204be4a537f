"""What a final answer took from its model's prefix cache; a budget of tokens that ends a search.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None


PREFIX_CACHE = """
CREATE OR REPLACE VIEW prefix_cache AS
WITH requests AS (
    SELECT p.run_id, c.problem_id, t.model_id, 'propose' AS kind, c.worker_id,
           c.prompt_tokens, coalesce(c.cached_tokens, 0) AS cached_tokens
    FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN teachers t ON t.id = c.teacher_id
    WHERE c.prompt_tokens IS NOT NULL
    UNION ALL
    SELECT p.run_id, c.problem_id, r.prover_model_id, 'score', c.score_worker_id,
           c.score_prompt_tokens, coalesce(c.score_cached_tokens, 0)
    FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id
    WHERE c.score_prompt_tokens IS NOT NULL
{answers}    UNION ALL
    SELECT p.run_id, c.problem_id, r.reward_model_id, 'judge', c.judgment_worker_id,
           c.judgment_prompt_tokens, coalesce(c.judgment_cached_tokens, 0)
    FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id
    WHERE c.judgment_prompt_tokens IS NOT NULL
),
homes AS (
    SELECT problem_id, model_id, mode() WITHIN GROUP (ORDER BY worker_id) AS worker_id
    FROM requests GROUP BY problem_id, model_id
)
SELECT r.name AS run, m.path AS model, q.kind, q.worker_id, count(*) AS requests,
       count(*) FILTER (WHERE q.worker_id = h.worker_id) AS at_home,
       sum(q.prompt_tokens) AS prompt_tokens, sum(q.cached_tokens) AS cached_tokens,
       sum(q.cached_tokens)::float8 / nullif(sum(q.prompt_tokens), 0) AS hit_rate
FROM requests q
JOIN homes h ON h.problem_id = q.problem_id AND h.model_id = q.model_id
JOIN runs r ON r.id = q.run_id
JOIN models m ON m.id = q.model_id
GROUP BY r.id, r.name, m.id, m.path, q.kind, q.worker_id
ORDER BY r.id, m.path, q.kind, q.worker_id
"""

CACHE_ANSWERS = """\
    UNION ALL
    SELECT p.run_id, j.problem_id, t.model_id, 'answer', j.worker_id, j.answer_prompt_tokens, j.answer_cached_tokens
    FROM trajectories j JOIN problems p ON p.id = j.problem_id JOIN candidates c ON c.id = j.candidate_id
    JOIN teachers t ON t.id = c.teacher_id
    WHERE j.answer_cached_tokens IS NOT NULL
"""
"""Answers that were written before are left out: what they took is not known."""

RUN_COSTS = """
CREATE OR REPLACE VIEW run_costs AS
WITH requests AS (
    SELECT p.run_id, t.model_id, 'propose' AS kind, c.worker_id, c.prompt_tokens, c.cached_tokens,
           c.completion_tokens, c.proposed_at AS ended_at, c.propose_seconds AS seconds
    FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN teachers t ON t.id = c.teacher_id
    WHERE c.propose_seconds IS NOT NULL
    UNION ALL
    SELECT p.run_id, r.prover_model_id, 'score', c.score_worker_id, c.score_prompt_tokens, c.score_cached_tokens,
           0, c.scored_at, c.score_seconds
    FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id
    WHERE c.score_seconds IS NOT NULL
    UNION ALL
    SELECT p.run_id, t.model_id, 'answer', j.worker_id, j.answer_prompt_tokens, {cached},
           j.answer_completion_tokens, j.answered_at, j.answer_seconds
    FROM trajectories j JOIN problems p ON p.id = j.problem_id JOIN candidates c ON c.id = j.candidate_id
    JOIN teachers t ON t.id = c.teacher_id
    WHERE j.answer_seconds IS NOT NULL
    UNION ALL
    SELECT p.run_id, r.reward_model_id, 'judge', c.judgment_worker_id, c.judgment_prompt_tokens,
           c.judgment_cached_tokens, c.judgment_completion_tokens, c.judged_at, c.judgment_seconds
    FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id
    WHERE c.judgment_seconds IS NOT NULL
    UNION ALL
    SELECT p.run_id, r.judge_model_id, 'verdict', j.judgment_worker_id, j.judgment_prompt_tokens, NULL,
           j.judgment_completion_tokens, j.judged_at, j.judgment_seconds
    FROM trajectories j JOIN problems p ON p.id = j.problem_id JOIN runs r ON r.id = p.run_id
    WHERE j.judgment_seconds IS NOT NULL
),
by_worker AS (
    SELECT run_id, model_id, kind, count(*) AS requests, sum(prompt_tokens) AS prompt_tokens,
           coalesce(sum(cached_tokens), 0) AS cached_tokens, sum(completion_tokens) AS completion_tokens,
           sum(seconds) AS request_seconds,
           range_agg(tstzrange(ended_at - make_interval(secs => seconds), ended_at)) AS busy
    FROM requests GROUP BY run_id, model_id, kind, worker_id
)
SELECT r.name AS run, m.path AS model, w.kind, sum(w.requests)::bigint AS requests,
       sum(w.prompt_tokens)::bigint AS prompt_tokens, sum(w.cached_tokens)::bigint AS cached_tokens,
       sum(w.completion_tokens)::bigint AS completion_tokens, sum(w.request_seconds) AS request_seconds,
       sum((SELECT coalesce(extract(epoch FROM sum(upper(span) - lower(span))), 0) FROM unnest(w.busy) AS span))::float8
           AS engine_seconds
FROM by_worker w
JOIN runs r ON r.id = w.run_id
JOIN models m ON m.id = w.model_id
GROUP BY r.id, r.name, m.id, m.path, w.kind
ORDER BY r.id, m.path, w.kind
"""

COMMENTS = {
    "prefix_cache.kind": ("propose, score, answer or judge.", "propose, score or judge."),
    "prefix_cache.requests": (
        "Candidates that it proposed, scored or judged, or answers that it wrote.",
        "Candidates that it proposed, scored or judged.",
    ),
    "trajectories.finish": (
        "think_end, eos, thinking_budget, max_steps or total_tokens.",
        "think_end, eos, thinking_budget or max_steps.",
    ),
    "trajectories.answer_finish_reason": (
        "eos, length, too_long (no room) or not_finite (NaN).",
        "eos, length or too_long (no room).",
    ),
}


def upgrade() -> None:
    op.add_column(
        "trajectories",
        sa.Column("answer_cached_tokens", sa.Integer(), comment="Prompt tokens of the answer from the prefix cache."),
    )
    op.execute(PREFIX_CACHE.replace("{answers}", CACHE_ANSWERS))
    op.execute(RUN_COSTS.replace("{cached}", "j.answer_cached_tokens"))
    _comment(0)


def downgrade() -> None:
    op.execute(PREFIX_CACHE.replace("{answers}", ""))
    op.execute(RUN_COSTS.replace("{cached}", "NULL"))
    op.drop_column("trajectories", "answer_cached_tokens")
    _comment(1)


def _comment(which: int) -> None:
    for column, comments in COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN {column} IS '{comments[which]}'")
