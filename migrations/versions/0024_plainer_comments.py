"""Comments on columns in plainer words, and two more columns in the view narrow_losers; no data is touched.

Revision ID: 0024
Revises: 0023
"""

from __future__ import annotations

from alembic import context, op

revision: str = "0024"
down_revision: str | None = "0023"
branch_labels: str | None = None
depends_on: str | None = None

TABLES = {
    ("runs", "config_fingerprint"): (
        (
            "Hash of everything in the configuration that decides what is computed; in a trimmed run of that and "
            "trim_above."
        ),
        (
            "Hash of everything in the configuration that decides what is computed; that of a trimmed run also "
            "covers trim_above."
        ),
    ),
    ("runs", "pause_reason"): (
        "Which spending limit paused it, in a sentence; NULL if it is not paused, or by a command.",
        "Which spending limit paused the run, in a sentence; NULL if it is not paused, or if a command paused it.",
    ),
    ("runs", "max_cost"): (
        "Spending limit in money, by its prices (run.max_cost, cordctl resume --max-cost); NULL: none.",
        "Spending limit in money, at the run's prices (run.max_cost, cordctl resume --max-cost); NULL: none.",
    ),
    ("runs", "prices"): (
        "What its models cost ([prices], cordctl resume --prices); NULL if unknown.",
        "Prices of the run's models ([prices], cordctl resume --prices); NULL if none were given.",
    ),
    ("runs", "pipeline"): ("How it searches (search.pipeline).", "The method of the search (search.pipeline)."),
    ("runs", "verify_field"): (
        "Field of a dataset row that names its own method (verify.field).",
        "Field of a dataset row that names the method for this row (verify.field).",
    ),
    ("runs", "reference_field"): (
        "Field of a dataset row that holds its reference (verify.reference_field); else the answer.",
        "Field of a dataset row that holds its reference (verify.reference_field); NULL: the answer is the reference.",
    ),
    ("runs", "prover_score"): (
        "Which mean of the answer tokens' probabilities its scores are (prover.score).",
        "Which mean of the answer tokens' probabilities is the score (prover.score).",
    ),
    ("runs", "trimmed_from"): (
        "Name of the run whose winners it ends earlier (cordctl trim); NULL if it is not trimmed.",
        "Name of the run whose winners this run shortens (cordctl trim); NULL if it is not a trimmed run.",
    ),
    ("runs", "source_run_id"): (
        "That run; NULL once it was removed.",
        "Key of the run in trimmed_from; NULL once that run is removed, or if there is none.",
    ),
    ("runs", "trim_above"): (
        "Its winners end at the first step from which every score is above this; NULL if not trimmed.",
        (
            "A winner ends at the first step from which every score is above this number; NULL if this is not a "
            "trimmed run."
        ),
    ),
    ("workers", "hostname"): ("Machine.", "Host name of its machine."),
    ("workers", "steps_back_until"): (
        "Until when this coordinator takes no decisions, because all of them failed; NULL if that never happened.",
        "Until when this coordinator takes no decisions, because all of them failed; NULL if it never stepped back.",
    ),
    ("problems", "question"): ("The user turn.", "The question; it is the user turn of the prompts."),
    ("problems", "base_log_prob_sum"): (
        "For it: the sum of the answer tokens' log-probabilities (nats).",
        "Of the base score: sum of the answer tokens' log-probabilities (nats).",
    ),
    ("problems", "base_mean_probability"): (
        "For it: the arithmetic mean of the answer tokens' probabilities, in [0, 1].",
        "Of the base score: arithmetic mean of the answer tokens' probabilities, in [0, 1].",
    ),
    ("problems", "base_answer_tokens"): (
        "For it: answer tokens M in the prover's tokenizer.",
        "Of the base score: answer tokens M in the prover's tokenizer.",
    ),
    ("problems", "base_prompt_tokens"): (
        "For it: the prover's prompt tokens.",
        "Of the base score: the prover's prompt tokens.",
    ),
    ("problems", "base_score_seconds"): (
        "For it: seconds in the prover's engine.",
        "Of the base score: seconds in the prover's engine.",
    ),
    ("problems", "base_scored_by"): ("The worker that computed it.", "The worker that computed the base score."),
    ("problems", "decision_due_at"): (
        "When a decision that failed or was passed on is tried again; NULL if there is none.",
        "When a decision that failed or was passed on is tried again; NULL if none waits.",
    ),
    ("rescorings", "prover"): (
        "The table [prover] by which it scores, without the model.",
        "Settings of [prover] that it scores with, without the model.",
    ),
    ("candidates", "duplicate_of"): (
        "The sibling whose text it repeats; only that one is scored, for both. NULL if none.",
        "The earlier sibling with the same text, whose score counts for both; NULL if none.",
    ),
    ("candidates", "invalid_reason"): (
        (
            "Why it may not enter the beam. Its text is empty, whitespace, marker_only, loop, think_tag, unstorable,"
            " duplicate or malformed; or it is unscorable or unjudgeable; or a model refused it: too_long, "
            "content_filter, not_finite, malformed_request or engine_fault."
        ),
        (
            "Why it cannot enter the beam. Its text is empty, whitespace, marker_only, loop, think_tag, unstorable, "
            "duplicate or malformed; or it is unscorable or unjudgeable; or a model refused it: too_long, "
            "content_filter, not_finite, malformed_request or engine_fault."
        ),
    ),
    ("candidates", "score"): (
        (
            "How well this candidate predicts the known answer, in (0, 1]: exp(mean log-probability of its tokens), "
            "or mean_probability if runs.prover_score says so."
        ),
        (
            "How well this candidate predicts the known answer, in (0, 1]: exp(mean log-probability of the answer's "
            "tokens), or mean_probability if runs.prover_score says so."
        ),
    ),
    ("problem_rollups", "lead"): (
        "Least difference between the score of a step of the winner and the best score that its step lost.",
        (
            "Smallest lead of the winner: over its steps, the least value of the step's score minus the best score "
            "among the losers of that step."
        ),
    ),
    ("trajectories", "verification"): (
        "How correctness was decided: method, extracted answer, detail, type, readings.",
        (
            "How correctness was decided: method (what decided: exact, math, choice, numeric, math_verify, judge, or "
            "unequal if all found a difference; undecided, timeout, crashed, failed or unsupported without a "
            "decision), extracted answer, detail, type, readings."
        ),
    ),
    ("problem_rollups", "nearest_loser_id"): (
        "The candidate with that best score, in the step of the least difference.",
        "The best loser of the step with that smallest lead.",
    ),
    ("problem_rollups", "generation_seconds"): (
        "Seconds in which at least one teacher worked on a step or final answer of it.",
        "Seconds in which at least one teacher worked on the problem's steps or final answers.",
    ),
    ("problem_rollups", "scoring_seconds"): (
        "Seconds in which the prover or selection model worked on it.",
        "Seconds in which the prover or the selection model worked on the problem.",
    ),
    ("problem_rollups", "step_tokens"): (
        "Tokens that teachers generated for its steps; not those of copies.",
        "Tokens that teachers generated for its steps, without copies.",
    ),
    ("problem_rollups", "answer_tokens"): (
        "Tokens that teachers generated for its final answers; not those of copies.",
        "Tokens that teachers generated for its final answers, without copies.",
    ),
    ("request_rollups", "busy"): (
        "When at least one of the requests was in the engine.",
        "Periods in which at least one of the requests was in the engine.",
    ),
    ("teacher_rollups", "shared"): (
        "Candidates whose text another one of their step has too.",
        "Candidates whose text another candidate of the same step has too.",
    ),
    ("teacher_rollups", "winning_parts"): (
        "The same, but a step that N proposals have in common counts 1/N for each.",
        "Like winning, but where N candidates have the text of a winning step, each counts 1/N.",
    ),
    ("teacher_rollups", "winning_gain"): (
        "Sum of the gains on the winning path, each divided by N as above.",
        "Sum of the gains on the winning path; where N candidates have the text of a step, each counts 1/N of it.",
    ),
    ("teacher_rollups", "tokens"): (
        "Tokens of the texts, those of copies included.",
        "Tokens of the texts, with copies.",
    ),
    ("teacher_rollups", "generated_tokens"): (
        "Tokens that the teacher generated; not those of copies.",
        "Tokens that the teacher generated, without copies.",
    ),
}
"""Old and new comment by table and column."""

VIEWS = {
    ("backlog", "model"): (
        "Path of the model that does it; NULL for coordinators.",
        "Path of the model whose workers do it; NULL if coordinators do it.",
    ),
    ("backlog", "waiting"): ("Pieces that no worker has.", "Pieces of work that no worker has leased."),
    ("backlog", "leased"): ("Pieces that a worker has.", "Pieces of work that a worker has leased."),
    ("backlog", "oldest_lease_at"): (
        "When the oldest of these was leased.",
        "When the oldest of these leases was taken.",
    ),
    ("beam_history", "depth"): ("Its number of steps.", "Number of steps of that trajectory."),
    ("beam_history", "score"): ("Its score.", "Score of that trajectory."),
    ("beam_history", "carried"): (
        "Whether it is from an earlier step and kept its slot.",
        "Whether the trajectory was already finished at an earlier step and kept its slot.",
    ),
    ("failures", "problems"): (
        "Number of problems that failed for it.",
        "Number of problems that failed for this cause.",
    ),
    ("model_usage", "at_home"): (
        "Of these, requests for problems of which it served most of the requests to this model.",
        "Of these, requests for problems whose requests to this model went mostly to this worker.",
    ),
    ("narrow_losers", "step"): ("The step in which it lost.", "The step at which the candidate lost."),
    ("narrow_losers", "lead"): (
        "Score of the winning step minus its score; the least of all steps of the winner.",
        "Score of the winning step minus the loser's score; the smallest lead over all steps of the winner.",
    ),
    ("model_usage", "engine_seconds"): (
        "Time in which the worker's engine worked on at least one such request.",
        (
            "Time in which the worker's engine worked on at least one such request. Kinds of request overlap, so a sum "
            "over kinds counts some seconds twice, and times a price it is more than the money of cordctl cost."
        ),
    ),
    ("narrow_losers", "score"): ("Its score.", "Score of the candidate that lost."),
    ("narrow_losers", "teacher"): ("Its teacher.", "Teacher of the candidate that lost."),
    ("narrow_losers", "text"): ("Its text.", "Text of the candidate that lost."),
    ("problem_summary", "lead"): (
        (
            "How nearly its winner was lost: the least difference between the score of a winning step and the best "
            "score that its step lost. Below 0 if something else than the score selected."
        ),
        (
            "How narrowly its winner won: over the winner's steps, the least value of the step's score minus the "
            "best score among the losers of that step. Below 0, something else than the score decided, such as the "
            "order of ties (search.score_resolution). NULL without a winner, or if none of its steps had a loser with "
            "a score."
        ),
    ),
    ("problem_summary", "step_tokens"): (
        "Tokens that teachers generated for its steps.",
        "Tokens that teachers generated for its steps: for all candidates of the search, not only the winner's.",
    ),
    ("problem_summary", "answers"): (
        "Final answers that it has or waits for: 1, or one of each sample.",
        "Final answers that it has or waits for: 1, or one for each sample.",
    ),
    ("run_summary", "pipeline"): ("How it searches.", "The method of its search (search.pipeline)."),
    ("run_summary", "undecided"): (
        "Final answers that were checked without a decision; they count in neither.",
        "Final answers that were checked without a decision; neither checked nor correct counts them.",
    ),
    ("teacher_selection", "hit_rate"): (
        (
            "This teacher's share of the winning steps in this tenth. A step that N proposals have in common counts "
            "1/N for each of them. The shares add up to 1 over the teachers."
        ),
        (
            "This teacher's share of the winning steps in this tenth. Where N candidates have the text of a winning "
            "step, each counts 1/N. The shares add up to 1 over the teachers."
        ),
    ),
    ("teacher_selection", "duplicates"): (
        "Candidates whose text an earlier sibling has; only that one is scored, for both.",
        "Candidates with the text of an earlier sibling, whose score counts for both.",
    ),
    ("teacher_selection", "winning_gain"): (
        "Sum of the gains of its steps on the winning path there; one that N proposals have in common counts 1/N.",
        (
            "Sum of the gains of its steps on the winning path there; where N candidates have the text of a step, "
            "each counts 1/N of it."
        ),
    ),
    ("teacher_summary", "mean_gain"): (
        "Mean gain of its candidates.",
        (
            "Mean gain of all its candidates with a score, most of which lose. For its winning steps divide "
            "winning_gain by their number, as the ready queries do."
        ),
    ),
    ("teacher_summary", "shared"): (
        "Candidates whose text another one of their step has too.",
        "Candidates whose text another candidate of the same step has too.",
    ),
    ("teacher_summary", "share"): (
        "The teacher's share of the winning steps; a step that N proposals have in common counts 1/N.",
        (
            "The teacher's share of the winning steps; where N candidates have the text of a winning step, each "
            "counts 1/N."
        ),
    ),
    ("teacher_summary", "winning_gain"): (
        "Sum of the gains of its winning steps; a step that N proposals have counts 1/N.",
        "Sum of the gains of its winning steps; where N candidates have the text of a step, each counts 1/N of it.",
    ),
    ("trajectory_text", "sample"): (
        "Number of that step's proposal; of a sample, its number.",
        "0-based number of the proposal of that step; in a run of samples, the number of the sample.",
    ),
}
"""The same of views."""

_RESOLUTION = """nullif(CASE WHEN coalesce(r.config #>> '{search,selection}', 'predictive_perplexity')
                                       = 'predictive_perplexity'
                                 THEN (r.config #>> '{search,score_resolution}')::float8 END, 0)"""
"""SQL about a run `r`: to a multiple of what its merits are rounded; NULL if every difference counts."""

_EXPONENT = """-coalesce((r.config #>> '{search,length_normalisation}')::float8, 0)"""


def _rounded(candidate: str) -> str:
    """SQL: the multiple to which the candidate's merit is rounded, as `rounded_merit` in search/beam.py computes it;
    PostgreSQL rounds halves of float8 to even, as Python does."""
    merit = f"power({candidate}.score, power({candidate}.depth, a.exponent))"
    return f"round({merit} / a.resolution)"


NARROW_LOSERS = f"""
        CREATE OR REPLACE VIEW narrow_losers AS
        SELECT r.name AS run, k.*
        FROM runs r
        CROSS JOIN LATERAL (SELECT {_RESOLUTION} AS resolution, {_EXPONENT} AS exponent) a
        CROSS JOIN LATERAL (
            SELECT p.key AS problem, l.step, n.lead, l.score, t.name AS teacher, l.text, w.score AS winning_score,
                   u.name AS winning_teacher, w.text AS winning_text, l.id AS candidate_id,
                   coalesce(l.text_key = w.text_key, l.text = w.text) AS same_text,
                   coalesce({_rounded("l")} = {_rounded("w")}, n.lead = 0) AS tie
            FROM (SELECT * FROM current_problem_rollups k WHERE k.run_id = r.id AND k.lead IS NOT NULL OFFSET 0) n
            JOIN problems p ON p.id = n.problem_id
            JOIN candidates l ON l.id = n.nearest_loser_id
            JOIN candidates w ON w.problem_id = l.problem_id AND w.step = l.step AND w.round = l.round AND w.winning
            JOIN teachers t ON t.id = l.teacher_id
            JOIN teachers u ON u.id = w.teacher_id
        ) k
"""
ADDED = {
    ("narrow_losers", "same_text"): (
        "Whether the loser has the text of the winning step: only the steps before it differ."
    ),
    ("narrow_losers", "tie"): (
        "Whether both scores were a tie, which the order of ties decided: equal, or rounded to the same multiple of "
        "search.score_resolution."
    ),
}
"""The columns that this revision adds, with their comments."""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(NARROW_LOSERS)
    _set({column: comments[1] for column, comments in _every().items()} | ADDED)


def downgrade() -> None:
    """PostgreSQL can add columns to a view, but not take them away: the view is made again as in revision 0022."""
    rollups = context.script.get_revision("0022").module
    comment, columns, sql = rollups.VIEWS["narrow_losers"]
    op.execute("DROP VIEW narrow_losers")
    rollups._create_view("narrow_losers", sql, comment, columns)
    _set({column: comments[0] for column, comments in _every().items()})


def _every() -> dict[tuple[str, str], tuple[str, str]]:
    """The comments of tables and views; two views of every rollup table have the columns of the table."""
    rollups = {
        (f"{prefix}_{table}", column): comments
        for (table, column), comments in TABLES.items()
        if table.endswith("_rollups")
        for prefix in ("computed", "current")
    }
    return TABLES | rollups | VIEWS


def _set(comments: dict[tuple[str, str], str]) -> None:
    for (table, column), comment in comments.items():
        quoted = comment.replace("'", "''")
        op.get_bind().exec_driver_sql(f"COMMENT ON COLUMN {table}.{column} IS '{quoted}'")
