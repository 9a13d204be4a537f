"""Base scores of problems; the arithmetic mean beside the geometric one.

A column that a worker of the previous version does not write is NULL, or has its default.

Revision ID: 0017
Revises: 0016
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | None = None
depends_on: str | None = None

OF_PROBLEMS: list[tuple[str, sa.types.TypeEngine[Any], str]] = [
    (
        "base_score",
        sa.Double(),
        "The prover's score of the known answer before any step; NULL if nothing was scored, if the prover refused it, "
        "or in rows of older versions.",
    ),
    ("base_log_prob_sum", sa.Double(), "For it: the sum of the answer tokens' log-probabilities (nats)."),
    (
        "base_mean_probability",
        sa.Double(),
        "For it: the arithmetic mean of the answer tokens' probabilities, in [0, 1].",
    ),
    ("base_answer_tokens", sa.Integer(), "For it: answer tokens M in the prover's tokenizer."),
    ("base_prompt_tokens", sa.Integer(), "For it: the prover's prompt tokens."),
    ("base_cached_tokens", sa.Integer(), "Of these, tokens from the prover's prefix cache."),
    ("base_score_seconds", sa.Double(), "For it: seconds in the prover's engine."),
    ("base_scored_by", sa.Uuid(), "The worker that computed it."),
    ("base_scored_at", sa.DateTime(timezone=True), "When the base score was committed."),
    (
        "base_score_digest",
        sa.LargeBinary(),
        "Digest of the key and of the base score, written at the same time; NULL in rows of older versions.",
    ),
]
CHECKS = [
    ("problems", "base_score", "base_score > 0 AND base_score <= 1"),
    ("problems", "base_mean_probability", "base_mean_probability >= 0 AND base_mean_probability <= 1"),
    ("problems", "base_answer_tokens", "base_answer_tokens >= 1"),
    ("candidates", "mean_probability", "mean_probability >= 0 AND mean_probability <= 1"),
]
SCORE_COMMENTS = (
    "exp(mean log-probability of the answer given this candidate), in (0, 1].",
    "How well this candidate predicts the known answer, in (0, 1]: exp(mean log-probability of its tokens), or "
    "mean_probability if runs.prover_score says so.",
)
DIGEST_BYTES = 32
"""Length of a score's digest without the part of mean_probability."""

BASE_IN_CACHE = """\
    UNION ALL
    SELECT p.run_id, p.id, r.prover_model_id, 'score', p.base_scored_by, p.base_prompt_tokens,
           coalesce(p.base_cached_tokens, 0)
    FROM problems p JOIN runs r ON r.id = p.run_id WHERE p.base_prompt_tokens IS NOT NULL
"""

PREFIX_CACHE = """
CREATE OR REPLACE VIEW prefix_cache AS
WITH requests AS (
    SELECT p.run_id, c.problem_id, t.model_id, 'propose' AS kind, c.propose_worker_id AS worker_id,
           c.prompt_tokens, coalesce(c.cached_tokens, 0) AS cached_tokens
    FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN teachers t ON t.id = c.teacher_id
    WHERE c.prompt_tokens IS NOT NULL
    UNION ALL
    SELECT p.run_id, c.problem_id, r.prover_model_id, 'score', c.score_worker_id,
           c.score_prompt_tokens, coalesce(c.score_cached_tokens, 0)
    FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id
    WHERE c.score_prompt_tokens IS NOT NULL
{base}    UNION ALL
    SELECT p.run_id, j.problem_id, t.model_id, 'answer', j.answer_worker_id, j.answer_prompt_tokens,
           j.answer_cached_tokens
    FROM trajectories j JOIN problems p ON p.id = j.problem_id JOIN candidates c ON c.id = j.candidate_id
    JOIN teachers t ON t.id = c.teacher_id
    WHERE j.answer_cached_tokens IS NOT NULL
    UNION ALL
    SELECT p.run_id, c.problem_id, r.selection_model_id, 'judge', c.judgment_worker_id,
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

BASE_IN_COSTS = """\
    UNION ALL
    SELECT p.run_id, r.prover_model_id, 'score', p.base_scored_by, p.base_prompt_tokens, p.base_cached_tokens,
           0, p.base_scored_at, p.base_score_seconds
    FROM problems p JOIN runs r ON r.id = p.run_id WHERE p.base_score_seconds IS NOT NULL
"""

RUN_COSTS = """
CREATE OR REPLACE VIEW run_costs AS
WITH requests AS (
    SELECT p.run_id, t.model_id, 'propose' AS kind, c.propose_worker_id AS worker_id, c.prompt_tokens, c.cached_tokens,
           c.completion_tokens, c.proposed_at AS ended_at, c.propose_seconds AS seconds
    FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN teachers t ON t.id = c.teacher_id
    WHERE c.propose_seconds IS NOT NULL
    UNION ALL
    SELECT p.run_id, r.prover_model_id, 'score', c.score_worker_id, c.score_prompt_tokens, c.score_cached_tokens,
           0, c.scored_at, c.score_seconds
    FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id
    WHERE c.score_seconds IS NOT NULL
{base}    UNION ALL
    SELECT p.run_id, t.model_id, 'answer', j.answer_worker_id, j.answer_prompt_tokens, j.answer_cached_tokens,
           j.answer_completion_tokens, j.answered_at, j.answer_seconds
    FROM trajectories j JOIN problems p ON p.id = j.problem_id JOIN candidates c ON c.id = j.candidate_id
    JOIN teachers t ON t.id = c.teacher_id
    WHERE j.answer_seconds IS NOT NULL
    UNION ALL
    SELECT p.run_id, r.selection_model_id, 'judge', c.judgment_worker_id, c.judgment_prompt_tokens,
           c.judgment_cached_tokens, c.judgment_completion_tokens, c.judged_at, c.judgment_seconds
    FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id
    WHERE c.judgment_seconds IS NOT NULL
    UNION ALL
    SELECT p.run_id, r.judge_model_id, 'verdict', j.verdict_worker_id, j.verdict_prompt_tokens, NULL,
           j.verdict_completion_tokens, j.judged_at, j.verdict_seconds
    FROM trajectories j JOIN problems p ON p.id = j.problem_id JOIN runs r ON r.id = p.run_id
    WHERE j.verdict_seconds IS NOT NULL
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


def upgrade() -> None:
    for name, kind, comment in OF_PROBLEMS:
        op.add_column("problems", sa.Column(name, kind, comment=comment))
    op.add_column(
        "candidates",
        sa.Column(
            "mean_probability",
            sa.Double(),
            comment="Arithmetic mean of the answer tokens' probabilities, in [0, 1]; NULL in rows of older versions.",
        ),
    )
    op.add_column(
        "runs",
        sa.Column(
            "prover_score",
            sa.Text(),
            server_default="geometric_mean",
            nullable=False,
            comment="Which mean of the answer tokens' probabilities its scores are (prover.score).",
        ),
    )
    for table, name, condition in CHECKS:
        op.create_check_constraint(op.f(f"ck_{table}_{name}"), table, condition)
    op.alter_column("candidates", "score", comment=SCORE_COMMENTS[1], existing_comment=SCORE_COMMENTS[0])
    op.execute(PREFIX_CACHE.replace("{base}", BASE_IN_CACHE))
    op.execute(RUN_COSTS.replace("{base}", BASE_IN_COSTS))


def downgrade() -> None:
    op.execute(RUN_COSTS.replace("{base}", ""))
    op.execute(PREFIX_CACHE.replace("{base}", ""))
    op.alter_column("candidates", "score", comment=SCORE_COMMENTS[0], existing_comment=SCORE_COMMENTS[1])
    for table, name, _ in reversed(CHECKS):
        op.drop_constraint(op.f(f"ck_{table}_{name}"), table)
    op.execute(
        f"UPDATE candidates SET score_digest = substr(score_digest, 1, {DIGEST_BYTES}) "
        f"WHERE octet_length(score_digest) > {DIGEST_BYTES}"
    )
    op.drop_column("runs", "prover_score")
    op.drop_column("candidates", "mean_probability")
    for name, _, _ in reversed(OF_PROBLEMS):
        op.drop_column("problems", name)
