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

_OLD_REASON = "Why it may not enter the beam."
_REASON = (
    "Why it may not enter the beam: empty, whitespace, marker_only, loop, think_tag, unstorable, duplicate or "
    "malformed (its text), unscorable or unjudgeable, or why a model refused it: too_long, content_filter, not_finite, "
    "malformed_request or engine_fault."
)
_OLD_FINISH = "eos, length, too_long (no room) or not_finite (NaN)."
_FINISH = "eos, length, or why it was refused: too_long, content_filter, not_finite, malformed_request or engine_fault."


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
    op.alter_column(
        "candidates", "invalid_reason", comment=_REASON, existing_type=sa.Text(), existing_comment=_OLD_REASON
    )
    op.alter_column(
        "trajectories", "answer_finish_reason", comment=_FINISH, existing_type=sa.Text(), existing_comment=_OLD_FINISH
    )


def downgrade() -> None:
    op.alter_column(
        "trajectories", "answer_finish_reason", comment=_OLD_FINISH, existing_type=sa.Text(), existing_comment=_FINISH
    )
    op.alter_column(
        "candidates", "invalid_reason", comment=_OLD_REASON, existing_type=sa.Text(), existing_comment=_REASON
    )
    op.drop_column("workers", "condition_since")
    op.drop_column("workers", "condition")
