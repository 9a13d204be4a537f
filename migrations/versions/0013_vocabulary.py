"""Renames columns so that each thing has one name (docs/glossary.md).

Some columns had the name of another thing; some shared a name with a column of another kind of work.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

from alembic import op

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: str | None = None
depends_on: str | None = None

RENAMED = {
    "runs": {"reward_model_id": "selection_model_id"},
    "candidates": {"worker_id": "propose_worker_id"},
    "trajectories": {
        "worker_id": "answer_worker_id",
        "judgment_attempts": "verdict_attempts",
        "judgment_worker_id": "verdict_worker_id",
        "judgment_prompt_tokens": "verdict_prompt_tokens",
        "judgment_completion_tokens": "verdict_completion_tokens",
        "judgment_seconds": "verdict_seconds",
        "verdict_digest": "correctness_digest",
    },
}
COMMENTS = {
    ("runs", "selection_model_id"): (
        "The model that judges its candidates; NULL where the score selects.",
        "The model that gives selection judgments: the reward model, or the prover in binary judgment; NULL where "
        "the score selects.",
    ),
    ("trajectories", "correctness_digest"): (
        "Digest of the verdict and of whose answer it is about, written with it; NULL in rows of older versions.",
        "Digest of whether the answer is correct, how that was decided, and of whose answer it is, written with it; "
        "NULL in rows of older versions.",
    ),
}


def upgrade() -> None:
    for table, columns in RENAMED.items():
        for old, new in columns.items():
            op.alter_column(table, old, new_column_name=new)
    op.execute("ALTER TABLE runs RENAME CONSTRAINT fk_runs_reward_model_id TO fk_runs_selection_model_id")
    for (table, column), (old, new) in COMMENTS.items():
        op.alter_column(table, column, comment=new, existing_comment=old)


def downgrade() -> None:
    for (table, column), (old, new) in COMMENTS.items():
        op.alter_column(table, column, comment=old, existing_comment=new)
    op.execute("ALTER TABLE runs RENAME CONSTRAINT fk_runs_selection_model_id TO fk_runs_reward_model_id")
    for table, columns in RENAMED.items():
        for old, new in columns.items():
            op.alter_column(table, new, new_column_name=old)
