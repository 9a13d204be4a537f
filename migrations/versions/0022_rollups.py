"""Rollups of problems that ended, and views over them.

The tables and views are new, so workers of the previous version go on: they neither read nor write them. A problem
without a rollup is computed from its rows (the views `current_…`), so no figure is wrong before the tables are filled.
Filling needs no long transaction and is no part of the migration: `cordctl db upgrade` does it afterwards in batches,
and the leading coordinator looks for the rest.

`model_usage` takes the place of run_costs and prefix_cache, which counted the same requests in two ways.

Revision ID: 0022
Revises: 0021
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import JSONB, TSTZMULTIRANGE

revision: str = "0022"
down_revision: str | None = "0021"
branch_labels: str | None = None
depends_on: str | None = None

_BIG, _INT = sa.BigInteger(), sa.Integer()
_FLOAT: sa.Double[float] = sa.Double()

TABLES: dict[str, tuple[str, list[tuple[str, sa.types.TypeEngine[Any], bool, str]], tuple[str, ...]]] = {
    "problem_rollups": (
        "What the rows of a problem add up to, written when it ended; a problem without one is computed from its rows.",
        [
            ("problem_id", _BIG, False, "Its problem."),
            ("run_id", _BIG, False, "The problem's run."),
            ("state", sa.Text(), False, "The problem's state."),
            ("candidates", _INT, False, "Candidates."),
            ("kept", _INT, False, "Of these, those that entered a beam."),
            ("invalid", _INT, False, "Of these, invalid ones without duplicates."),
            ("duplicates", _INT, False, "Of these, duplicates."),
            ("step_tokens", _BIG, False, "Tokens that teachers generated for its steps; not those of copies."),
            (
                "answer_tokens",
                _BIG,
                False,
                "Tokens that teachers generated for its final answers; not those of copies.",
            ),
            ("scored_tokens", _BIG, False, "The prover's prompt tokens, those of the base score included."),
            ("prover_seconds", _FLOAT, False, "Sum of the seconds of its scores in the prover's engine."),
            ("answers", _INT, False, "Trajectories that got a final answer: the winner, or every sample."),
            ("scored_answers", _INT, False, "Of these, those with a score."),
            ("score_sum", _FLOAT, False, "Sum of their scores."),
            ("answer_steps", _BIG, False, "Sum of the steps of the trajectories that got a final answer."),
            ("checked", _INT, False, "Final answers whose correctness was decided."),
            ("correct", _INT, False, "Of these, right ones."),
            ("undecided", _INT, False, "Final answers that were checked without a decision."),
            ("without_result", _INT, False, "Of these, those whose check failed or took too long."),
            ("cut_answers", _INT, False, "Final answers that reached their token limit."),
            ("full_contexts", _INT, False, "Trajectories with a final answer for which no model had more room."),
            (
                "result_tokens",
                _FLOAT,
                True,
                "Mean tokens of a trajectory with its final answer, as a student reads them.",
            ),
            ("winner_score", _FLOAT, True, "Score of the winner."),
            ("winner_steps", _INT, True, "Steps of the winner."),
            (
                "lead",
                _FLOAT,
                True,
                "Least difference between the score of a step of the winner and the best score that its step lost.",
            ),
            (
                "nearest_loser_id",
                _BIG,
                True,
                "The candidate with that best score, in the step of the least difference.",
            ),
            ("first_request_at", sa.DateTime(timezone=True), True, "When its first request reached an engine."),
            (
                "generation_seconds",
                _FLOAT,
                False,
                "Seconds in which at least one teacher worked on a step or final answer of it.",
            ),
            (
                "scoring_seconds",
                _FLOAT,
                False,
                "Seconds in which the prover or selection model worked on it.",
            ),
        ],
        ("problem_id",),
    ),
    "teacher_rollups": (
        "What the candidates of one teacher in one tenth of a problem add up to, written with its problem_rollups row.",
        [
            ("problem_id", _BIG, False, "The problem."),
            ("run_id", _BIG, False, "The problem's run."),
            ("teacher_id", _BIG, False, "The teacher."),
            (
                "tenth",
                _INT,
                False,
                "Tenth (1-10) of the decoding position, (depth - 0.5) / steps of the winner; 0 without a winner.",
            ),
            ("planned", _INT, False, "Candidates."),
            ("proposed", _INT, False, "Of these, those with a text."),
            ("scored", _INT, False, "Candidates in the state scored."),
            ("unscored", _INT, False, "Candidates in the state unscored."),
            ("invalid", _INT, False, "Invalid candidates, without duplicates."),
            ("duplicates", _INT, False, "Duplicates."),
            ("shared", _INT, False, "Candidates whose text another one of their step has too."),
            ("kept", _INT, False, "Candidates that entered a beam, or duplicates of one that did."),
            ("winning", _INT, False, "Candidates on the winning path, or duplicates of one."),
            (
                "winning_parts",
                _FLOAT,
                False,
                "The same, but a step that N proposals have in common counts 1/N for each.",
            ),
            ("scores", _INT, False, "Candidates with a score; a duplicate has that of its sibling."),
            ("score_sum", _FLOAT, False, "Sum of these scores."),
            ("gains", _INT, False, "Candidates with a gain."),
            ("gain_sum", _FLOAT, False, "Sum of these gains."),
            ("winning_gain", _FLOAT, False, "Sum of the gains on the winning path, each divided by N as above."),
            ("tokens", _BIG, False, "Tokens of the texts, those of copies included."),
            ("generated_tokens", _BIG, False, "Tokens that the teacher generated; not those of copies."),
            ("prompt_tokens", _BIG, False, "The teacher's prompt tokens."),
            ("cached_tokens", _BIG, False, "Of these, tokens from its prefix cache."),
            ("request_seconds", _FLOAT, False, "Sum of the seconds of its proposals, which overlap in batches."),
            ("scored_tokens", _BIG, False, "The prover's prompt tokens for these candidates."),
            ("prover_seconds", _FLOAT, False, "Sum of the seconds of their scores in the prover's engine."),
            ("invalid_reasons", JSONB(), True, "Number of invalid candidates by reason, duplicates included."),
        ],
        ("problem_id", "teacher_id", "tenth"),
    ),
    "request_rollups": (
        "What the requests to one worker for a problem add up to, by kind, written with its problem_rollups row.",
        [
            ("problem_id", _BIG, False, "The problem."),
            ("run_id", _BIG, False, "The problem's run."),
            ("model_id", _BIG, False, "The model."),
            ("kind", sa.Text(), False, "propose, score, answer, judge (of a candidate) or verdict (on an answer)."),
            ("worker_id", sa.Uuid(), False, "The worker's id; all zeros if it is not known."),
            ("requests", _INT, False, "Requests."),
            (
                "at_home",
                _INT,
                False,
                "Of these, those to the worker that served most of the problem's requests to this model.",
            ),
            ("prompt_tokens", _BIG, False, "Prompt tokens."),
            ("cached_tokens", _BIG, True, "Of these, tokens from the prefix cache; NULL if not known."),
            ("completion_tokens", _BIG, False, "Generated tokens."),
            ("request_seconds", _FLOAT, False, "Sum of the seconds of the requests, which overlap in batches."),
            ("busy", TSTZMULTIRANGE(), False, "When at least one of the requests was in the engine."),
        ],
        ("problem_id", "model_id", "kind", "worker_id"),
    ),
}
"""Comment, columns (name, type, nullable, comment) and key of each table."""

_IS_POSSIBLE = "{seconds} >= 0 AND {seconds} < 1e8 AND {ended} > '1900-01-01' AND {ended} < '9999-01-01'"
"""SQL: an engine may give such numbers. Of others, which someone has written by hand, no time can be computed."""


def _began(ended: str, seconds: str) -> str:
    """SQL: when a request reached the engine."""
    possible = _IS_POSSIBLE.format(ended=ended, seconds=seconds)
    return f"CASE WHEN {possible} THEN {ended} - make_interval(secs => {seconds}) END"


def _span(ended: str, seconds: str) -> str:
    """SQL: when a request was in the engine."""
    possible = _IS_POSSIBLE.format(ended=ended, seconds=seconds)
    return f"CASE WHEN {possible} THEN tstzrange({ended} - make_interval(secs => {seconds}), {ended}) END"


_LENGTH = "(SELECT coalesce(extract(epoch FROM sum(upper(one) - lower(one))), 0)::float8 FROM unnest({}) AS one)"

_C = "(SELECT * FROM candidates WHERE problem_id = p.id OFFSET 0) c"
"""SQL: the candidates of the problem. OFFSET keeps the subquery whole: while statistics are old, the planner would
otherwise read all candidates of a teacher, because they come in the order of the groups."""

PROBLEM_BODY = f"""
    SELECT p.state, c.candidates, c.kept, c.invalid, c.duplicates, c.step_tokens, j.answer_tokens,
           c.scored_tokens + coalesce(p.base_prompt_tokens, 0) AS scored_tokens,
           c.prover_seconds + coalesce(p.base_score_seconds, 0) AS prover_seconds,
           j.answers, j.scored_answers, j.score_sum, j.answer_steps, j.checked, j.correct, j.undecided,
           j.without_result, j.cut_answers, j.full_contexts, j.result_tokens, j.winner_score, j.winner_steps,
           narrow.lead, narrow.nearest_loser_id, timed.first_request_at,
           coalesce({_LENGTH.format("timed.generation")}, 0) AS generation_seconds,
           coalesce({_LENGTH.format("timed.scoring")}, 0) AS scoring_seconds
    FROM (
        SELECT count(*)::int AS candidates, count(*) FILTER (WHERE c.kept)::int AS kept,
               count(*) FILTER (WHERE c.state = 'invalid' AND c.invalid_reason <> 'duplicate')::int AS invalid,
               count(*) FILTER (WHERE c.invalid_reason = 'duplicate')::int AS duplicates,
               coalesce(sum(c.completion_tokens) FILTER (WHERE c.propose_seconds IS NOT NULL), 0) AS step_tokens,
               coalesce(sum(c.score_prompt_tokens), 0) AS scored_tokens,
               coalesce(sum(c.score_seconds ORDER BY c.id), 0) AS prover_seconds
        FROM {_C}
    ) c
    CROSS JOIN (
        SELECT count(*) FILTER (WHERE asked)::int AS answers,
               count(j.score) FILTER (WHERE asked)::int AS scored_answers,
               coalesce(sum(j.score ORDER BY j.id) FILTER (WHERE asked), 0) AS score_sum,
               coalesce(sum(j.steps) FILTER (WHERE asked), 0) AS answer_steps,
               count(j.correct) FILTER (WHERE asked)::int AS checked,
               count(*) FILTER (WHERE asked AND j.correct)::int AS correct,
               count(*) FILTER (WHERE asked AND undecided)::int AS undecided,
               count(*) FILTER (WHERE asked AND j.correct IS NULL
                                AND j.verification ->> 'method' IN ('timeout', 'crashed', 'failed'))::int
                   AS without_result,
               count(*) FILTER (WHERE asked AND j.answer_finish_reason = 'length')::int AS cut_answers,
               count(*) FILTER (WHERE asked AND j.finish = 'context')::int AS full_contexts,
               avg(last_step.thinking_tokens + coalesce(j.answer_completion_tokens, 0)::bigint)
                   FILTER (WHERE asked)::float8 AS result_tokens,
               coalesce(sum(j.answer_completion_tokens) FILTER (WHERE j.answer_seconds IS NOT NULL), 0)
                   AS answer_tokens,
               max(j.score) FILTER (WHERE j.winner) AS winner_score,
               max(j.steps) FILTER (WHERE j.winner) AS winner_steps
        FROM trajectories j LEFT JOIN candidates last_step ON last_step.id = j.candidate_id
        CROSS JOIN LATERAL (
            SELECT j.answer_state <> 'none' AS asked, j.correct IS NULL AND j.verification IS NOT NULL AS undecided
        ) is_
        WHERE j.problem_id = p.id
    ) j
    CROSS JOIN (
        SELECT min(began) AS first_request_at,
               range_agg(tstzrange(began, ended)) FILTER (WHERE phase = 'generation') AS generation,
               range_agg(tstzrange(began, ended)) FILTER (WHERE phase = 'scoring') AS scoring
        FROM (
            SELECT 'generation' AS phase, {_began("c.proposed_at", "c.propose_seconds")} AS began,
                   c.proposed_at AS ended
            FROM {_C}
            UNION ALL
            SELECT 'generation', {_began("j.answered_at", "j.answer_seconds")}, j.answered_at
            FROM trajectories j WHERE j.problem_id = p.id
            UNION ALL
            SELECT 'scoring', {_began("c.scored_at", "c.score_seconds")}, c.scored_at
            FROM {_C}
            UNION ALL
            SELECT 'scoring', {_began("p.base_scored_at", "p.base_score_seconds")}, p.base_scored_at
            UNION ALL
            SELECT 'scoring', {_began("c.judged_at", "c.judgment_seconds")}, c.judged_at
            FROM {_C}
        ) spans WHERE began IS NOT NULL
    ) timed
    LEFT JOIN (
        SELECT w.score - l.score AS lead, l.id AS nearest_loser_id
        FROM (SELECT * FROM candidates WHERE problem_id = p.id AND winning OFFSET 0) w CROSS JOIN LATERAL (
            SELECT l.id, l.score FROM candidates l
            WHERE l.problem_id = w.problem_id AND l.step = w.step AND l.round = w.round AND NOT l.kept
              AND l.rank IS NOT NULL AND l.score IS NOT NULL
            ORDER BY l.score DESC, l.id LIMIT 1
        ) l
        ORDER BY w.score - l.score, w.step, w.id LIMIT 1
    ) narrow ON true
"""
"""SQL about a problem `p`: its problem_rollups row."""

TEACHER_BODY = f"""
    SELECT g.teacher_id, g.tenth, sum(g.planned)::int AS planned, sum(g.proposed)::int AS proposed,
           sum(g.scored)::int AS scored, sum(g.unscored)::int AS unscored,
           coalesce(sum(g.planned) FILTER (WHERE g.is_invalid AND g.reason <> 'duplicate'), 0)::int AS invalid,
           coalesce(sum(g.planned) FILTER (WHERE g.reason = 'duplicate'), 0)::int AS duplicates,
           sum(g.shared)::int AS shared, sum(g.kept)::int AS kept, sum(g.winning)::int AS winning,
           sum(g.winning_parts)::float8 AS winning_parts, sum(g.scores)::int AS scores,
           sum(g.score_sum ORDER BY g.reason, g.is_invalid) AS score_sum, sum(g.gains)::int AS gains,
           sum(g.gain_sum ORDER BY g.reason, g.is_invalid) AS gain_sum,
           sum(g.winning_gain ORDER BY g.reason, g.is_invalid) AS winning_gain, sum(g.tokens)::bigint AS tokens,
           sum(g.generated_tokens)::bigint AS generated_tokens, sum(g.prompt_tokens)::bigint AS prompt_tokens,
           sum(g.cached_tokens)::bigint AS cached_tokens,
           sum(g.request_seconds ORDER BY g.reason, g.is_invalid) AS request_seconds,
           sum(g.scored_tokens)::bigint AS scored_tokens,
           sum(g.prover_seconds ORDER BY g.reason, g.is_invalid) AS prover_seconds,
           jsonb_object_agg(g.reason, g.planned) FILTER (WHERE g.reason IS NOT NULL) AS invalid_reasons
    FROM (
        SELECT c.teacher_id, placed.tenth, c.invalid_reason AS reason, c.state = 'invalid' AS is_invalid,
               count(*) AS planned, count(c.proposed_at) AS proposed,
               count(*) FILTER (WHERE c.state = 'scored') AS scored,
               count(*) FILTER (WHERE c.state = 'unscored') AS unscored,
               count(*) FILTER (WHERE twins.others > 0) AS shared, count(*) FILTER (WHERE s.kept) AS kept,
               count(*) FILTER (WHERE s.winning) AS winning,
               coalesce(sum(1.0 / (twins.others + 1)) FILTER (WHERE s.winning), 0) AS winning_parts,
               count(s.score) AS scores, coalesce(sum(s.score ORDER BY c.id), 0) AS score_sum,
               count(placed.gain) AS gains, coalesce(sum(placed.gain ORDER BY c.id), 0) AS gain_sum,
               coalesce(sum(placed.gain / (twins.others + 1) ORDER BY c.id) FILTER (WHERE s.winning), 0)
                   AS winning_gain,
               coalesce(sum(c.completion_tokens), 0) AS tokens,
               coalesce(sum(c.completion_tokens) FILTER (WHERE c.propose_seconds IS NOT NULL), 0) AS generated_tokens,
               coalesce(sum(c.prompt_tokens), 0) AS prompt_tokens, coalesce(sum(c.cached_tokens), 0) AS cached_tokens,
               coalesce(sum(c.propose_seconds ORDER BY c.id), 0) AS request_seconds,
               coalesce(sum(c.score_prompt_tokens), 0) AS scored_tokens,
               coalesce(sum(c.score_seconds ORDER BY c.id), 0) AS prover_seconds
        FROM {_C}
        JOIN candidates s ON s.id = coalesce(c.duplicate_of, c.id)
        LEFT JOIN candidates parent ON parent.id = s.parent_id
        CROSS JOIN LATERAL (SELECT count(*) AS others FROM candidates d WHERE d.duplicate_of = s.id) twins
        LEFT JOIN trajectories w ON w.problem_id = c.problem_id AND w.winner
        CROSS JOIN LATERAL (
            SELECT CASE WHEN w.steps <> 0 THEN least(greatest(floor(10 * (c.depth - 0.5) / w.steps), 0), 9)::int + 1
                        ELSE 0 END AS tenth,
                   s.score - CASE WHEN s.parent_id IS NULL THEN p.base_score ELSE parent.score END AS gain
        ) placed
        GROUP BY c.teacher_id, placed.tenth, c.invalid_reason, c.state = 'invalid'
    ) g
    GROUP BY g.teacher_id, g.tenth
"""
"""SQL about a problem `p`: its teacher_rollups rows. Sums of fractions have an order, so that they are always equal."""

REQUEST_BODY = f"""
    SELECT q.model_id, q.kind, q.worker_id, count(*)::int AS requests,
           count(*) FILTER (WHERE q.worker_id = h.worker_id)::int AS at_home,
           coalesce(sum(q.prompt_tokens), 0) AS prompt_tokens, sum(q.cached_tokens) AS cached_tokens,
           coalesce(sum(q.completion_tokens), 0) AS completion_tokens,
           sum(q.seconds ORDER BY q.row_id) AS request_seconds,
           coalesce(range_agg(q.span), '{{}}') AS busy
    FROM (
        SELECT c.id AS row_id, t.model_id, 'propose' AS kind,
               coalesce(c.propose_worker_id, '00000000-0000-0000-0000-000000000000') AS worker_id, c.prompt_tokens,
               c.cached_tokens, c.completion_tokens, c.propose_seconds AS seconds,
               {_span("c.proposed_at", "c.propose_seconds")} AS span
        FROM {_C} JOIN teachers t ON t.id = c.teacher_id
        WHERE c.propose_seconds IS NOT NULL
        UNION ALL
        SELECT c.id, r.prover_model_id, 'score',
               coalesce(c.score_worker_id, '00000000-0000-0000-0000-000000000000'), c.score_prompt_tokens,
               c.score_cached_tokens, 0, c.score_seconds, {_span("c.scored_at", "c.score_seconds")}
        FROM {_C}
        WHERE c.score_seconds IS NOT NULL AND r.prover_model_id IS NOT NULL
        UNION ALL
        SELECT 0, r.prover_model_id, 'score', coalesce(p.base_scored_by, '00000000-0000-0000-0000-000000000000'),
               p.base_prompt_tokens, p.base_cached_tokens, 0, p.base_score_seconds,
               {_span("p.base_scored_at", "p.base_score_seconds")}
        WHERE p.base_score_seconds IS NOT NULL AND r.prover_model_id IS NOT NULL
        UNION ALL
        SELECT j.id, t.model_id, 'answer', coalesce(j.answer_worker_id, '00000000-0000-0000-0000-000000000000'),
               j.answer_prompt_tokens, j.answer_cached_tokens, j.answer_completion_tokens, j.answer_seconds,
               {_span("j.answered_at", "j.answer_seconds")}
        FROM trajectories j JOIN candidates c ON c.id = j.candidate_id JOIN teachers t ON t.id = c.teacher_id
        WHERE j.problem_id = p.id AND j.answer_seconds IS NOT NULL
        UNION ALL
        SELECT c.id, r.selection_model_id, 'judge',
               coalesce(c.judgment_worker_id, '00000000-0000-0000-0000-000000000000'), c.judgment_prompt_tokens,
               c.judgment_cached_tokens, c.judgment_completion_tokens, c.judgment_seconds,
               {_span("c.judged_at", "c.judgment_seconds")}
        FROM {_C}
        WHERE c.judgment_seconds IS NOT NULL AND r.selection_model_id IS NOT NULL
        UNION ALL
        SELECT j.id, r.judge_model_id, 'verdict',
               coalesce(j.verdict_worker_id, '00000000-0000-0000-0000-000000000000'), j.verdict_prompt_tokens,
               NULL, j.verdict_completion_tokens, j.verdict_seconds, {_span("j.judged_at", "j.verdict_seconds")}
        FROM trajectories j
        WHERE j.problem_id = p.id AND j.verdict_seconds IS NOT NULL AND r.judge_model_id IS NOT NULL
    ) q
    LEFT JOIN (
        SELECT served.model_id, mode() WITHIN GROUP (ORDER BY served.worker_id) AS worker_id
        FROM (
            SELECT t.model_id, c.propose_worker_id AS worker_id
            FROM {_C} JOIN teachers t ON t.id = c.teacher_id
            WHERE c.propose_seconds IS NOT NULL
            UNION ALL
            SELECT r.prover_model_id, c.score_worker_id
            FROM {_C} WHERE c.score_seconds IS NOT NULL
            UNION ALL
            SELECT r.prover_model_id, p.base_scored_by WHERE p.base_score_seconds IS NOT NULL
            UNION ALL
            SELECT t.model_id, j.answer_worker_id
            FROM trajectories j JOIN candidates c ON c.id = j.candidate_id JOIN teachers t ON t.id = c.teacher_id
            WHERE j.problem_id = p.id AND j.answer_seconds IS NOT NULL
            UNION ALL
            SELECT r.selection_model_id, c.judgment_worker_id
            FROM {_C} WHERE c.judgment_seconds IS NOT NULL
        ) served GROUP BY served.model_id
    ) h ON h.model_id = q.model_id
    GROUP BY q.model_id, q.kind, q.worker_id
"""
"""SQL about a problem `p` of the run `r`: its request_rollups rows."""

BODIES = {"problem_rollups": PROBLEM_BODY, "teacher_rollups": TEACHER_BODY, "request_rollups": REQUEST_BODY}


def _rollup_views(table: str) -> dict[str, tuple[str, str]]:
    """SQL and comment of the views `computed_…` and `current_…` of a table."""
    columns = ", ".join(name for name, *_ in TABLES[table][1])
    of_body = [name for name, *_ in TABLES[table][1] if name not in ("problem_id", "run_id")]
    dialect = op.get_context().dialect
    typed = ", ".join(
        f"k.{name}::{kind.compile(dialect=dialect)} AS {name}" for name, kind, *_ in TABLES[table][1] if name in of_body
    )
    from_rows = f"FROM problems p JOIN runs r ON r.id = p.run_id CROSS JOIN LATERAL ({BODIES[table]}) k"
    computed = f"SELECT p.id AS problem_id, p.run_id, {typed} {from_rows}"
    return {
        f"computed_{table}": (computed, f"What {table} should hold for any problem, computed from its rows."),
        f"current_{table}": (
            f"SELECT {columns} FROM {table} UNION ALL {computed} "
            "WHERE (p.step > 0 OR p.base_scored_at IS NOT NULL) "
            "AND NOT EXISTS (SELECT 1 FROM problem_rollups stored WHERE stored.problem_id = p.id)",
            f"{table} of every problem: as written when it ended, else computed from its rows now. Name a run_id.",
        ),
    }


_RUN = ("run", "Name of the run.")
_PROBLEM = ("problem", "Id of the problem in the dataset.")

VIEWS: dict[str, tuple[str, list[tuple[str, str]], str]] = {
    "teacher_selection": (
        "Which teacher is selected where: one row per run, teacher and tenth of the decoding position, over problems "
        "with a winner. Duplicates share the credit of their text: each of them counts as kept or winning if it is, "
        "and hit_rate and winning_gain divide by their number.",
        [
            _RUN,
            ("teacher", "Name of the teacher."),
            (
                "tenth",
                "Tenth (1-10) of the decoding position, (depth - 0.5) / steps of the winning trajectory; later steps "
                "are in tenth 10.",
            ),
            ("proposed", "Candidates of the teacher there."),
            ("kept", "Of these, kept in a beam, or a duplicate of one that was."),
            ("on_winning_path", "Of these, on the winning path, or a duplicate of one that is."),
            (
                "hit_rate",
                "This teacher's share of the winning steps in this tenth. A step that N proposals have in common "
                "counts 1/N for each of them. The shares add up to 1 over the teachers.",
            ),
            ("mean_score", "Mean score of its candidates there; a duplicate has the score of its sibling."),
            ("tokens", "Tokens that it generated there."),
            ("valid", "Candidates that could enter a beam: scored, or in a run without scores unscored."),
            ("invalid", "Invalid candidates, without duplicates."),
            ("duplicates", "Candidates whose text an earlier sibling has; only that one is scored, for both."),
            ("mean_gain", "Mean gain of its candidates there: score minus that of the step before, or the base score."),
            (
                "winning_gain",
                "Sum of the gains of its steps on the winning path there; one that N proposals have in common counts "
                "1/N.",
            ),
            ("request_seconds", "Sum of the seconds of its proposals there, which overlap in batches."),
            ("prompt_tokens", "Its prompt tokens there."),
            ("cached_tokens", "Of these, tokens from its prefix cache."),
        ],
        """
        SELECT r.name AS run, k.*
        FROM runs r
        CROSS JOIN LATERAL (
            SELECT t.name AS teacher, g.tenth, g.planned AS proposed, g.kept, g.winning AS on_winning_path,
                   (g.winning_parts / nullif(sum(g.winning_parts) OVER (PARTITION BY g.tenth), 0))::numeric AS hit_rate,
                   g.score_sum / nullif(g.scores, 0) AS mean_score, g.tokens, g.valid, g.invalid, g.duplicates,
                   g.gain_sum / nullif(g.gains, 0) AS mean_gain, g.winning_gain, g.request_seconds, g.prompt_tokens,
                   g.cached_tokens
            FROM (
                SELECT k.teacher_id, k.tenth, sum(k.planned) AS planned, sum(k.kept) AS kept, sum(k.winning) AS winning,
                       sum(k.winning_parts) AS winning_parts, sum(k.scores) AS scores, sum(k.score_sum) AS score_sum,
                       sum(k.gains) AS gains, sum(k.gain_sum) AS gain_sum, sum(k.winning_gain) AS winning_gain,
                       sum(k.tokens)::bigint AS tokens, sum(k.scored + k.unscored) AS valid, sum(k.invalid) AS invalid,
                       sum(k.duplicates) AS duplicates, sum(k.request_seconds) AS request_seconds,
                       sum(k.prompt_tokens)::bigint AS prompt_tokens, sum(k.cached_tokens)::bigint AS cached_tokens
                FROM current_teacher_rollups k WHERE k.run_id = r.id AND k.tenth > 0
                GROUP BY k.teacher_id, k.tenth
            ) g JOIN teachers t ON t.id = g.teacher_id
            ORDER BY g.tenth, t.ordinal
        ) k
        """,
    ),
    "teacher_summary": (
        "What each teacher of a run did, over all problems, those in flight included: one row per run and teacher.",
        [
            _RUN,
            ("teacher", "Name of the teacher."),
            ("model", "Path of its model."),
            ("proposed", "Candidates that have a text."),
            ("valid", "Candidates that could enter a beam: scored, or in a run without scores unscored."),
            ("invalid", "Invalid candidates, without duplicates."),
            ("duplicates", "Candidates whose text an earlier sibling has."),
            ("shared", "Candidates whose text another one of their step has too."),
            ("kept", "Candidates that entered a beam, or duplicates of one that did."),
            ("winning", "Candidates on the winning path, or duplicates of one."),
            ("share", "The teacher's share of the winning steps; a step that N proposals have in common counts 1/N."),
            ("mean_score", "Mean score of its candidates; a duplicate has that of its sibling."),
            ("mean_gain", "Mean gain of its candidates."),
            ("winning_gain", "Sum of the gains of its winning steps; a step that N proposals have counts 1/N."),
            ("tokens", "Tokens that it generated for steps; not those of copies in a trimmed run."),
            ("request_seconds", "Sum of the seconds of its proposals, which overlap in batches."),
            ("prompt_tokens", "Its prompt tokens for steps."),
            ("cached_tokens", "Of these, tokens from its prefix cache."),
            ("scored_tokens", "The prover's prompt tokens for its candidates."),
            ("prover_seconds", "Sum of the seconds of their scores in the prover's engine."),
        ],
        """
        SELECT r.name AS run, k.*
        FROM runs r
        CROSS JOIN LATERAL (
            SELECT t.name AS teacher, m.path AS model, g.proposed, g.valid, g.invalid, g.duplicates, g.shared, g.kept,
                   g.winning, g.winning_parts / nullif(sum(g.winning_parts) OVER (), 0) AS share,
                   g.score_sum / nullif(g.scores, 0) AS mean_score, g.gain_sum / nullif(g.gains, 0) AS mean_gain,
                   g.winning_gain, g.tokens, g.request_seconds, g.prompt_tokens, g.cached_tokens, g.scored_tokens,
                   g.prover_seconds
            FROM (
                SELECT k.teacher_id, sum(k.proposed) AS proposed, sum(k.scored + k.unscored) AS valid,
                       sum(k.invalid) AS invalid, sum(k.duplicates) AS duplicates, sum(k.shared) AS shared,
                       sum(k.kept) AS kept, sum(k.winning) AS winning, sum(k.winning_parts) AS winning_parts,
                       sum(k.scores) AS scores, sum(k.score_sum) AS score_sum, sum(k.gains) AS gains,
                       sum(k.gain_sum) AS gain_sum, sum(k.winning_gain) AS winning_gain,
                       sum(k.generated_tokens)::bigint AS tokens, sum(k.request_seconds) AS request_seconds,
                       sum(k.prompt_tokens)::bigint AS prompt_tokens, sum(k.cached_tokens)::bigint AS cached_tokens,
                       sum(k.scored_tokens)::bigint AS scored_tokens, sum(k.prover_seconds) AS prover_seconds
                FROM current_teacher_rollups k WHERE k.run_id = r.id GROUP BY k.teacher_id
            ) g JOIN teachers t ON t.id = g.teacher_id JOIN models m ON m.id = t.model_id
            ORDER BY t.ordinal
        ) k
        """,
    ),
    "model_usage": (
        "What a run asked of its models: one row per run, model, kind of request and worker.",
        [
            _RUN,
            ("model", "Path of the model."),
            ("fingerprint", "Fingerprint of the model: two models may have one path."),
            ("kind", "propose, score, answer, judge (of a candidate) or verdict (on an answer)."),
            ("worker_id", "Id of the replica's process; NULL if it is not known."),
            ("requests", "Requests that reached its engine."),
            ("at_home", "Of these, requests for problems of which it served most of the requests to this model."),
            ("prompt_tokens", "Prompt tokens."),
            ("cached_tokens", "Of these, taken from the prefix cache; NULL if that is not known."),
            ("completion_tokens", "Generated tokens."),
            ("hit_rate", "Share of the prompt tokens that came from the prefix cache."),
            ("request_seconds", "Sum of the durations of the requests; requests of one batch overlap."),
            ("engine_seconds", "Time in which the worker's engine worked on at least one such request."),
        ],
        """
        SELECT r.name AS run, k.*
        FROM runs r
        CROSS JOIN LATERAL (
            SELECT m.path AS model, m.fingerprint, g.kind,
                   nullif(g.worker_id, '00000000-0000-0000-0000-000000000000') AS worker_id,
                   g.requests, g.at_home, g.prompt_tokens, g.cached_tokens, g.completion_tokens,
                   g.cached_tokens::float8 / nullif(g.prompt_tokens, 0) AS hit_rate, g.request_seconds,
                   coalesce(b.seconds, 0) AS engine_seconds
            FROM (
                SELECT k.model_id, k.kind, k.worker_id, sum(k.requests) AS requests, sum(k.at_home) AS at_home,
                       sum(k.prompt_tokens)::bigint AS prompt_tokens, sum(k.cached_tokens)::bigint AS cached_tokens,
                       sum(k.completion_tokens)::bigint AS completion_tokens, sum(k.request_seconds) AS request_seconds
                FROM current_request_rollups k WHERE k.run_id = r.id GROUP BY k.model_id, k.kind, k.worker_id
            ) g
            JOIN models m ON m.id = g.model_id
            LEFT JOIN (
                SELECT u.model_id, u.kind, u.worker_id,
                       (SELECT extract(epoch FROM sum(upper(one) - lower(one)))::float8 FROM unnest(u.busy) AS one)
                           AS seconds
                FROM (
                    SELECT k.model_id, k.kind, k.worker_id, range_agg(span) AS busy
                    FROM current_request_rollups k CROSS JOIN LATERAL unnest(k.busy) AS span
                    WHERE k.run_id = r.id GROUP BY k.model_id, k.kind, k.worker_id
                ) u
            ) b ON b.model_id = g.model_id AND b.kind = g.kind AND b.worker_id = g.worker_id
            ORDER BY m.path, g.kind, g.worker_id
        ) k
        """,
    ),
    "problem_summary": (
        "One row per problem of a run: where it stands, its result, its cost, its time and its steps.",
        [
            _RUN,
            _PROBLEM,
            ("position", "Its place in the dataset, from 0."),
            ("state", "queued, searching, answering, verifying, done, failed or cancelled."),
            ("failure_reason", "Why it failed."),
            ("steps", "Steps of the winner, or the mean over samples; NULL before the end of the search."),
            ("base_score", "The prover's score of the known answer before any step."),
            ("score", "Score of the winner, or the mean over samples."),
            ("gain", "Score of the winner minus the base score."),
            ("answers", "Final answers that it has or waits for: 1, or one of each sample."),
            ("correct", "Right final answers."),
            ("wrong", "Wrong final answers."),
            ("undecided", "Final answers that were checked without a decision."),
            ("candidates", "Candidates of its search."),
            ("kept", "Of these, those that entered a beam."),
            ("invalid", "Of these, invalid ones without duplicates."),
            ("duplicates", "Of these, duplicates."),
            (
                "lead",
                "How nearly its winner was lost: the least difference between the score of a winning step and the best "
                "score that its step lost. Below 0 if something else than the score selected.",
            ),
            ("step_tokens", "Tokens that teachers generated for its steps."),
            ("answer_tokens", "Tokens that teachers generated for its final answers."),
            ("scored_tokens", "The prover's prompt tokens, those of the base score included."),
            ("generation_seconds", "Seconds in which at least one teacher worked on it."),
            ("scoring_seconds", "Seconds in which the prover or the selection model worked on it."),
            ("admitted_at", "When its search began."),
            ("finished_at", "When it was done, failed or cancelled."),
            ("seconds", "Seconds from admission to its end."),
        ],
        """
        SELECT r.name AS run, k.*
        FROM runs r
        CROSS JOIN LATERAL (
            SELECT p.key AS problem, p.position, p.state, p.failure_reason,
                   c.answer_steps::float8 / nullif(c.answers, 0) AS steps, p.base_score,
                   c.score_sum / nullif(c.scored_answers, 0) AS score, c.winner_score - p.base_score AS gain,
                   coalesce(c.answers, 0) AS answers, coalesce(c.correct, 0) AS correct,
                   coalesce(c.checked - c.correct, 0) AS wrong, coalesce(c.undecided, 0) AS undecided,
                   coalesce(c.candidates, 0) AS candidates, coalesce(c.kept, 0) AS kept,
                   coalesce(c.invalid, 0) AS invalid, coalesce(c.duplicates, 0) AS duplicates, c.lead,
                   coalesce(c.step_tokens, 0) AS step_tokens, coalesce(c.answer_tokens, 0) AS answer_tokens,
                   coalesce(c.scored_tokens, 0) AS scored_tokens,
                   coalesce(c.generation_seconds, 0) AS generation_seconds,
                   coalesce(c.scoring_seconds, 0) AS scoring_seconds, p.admitted_at, p.finished_at,
                   extract(epoch FROM p.finished_at - p.admitted_at)::float8 AS seconds
            FROM problems p
            LEFT JOIN (SELECT * FROM current_problem_rollups k WHERE k.run_id = r.id OFFSET 0) c ON c.problem_id = p.id
            WHERE p.run_id = r.id
            OFFSET 0
        ) k
        """,
    ),
    "run_summary": (
        "One row per run: where it stands, its results, and what it took. Results are over done problems, the other "
        "figures over all.",
        [
            _RUN,
            ("state", "active, paused or cancelled; finished if it is active and nothing is left."),
            ("pipeline", "How it searches."),
            ("created_at", "When it was first enqueued."),
            ("problems", "Problems."),
            ("queued", "Of these, those that wait."),
            ("in_flight", "Of these, those whose search or final answer is under way."),
            ("done", "Of these, those with a result."),
            ("failed", "Of these, failed ones."),
            ("cancelled", "Of these, cancelled ones."),
            ("mean_score", "Mean score of the trajectories that got a final answer."),
            ("mean_base_score", "Mean base score."),
            ("mean_gain", "Mean gain of the winners over the base score."),
            ("mean_steps", "Mean steps of the trajectories that got a final answer."),
            ("checked", "Final answers whose correctness was decided."),
            ("correct", "Of these, right ones."),
            ("accuracy", "Share of right ones among the decided final answers."),
            ("undecided", "Final answers that were checked without a decision; they count in neither."),
            ("candidates", "Candidates."),
            ("kept", "Of these, those that entered a beam."),
            ("invalid", "Of these, invalid ones without duplicates."),
            ("duplicates", "Of these, duplicates."),
            ("step_tokens", "Tokens that teachers generated for steps."),
            ("answer_tokens", "Tokens that teachers generated for final answers."),
            ("scored_tokens", "The prover's prompt tokens, those of base scores included."),
            ("prover_seconds", "Sum of the seconds of its scores in the prover's engine."),
            ("first_request_at", "When its first request reached an engine."),
            ("admitted_at", "When its first problem was admitted."),
            ("finished_at", "When its last problem ended so far."),
        ],
        """
        SELECT r.name AS run,
               CASE WHEN r.state = 'active' AND k.problems > 0 AND k.queued + k.in_flight = 0 THEN 'finished'
                    ELSE r.state END AS state,
               r.pipeline, r.created_at, k.*
        FROM runs r
        CROSS JOIN LATERAL (
            SELECT count(*) AS problems, count(*) FILTER (WHERE p.state = 'queued') AS queued,
                   count(*) FILTER (WHERE p.state IN ('searching', 'answering', 'verifying')) AS in_flight,
                   count(*) FILTER (WHERE p.state = 'done') AS done,
                   count(*) FILTER (WHERE p.state = 'failed') AS failed,
                   count(*) FILTER (WHERE p.state = 'cancelled') AS cancelled,
                   sum(c.score_sum) FILTER (WHERE c.state = 'done')
                       / nullif(sum(c.scored_answers) FILTER (WHERE c.state = 'done'), 0) AS mean_score,
                   avg(p.base_score) FILTER (WHERE c.state = 'done' AND c.winner_score IS NOT NULL) AS mean_base_score,
                   avg(c.winner_score - p.base_score) FILTER (WHERE c.state = 'done') AS mean_gain,
                   sum(c.answer_steps) FILTER (WHERE c.state = 'done')::float8
                       / nullif(sum(c.answers) FILTER (WHERE c.state = 'done'), 0) AS mean_steps,
                   coalesce(sum(c.checked) FILTER (WHERE c.state = 'done'), 0) AS checked,
                   coalesce(sum(c.correct) FILTER (WHERE c.state = 'done'), 0) AS correct,
                   sum(c.correct) FILTER (WHERE c.state = 'done')::float8
                       / nullif(sum(c.checked) FILTER (WHERE c.state = 'done'), 0) AS accuracy,
                   coalesce(sum(c.undecided) FILTER (WHERE c.state = 'done'), 0) AS undecided,
                   coalesce(sum(c.candidates), 0) AS candidates, coalesce(sum(c.kept), 0) AS kept,
                   coalesce(sum(c.invalid), 0) AS invalid, coalesce(sum(c.duplicates), 0) AS duplicates,
                   coalesce(sum(c.step_tokens), 0)::bigint AS step_tokens,
                   coalesce(sum(c.answer_tokens), 0)::bigint AS answer_tokens,
                   coalesce(sum(c.scored_tokens), 0)::bigint AS scored_tokens,
                   coalesce(sum(c.prover_seconds), 0) AS prover_seconds, min(c.first_request_at) AS first_request_at,
                   min(p.admitted_at) AS admitted_at, max(p.finished_at) AS finished_at
            FROM problems p
            LEFT JOIN (SELECT * FROM current_problem_rollups k WHERE k.run_id = r.id OFFSET 0) c ON c.problem_id = p.id
            WHERE p.run_id = r.id
        ) k
        """,
    ),
    "beam_history": (
        "The beam after every step: one row per run, problem, step and slot.",
        [
            _RUN,
            _PROBLEM,
            ("step", "The step after which the beam was chosen."),
            ("rank", "0-based rank of the slot; 0 is the best."),
            ("teacher", "Teacher of the last step of the trajectory in the slot."),
            ("depth", "Its number of steps."),
            ("score", "Its score."),
            ("gain", "Gain of its last step: score minus that of the step before, or the base score."),
            ("finish", "Why the trajectory is finished; NULL while it is extended."),
            ("carried", "Whether it is from an earlier step and kept its slot."),
            ("winning", "Whether it is on the winning path."),
            ("text", "Text of its last step, without its marker."),
            ("candidate_id", "Key of that candidate."),
        ],
        """
        SELECT r.name AS run, k.*
        FROM runs r
        CROSS JOIN LATERAL (
            SELECT p.key AS problem, b.step, b.rank, t.name AS teacher, c.depth, c.score,
                   c.score - CASE WHEN c.parent_id IS NULL THEN p.base_score ELSE parent.score END AS gain, b.finish,
                   c.step < b.step AS carried, c.winning, c.text, c.id AS candidate_id
            FROM problems p
            JOIN beams b ON b.problem_id = p.id
            JOIN candidates c ON c.id = b.candidate_id
            JOIN teachers t ON t.id = c.teacher_id
            LEFT JOIN candidates parent ON parent.id = c.parent_id
            WHERE p.run_id = r.id
        ) k
        """,
    ),
    "trajectory_text": (
        "The text of every finished trajectory that held a slot: one row per run, problem and trajectory.",
        [
            _RUN,
            _PROBLEM,
            ("winner", "Whether it is the problem's winner; a run of samples has none."),
            ("teacher", "Teacher of its last step."),
            ("sample", "Number of that step's proposal; of a sample, its number."),
            ("steps", "Number of steps."),
            ("finish", "Why its thinking ended."),
            ("score", "Its score."),
            ("correct", "Whether its final answer is right; NULL if not checked, or undecided."),
            ("thinking", "Its steps in order, separated by blank lines, without markers."),
            ("answer", "Its final answer; NULL if none was asked for."),
            ("trajectory_id", "Key of the trajectory."),
        ],
        """
        SELECT r.name AS run, k.*
        FROM runs r
        CROSS JOIN LATERAL (
            SELECT p.key AS problem, j.winner, t.name AS teacher, c.sample, j.steps, j.finish, j.score, j.correct,
                   (WITH RECURSIVE path AS (
                        SELECT a.parent_id, a.depth, a.text FROM candidates a WHERE a.id = j.candidate_id
                        UNION ALL
                        SELECT parent.* FROM path, LATERAL (
                            SELECT a.parent_id, a.depth, a.text FROM candidates a WHERE a.id = path.parent_id LIMIT 1
                        ) parent
                    ) SELECT string_agg(path.text, E'\\n\\n' ORDER BY path.depth) FROM path) AS thinking,
                   j.answer_text AS answer, j.id AS trajectory_id
            FROM problems p
            JOIN trajectories j ON j.problem_id = p.id
            JOIN candidates c ON c.id = j.candidate_id
            JOIN teachers t ON t.id = c.teacher_id
            WHERE p.run_id = r.id
        ) k
        """,
    ),
    "narrow_losers": (
        "The candidate that came nearest to a winner's step and lost: one row per run and problem with a winner whose "
        "steps had losers with scores.",
        [
            _RUN,
            _PROBLEM,
            ("step", "The step in which it lost."),
            ("lead", "Score of the winning step minus its score; the least of all steps of the winner."),
            ("score", "Its score."),
            ("teacher", "Its teacher."),
            ("text", "Its text."),
            ("winning_score", "Score of the winning step."),
            ("winning_teacher", "Teacher of the winning step."),
            ("winning_text", "Text of the winning step."),
            ("candidate_id", "Key of the candidate that lost."),
        ],
        """
        SELECT r.name AS run, k.*
        FROM runs r
        CROSS JOIN LATERAL (
            SELECT p.key AS problem, l.step, n.lead, l.score, t.name AS teacher, l.text, w.score AS winning_score,
                   u.name AS winning_teacher, w.text AS winning_text, l.id AS candidate_id
            FROM (SELECT * FROM current_problem_rollups k WHERE k.run_id = r.id AND k.lead IS NOT NULL OFFSET 0) n
            JOIN problems p ON p.id = n.problem_id
            JOIN candidates l ON l.id = n.nearest_loser_id
            JOIN candidates w ON w.problem_id = l.problem_id AND w.step = l.step AND w.round = l.round AND w.winning
            JOIN teachers t ON t.id = l.teacher_id
            JOIN teachers u ON u.id = w.teacher_id
        ) k
        """,
    ),
    "invalid_reasons": (
        "Why candidates of a run are invalid: one row per run, teacher and reason.",
        [
            _RUN,
            ("teacher", "Name of the teacher."),
            ("reason", "Why they are invalid; duplicate, if an earlier sibling has the same text."),
            ("candidates", "Number of these candidates."),
        ],
        """
        SELECT r.name AS run, k.*
        FROM runs r
        CROSS JOIN LATERAL (
            SELECT t.name AS teacher, g.reason, g.candidates
            FROM (
                SELECT k.teacher_id, one.key AS reason, sum(one.value::bigint)::bigint AS candidates
                FROM current_teacher_rollups k CROSS JOIN LATERAL jsonb_each_text(k.invalid_reasons) one
                WHERE k.run_id = r.id AND k.invalid_reasons IS NOT NULL GROUP BY k.teacher_id, one.key
            ) g JOIN teachers t ON t.id = g.teacher_id
            ORDER BY t.ordinal, g.candidates DESC, g.reason
        ) k
        """,
    ),
    "failures": (
        "Why problems of a run failed: one row per run and cause. Reasons that differ only in numbers are one cause.",
        [
            _RUN,
            ("cause", "The reason, with N for every number."),
            ("problems", "Number of problems that failed for it."),
            ("first_problem", "Id of the first of them in dataset order."),
            ("first_reason", "The reason of that one."),
        ],
        """
        SELECT r.name AS run, k.*
        FROM runs r
        CROSS JOIN LATERAL (
            SELECT regexp_replace(p.failure_reason, '[0-9]+', 'N', 'g') AS cause, count(*) AS problems,
                   (array_agg(p.key ORDER BY p.position))[1] AS first_problem,
                   (array_agg(p.failure_reason ORDER BY p.position))[1] AS first_reason
            FROM problems p WHERE p.run_id = r.id AND p.state = 'failed'
            GROUP BY 1 ORDER BY 2 DESC, min(p.position)
        ) k
        """,
    ),
    "backlog": (
        "The unfinished work of a run now: one row per run, kind of work and model. Work that is still to be planned "
        "is not in it.",
        [
            _RUN,
            (
                "kind",
                "proposal, score, judgment, answer, check, verdict or rescore; of coordinators, whose model is NULL: "
                "check, decision, verification, and admission while no problem is in flight.",
            ),
            ("model", "Path of the model that does it; NULL for coordinators."),
            ("waiting", "Pieces that no worker has."),
            ("leased", "Pieces that a worker has."),
            ("oldest_lease_at", "When the oldest of these was leased."),
        ],
        """
        SELECT o.name AS run, k.*
        FROM runs o
        CROSS JOIN LATERAL (
            SELECT work.kind, m.path AS model, count(*) FILTER (WHERE NOT work.is_leased) AS waiting,
                   count(*) FILTER (WHERE work.is_leased) AS leased,
                   min(work.touched_at) FILTER (WHERE work.is_leased) AS oldest_lease_at
            FROM (
                SELECT 'proposal' AS kind, t.model_id, c.state = 'proposing' AS is_leased, c.touched_at
                FROM candidates c JOIN problems p ON p.id = c.problem_id AND p.state = 'searching'
                JOIN teachers t ON t.id = c.teacher_id
                WHERE p.run_id = o.id AND c.state IN ('proposing', 'pending')
                UNION ALL
                SELECT 'score', o.prover_model_id, c.state = 'scoring', c.touched_at
                FROM candidates c JOIN problems p ON p.id = c.problem_id AND p.state = 'searching'
                WHERE p.run_id = o.id AND (c.state = 'scoring' OR c.state = 'proposed' AND (
                    p.unproposed = 0 OR NOT EXISTS (
                        SELECT 1 FROM candidates s
                        JOIN teachers st ON st.id = s.teacher_id JOIN teachers ct ON ct.id = c.teacher_id
                        WHERE s.problem_id = c.problem_id AND s.step = c.step AND s.round = c.round
                          AND s.parent_rank = c.parent_rank AND s.parent_id IS NOT DISTINCT FROM c.parent_id
                          AND s.state IN ('pending', 'proposing') AND (st.ordinal, s.sample) < (ct.ordinal, c.sample)
                    )
                ))
                UNION ALL
                SELECT 'judgment', o.selection_model_id, c.state = 'judging', c.touched_at
                FROM candidates c JOIN problems p ON p.id = c.problem_id AND p.state = 'searching'
                WHERE p.run_id = o.id AND c.state IN ('judging', 'unjudged')
                UNION ALL
                SELECT 'answer', t.model_id, j.answer_state = 'writing', j.touched_at
                FROM trajectories j JOIN problems p ON p.id = j.problem_id AND p.state = 'answering'
                JOIN candidates c ON c.id = j.candidate_id JOIN teachers t ON t.id = c.teacher_id
                WHERE p.run_id = o.id AND j.answer_state IN ('writing', 'pending')
                UNION ALL
                SELECT CASE WHEN answer.is_judged THEN 'verdict' ELSE 'check' END,
                       CASE WHEN answer.is_judged THEN o.judge_model_id END,
                       j.answer_state IN ('checking', 'judging'), j.touched_at
                FROM trajectories j JOIN problems p ON p.id = j.problem_id AND p.state = 'verifying'
                CROSS JOIN LATERAL (
                    SELECT coalesce(nullif(p.attributes ->> o.verify_field, ''), o.verify_method) AS method
                ) checked
                CROSS JOIN LATERAL (
                    SELECT j.answer_state IN ('unjudged', 'judging')
                           OR j.answer_state = 'written' AND checked.method = 'judge' AS is_judged
                ) answer
                WHERE p.run_id = o.id AND (
                    answer.is_judged OR j.answer_state = 'checking'
                    OR j.answer_state = 'written' AND j.verification IS NULL AND checked.method <> 'none'
                )
                UNION ALL
                SELECT 'rescore', q.model_id, x.state = 'scoring', x.touched_at
                FROM rescorings q JOIN rescores x ON x.rescoring_id = q.id
                WHERE q.run_id = o.id AND x.state IN ('scoring', 'pending', 'queued')
                UNION ALL
                SELECT 'decision', NULL, false, p.touched_at
                FROM problems p WHERE p.run_id = o.id AND p.state = 'searching' AND p.outstanding = 0
                UNION ALL
                SELECT 'verification', NULL, false, p.touched_at
                FROM problems p
                WHERE p.run_id = o.id AND p.state = 'verifying' AND NOT EXISTS (
                    SELECT 1 FROM trajectories j
                    CROSS JOIN LATERAL (
                        SELECT coalesce(nullif(p.attributes ->> o.verify_field, ''), o.verify_method) AS method
                    ) checked
                    WHERE j.problem_id = p.id AND (
                        j.answer_state IN ('checking', 'unjudged', 'judging')
                        OR j.answer_state = 'written' AND (
                            checked.method = 'judge' OR j.verification IS NULL AND checked.method <> 'none'
                        )
                    )
                )
                UNION ALL
                SELECT 'admission', NULL, false, p.touched_at
                FROM problems p
                WHERE p.run_id = o.id AND p.state = 'queued' AND NOT EXISTS (
                    SELECT 1 FROM problems q
                    WHERE q.run_id = o.id AND q.state IN ('searching', 'answering', 'verifying')
                )
            ) work
            LEFT JOIN models m ON m.id = work.model_id
            GROUP BY work.kind, m.path
            ORDER BY m.path NULLS FIRST, work.kind
        ) k
        """,
    ),
}
"""Comment, columns (name, comment) and SQL of each view for analysts. Each computes its rows run by run, so that
`WHERE run = '…'` takes the time of that run, however much else is stored."""

_REPLACED = {
    "prefix_cache": "How well replicas reuse prefixes: one row per run, model, kind, worker.",
    "run_costs": "What a run cost its engines: one row per run, model and kind of request.",
    "teacher_selection": "Which teacher is selected where: one row per run, teacher and tenth of the decoding "
    "position.",
}
"""Views of revision 0021 with their comments."""


def upgrade() -> None:
    for table, (comment, columns, key) in TABLES.items():
        op.create_table(
            table,
            *(
                sa.Column(name, kind, nullable=nullable, autoincrement=False, comment=said)
                for name, kind, nullable, said in columns
            ),
            sa.ForeignKeyConstraint(
                ["problem_id"], ["problems.id"], name=op.f(f"fk_{table}_problem_id"), ondelete="CASCADE"
            ),
            sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{table}")),
            comment=comment,
        )
        op.create_index(op.f(f"ix_{table}_run_id"), table, ["run_id"])
        for view, (sql, said) in _rollup_views(table).items():
            _create_view(view, sql, said, [(name, column) for name, _, _, column in columns])
    for view in _REPLACED:
        op.execute(f"DROP VIEW {view}")
    for view, (comment, columns_of_view, sql) in VIEWS.items():
        _create_view(view, sql, comment, columns_of_view)


def downgrade() -> None:
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")
    for table in reversed(TABLES):
        op.execute(f"DROP VIEW current_{table}")
        op.execute(f"DROP VIEW computed_{table}")
    for table in TABLES:
        op.drop_table(table)
    _restore_replaced_views()


def _restore_replaced_views() -> None:
    """The views of revision 0021 with their comments, which revisions 0001 and 0015 wrote."""
    initial, plain, by_run = (context.script.get_revision(one).module for one in ("0001", "0015", "0021"))
    for view, comment in _REPLACED.items():
        comments = dict(getattr(initial, f"{view.upper()}_COMMENTS"))
        comments |= {column: new for (of, column), (_, new) in plain.VIEW_COLUMNS.items() if of == view}
        _create_view(
            view,
            getattr(by_run, view.upper()).partition(" AS\n")[2],
            comment,
            list(comments.items()),
        )


def _create_view(name: str, sql: str, comment: str, columns: list[tuple[str, str]]) -> None:
    op.execute(sa.text(f"CREATE VIEW {name} AS {sql}".replace(":", "\\:")))
    _comment(f"VIEW {name}", comment)
    for column, said in columns:
        _comment(f"COLUMN {name}.{column}", said)


def _comment(what: str, said: str) -> None:
    quoted = said.replace("'", "''")
    op.execute(sa.text(f"COMMENT ON {what} IS '{quoted}'".replace(":", "\\:")))
