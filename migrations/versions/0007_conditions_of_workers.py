"""A worker says what keeps it from its work; answers name more causes for which they were refused.

Revision ID: 0007
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column(
        "workers",
        sa.Column(
            "condition",
            sa.Text(),
            nullable=True,
            comment="What keeps it from its work, in a sentence, such as a server that it waits for; NULL if nothing.",
        ),
    )
    op.add_column(
        "workers",
        sa.Column("condition_since", sa.DateTime(timezone=True), nullable=True, comment="Since when."),
    )


def downgrade() -> None:
    op.drop_column("workers", "condition_since")
    op.drop_column("workers", "condition")
