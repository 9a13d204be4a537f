"""Rescorings: a second set of scores of a run's candidates.

Only new tables: processes of the previous version read and write nothing of them.

Revision ID: 0018
Revises: 0017
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "rescorings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key."),
        sa.Column("run_id", sa.BigInteger(), nullable=False, comment="Its run."),
        sa.Column("name", sa.Text(), nullable=False, comment="Name in commands, as RUN@NAME; unique within the run."),
        sa.Column("model_id", sa.BigInteger(), nullable=False, comment="The prover's model."),
        sa.Column(
            "prover", JSONB(), nullable=False, comment="The table [prover] by which it scores, without the model."
        ),
        sa.Column("system_prompt", sa.Text(), nullable=True, comment="The prover's system turn, if any."),
        sa.Column(
            "scoring_mode",
            sa.Text(),
            nullable=True,
            comment="Numerical path of its scores; set by the first claim, the same for the whole rescoring.",
        ),
        sa.Column("code_version", sa.Text(), nullable=False, comment="Version of cord-worker that created it."),
        sa.Column(
            "digest",
            sa.LargeBinary(),
            nullable=True,
            comment="Digest of run, name, model, settings and version, written at the same time; NULL in rows of older "
            "versions.",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
            comment="When it was first asked for.",
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_rescorings_run_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_rescorings_model_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rescorings")),
        sa.UniqueConstraint("run_id", "name", name=op.f("uq_rescorings_run_id_name")),
        comment="A second set of scores of a run's candidates, by another prover or in another way.",
    )
    op.create_index(op.f("ix_rescorings_model_id"), "rescorings", ["model_id"])
    op.create_table(
        "rescores",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Key."),
        sa.Column("rescoring_id", sa.BigInteger(), nullable=False, comment="Its rescoring."),
        sa.Column("candidate_id", sa.BigInteger(), nullable=False, comment="The candidate that is scored."),
        sa.Column("problem_id", sa.BigInteger(), nullable=False, comment="The candidate's problem."),
        sa.Column(
            "state",
            sa.Text(),
            server_default="queued",
            nullable=False,
            comment="queued, pending, scoring, scored or invalid.",
        ),
        sa.Column(
            "invalid_reason",
            sa.Text(),
            nullable=True,
            comment="Why it has no score: unscorable, or the model refused it (too_long, content_filter, not_finite, "
            "malformed_request or engine_fault), or given_up (its worker was lost or failed at every attempt).",
        ),
        sa.Column(
            "score",
            sa.Double(),
            nullable=True,
            comment="How well the candidate predicts the known answer, in (0, 1], by the mean that the rescoring's "
            "prover names.",
        ),
        sa.Column(
            "log_prob_sum", sa.Double(), nullable=True, comment="Sum of the answer tokens' log-probabilities (nats)."
        ),
        sa.Column(
            "mean_probability",
            sa.Double(),
            nullable=True,
            comment="Arithmetic mean of the answer tokens' probabilities, in [0, 1].",
        ),
        sa.Column("answer_tokens", sa.Integer(), nullable=True, comment="Answer tokens M in this prover's tokenizer."),
        sa.Column(
            "thinking_tokens",
            sa.Integer(),
            nullable=True,
            comment="Tokens of the trajectory up to the candidate, in this prover's tokenizer.",
        ),
        sa.Column("scoring_mode", sa.Text(), nullable=True, comment="Numerical path of the score."),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True, comment="Prover's prompt tokens."),
        sa.Column(
            "cached_tokens",
            sa.Integer(),
            nullable=True,
            comment="Of these, tokens from the prover's prefix cache.",
        ),
        sa.Column("seconds", sa.Double(), nullable=True, comment="Seconds in the prover's engine."),
        sa.Column(
            "rescore_attempts",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="Leases taken to score it.",
        ),
        sa.Column("rescore_worker_id", sa.Uuid(), nullable=True, comment="Worker that scores or scored it."),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
            comment="When it was asked for.",
        ),
        sa.Column(
            "touched_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
            comment="Last state change or message sent for it; 1970 after its lease was returned or it was retried.",
        ),
        sa.Column(
            "scored_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When its result was committed, or when it was given up.",
        ),
        sa.Column(
            "digest",
            sa.LargeBinary(),
            nullable=True,
            comment="Digest of the names of rescoring and candidate and of the prover's result, written at the same "
            "time; NULL in rows of older versions.",
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'pending', 'scoring', 'scored', 'invalid')", name=op.f("ck_rescores_state")
        ),
        sa.CheckConstraint("score > 0 AND score <= 1", name=op.f("ck_rescores_score")),
        sa.CheckConstraint(
            "mean_probability >= 0 AND mean_probability <= 1", name=op.f("ck_rescores_mean_probability")
        ),
        sa.ForeignKeyConstraint(
            ["rescoring_id"],
            ["rescorings.id"],
            name=op.f("fk_rescores_rescoring_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["candidate_id"],
            ["candidates.id"],
            name=op.f("fk_rescores_candidate_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["problem_id"], ["problems.id"], name=op.f("fk_rescores_problem_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rescores")),
        sa.UniqueConstraint("rescoring_id", "candidate_id", name=op.f("uq_rescores_rescoring_id_candidate_id")),
        comment="The scores of candidates in rescorings.",
    )
    op.create_index(op.f("ix_rescores_candidate_id"), "rescores", ["candidate_id"])
    op.create_index(op.f("ix_rescores_problem_id"), "rescores", ["problem_id"])
    op.create_index(
        "ix_rescores_queued", "rescores", ["rescoring_id", "problem_id"], postgresql_where=sa.text("state = 'queued'")
    )
    op.create_index(
        "ix_rescores_unfinished",
        "rescores",
        ["state"],
        postgresql_where=sa.text("state IN ('pending', 'scoring')"),
    )


def downgrade() -> None:
    op.drop_table("rescores")
    op.drop_table("rescorings")
