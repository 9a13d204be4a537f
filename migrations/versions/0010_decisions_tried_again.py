"""A decision that failed is tried again: how often it failed, where, why, and when it is due; coordinators step back.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision: str = "0010"
down_revision: str | None = "0009"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column(
        "problems",
        sa.Column(
            "decision_attempts",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="Failures of the decision that is due, but for those of a coordinator that fails at every problem.",
        ),
    )
    op.add_column(
        "problems",
        sa.Column(
            "decision_failed_by",
            ARRAY(sa.Uuid()),
            server_default="{}",
            nullable=False,
            comment="Coordinators that failed at the decision or passed it on; the others have their turn first.",
        ),
    )
    op.add_column(
        "problems",
        sa.Column("decision_error", sa.Text(), nullable=True, comment="Why the decision failed last."),
    )
    op.add_column(
        "problems",
        sa.Column(
            "decision_due_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When a decision that failed or was passed on is tried again; NULL where none was.",
        ),
    )
    op.create_index(
        "ix_problems_decision_due_at",
        "problems",
        ["decision_due_at"],
        postgresql_where=sa.text("decision_due_at IS NOT NULL"),
    )
    op.add_column(
        "workers",
        sa.Column(
            "steps_back_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Until when a coordinator whose decisions all failed takes none; NULL where that never happened.",
        ),
    )


def downgrade() -> None:
    op.drop_column("workers", "steps_back_until")
    op.drop_index("ix_problems_decision_due_at", table_name="problems")
    for column in ("decision_due_at", "decision_error", "decision_failed_by", "decision_attempts"):
        op.drop_column("problems", column)
