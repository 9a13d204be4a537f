"""Trimmed runs: the winners of another run, ended at the step from which every score is above a threshold.

Revision ID: 0019
Revises: 0018
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0019"
down_revision: str | None = "0018"
branch_labels: str | None = None
depends_on: str | None = None

COMMENTS = {
    ("runs", "config_fingerprint"): (
        "Hash of everything in the configuration that decides what is computed.",
        "Hash of everything in the configuration that decides what is computed; in a trimmed run of that and "
        "trim_above.",
    ),
    ("trajectories", "finish"): (
        "think_end, eos, thinking_budget, max_steps, context (no model has room for more) or total_tokens.",
        "think_end, eos, thinking_budget, max_steps, context (no model has room for more), total_tokens or trimmed "
        "(it was longer in the run that this run was trimmed from).",
    ),
}
"""Old and new comment by table and column."""


def upgrade() -> None:
    op.add_column(
        "runs",
        sa.Column(
            "trimmed_from",
            sa.Text(),
            comment="Name of the run whose winners it ends earlier (cordctl trim); NULL if it is not trimmed.",
        ),
    )
    op.add_column("runs", sa.Column("source_run_id", sa.BigInteger(), comment="That run; NULL once it was removed."))
    op.add_column(
        "runs",
        sa.Column(
            "trim_above",
            sa.Double(),
            comment="Its winners end at the first step from which every score is above this; NULL if not trimmed.",
        ),
    )
    op.create_foreign_key(op.f("fk_runs_source_run_id"), "runs", "runs", ["source_run_id"], ["id"], ondelete="SET NULL")
    for (table, column), (old, new) in COMMENTS.items():
        op.alter_column(table, column, comment=new, existing_comment=old)


def downgrade() -> None:
    for (table, column), (old, new) in COMMENTS.items():
        op.alter_column(table, column, comment=old, existing_comment=new)
    op.drop_constraint(op.f("fk_runs_source_run_id"), "runs", type_="foreignkey")
    for name in ("trim_above", "source_run_id", "trimmed_from"):
        op.drop_column("runs", name)
