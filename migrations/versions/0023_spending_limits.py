"""Spending limits of a run, its prices, and why it is paused.

Revision ID: 0023
Revises: 0022
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0023"
down_revision: str | None = "0022"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column(
        "runs",
        sa.Column(
            "pause_reason",
            sa.Text(),
            comment="Which spending limit paused it, in a sentence; NULL if it is not paused, or by a command.",
        ),
    )
    op.add_column(
        "runs",
        sa.Column(
            "max_tokens",
            sa.BigInteger(),
            comment="Spending limit in generated tokens (run.max_tokens, cordctl resume --max-tokens); NULL: none.",
        ),
    )
    op.add_column(
        "runs",
        sa.Column(
            "max_cost",
            sa.Double(),
            comment="Spending limit in money, by its prices (run.max_cost, cordctl resume --max-cost); NULL: none.",
        ),
    )
    op.add_column(
        "runs",
        sa.Column(
            "prices", JSONB(), comment="What its models cost ([prices], cordctl resume --prices); NULL if unknown."
        ),
    )


def downgrade() -> None:
    for column in ("prices", "max_cost", "max_tokens", "pause_reason"):
        op.drop_column("runs", column)
