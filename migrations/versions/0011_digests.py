"""Digests of what datasets and models gave, written with it, so that what changed since is found and named.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | None = None
depends_on: str | None = None

DIGESTS = {
    ("runs", "digest"): "name, fingerprint, seed, date and version; a run with it has all digests",
    ("models", "digest"): "fingerprint and weights_digest",
    ("problems", "digest"): "key, content_hash, attributes and position",
    ("candidates", "proposal_digest"): "the lineage and of what the teacher or integrator wrote",
    ("candidates", "score_digest"): "the lineage and of what the prover computed",
    ("candidates", "judgment_digest"): "the lineage and of what the judging model said",
    ("trajectories", "answer_digest"): "the final answer and of whose it is",
    ("trajectories", "verdict_digest"): "the verdict and of whose answer it is about",
}


def upgrade() -> None:
    for (table, column), of in DIGESTS.items():
        comment = f"Digest of {of}, written with it; NULL in rows of older versions."
        op.add_column(table, sa.Column(column, sa.LargeBinary(), comment=comment))


def downgrade() -> None:
    for table, column in DIGESTS:
        op.drop_column(table, column)
