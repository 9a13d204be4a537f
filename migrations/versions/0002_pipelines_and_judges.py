"""Pipelines that integrate, search a tree or sample; selection and answers that a model judges.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None


TEACHER_SELECTION = """
CREATE VIEW teacher_selection AS
WITH placed AS (
    SELECT p.run_id, c.teacher_id,
           least(floor(10 * (c.{place} - 0.5) / j.steps)::int, 9) + 1 AS tenth,
           c.kept, c.winning, c.score, c.completion_tokens
    FROM candidates c
    JOIN problems p ON p.id = c.problem_id
    JOIN trajectories j ON j.problem_id = p.id AND j.winner
),
counted AS (
    SELECT run_id, teacher_id, tenth,
           count(*) AS proposed,
           count(*) FILTER (WHERE kept) AS kept,
           count(*) FILTER (WHERE winning) AS on_winning_path,
           avg(score) AS mean_score,
           coalesce(sum(completion_tokens), 0) AS tokens
    FROM placed GROUP BY run_id, teacher_id, tenth
)
SELECT r.name AS run, t.name AS teacher, k.tenth, k.proposed, k.kept, k.on_winning_path,
       k.on_winning_path / nullif(sum(k.on_winning_path) OVER (PARTITION BY k.run_id, k.tenth), 0) AS hit_rate,
       k.mean_score, k.tokens
FROM counted k
JOIN runs r ON r.id = k.run_id
JOIN teachers t ON t.id = k.teacher_id
ORDER BY r.id, k.tenth, t.ordinal
"""

PREFIX_CACHE = """
CREATE VIEW prefix_cache AS
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
{judged}),
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

RUN_COSTS = """
CREATE VIEW run_costs AS
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
    SELECT p.run_id, t.model_id, 'answer', j.worker_id, j.answer_prompt_tokens, NULL,
           j.answer_completion_tokens, j.answered_at, j.answer_seconds
    FROM trajectories j JOIN problems p ON p.id = j.problem_id JOIN candidates c ON c.id = j.candidate_id
    JOIN teachers t ON t.id = c.teacher_id
    WHERE j.answer_seconds IS NOT NULL
{judged}),
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

COSTS_JUDGED = """\
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
"""

CACHE_JUDGED = """\
    UNION ALL
    SELECT p.run_id, c.problem_id, r.reward_model_id, 'judge', c.judgment_worker_id,
           c.judgment_prompt_tokens, coalesce(c.judgment_cached_tokens, 0)
    FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id
    WHERE c.judgment_prompt_tokens IS NOT NULL
"""

COMMENTS = {
    "prefix_cache.kind": ("propose, score or judge.", "propose or score."),
    "prefix_cache.requests": (
        "Candidates that it proposed, scored or judged.",
        "Candidates that it proposed or scored.",
    ),
    "run_costs.kind": ("propose, score, answer, judge or verdict.", "propose, score or answer."),
    "candidates.step": (
        "1-based number of the decision that it was planned for.",
        "1-based number of this step in the trajectory.",
    ),
    "candidates.state": (
        "pending, proposing, proposed, scoring, unjudged, judging, scored, unscored or invalid.",
        "pending, proposing, proposed, scoring, scored or invalid.",
    ),
    "trajectories.answer_state": (
        "none, pending, writing, written, judging or judged.",
        "none, pending, writing or written.",
    ),
    "candidates.thinking_tokens": (
        "Tokens of the trajectory so far, in the prover''s tokenizer (the teacher''s where nothing is scored).",
        "Tokens of the whole trajectory up to here, in the prover''s tokenizer.",
    ),
    "trajectories.winner": ("The problem''s result; samples have none.", "The problem''s result."),
    "trajectories.answer_finish_reason": ("eos, length or too_long (no room).", "eos or length."),
    "trajectories.score": ("Score of its last step; NULL where nothing is scored.", "Score of its last step."),
    "runs.prover_model_id": (
        "The model that scores its candidates; NULL where nothing is scored.",
        "The model that scores its candidates.",
    ),
}

VERIFY_TABLE = """
UPDATE runs SET config = jsonb_set(
    config #- '{run,verify_answers}', '{verify}',
    jsonb_build_object('method', CASE WHEN (config #>> '{run,verify_answers}')::boolean THEN 'math' ELSE 'none' END)
)
WHERE config #> '{run,verify_answers}' IS NOT NULL
"""
"""How answers are checked has a table of its own in cord.toml."""

VERIFY_ANSWERS = """
UPDATE runs SET config = jsonb_set(
    config - 'verify', '{run,verify_answers}', to_jsonb(config #>> '{verify,method}' <> 'none')
)
WHERE config ? 'verify'
"""

TRAJECTORIES_COMMENT = (
    "Finished trajectories that held a slot in a beam; the winner, or every sample, gets an answer.",
    "Finished trajectories that held a slot in a beam; the winner gets a final answer.",
)

CANDIDATE_STATES = (
    "pending",
    "proposing",
    "proposed",
    "scoring",
    "unjudged",
    "judging",
    "scored",
    "unscored",
    "invalid",
)
CANDIDATE_STATES_BEFORE = ("pending", "proposing", "proposed", "scoring", "scored", "invalid")
ANSWER_STATES = ("none", "pending", "writing", "written", "judging", "judged")
ANSWER_STATES_BEFORE = ("none", "pending", "writing", "written")
CANDIDATE_COLUMNS = (
    "depth",
    "sources",
    "reply",
    "answer_part",
    "judgment",
    "judgment_detail",
    "judgment_prompt_tokens",
    "judgment_completion_tokens",
    "judgment_cached_tokens",
    "judgment_worker_id",
    "judged_at",
    "judgment_seconds",
    "judgment_attempts",
)
TRAJECTORY_COLUMNS = (
    "judgment_attempts",
    "judgment_worker_id",
    "judgment_prompt_tokens",
    "judgment_completion_tokens",
    "judgment_seconds",
    "judged_at",
)
UNFINISHED = "state IN ('pending', 'proposing', 'proposed', 'scoring', 'unjudged', 'judging')"
UNFINISHED_BEFORE = "state IN ('pending', 'proposing', 'proposed', 'scoring')"
UNANSWERED = "answer_state IN ('pending', 'writing', 'judging')"
UNANSWERED_BEFORE = "answer_state IN ('pending', 'writing')"


def upgrade() -> None:
    op.alter_column("runs", "prover_model_id", nullable=True)
    op.add_column(
        "runs",
        sa.Column(
            "reward_model_id",
            sa.BigInteger(),
            sa.ForeignKey("models.id", name="fk_runs_reward_model_id"),
            comment="The model that judges its candidates; NULL where the score selects.",
        ),
    )
    op.add_column(
        "runs",
        sa.Column(
            "judge_model_id",
            sa.BigInteger(),
            sa.ForeignKey("models.id", name="fk_runs_judge_model_id"),
            comment="The model that judges its final answers; NULL where they are compared.",
        ),
    )
    op.add_column(
        "teachers",
        sa.Column(
            "role",
            sa.Text(),
            nullable=False,
            server_default="teacher",
            comment="teacher, or integrator (merges what the teachers wrote; comes last).",
        ),
    )
    _check("teachers", "role", ("teacher", "integrator"))
    op.execute(VERIFY_TABLE)
    _candidates()
    _trajectories()
    _replace_view(TEACHER_SELECTION.replace("{place}", "depth"))
    _replace_view(PREFIX_CACHE.replace("{judged}", CACHE_JUDGED))
    _replace_view(RUN_COSTS.replace("{judged}", COSTS_JUDGED))
    _comment(0)


def downgrade() -> None:
    for view in ("run_costs", "prefix_cache", "teacher_selection"):
        op.execute(f"ALTER VIEW {view} RENAME TO {view}_newer")
    _view_again("teacher_selection", TEACHER_SELECTION.replace("{place}", "step"))
    _view_again("prefix_cache", PREFIX_CACHE.replace("{judged}", ""))
    _view_again("run_costs", RUN_COSTS.replace("{judged}", ""))
    op.execute(VERIFY_ANSWERS)
    for column in ("reward_model_id", "judge_model_id"):
        op.drop_column("runs", column)
    op.alter_column("runs", "prover_model_id", nullable=False)
    op.drop_column("teachers", "role")
    for column in CANDIDATE_COLUMNS:
        op.drop_column("candidates", column)
    _check("candidates", "state", CANDIDATE_STATES_BEFORE, replace=True)
    op.drop_index("ix_candidates_unfinished", table_name="candidates")
    op.create_index("ix_candidates_unfinished", "candidates", ["state"], postgresql_where=sa.text(UNFINISHED_BEFORE))
    for column in TRAJECTORY_COLUMNS:
        op.drop_column("trajectories", column)
    op.alter_column("trajectories", "score", nullable=False)
    _check("trajectories", "answer_state", ANSWER_STATES_BEFORE, replace=True)
    op.drop_index("ix_trajectories_unanswered", table_name="trajectories")
    op.create_index(
        "ix_trajectories_unanswered", "trajectories", ["answer_state"], postgresql_where=sa.text(UNANSWERED_BEFORE)
    )
    _comment(1)


def _replace_view(definition: str) -> None:
    op.execute(definition.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"))


def _view_again(name: str, definition: str) -> None:
    """The view as it was before, with its comments; it takes no column of this revision."""
    op.execute(definition)
    op.execute(
        f"""
        DO $$
        DECLARE item record;
        BEGIN
            EXECUTE format('COMMENT ON VIEW {name} IS %L', obj_description('{name}_newer'::regclass, 'pg_class'));
            FOR item IN SELECT attname, col_description(attrelid, attnum) AS comment
                        FROM pg_attribute WHERE attrelid = '{name}_newer'::regclass AND attnum > 0 LOOP
                EXECUTE format('COMMENT ON COLUMN {name}.%I IS %L', item.attname, item.comment);
            END LOOP;
        END $$
        """
    )
    op.execute(f"DROP VIEW {name}_newer")


def _candidates() -> None:
    op.add_column(
        "candidates",
        sa.Column(
            "depth",
            sa.Integer(),
            comment="1-based place in its trajectory; equal to step except in a tree search.",
        ),
    )
    op.execute("UPDATE candidates SET depth = step")
    op.alter_column("candidates", "depth", nullable=False)
    for name, kind, comment in (
        (
            "sources",
            postgresql.ARRAY(sa.BigInteger()),
            "Candidates whose trajectories an integrator merged into it; NULL for a teacher''s.",
        ),
        ("reply", sa.Text(), "What the integrator wrote, as it wrote it."),
        ("answer_part", sa.Text(), "The final answer that the integrator wrote with it."),
        (
            "judgment",
            sa.Double(),
            "Step score of the reward model, or share of binary judgments that found the answer; 0 to 1.",
        ),
        ("judgment_detail", postgresql.JSONB(), "What the judgment was made from."),
        ("judgment_prompt_tokens", sa.Integer(), "Judging model''s prompt tokens."),
        ("judgment_completion_tokens", sa.Integer(), "Its generated tokens."),
        ("judgment_cached_tokens", sa.Integer(), "Prompt tokens from its prefix cache."),
        ("judgment_worker_id", sa.Uuid(), "Worker that judges or judged it."),
        ("judged_at", sa.DateTime(timezone=True), "When the judgment was committed."),
        ("judgment_seconds", sa.Double(), "Seconds in the judging model''s engine."),
    ):
        op.add_column("candidates", sa.Column(name, kind, comment=comment.replace("''", "'")))
    op.add_column("candidates", _attempts("Leases taken to judge it."))
    op.create_check_constraint(op.f("ck_candidates_judgment"), "candidates", "judgment >= 0 AND judgment <= 1")
    _check("candidates", "state", CANDIDATE_STATES, replace=True)
    op.drop_index("ix_candidates_unfinished", table_name="candidates")
    op.create_index("ix_candidates_unfinished", "candidates", ["state"], postgresql_where=sa.text(UNFINISHED))


def _trajectories() -> None:
    op.alter_column("trajectories", "score", nullable=True)
    op.add_column("trajectories", _attempts("Leases taken by the LLM judge."))
    for name, kind, comment in (
        ("judgment_worker_id", sa.Uuid(), "Worker that judges or judged it."),
        ("judgment_prompt_tokens", sa.Integer(), "LLM judge's prompt tokens."),
        ("judgment_completion_tokens", sa.Integer(), "LLM judge's generated tokens."),
        ("judgment_seconds", sa.Double(), "Seconds in the LLM judge's engine."),
        ("judged_at", sa.DateTime(timezone=True), "When the LLM judge's verdict was committed."),
    ):
        op.add_column("trajectories", sa.Column(name, kind, comment=comment))
    _check("trajectories", "answer_state", ANSWER_STATES, replace=True)
    op.drop_index("ix_trajectories_unanswered", table_name="trajectories")
    op.create_index(
        "ix_trajectories_unanswered", "trajectories", ["answer_state"], postgresql_where=sa.text(UNANSWERED)
    )


def _attempts(comment: str) -> sa.Column[int]:
    return sa.Column("judgment_attempts", sa.Integer(), nullable=False, server_default="0", comment=comment)


def _check(table: str, column: str, values: tuple[str, ...], *, replace: bool = False) -> None:
    name = op.f(f"ck_{table}_{column}")
    if replace:
        op.drop_constraint(name, table, type_="check")
    listed = ", ".join(f"'{value}'" for value in values)
    op.create_check_constraint(name, table, f"{column} IN ({listed})")


def _comment(which: int) -> None:
    for column, comments in COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN {column} IS '{comments[which]}'")
    op.execute(f"COMMENT ON TABLE trajectories IS '{TRAJECTORIES_COMMENT[which]}'")
