"""Invariants about rescores: they belong to candidates that can be scored, and their figures agree with their states.

See `invariants`. Times and workers of rescores are in `history_invariants`, their digests in `digest_invariants`.
"""

from __future__ import annotations

from cord_worker.store.audit.invariants import JOIN_RESCORES, Invariant, geometric_mean, wrong_score
from cord_worker.store.audit.row_names import rescore_name_sql

_X = rescore_name_sql("q", "c")
"""SQL: the name of the rescore of the candidate `c` in the rescoring `q`, in findings."""

_WRONG_FOR_STATE = """
    concat_ws(', ',
        CASE WHEN (x.scored_at IS NULL) = (x.state IN ('scored', 'invalid')) THEN 'scored_at' END,
        CASE WHEN (x.score IS NULL) = (x.state = 'scored') THEN 'score' END,
        CASE WHEN (x.invalid_reason IS NULL) = (x.state = 'invalid') THEN 'invalid_reason' END,
        CASE WHEN (num_nonnulls(x.log_prob_sum, x.mean_probability, x.answer_tokens, x.thinking_tokens) = 4)
                  <> (x.state = 'scored')
               OR num_nonnulls(x.log_prob_sum, x.mean_probability, x.answer_tokens, x.thinking_tokens,
                               x.prompt_tokens, x.cached_tokens, x.seconds) > 0 AND x.state <> 'scored'
             THEN 'figures' END,
        CASE WHEN x.rescore_attempts < num_nonnulls(x.score) OR x.rescore_attempts > 0 AND x.state = 'queued'
               OR x.rescore_attempts < 1 AND x.state = 'scoring' THEN 'rescore_attempts' END)
"""
"""SQL: the names of those columns of the rescore `x` that do not fit its state."""

RESCORE_INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "rescores",
        "a rescore is of a valid candidate of a problem that is done, in a rescoring of the same run, and its figures "
        "agree with its state",
        f"""
        SELECT p.id, format('%s: candidate_id, problem_id or rescoring_id: it must be a valid candidate of a problem '
                            'that is done, in the run of its rescoring', {_X})
        FROM scope p {JOIN_RESCORES}
        WHERE c.problem_id <> p.id OR q.run_id <> p.run_id OR p.state <> 'done' OR c.state NOT IN ('scored', 'unscored')
        UNION ALL
        SELECT p.id, format('%s: %s: does not fit the state %s', {_X}, wrong.columns, x.state)
        FROM scope p {JOIN_RESCORES}
        CROSS JOIN LATERAL (SELECT {_WRONG_FOR_STATE} AS columns) wrong WHERE wrong.columns <> ''
        UNION ALL
        SELECT p.id, format('%s: score: %s of a log_prob_sum of %s over %s answer_tokens, mean_probability %s, '
                            'scoring_mode %s', {_X}, x.score, x.log_prob_sum, x.answer_tokens, x.mean_probability,
                            x.scoring_mode)
        FROM scope p {JOIN_RESCORES}
        CROSS JOIN LATERAL (SELECT {geometric_mean("x.log_prob_sum", "x.answer_tokens")} AS mean) recomputed
        WHERE x.score IS NOT NULL AND (
            x.scoring_mode IS DISTINCT FROM q.scoring_mode
            OR {wrong_score("x.score", "x.mean_probability", "x.answer_tokens", "q.prover ->> 'score'")})
        """,
    ),
)
"""Invariants about rescores."""
