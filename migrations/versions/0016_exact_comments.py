"""More exact comments on columns; no data is touched.

Revision ID: 0016
Revises: 0015
"""

from __future__ import annotations

from alembic import op

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | None = None
depends_on: str | None = None

COLUMNS = {
    ("runs", "max_active"): (
        "Most problems in flight at once (run.max_active).",
        "Maximum number of problems in flight (run.max_active).",
    ),
    ("runs", "judge_model_id"): (
        "The model that judges its final answers; NULL if they are compared.",
        "The model that judges its final answers; NULL if none is asked.",
    ),
    ("runs", "scoring_mode"): (
        "Numerical path of the scores; set by the first score, the same for all scores of the run.",
        "Numerical path of the scores; set by the first claim of a score, the same for the whole run.",
    ),
    ("runs", "digest"): (
        "Digest of name, fingerprint, seed, date and version (if set, all rows have digests), written at the same "
        "time; NULL in rows of older versions.",
        "Digest of name, fingerprint, seed, date and version, written at the same time; NULL in rows of older "
        "versions. If it is not NULL, every result of the run has a digest.",
    ),
    ("models", "weights_digest"): (
        "Hash of the loaded files, set by the first worker; a worker with another hash is refused.",
        "Hash of names, sizes and contents of the model's files (of large weight files only the first and last MiB), "
        "set by the first worker; a worker with another hash is refused.",
    ),
    ("problems", "answer"): (
        "The known answer; only the prover sees it.",
        "The known answer; scores and, by default, checks use it. No teacher reads it.",
    ),
    ("problems", "touched_at"): (
        "Last state change or message sent for it.",
        "Last state change or message sent for it; 1970 after a retry or a check that was given up.",
    ),
    ("candidates", "lineage"): (
        "Hash of the path of (step, round, teacher, sample) from the root; equal in equal runs.",
        "Hash of the path of (step, round, teacher, sample) from the root; the same in another run of this "
        "configuration on this dataset.",
    ),
    ("candidates", "touched_at"): (
        "Last state change or message sent for it.",
        "Last state change or message sent for it; 1970 after its lease was returned or its problem retried.",
    ),
    ("trajectories", "touched_at"): (
        "Last state change or message sent for it.",
        "Last state change or message sent for it; 1970 after its lease was returned or its problem retried.",
    ),
    ("workers", "stop_reason"): (
        "shutdown, lost, or failed with the error.",
        "shutdown, lost, or `failed: ERROR`.",
    ),
}
"""Old and new comment by table and column."""


def upgrade() -> None:
    for (table, column), (old, new) in COLUMNS.items():
        op.alter_column(table, column, comment=new, existing_comment=old)


def downgrade() -> None:
    for (table, column), (old, new) in COLUMNS.items():
        op.alter_column(table, column, comment=old, existing_comment=new)
