"""Which datasets of the hub a run's problems were read from.

Revision ID: 0020
Revises: 0019
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "0020"
down_revision: str | None = "0019"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column(
        "runs",
        sa.Column(
            "datasets",
            JSONB(),
            server_default="[]",
            nullable=False,
            comment="Datasets of the hub that were enqueued: id, revision (a commit) and split of each; files are not "
            "listed.",
        ),
    )


def downgrade() -> None:
    op.drop_column("runs", "datasets")
