"""A trajectory may end because no model has room for more: what the column's comment says.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    _comment("think_end, eos, thinking_budget, max_steps, context (no model has room for more) or total_tokens.")


def downgrade() -> None:
    _comment("think_end, eos, thinking_budget, max_steps or total_tokens.")


def _comment(text: str) -> None:
    op.execute(f"COMMENT ON COLUMN trajectories.finish IS '{text}'")
