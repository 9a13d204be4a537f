"""A problem counts the candidates of its step that have no text yet: their scores are asked for together.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column(
        "problems",
        sa.Column(
            "unproposed",
            sa.Integer(),
            nullable=False,
            server_default="0",
            comment="Candidates of the step without a text; with the last one the scores of all are asked for.",
        ),
    )
    op.execute(
        """
        UPDATE problems p SET unproposed = waiting.count
        FROM (
            SELECT problem_id, count(*) AS count FROM candidates
            WHERE state IN ('pending', 'proposing') GROUP BY problem_id
        ) waiting
        WHERE p.id = waiting.problem_id
        """
    )
    op.create_check_constraint(op.f("ck_problems_unproposed"), "problems", "unproposed >= 0")


def downgrade() -> None:
    op.drop_constraint(op.f("ck_problems_unproposed"), "problems")
    op.drop_column("problems", "unproposed")
