"""Queries that users run in psql: the source of docs/queries.md. A test runs each of them on a real run."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

RUN = "my-run"
"""Name of the run in the documentation."""

_FIRST_PROBLEM = (
    "SELECT p.key FROM runs r JOIN problems p ON p.run_id = r.id WHERE r.name = {run} ORDER BY p.position LIMIT 1"
)
"""SQL: the id of the first problem in the dataset. The least id is another one: `p10` is less than `p2`."""


@dataclass(frozen=True, slots=True)
class SampleQuery:
    """A question about runs and the SQL that answers it. `{run}` in the SQL stands for the name of a run, and
    `{first_problem}` for the id of its first problem. `may_be_empty`: there are runs without such rows."""

    question: str
    sql: str
    may_be_empty: bool = False

    def of(self, run: str) -> str:
        """The SQL for the run with this name."""
        sql = textwrap.dedent(self.sql).strip().replace("{first_problem}", _FIRST_PROBLEM)
        return sql.replace("{run}", "'" + run.replace("'", "''") + "'")


UNMOVED = SampleQuery(
    "Which problems did no step move?",
    """
    SELECT problem, round(base_score::numeric, 3) AS base_score, round(score::numeric, 3) AS score
    FROM problem_summary WHERE run = {run} AND state = 'done' AND gain <= 0 ORDER BY position
    """,
    may_be_empty=True,
)

QUERIES: tuple[SampleQuery, ...] = (
    SampleQuery(
        "Where does the run stand, and how good is it?",
        """
        SELECT state, problems, done, failed, round(accuracy::numeric, 3) AS accuracy,
               round(mean_score::numeric, 3) AS score, round(mean_gain::numeric, 3) AS gain, mean_steps
        FROM run_summary WHERE run = {run}
        """,
    ),
    SampleQuery(
        "How many answers are right, with a 95 % interval? (Wilson's score interval)",
        """
        SELECT correct, checked, undecided, round(100 * middle - 100 * margin, 1) AS low,
               round(100.0 * correct / checked, 1) AS percent, round(100 * middle + 100 * margin, 1) AS high
        FROM (
            SELECT *, (correct + z * z / 2) / (checked + z * z) AS middle,
                   z * sqrt(correct * (checked - correct)::numeric / checked + z * z / 4) / (checked + z * z) AS margin
            FROM run_summary CROSS JOIN (VALUES (1.959964)) AS normal(z)
            WHERE run = {run} AND checked > 0
        ) wilson
        """,
    ),
    SampleQuery(
        "Which answers are undecided?",
        """
        SELECT p.key AS problem, coalesce(nullif(p.attributes ->> r.reference_field, ''), p.answer) AS reference,
               j.answer_text AS final_answer,
               j.verification ->> 'method' AS decided_by, j.verification ->> 'detail' AS detail
        FROM runs r JOIN problems p ON p.run_id = r.id JOIN trajectories j ON j.problem_id = p.id
        WHERE r.name = {run} AND j.correct IS NULL AND j.verification IS NOT NULL ORDER BY p.position
        """,
        may_be_empty=True,
    ),
    SampleQuery(
        "Which answers are wrong, and what do they say?",
        """
        SELECT p.key AS problem, coalesce(nullif(p.attributes ->> r.reference_field, ''), p.answer) AS reference,
               j.verification ->> 'extracted' AS found, j.answer_text AS final_answer,
               j.verification ->> 'method' AS decided_by
        FROM runs r JOIN problems p ON p.run_id = r.id JOIN trajectories j ON j.problem_id = p.id
        WHERE r.name = {run} AND NOT j.correct ORDER BY p.position
        """,
        may_be_empty=True,
    ),
    SampleQuery(
        "How do the pipelines compare? (the paper's Table 2)",
        """
        SELECT run, pipeline, round(100 * accuracy::numeric, 1) AS accuracy, round(mean_score::numeric, 3) AS score,
               undecided, round((step_tokens + answer_tokens)::numeric / nullif(done + failed, 0)) AS tokens_per_problem
        FROM run_summary ORDER BY created_at, run
        """,
    ),
    SampleQuery(
        "Which teacher is selected where? (the paper's Figure 2)",
        """
        SELECT teacher, tenth, round(hit_rate, 3) AS hit_rate, on_winning_path, proposed
        FROM teacher_selection WHERE run = {run} ORDER BY tenth, teacher
        """,
    ),
    SampleQuery(
        "The same as a table: a row for each teacher, a column for each tenth",
        """
        SELECT teacher,
               round(sum(hit_rate) FILTER (WHERE tenth = 1), 2) AS "10 %",
               round(sum(hit_rate) FILTER (WHERE tenth = 3), 2) AS "30 %",
               round(sum(hit_rate) FILTER (WHERE tenth = 5), 2) AS "50 %",
               round(sum(hit_rate) FILTER (WHERE tenth = 7), 2) AS "70 %",
               round(sum(hit_rate) FILTER (WHERE tenth = 10), 2) AS "100 %"
        FROM teacher_selection WHERE run = {run} GROUP BY teacher ORDER BY teacher
        """,
    ),
    SampleQuery(
        "Which teacher carries the first third? (tenths 1 to 3; a step that N proposals share counts 1/N for each)",
        """
        SELECT t.name AS teacher, round(sum(k.winning_parts)::numeric, 2) AS winning_steps,
               round((sum(k.winning_parts) / nullif(sum(sum(k.winning_parts)) OVER (), 0))::numeric, 3) AS share,
               round(sum(k.winning_gain)::numeric, 3) AS winning_gain
        FROM runs r JOIN current_teacher_rollups k ON k.run_id = r.id JOIN teachers t ON t.id = k.teacher_id
        WHERE r.name = {run} AND k.tenth BETWEEN 1 AND 3 GROUP BY t.id, t.name ORDER BY winning_gain DESC
        """,
    ),
    SampleQuery(
        "What does each teacher contribute, and what does it cost? (shared winning steps count 1/N)",
        """
        SELECT t.teacher, t.proposed, t.valid, t.invalid, t.duplicates, t.kept, round(t.share::numeric, 3) AS share,
               round((t.share * w.steps)::numeric, 2) AS winning_steps,
               round((t.winning_gain / nullif(t.share * w.steps, 0))::numeric, 4) AS mean_winning_gain,
               t.tokens, round((t.tokens / nullif(t.share * w.steps, 0))::numeric) AS tokens_per_winning_step
        FROM teacher_summary t CROSS JOIN (
            SELECT sum(k.winning_parts) AS steps FROM runs r JOIN current_teacher_rollups k ON k.run_id = r.id
            WHERE r.name = {run}
        ) w WHERE t.run = {run}
        """,
    ),
    SampleQuery(
        "Whose steps gain most? (winning ones, and all proposals, most of which lose)",
        """
        SELECT t.name AS teacher, round(sum(k.winning_parts)::numeric, 2) AS winning_steps,
               round((sum(k.winning_gain) / nullif(sum(k.winning_parts), 0))::numeric, 3) AS mean_winning_gain,
               sum(k.gains) AS proposals,
               round((sum(k.gain_sum) / nullif(sum(k.gains), 0))::numeric, 3) AS mean_gain_of_proposals
        FROM runs r JOIN current_teacher_rollups k ON k.run_id = r.id JOIN teachers t ON t.id = k.teacher_id
        WHERE r.name = {run} GROUP BY t.id, t.name ORDER BY mean_winning_gain DESC NULLS LAST
        """,
    ),
    SampleQuery(
        "Seconds per problem: generation and prover (the paper's Table 14)",
        """
        SELECT round((sum(engine_seconds) FILTER (WHERE kind IN ('propose', 'answer')) / s.ended)::numeric, 3)
                   AS generation,
               round((sum(engine_seconds) FILTER (WHERE kind IN ('score', 'judge')) / s.ended)::numeric, 3) AS prover
        FROM model_usage u
        JOIN (SELECT run, nullif(done + failed, 0) AS ended FROM run_summary WHERE run = {run}) s USING (run)
        WHERE u.run = {run} GROUP BY s.ended
        """,
    ),
    SampleQuery(
        "Where did the tokens go?",
        """
        SELECT model, kind, sum(requests) AS requests, sum(prompt_tokens) AS prompt_tokens,
               round(100.0 * sum(cached_tokens) / nullif(sum(prompt_tokens), 0), 1) AS cached_percent,
               sum(completion_tokens) AS generated, round(sum(engine_seconds)::numeric, 1) AS engine_seconds
        FROM model_usage WHERE run = {run} GROUP BY model, kind ORDER BY sum(engine_seconds) DESC
        """,
    ),
    SampleQuery(
        "Which share of the prompt tokens came from the prefix cache? (NULL: not known)",
        """
        SELECT model, sum(prompt_tokens) AS prompt_tokens, sum(cached_tokens) AS cached_tokens,
               round(100.0 * sum(cached_tokens) / nullif(sum(prompt_tokens), 0), 1) AS cached_percent
        FROM model_usage WHERE run = {run} GROUP BY model ORDER BY model
        """,
    ),
    SampleQuery(
        "How many hours did the workers of each model compute? (times the GPUs of a worker: GPU hours)",
        """
        SELECT m.path AS model, round(sum(w.seconds) / 3600, 4) AS hours,
               round(100 * sum(w.seconds) / nullif(sum(sum(w.seconds)) OVER (), 0), 1) AS percent
        FROM (
            SELECT u.model_id,
                   (SELECT sum(extract(epoch FROM upper(one) - lower(one))) FROM unnest(u.busy) AS one) AS seconds
            FROM (
                SELECT k.model_id, k.worker_id, range_agg(k.busy) AS busy
                FROM runs r JOIN current_request_rollups k ON k.run_id = r.id
                WHERE r.name = {run} GROUP BY k.model_id, k.worker_id
            ) u
        ) w JOIN models m ON m.id = w.model_id GROUP BY m.id, m.path ORDER BY hours DESC
        """,
    ),
    SampleQuery(
        "How well do replicas reuse prefixes?",
        """
        SELECT model, kind, worker_id, requests, round(100.0 * at_home / requests, 1) AS at_home_percent,
               round(100 * hit_rate::numeric, 1) AS hit_percent
        FROM model_usage WHERE run = {run} AND cached_tokens IS NOT NULL ORDER BY model, kind
        """,
    ),
    SampleQuery(
        "Which problems were nearly lost? (to a step with another text)",
        """
        SELECT problem, step, round(lead::numeric, 4) AS lead, tie, winning_teacher, teacher AS losing_teacher,
               left(winning_text, 60) AS won, left(text, 60) AS lost
        FROM narrow_losers WHERE run = {run} AND NOT same_text ORDER BY lead, problem LIMIT 10
        """,
        may_be_empty=True,
    ),
    SampleQuery(
        "Which problems have a lead of at least 0.1? (NULL: no winner, or no scored loser in any of its steps)",
        """
        SELECT problem, round(lead::numeric, 4) AS lead, steps, round(score::numeric, 3) AS score
        FROM problem_summary WHERE run = {run} AND lead >= 0.1 ORDER BY lead DESC, position
        """,
        may_be_empty=True,
    ),
    SampleQuery(
        "Which was the best loser of each step of one problem?",
        """
        SELECT DISTINCT ON (winning_step.step) winning_step.step, winning_teacher.name AS winning_teacher,
               round(winning_step.score::numeric, 4) AS winning_score, t.name AS losing_teacher,
               round(c.score::numeric, 4) AS losing_score, round((winning_step.score - c.score)::numeric, 4) AS lead,
               c.text_key = winning_step.text_key AS same_text, left(winning_step.text, 60) AS won,
               left(c.text, 60) AS lost
        FROM runs r JOIN problems p ON p.run_id = r.id
        JOIN candidates winning_step ON winning_step.problem_id = p.id AND winning_step.winning
        JOIN teachers winning_teacher ON winning_teacher.id = winning_step.teacher_id
        LEFT JOIN candidates c ON c.problem_id = p.id AND c.step = winning_step.step AND c.round = winning_step.round
            AND NOT c.kept AND c.rank IS NOT NULL AND c.score IS NOT NULL
        LEFT JOIN teachers t ON t.id = c.teacher_id
        WHERE r.name = {run} AND p.key = (
            {first_problem}
        ) ORDER BY winning_step.step, c.score DESC NULLS LAST, c.id
        """,
    ),
    SampleQuery(
        "Which nearest losers came from a stronger teacher? (one with a larger share of the winning steps)",
        """
        WITH strength AS (SELECT teacher, share FROM teacher_summary WHERE run = {run})
        SELECT n.problem, n.step, n.winning_teacher, n.teacher AS losing_teacher, round(n.lead::numeric, 4) AS lead,
               left(n.winning_text, 60) AS won, left(n.text, 60) AS lost
        FROM narrow_losers n JOIN strength l ON l.teacher = n.teacher
        JOIN strength w ON w.teacher = n.winning_teacher
        WHERE n.run = {run} AND l.share > w.share ORDER BY lead, problem LIMIT 20
        """,
        may_be_empty=True,
    ),
    SampleQuery(
        "Which problems took longest? (tokens: of the whole search)",
        """
        SELECT problem, state, steps, round(seconds::numeric, 1) AS seconds,
               round(generation_seconds::numeric, 1) AS generating, round(scoring_seconds::numeric, 1) AS scoring,
               step_tokens + answer_tokens AS tokens
        FROM problem_summary WHERE run = {run} AND finished_at IS NOT NULL
        ORDER BY seconds DESC NULLS LAST LIMIT 10
        """,
    ),
    SampleQuery(
        "Which problems have a high score and a wrong answer?",
        """
        SELECT problem, round(score::numeric, 3) AS score, round(base_score::numeric, 3) AS base_score, steps
        FROM problem_summary WHERE run = {run} AND wrong > 0 ORDER BY score DESC NULLS LAST LIMIT 10
        """,
        may_be_empty=True,
    ),
    SampleQuery(
        "Which problems did another run solve, and this one did not?",
        """
        SELECT a.problem, a.state, a.wrong, a.undecided, round(a.score::numeric, 3) AS score,
               round(b.score::numeric, 3) AS other_score
        FROM problem_summary a JOIN problem_summary b USING (problem)
        JOIN runs r ON r.name = a.run JOIN runs other_run ON other_run.name = b.run
        JOIN problems p ON p.run_id = r.id AND p.key = problem
        JOIN problems other ON other.run_id = other_run.id AND other.key = problem
            AND (other.question, other.answer) = (p.question, p.answer)
        WHERE a.run = {run} AND b.run = 'other-run' AND a.state IN ('done', 'failed') AND a.correct = 0
          AND b.correct > 0 ORDER BY a.position
        """,
        may_be_empty=True,
    ),
    UNMOVED,
    SampleQuery(
        "Why did problems fail?",
        """
        SELECT problems, first_problem, first_reason FROM failures WHERE run = {run} ORDER BY problems DESC
        """,
        may_be_empty=True,
    ),
    SampleQuery(
        "Why are candidates invalid? (duplicates too)",
        """
        SELECT teacher, reason, candidates FROM invalid_reasons WHERE run = {run} ORDER BY candidates DESC
        """,
        may_be_empty=True,
    ),
    SampleQuery(
        "How many proposals were duplicates?",
        """
        SELECT teacher, proposed, duplicates, shared, round(100.0 * duplicates / nullif(proposed, 0), 1) AS percent
        FROM teacher_summary WHERE run = {run} ORDER BY duplicates DESC, teacher
        """,
    ),
    SampleQuery(
        "How does the score change, step by step? (of the trajectories that are in the beam then)",
        """
        SELECT step, count(*) AS slots, round(avg(score)::numeric, 3) AS score, round(avg(gain)::numeric, 3) AS gain,
               count(finish) AS finished
        FROM beam_history WHERE run = {run} GROUP BY step ORDER BY step
        """,
    ),
    SampleQuery(
        "The same, of winners only (each mean is over the winners that have this step: short ones leave)",
        """
        SELECT c.depth AS step, count(*) AS winners, count(*) FILTER (WHERE c.depth = j.steps) AS last_steps,
               round(avg(c.score)::numeric, 3) AS score,
               round(avg(c.score - CASE WHEN c.parent_id IS NULL THEN p.base_score ELSE parent.score END)::numeric, 3)
                   AS gain
        FROM runs r JOIN problems p ON p.run_id = r.id JOIN candidates c ON c.problem_id = p.id
        JOIN trajectories j ON j.problem_id = p.id AND j.winner
        LEFT JOIN candidates parent ON parent.id = c.parent_id
        WHERE r.name = {run} AND p.state = 'done' AND c.winning GROUP BY c.depth ORDER BY c.depth
        """,
    ),
    SampleQuery(
        "How long is the mean winner, and which are the longest? (its own tokens, final answer included)",
        """
        SELECT p.key AS problem, j.steps, length.tokens, round(avg(j.steps) OVER (), 2) AS mean_steps,
               round(avg(length.tokens) OVER (), 1) AS mean_tokens
        FROM runs r JOIN problems p ON p.run_id = r.id JOIN trajectories j ON j.problem_id = p.id
        JOIN candidates c ON c.id = j.candidate_id
        CROSS JOIN LATERAL (SELECT c.thinking_tokens + coalesce(j.answer_completion_tokens, 0) AS tokens) length
        WHERE r.name = {run} AND j.winner ORDER BY length.tokens DESC, p.position LIMIT 10
        """,
    ),
    SampleQuery(
        "The same by number of steps",
        """
        SELECT j.steps, count(*) AS winners, min(t.tokens) AS least,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY t.tokens) AS median, max(t.tokens) AS most
        FROM runs r JOIN problems p ON p.run_id = r.id JOIN trajectories j ON j.problem_id = p.id
        JOIN candidates c ON c.id = j.candidate_id
        CROSS JOIN LATERAL (SELECT c.thinking_tokens + coalesce(j.answer_completion_tokens, 0) AS tokens) t
        WHERE r.name = {run} AND j.winner GROUP BY j.steps ORDER BY j.steps
        """,
    ),
    SampleQuery(
        "What did the beam of one problem look like?",
        """
        SELECT step, rank, teacher, round(score::numeric, 3) AS score, round(gain::numeric, 3) AS gain, carried,
               winning, left(text, 60) AS text
        FROM beam_history
        WHERE run = {run} AND problem = (
            {first_problem}
        ) ORDER BY step, rank
        """,
    ),
    SampleQuery(
        "What does the search tree of one problem look like?",
        """
        SELECT c.step, t.name AS teacher, c.score, c.rank, c.kept, c.winning, left(c.text, 60) AS text
        FROM runs r JOIN problems p ON p.run_id = r.id JOIN candidates c ON c.problem_id = p.id
        JOIN teachers t ON t.id = c.teacher_id
        WHERE r.name = {run} AND p.key = (
            {first_problem}
        ) ORDER BY c.step, c.rank
        """,
    ),
    SampleQuery(
        "With which seed was a candidate drawn?",
        """
        SELECT c.lineage, t.name AS teacher, c.seed, c.max_tokens, t.sampling
        FROM runs r JOIN problems p ON p.run_id = r.id JOIN candidates c ON c.problem_id = p.id
        JOIN teachers t ON t.id = c.teacher_id
        WHERE r.name = {run} AND c.step = 1 AND p.key = (
            {first_problem}
        ) ORDER BY c.lineage
        """,
    ),
    SampleQuery(
        "What do the best trajectories say?",
        """
        SELECT problem, round(score::numeric, 3) AS score, correct, thinking, answer
        FROM trajectory_text WHERE run = {run} AND winner
        ORDER BY score DESC NULLS LAST LIMIT 3
        """,
    ),
    SampleQuery(
        "How many problems and tokens were finished in each minute?",
        """
        SELECT date_trunc('minute', finished_at) AS minute, count(*) AS problems, sum(steps) AS winning_steps,
               sum(step_tokens + answer_tokens) AS tokens
        FROM problem_summary WHERE run = {run} AND state IN ('done', 'failed') GROUP BY minute ORDER BY minute
        """,
    ),
    SampleQuery(
        "What is the run waiting for?",
        """
        SELECT kind, model, waiting, leased, now() - oldest_lease_at AS oldest
        FROM backlog WHERE run = {run} ORDER BY waiting + leased DESC
        """,
        may_be_empty=True,
    ),
    SampleQuery(
        "What does each column of a view or table mean?",
        """
        SELECT attname AS "column", col_description(attrelid, attnum) AS meaning
        FROM pg_attribute WHERE attrelid = 'problem_summary'::regclass AND attnum > 0 ORDER BY attnum
        """,
    ),
)
"""The queries of docs/queries.md, in its order."""


def problems_that_no_step_moves(run: str) -> str:
    """SQL, on one line: the run's done problems whose winner has no higher score than the base score."""
    return " ".join(UNMOVED.of(run).split())
