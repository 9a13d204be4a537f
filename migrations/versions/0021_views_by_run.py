"""Views that read only the rows of the runs that a query names; no data is touched.

Each view computes its rows run by run (LATERAL), so that `WHERE run = '…'` takes the time of that run, however much
else is stored. Columns and values stay the same.

Revision ID: 0021
Revises: 0020
"""

from __future__ import annotations

from alembic import op

revision: str = "0021"
down_revision: str | None = "0020"
branch_labels: str | None = None
depends_on: str | None = None

TEACHER_SELECTION = """
CREATE OR REPLACE VIEW teacher_selection AS
SELECT r.name AS run, k.teacher, k.tenth, k.proposed, k.kept, k.on_winning_path, k.hit_rate, k.mean_score, k.tokens
FROM runs r
CROSS JOIN LATERAL (
    WITH shared AS (
        SELECT c.duplicate_of AS id, count(*) + 1 AS proposals
        FROM problems p JOIN candidates c ON c.problem_id = p.id
        WHERE p.run_id = r.id AND c.duplicate_of IS NOT NULL GROUP BY c.duplicate_of
    ),
    placed AS (
        SELECT c.teacher_id, least(floor(10 * (c.depth - 0.5) / j.steps)::int, 9) + 1 AS tenth,
               CASE WHEN c.duplicate_of IS NULL THEN c.kept ELSE s.kept END AS kept,
               CASE WHEN c.duplicate_of IS NULL THEN c.winning ELSE s.winning END AS winning,
               CASE WHEN c.duplicate_of IS NULL THEN c.score ELSE s.score END AS score,
               c.completion_tokens, 1.0 / coalesce(shared.proposals, 1) AS part
        FROM problems p
        JOIN trajectories j ON j.problem_id = p.id AND j.winner
        JOIN candidates c ON c.problem_id = p.id
        LEFT JOIN candidates s ON s.id = c.duplicate_of
        LEFT JOIN shared ON shared.id = coalesce(c.duplicate_of, c.id)
        WHERE p.run_id = r.id
    ),
    counted AS (
        SELECT teacher_id, tenth, count(*) AS proposed, count(*) FILTER (WHERE kept) AS kept,
               count(*) FILTER (WHERE winning) AS on_winning_path,
               coalesce(sum(part) FILTER (WHERE winning), 0) AS winning_parts, avg(score) AS mean_score,
               coalesce(sum(completion_tokens), 0) AS tokens
        FROM placed GROUP BY teacher_id, tenth
    )
    SELECT t.name AS teacher, t.ordinal, counted.tenth, counted.proposed, counted.kept, counted.on_winning_path,
           counted.winning_parts / nullif(sum(counted.winning_parts) OVER (PARTITION BY counted.tenth), 0) AS hit_rate,
           counted.mean_score, counted.tokens
    FROM counted JOIN teachers t ON t.id = counted.teacher_id
) AS k
ORDER BY r.id, k.tenth, k.ordinal
"""

PREFIX_CACHE = """
CREATE OR REPLACE VIEW prefix_cache AS
SELECT r.name AS run, k.model, k.kind, k.worker_id, k.requests, k.at_home, k.prompt_tokens, k.cached_tokens, k.hit_rate
FROM runs r
CROSS JOIN LATERAL (
    WITH requests AS (
        SELECT c.problem_id, t.model_id, 'propose' AS kind, c.propose_worker_id AS worker_id,
               c.prompt_tokens, coalesce(c.cached_tokens, 0) AS cached_tokens
        FROM problems p JOIN candidates c ON c.problem_id = p.id JOIN teachers t ON t.id = c.teacher_id
        WHERE p.run_id = r.id AND c.prompt_tokens IS NOT NULL
        UNION ALL
        SELECT c.problem_id, r.prover_model_id, 'score', c.score_worker_id, c.score_prompt_tokens,
               coalesce(c.score_cached_tokens, 0)
        FROM problems p JOIN candidates c ON c.problem_id = p.id
        WHERE p.run_id = r.id AND c.score_prompt_tokens IS NOT NULL
        UNION ALL
        SELECT p.id, r.prover_model_id, 'score', p.base_scored_by, p.base_prompt_tokens,
               coalesce(p.base_cached_tokens, 0)
        FROM problems p WHERE p.run_id = r.id AND p.base_prompt_tokens IS NOT NULL
        UNION ALL
        SELECT j.problem_id, t.model_id, 'answer', j.answer_worker_id, j.answer_prompt_tokens, j.answer_cached_tokens
        FROM problems p JOIN trajectories j ON j.problem_id = p.id JOIN candidates c ON c.id = j.candidate_id
        JOIN teachers t ON t.id = c.teacher_id
        WHERE p.run_id = r.id AND j.answer_cached_tokens IS NOT NULL
        UNION ALL
        SELECT c.problem_id, r.selection_model_id, 'judge', c.judgment_worker_id, c.judgment_prompt_tokens,
               coalesce(c.judgment_cached_tokens, 0)
        FROM problems p JOIN candidates c ON c.problem_id = p.id
        WHERE p.run_id = r.id AND c.judgment_prompt_tokens IS NOT NULL
    ),
    homes AS (
        SELECT problem_id, model_id, mode() WITHIN GROUP (ORDER BY worker_id) AS worker_id
        FROM requests GROUP BY problem_id, model_id
    )
    SELECT m.path AS model, q.kind, q.worker_id, count(*) AS requests,
           count(*) FILTER (WHERE q.worker_id = h.worker_id) AS at_home,
           sum(q.prompt_tokens) AS prompt_tokens, sum(q.cached_tokens) AS cached_tokens,
           sum(q.cached_tokens)::float8 / nullif(sum(q.prompt_tokens), 0) AS hit_rate
    FROM requests q
    JOIN homes h ON h.problem_id = q.problem_id AND h.model_id = q.model_id
    JOIN models m ON m.id = q.model_id
    GROUP BY m.id, m.path, q.kind, q.worker_id
) AS k
ORDER BY r.id, k.model, k.kind, k.worker_id
"""

RUN_COSTS = """
CREATE OR REPLACE VIEW run_costs AS
SELECT r.name AS run, k.model, k.kind, k.requests, k.prompt_tokens, k.cached_tokens, k.completion_tokens,
       k.request_seconds, k.engine_seconds
FROM runs r
CROSS JOIN LATERAL (
    WITH requests AS (
        SELECT t.model_id, 'propose' AS kind, c.propose_worker_id AS worker_id, c.prompt_tokens, c.cached_tokens,
               c.completion_tokens, c.proposed_at AS ended_at, c.propose_seconds AS seconds
        FROM problems p JOIN candidates c ON c.problem_id = p.id JOIN teachers t ON t.id = c.teacher_id
        WHERE p.run_id = r.id AND c.propose_seconds IS NOT NULL
        UNION ALL
        SELECT r.prover_model_id, 'score', c.score_worker_id, c.score_prompt_tokens, c.score_cached_tokens,
               0, c.scored_at, c.score_seconds
        FROM problems p JOIN candidates c ON c.problem_id = p.id
        WHERE p.run_id = r.id AND c.score_seconds IS NOT NULL
        UNION ALL
        SELECT r.prover_model_id, 'score', p.base_scored_by, p.base_prompt_tokens, p.base_cached_tokens,
               0, p.base_scored_at, p.base_score_seconds
        FROM problems p WHERE p.run_id = r.id AND p.base_score_seconds IS NOT NULL
        UNION ALL
        SELECT t.model_id, 'answer', j.answer_worker_id, j.answer_prompt_tokens, j.answer_cached_tokens,
               j.answer_completion_tokens, j.answered_at, j.answer_seconds
        FROM problems p JOIN trajectories j ON j.problem_id = p.id JOIN candidates c ON c.id = j.candidate_id
        JOIN teachers t ON t.id = c.teacher_id
        WHERE p.run_id = r.id AND j.answer_seconds IS NOT NULL
        UNION ALL
        SELECT r.selection_model_id, 'judge', c.judgment_worker_id, c.judgment_prompt_tokens,
               c.judgment_cached_tokens, c.judgment_completion_tokens, c.judged_at, c.judgment_seconds
        FROM problems p JOIN candidates c ON c.problem_id = p.id
        WHERE p.run_id = r.id AND c.judgment_seconds IS NOT NULL
        UNION ALL
        SELECT r.judge_model_id, 'verdict', j.verdict_worker_id, j.verdict_prompt_tokens, NULL,
               j.verdict_completion_tokens, j.judged_at, j.verdict_seconds
        FROM problems p JOIN trajectories j ON j.problem_id = p.id
        WHERE p.run_id = r.id AND j.verdict_seconds IS NOT NULL
    ),
    by_worker AS (
        SELECT model_id, kind, count(*) AS requests, sum(prompt_tokens) AS prompt_tokens,
               coalesce(sum(cached_tokens), 0) AS cached_tokens, sum(completion_tokens) AS completion_tokens,
               sum(seconds) AS request_seconds,
               range_agg(tstzrange(ended_at - make_interval(secs => seconds), ended_at)) AS busy
        FROM requests GROUP BY model_id, kind, worker_id
    )
    SELECT m.path AS model, w.kind, sum(w.requests)::bigint AS requests, sum(w.prompt_tokens)::bigint AS prompt_tokens,
           sum(w.cached_tokens)::bigint AS cached_tokens, sum(w.completion_tokens)::bigint AS completion_tokens,
           sum(w.request_seconds) AS request_seconds,
           sum((
               SELECT coalesce(extract(epoch FROM sum(upper(span) - lower(span))), 0) FROM unnest(w.busy) AS span
           ))::float8 AS engine_seconds
    FROM by_worker w JOIN models m ON m.id = w.model_id
    GROUP BY m.id, m.path, w.kind
) AS k
ORDER BY r.id, k.model, k.kind
"""


def upgrade() -> None:
    for view in (TEACHER_SELECTION, PREFIX_CACHE, RUN_COSTS):
        op.execute(view)


def downgrade() -> None:
    """Nothing: the views of the revision before have the same columns and values."""
