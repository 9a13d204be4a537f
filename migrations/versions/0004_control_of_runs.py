"""Runs have a priority; a worker can be asked to finish what it holds and leave.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column(
        "runs",
        sa.Column(
            "priority",
            sa.Integer(),
            nullable=False,
            server_default="0",
            comment="Its problems begin before those of runs with a lower one that share a model with it.",
        ),
    )
    op.add_column(
        "workers",
        sa.Column(
            "drain_requested_at",
            sa.DateTime(timezone=True),
            comment="When it was asked to take no new work, finish what it holds and leave.",
        ),
    )
    op.execute("COMMENT ON COLUMN workers.stop_reason IS 'shutdown, lost, or failed and why.'")


def downgrade() -> None:
    op.execute("COMMENT ON COLUMN workers.stop_reason IS 'shutdown or lost.'")
    op.drop_column("workers", "drain_requested_at")
    op.drop_column("runs", "priority")
