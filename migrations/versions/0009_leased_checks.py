"""Comparing a final answer is leased work: the state `checking`, who does it, and how often it was begun.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None

STATES = ("none", "pending", "writing", "written", "checking", "unjudged", "judging", "judged")
STATES_BEFORE = ("none", "pending", "writing", "written", "unjudged", "judging", "judged")
UNANSWERED = "answer_state IN ('pending', 'writing', 'checking', 'unjudged', 'judging')"
UNANSWERED_BEFORE = "answer_state IN ('pending', 'writing', 'unjudged', 'judging')"
COMMENT = "none, pending, writing, written, checking, unjudged (compared without a decision), judging or judged."
COMMENT_BEFORE = "none, pending, writing, written, unjudged (compared without a decision), judging or judged."


def upgrade() -> None:
    op.add_column(
        "trajectories",
        sa.Column(
            "check_attempts",
            sa.Integer(),
            nullable=False,
            server_default="0",
            comment="Leases taken to compare it.",
        ),
    )
    op.add_column(
        "trajectories",
        sa.Column("check_worker_id", sa.Uuid(), nullable=True, comment="Coordinator that compares or compared it."),
    )
    _states(STATES, UNANSWERED, COMMENT)


def downgrade() -> None:
    op.execute("UPDATE trajectories SET answer_state = 'written' WHERE answer_state = 'checking'")
    _states(STATES_BEFORE, UNANSWERED_BEFORE, COMMENT_BEFORE)
    op.drop_column("trajectories", "check_worker_id")
    op.drop_column("trajectories", "check_attempts")


def _states(states: tuple[str, ...], unanswered: str, comment: str) -> None:
    name = op.f("ck_trajectories_answer_state")
    op.drop_constraint(name, "trajectories", type_="check")
    listed = ", ".join(f"'{state}'" for state in states)
    op.create_check_constraint(name, "trajectories", f"answer_state IN ({listed})")
    op.drop_index("ix_trajectories_unanswered", table_name="trajectories")
    op.create_index(
        "ix_trajectories_unanswered", "trajectories", ["answer_state"], postgresql_where=sa.text(unanswered)
    )
    op.execute(f"COMMENT ON COLUMN trajectories.answer_state IS '{comment}'")
