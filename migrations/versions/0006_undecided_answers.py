"""An answer that its comparison leaves undecided may wait for the LLM judge: the state `unjudged`.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None

STATES = ("none", "pending", "writing", "written", "unjudged", "judging", "judged")
STATES_BEFORE = ("none", "pending", "writing", "written", "judging", "judged")
UNANSWERED = "answer_state IN ('pending', 'writing', 'unjudged', 'judging')"
UNANSWERED_BEFORE = "answer_state IN ('pending', 'writing', 'judging')"

COMMENTS = {
    "trajectories.answer_state": (
        "none, pending, writing, written, unjudged (compared without a decision), judging or judged.",
        "none, pending, writing, written, judging or judged.",
    ),
    "trajectories.verification": (
        "How correctness was decided: method, extracted answer, detail, type, readings.",
        "How correctness was decided: method, extracted answer, detail.",
    ),
}


def upgrade() -> None:
    _states(STATES, UNANSWERED)
    _comment(0)


def downgrade() -> None:
    # What waits for the judge is compared again: the older code knows no other state for it.
    op.execute(
        """
        UPDATE trajectories SET answer_state = 'written', correct = NULL, verification = NULL
        WHERE answer_state = 'unjudged' OR (answer_state = 'judging' AND verification IS NOT NULL)
        """
    )
    _states(STATES_BEFORE, UNANSWERED_BEFORE)
    _comment(1)


def _states(states: tuple[str, ...], unanswered: str) -> None:
    name = op.f("ck_trajectories_answer_state")
    op.drop_constraint(name, "trajectories", type_="check")
    listed = ", ".join(f"'{state}'" for state in states)
    op.create_check_constraint(name, "trajectories", f"answer_state IN ({listed})")
    op.drop_index("ix_trajectories_unanswered", table_name="trajectories")
    op.create_index(
        "ix_trajectories_unanswered", "trajectories", ["answer_state"], postgresql_where=sa.text(unanswered)
    )


def _comment(which: int) -> None:
    for column, comments in COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN {column} IS '{comments[which]}'")
