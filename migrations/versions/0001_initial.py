"""initial

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


TEACHER_SELECTION = """
CREATE VIEW teacher_selection AS
WITH placed AS (
    SELECT p.run_id, c.teacher_id,
           least(floor(10 * (c.step - 0.5) / j.steps)::int, 9) + 1 AS tenth,
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

TEACHER_SELECTION_COMMENTS = {
    "run": "Name of the run.",
    "teacher": "Name of the teacher.",
    "tenth": "Tenth (1-10) of the decoding position: (step - 0.5) / steps of the winning trajectory, later ones in 10.",
    "proposed": "Candidates proposed there, in problems whose search has ended.",
    "kept": "Of these, kept in a beam.",
    "on_winning_path": "Of these, on the winning trajectory.",
    "hit_rate": "Share of the winning steps in this tenth that this teacher wrote; adds up to 1 over the teachers.",
    "mean_score": "Mean score of its scored candidates there.",
    "tokens": "Tokens it generated there.",
}

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

PREFIX_CACHE_COMMENTS = {
    "run": "Name of the run.",
    "model": "Path of the model.",
    "kind": "propose or score.",
    "worker_id": "The replica.",
    "requests": "Candidates that it proposed or scored.",
    "at_home": "Of these, of problems most of whose requests to this model it served.",
    "prompt_tokens": "Tokens of their prompts.",
    "cached_tokens": "Of these, taken from its prefix cache.",
    "hit_rate": "cached_tokens / prompt_tokens.",
}

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

RUN_COSTS_COMMENTS = {
    "run": "Name of the run.",
    "model": "Path of the model.",
    "kind": "propose, score or answer.",
    "requests": "Requests that the engine finished.",
    "prompt_tokens": "Tokens of their prompts.",
    "cached_tokens": "Of these, taken from the prefix cache (not known of answers).",
    "completion_tokens": "Tokens generated.",
    "request_seconds": "Sum of what each request took; requests of one batch overlap.",
    "engine_seconds": "Time in which the engines worked on at least one such request, replicas added up.",
}


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key."),
        sa.Column(
            "fingerprint",
            sa.Text(),
            nullable=False,
            comment="Hash of everything in its configuration that decides what it computes.",
        ),
        sa.Column("path", sa.Text(), nullable=False, comment="Folder, bundled name or hub id of the weights."),
        sa.Column(
            "identity",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="The configuration behind the fingerprint.",
        ),
        sa.Column(
            "weights_digest",
            sa.Text(),
            nullable=True,
            comment="Hash of the loaded files, set by the first worker; a worker with another one is refused.",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was first named by a run.",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_models_fingerprint")),
        comment="One set of weights; its queue is named by the fingerprint.",
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key."),
        sa.Column("name", sa.Text(), nullable=False, comment="What commands call it."),
        sa.Column("state", sa.Text(), server_default="active", nullable=False, comment="active, paused or cancelled."),
        sa.Column(
            "config",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="The whole cord.toml, defaults filled in; no secrets.",
        ),
        sa.Column(
            "config_fingerprint",
            sa.Text(),
            nullable=False,
            comment="Hash of everything in the configuration that decides what is generated.",
        ),
        sa.Column("prover_model_id", sa.BigInteger(), nullable=False, comment="The model that scores its candidates."),
        sa.Column("seed", sa.BigInteger(), nullable=False, comment="Run seed; every sampling seed is derived from it."),
        sa.Column(
            "scoring_mode",
            sa.Text(),
            nullable=True,
            comment="Numerical path of the scores; set by the first score, the same for all.",
        ),
        sa.Column("code_version", sa.Text(), nullable=False, comment="Version of cord-worker that created the run."),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was enqueued first.",
        ),
        sa.CheckConstraint("state IN ('active', 'paused', 'cancelled')", name=op.f("ck_runs_state")),
        sa.ForeignKeyConstraint(["prover_model_id"], ["models.id"], name=op.f("fk_runs_prover_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("name", name=op.f("uq_runs_name")),
        comment="One configuration applied to one dataset.",
    )
    op.create_index(op.f("ix_runs_prover_model_id"), "runs", ["prover_model_id"], unique=False)
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False, comment="Random, new at every start."),
        sa.Column("role", sa.Text(), nullable=False, comment="model or coordinator."),
        sa.Column("model_id", sa.BigInteger(), nullable=True, comment="The model it hosts."),
        sa.Column("hostname", sa.Text(), nullable=False, comment="Machine."),
        sa.Column("pid", sa.Integer(), nullable=False, comment="Process id there."),
        sa.Column(
            "shard",
            sa.Integer(),
            nullable=True,
            comment="Which replica of its model it is, from 0; empty once it takes no more work.",
        ),
        sa.Column("metrics_port", sa.Integer(), nullable=True, comment="Port of its Prometheus metrics there."),
        sa.Column("version", sa.Text(), nullable=False, comment="Version of cord-worker."),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it registered.",
        ),
        sa.Column(
            "ready_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it began to take work.",
        ),
        sa.Column(
            "heartbeat_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="Last sign of life.",
        ),
        sa.Column(
            "stopped_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it left, or was found silent for too long.",
        ),
        sa.Column("stop_reason", sa.Text(), nullable=True, comment="shutdown or lost."),
        sa.Column(
            "dropped_results",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="Late or duplicate results that were not written.",
        ),
        sa.CheckConstraint("role IN ('model', 'coordinator')", name=op.f("ck_workers_role")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_workers_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
        comment="One start of one process; its heartbeat is what its leases rest on.",
    )
    op.create_table(
        "problems",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key."),
        sa.Column("run_id", sa.BigInteger(), nullable=False, comment="Its run."),
        sa.Column(
            "position", sa.BigInteger(), nullable=False, comment="0-based order in the dataset; exports follow it."
        ),
        sa.Column("key", sa.Text(), nullable=False, comment="Id in the dataset, or a hash of the content."),
        sa.Column("content_hash", sa.Text(), nullable=False, comment="Hash of question, answer and passage."),
        sa.Column("question", sa.Text(), nullable=False, comment="The user turn."),
        sa.Column("answer", sa.Text(), nullable=False, comment="The known answer; only the prover sees it."),
        sa.Column("passage", sa.Text(), nullable=True, comment="Supporting passage for the teachers' prompt."),
        sa.Column(
            "attributes",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="The dataset row's other fields.",
        ),
        sa.Column(
            "state",
            sa.Text(),
            server_default="queued",
            nullable=False,
            comment="queued, searching, answering, verifying, done, failed or cancelled.",
        ),
        sa.Column(
            "step", sa.Integer(), server_default="0", nullable=False, comment="Step being decoded; 0 before the first."
        ),
        sa.Column(
            "round",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="Resampling round of that step; above 0 after an all-invalid step.",
        ),
        sa.Column(
            "outstanding",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="Candidates of the step that are not final yet: the barrier.",
        ),
        sa.Column("failure_reason", sa.Text(), nullable=True, comment="Why it failed."),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was enqueued.",
        ),
        sa.Column("admitted_at", sa.DateTime(timezone=True), nullable=True, comment="When its search began."),
        sa.Column(
            "touched_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="Last state change or message sent for it.",
        ),
        sa.Column(
            "finished_at", sa.DateTime(timezone=True), nullable=True, comment="When it was done, failed or cancelled."
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'searching', 'answering', 'verifying', 'done', 'failed', 'cancelled')",
            name=op.f("ck_problems_state"),
        ),
        sa.CheckConstraint("outstanding >= 0", name=op.f("ck_problems_outstanding")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_problems_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_problems")),
        sa.UniqueConstraint("run_id", "key", name=op.f("uq_problems_run_id_key")),
        sa.UniqueConstraint("run_id", "position", name=op.f("uq_problems_run_id_position")),
        comment="A question with its known answer, and where its search stands.",
    )
    op.create_index(
        "ix_problems_queued",
        "problems",
        ["run_id", "position"],
        unique=False,
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index("ix_problems_run_id_state", "problems", ["run_id", "state"], unique=False)
    op.create_index(
        "ix_problems_working",
        "problems",
        ["state"],
        unique=False,
        postgresql_where=sa.text("state IN ('searching', 'answering', 'verifying')"),
    )
    op.create_table(
        "teachers",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key."),
        sa.Column("run_id", sa.BigInteger(), nullable=False, comment="Its run."),
        sa.Column("ordinal", sa.Integer(), nullable=False, comment="0-based order in cord.toml; breaks ties."),
        sa.Column("name", sa.Text(), nullable=False, comment="Name in cord.toml."),
        sa.Column("model_id", sa.BigInteger(), nullable=False, comment="The model behind it."),
        sa.Column(
            "sampling",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="temperature, top_p, top_k, min_p, repetition_penalty.",
        ),
        sa.Column("system_prompt", sa.Text(), nullable=True, comment="System turn, if any."),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_teachers_model_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_teachers_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_teachers")),
        sa.UniqueConstraint("run_id", "name", name=op.f("uq_teachers_run_id_name")),
        sa.UniqueConstraint("run_id", "ordinal", name=op.f("uq_teachers_run_id_ordinal")),
        comment="A model with sampling settings: what proposes steps.",
    )
    op.create_index(op.f("ix_teachers_model_id"), "teachers", ["model_id"], unique=False)
    op.create_table(
        "candidates",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key."),
        sa.Column("problem_id", sa.BigInteger(), nullable=False, comment="Its problem."),
        sa.Column("parent_id", sa.BigInteger(), nullable=True, comment="The candidate it extends; NULL at step 1."),
        sa.Column(
            "parent_rank", sa.Integer(), nullable=False, comment="0-based rank of the parent in its beam; 0 at step 1."
        ),
        sa.Column("step", sa.Integer(), nullable=False, comment="1-based number of this step in the trajectory."),
        sa.Column(
            "round", sa.Integer(), nullable=False, comment="Resampling round, 0 unless earlier ones were all invalid."
        ),
        sa.Column("teacher_id", sa.BigInteger(), nullable=False, comment="Who proposed it."),
        sa.Column(
            "sample", sa.Integer(), nullable=False, comment="0-based proposal number of the teacher for this parent."
        ),
        sa.Column(
            "lineage",
            sa.Text(),
            nullable=False,
            comment="Hash of the path of (step, round, teacher, sample) from the root; equal in equal runs.",
        ),
        sa.Column("seed", sa.BigInteger(), nullable=False, comment="Sampling seed."),
        sa.Column("max_tokens", sa.Integer(), nullable=False, comment="Token cap of this step."),
        sa.Column(
            "whole",
            sa.Boolean(),
            nullable=False,
            comment="Whether it is the rest of its trajectory, in one piece, instead of one step.",
        ),
        sa.Column(
            "state",
            sa.Text(),
            server_default="pending",
            nullable=False,
            comment="pending, proposing, proposed, scoring, scored or invalid.",
        ),
        sa.Column("text", sa.Text(), nullable=True, comment="The step, without its marker."),
        sa.Column(
            "finish_reason",
            sa.Text(),
            nullable=True,
            comment="step (next marker), think_end, eos or length (token cap).",
        ),
        sa.Column("invalid_reason", sa.Text(), nullable=True, comment="Why it may not enter the beam."),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True, comment="Teacher's prompt tokens."),
        sa.Column("completion_tokens", sa.Integer(), nullable=True, comment="Teacher's generated tokens."),
        sa.Column(
            "cached_tokens", sa.Integer(), nullable=True, comment="Prompt tokens from the teacher's prefix cache."
        ),
        sa.Column(
            "score",
            sa.Double(),
            nullable=True,
            comment="exp(mean log-probability of the answer given this candidate), in (0, 1].",
        ),
        sa.Column(
            "log_prob_sum", sa.Double(), nullable=True, comment="Sum of the answer tokens' log-probabilities (nats)."
        ),
        sa.Column("answer_tokens", sa.Integer(), nullable=True, comment="Answer tokens M in the prover's tokenizer."),
        sa.Column(
            "thinking_tokens",
            sa.Integer(),
            nullable=True,
            comment="Tokens of the whole trajectory up to here, in the prover's tokenizer.",
        ),
        sa.Column("scoring_mode", sa.Text(), nullable=True, comment="Numerical path of the score."),
        sa.Column("score_prompt_tokens", sa.Integer(), nullable=True, comment="Prover's prompt tokens."),
        sa.Column(
            "score_cached_tokens", sa.Integer(), nullable=True, comment="Of these, from the prover's prefix cache."
        ),
        sa.Column(
            "rank", sa.Integer(), nullable=True, comment="0-based rank in its step; NULL if invalid or duplicate."
        ),
        sa.Column(
            "kept", sa.Boolean(), nullable=True, comment="Whether it entered the beam; NULL before the decision."
        ),
        sa.Column(
            "winning",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="Whether the problem's result goes through this step.",
        ),
        sa.Column(
            "propose_attempts", sa.Integer(), server_default="0", nullable=False, comment="Leases taken to propose it."
        ),
        sa.Column(
            "score_attempts", sa.Integer(), server_default="0", nullable=False, comment="Leases taken to score it."
        ),
        sa.Column("worker_id", sa.Uuid(), nullable=True, comment="Worker that proposes or proposed it."),
        sa.Column("score_worker_id", sa.Uuid(), nullable=True, comment="Worker that scores or scored it."),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was planned.",
        ),
        sa.Column(
            "touched_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="Last state change or message sent for it.",
        ),
        sa.Column("proposed_at", sa.DateTime(timezone=True), nullable=True, comment="When the text was committed."),
        sa.Column("scored_at", sa.DateTime(timezone=True), nullable=True, comment="When the score was committed."),
        sa.Column("propose_seconds", sa.Double(), nullable=True, comment="Seconds in the teacher's engine."),
        sa.Column("score_seconds", sa.Double(), nullable=True, comment="Seconds in the prover's engine."),
        sa.CheckConstraint(
            "(state = 'invalid') = (invalid_reason IS NOT NULL)", name=op.f("ck_candidates_invalid_reason")
        ),
        sa.CheckConstraint("state <> 'scored' OR score IS NOT NULL", name=op.f("ck_candidates_scored")),
        sa.CheckConstraint(
            "state IN ('pending', 'proposing', 'proposed', 'scoring', 'scored', 'invalid')",
            name=op.f("ck_candidates_state"),
        ),
        sa.CheckConstraint("answer_tokens >= 1", name=op.f("ck_candidates_answer_tokens")),
        sa.CheckConstraint("score > 0 AND score <= 1", name=op.f("ck_candidates_score")),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["candidates.id"], name=op.f("fk_candidates_parent_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["problem_id"], ["problems.id"], name=op.f("fk_candidates_problem_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["teacher_id"], ["teachers.id"], name=op.f("fk_candidates_teacher_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_candidates")),
        sa.UniqueConstraint("problem_id", "lineage", name=op.f("uq_candidates_problem_id_lineage")),
        comment="One proposed step: a node of the search tree, kept or not.",
    )
    op.create_index(op.f("ix_candidates_parent_id"), "candidates", ["parent_id"], unique=False)
    op.create_index("ix_candidates_problem_id_step", "candidates", ["problem_id", "step"], unique=False)
    op.create_index(op.f("ix_candidates_teacher_id"), "candidates", ["teacher_id"], unique=False)
    op.create_index(
        "ix_candidates_unfinished",
        "candidates",
        ["state"],
        unique=False,
        postgresql_where=sa.text("state IN ('pending', 'proposing', 'proposed', 'scoring')"),
    )
    op.create_table(
        "beams",
        sa.Column("problem_id", sa.BigInteger(), nullable=False, comment="Its problem."),
        sa.Column("step", sa.Integer(), nullable=False, comment="The step after which it was chosen."),
        sa.Column("rank", sa.Integer(), nullable=False, comment="0-based; 0 is the best."),
        sa.Column("candidate_id", sa.BigInteger(), nullable=False, comment="Last step of the trajectory in the slot."),
        sa.Column(
            "finish", sa.Text(), nullable=True, comment="Why the trajectory is finished; NULL while it is extended."
        ),
        sa.ForeignKeyConstraint(
            ["candidate_id"], ["candidates.id"], name=op.f("fk_beams_candidate_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["problem_id"], ["problems.id"], name=op.f("fk_beams_problem_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("problem_id", "step", "rank", name=op.f("pk_beams")),
        comment="The beam chosen after each step; a finished trajectory keeps its slot.",
    )
    op.create_index(op.f("ix_beams_candidate_id"), "beams", ["candidate_id"], unique=False)
    op.create_table(
        "trajectories",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key."),
        sa.Column("problem_id", sa.BigInteger(), nullable=False, comment="Its problem."),
        sa.Column("candidate_id", sa.BigInteger(), nullable=False, comment="Its last step."),
        sa.Column("steps", sa.Integer(), nullable=False, comment="Number of steps."),
        sa.Column("score", sa.Double(), nullable=False, comment="Score of its last step."),
        sa.Column("finish", sa.Text(), nullable=False, comment="think_end, eos, thinking_budget or max_steps."),
        sa.Column(
            "winner", sa.Boolean(), server_default=sa.text("false"), nullable=False, comment="The problem's result."
        ),
        sa.Column(
            "dropped_at_step",
            sa.Integer(),
            nullable=True,
            comment="Step at which better ones took its slot; NULL if it stayed.",
        ),
        sa.Column(
            "answer_state",
            sa.Text(),
            server_default="none",
            nullable=False,
            comment="none, pending, writing or written.",
        ),
        sa.Column("answer_seed", sa.BigInteger(), nullable=True, comment="Sampling seed of the final answer."),
        sa.Column("answer_text", sa.Text(), nullable=True, comment="What follows </think>."),
        sa.Column("answer_finish_reason", sa.Text(), nullable=True, comment="eos or length."),
        sa.Column("answer_prompt_tokens", sa.Integer(), nullable=True, comment="Teacher's prompt tokens."),
        sa.Column("answer_completion_tokens", sa.Integer(), nullable=True, comment="Teacher's generated tokens."),
        sa.Column("answer_seconds", sa.Double(), nullable=True, comment="Seconds in the teacher's engine."),
        sa.Column(
            "answer_attempts", sa.Integer(), server_default="0", nullable=False, comment="Leases taken to write it."
        ),
        sa.Column("worker_id", sa.Uuid(), nullable=True, comment="Worker that writes or wrote the answer."),
        sa.Column(
            "correct",
            sa.Boolean(),
            nullable=True,
            comment="Whether the final answer equals the known one; NULL if not checked or undecided.",
        ),
        sa.Column(
            "verification",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="How correctness was decided: method, extracted answer, detail.",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it finished thinking.",
        ),
        sa.Column(
            "touched_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="Last state change or message sent for it.",
        ),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True, comment="When the answer was committed."),
        sa.CheckConstraint(
            "answer_state IN ('none', 'pending', 'writing', 'written')", name=op.f("ck_trajectories_answer_state")
        ),
        sa.ForeignKeyConstraint(
            ["candidate_id"], ["candidates.id"], name=op.f("fk_trajectories_candidate_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["problem_id"], ["problems.id"], name=op.f("fk_trajectories_problem_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trajectories")),
        sa.UniqueConstraint("candidate_id", name=op.f("uq_trajectories_candidate_id")),
        comment="Finished trajectories that held a slot in a beam; the winner gets a final answer.",
    )
    op.create_index(op.f("ix_trajectories_problem_id"), "trajectories", ["problem_id"], unique=False)
    op.create_index(
        "ix_trajectories_unanswered",
        "trajectories",
        ["answer_state"],
        unique=False,
        postgresql_where=sa.text("answer_state IN ('pending', 'writing')"),
    )
    op.create_index(
        "uq_trajectories_winner", "trajectories", ["problem_id"], unique=True, postgresql_where=sa.text("winner")
    )
    op.execute(TEACHER_SELECTION)
    op.execute(
        "COMMENT ON VIEW teacher_selection IS "
        "'Which teacher is selected where: one row per run, teacher and tenth of the decoding position.'"
    )
    for column, comment in TEACHER_SELECTION_COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN teacher_selection.{column} IS '{comment}'")
    op.execute(RUN_COSTS)
    op.execute(
        "COMMENT ON VIEW run_costs IS 'What a run cost its engines: one row per run, model and kind of request.'"
    )
    for column, comment in RUN_COSTS_COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN run_costs.{column} IS '{comment}'")
    op.execute(PREFIX_CACHE)
    op.execute(
        "COMMENT ON VIEW prefix_cache IS 'How well replicas reuse prefixes: one row per run, model, kind, worker.'"
    )
    for column, comment in PREFIX_CACHE_COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN prefix_cache.{column} IS '{comment}'")


def downgrade() -> None:
    op.execute("DROP VIEW run_costs")
    op.execute("DROP VIEW prefix_cache")
    op.execute("DROP VIEW teacher_selection")
    op.drop_index("uq_trajectories_winner", table_name="trajectories", postgresql_where=sa.text("winner"))
    op.drop_index(
        "ix_trajectories_unanswered",
        table_name="trajectories",
        postgresql_where=sa.text("answer_state IN ('pending', 'writing')"),
    )
    op.drop_index(op.f("ix_trajectories_problem_id"), table_name="trajectories")
    op.drop_table("trajectories")
    op.drop_index(op.f("ix_beams_candidate_id"), table_name="beams")
    op.drop_table("beams")
    op.drop_index(
        "ix_candidates_unfinished",
        table_name="candidates",
        postgresql_where=sa.text("state IN ('pending', 'proposing', 'proposed', 'scoring')"),
    )
    op.drop_index(op.f("ix_candidates_teacher_id"), table_name="candidates")
    op.drop_index("ix_candidates_problem_id_step", table_name="candidates")
    op.drop_index(op.f("ix_candidates_parent_id"), table_name="candidates")
    op.drop_table("candidates")
    op.drop_index(op.f("ix_teachers_model_id"), table_name="teachers")
    op.drop_table("teachers")
    op.drop_index(
        "ix_problems_working",
        table_name="problems",
        postgresql_where=sa.text("state IN ('searching', 'answering', 'verifying')"),
    )
    op.drop_index("ix_problems_queued", table_name="problems", postgresql_where=sa.text("state = 'queued'"))
    op.drop_index("ix_problems_run_id_state", table_name="problems")
    op.drop_table("problems")
    op.drop_table("workers")
    op.drop_index(op.f("ix_runs_prover_model_id"), table_name="runs")
    op.drop_table("runs")
    op.drop_table("models")
