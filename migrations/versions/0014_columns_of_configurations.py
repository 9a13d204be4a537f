"""What SQL needs of a run's configuration: columns of the run, in the place of paths into its JSON.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | None = None
depends_on: str | None = None

# Name, type, value out of the stored configuration (with the default that older ones leave out), whether it may be
# NULL, and comment.
COLUMNS: list[tuple[str, sa.types.TypeEngine[Any], str, bool, str]] = [
    (
        "pipeline",
        sa.Text(),
        "coalesce(config -> 'search' ->> 'pipeline', 'cord')",
        False,
        "How it searches (search.pipeline).",
    ),
    (
        "max_active",
        sa.Integer(),
        "coalesce((config -> 'run' ->> 'max_active')::int, 256)",
        False,
        "Most problems in flight at once (run.max_active).",
    ),
    (
        "max_attempts",
        sa.Integer(),
        "coalesce((config -> 'run' ->> 'max_attempts')::int, 5)",
        False,
        "Leases of a piece of work after which it is given up (run.max_attempts).",
    ),
    (
        "verify_method",
        sa.Text(),
        "coalesce(config -> 'verify' ->> 'method', 'math')",
        False,
        "How final answers are checked (verify.method).",
    ),
    (
        "verify_field",
        sa.Text(),
        "CASE WHEN config -> 'verify' ? 'field' THEN config -> 'verify' ->> 'field' ELSE 'verify' END",
        True,
        "Field of a dataset row that names its own method (verify.field).",
    ),
    (
        "reference_field",
        sa.Text(),
        "config -> 'verify' ->> 'reference_field'",
        True,
        "Field of a dataset row that holds its reference (verify.reference_field); else the answer.",
    ),
    (
        "judges_undecided",
        sa.Boolean(),
        "coalesce(config -> 'verify' ->> 'undecided' = 'judge', false)",
        False,
        "Whether the LLM judge decides what a check left undecided (verify.undecided).",
    ),
]


def upgrade() -> None:
    for name, kind, _, _, comment in COLUMNS:
        op.add_column("runs", sa.Column(name, kind, comment=comment))
    values = ", ".join(f"{name} = {value}" for name, _, value, _, _ in COLUMNS)
    op.execute(f"UPDATE runs SET {values}")
    for name, kind, _, is_optional, comment in COLUMNS:
        if not is_optional:
            op.alter_column("runs", name, nullable=False, existing_type=kind, existing_comment=comment)


def downgrade() -> None:
    for name, *_ in COLUMNS:
        op.drop_column("runs", name)
