"""A candidate that repeats a sibling points at it, and shares what the sibling comes to; a run has a date for prompts.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | None = None
depends_on: str | None = None


TEACHER_SELECTION = """
CREATE OR REPLACE VIEW teacher_selection AS
WITH shared AS (
    SELECT duplicate_of AS id, count(*) + 1 AS proposals FROM candidates
    WHERE duplicate_of IS NOT NULL GROUP BY duplicate_of
),
placed AS (
    SELECT p.run_id, c.teacher_id,
           least(floor(10 * (c.depth - 0.5) / j.steps)::int, 9) + 1 AS tenth,
           s.kept, s.winning, s.score, c.completion_tokens, 1.0 / coalesce(shared.proposals, 1) AS part
    FROM candidates c
    JOIN candidates s ON s.id = coalesce(c.duplicate_of, c.id)
    LEFT JOIN shared ON shared.id = s.id
    JOIN problems p ON p.id = c.problem_id
    JOIN trajectories j ON j.problem_id = p.id AND j.winner
),
counted AS (
    SELECT run_id, teacher_id, tenth,
           count(*) AS proposed,
           count(*) FILTER (WHERE kept) AS kept,
           count(*) FILTER (WHERE winning) AS on_winning_path,
           coalesce(sum(part) FILTER (WHERE winning), 0) AS winning_parts,
           avg(score) AS mean_score,
           coalesce(sum(completion_tokens), 0) AS tokens
    FROM placed GROUP BY run_id, teacher_id, tenth
)
SELECT r.name AS run, t.name AS teacher, k.tenth, k.proposed, k.kept, k.on_winning_path,
       k.winning_parts / nullif(sum(k.winning_parts) OVER (PARTITION BY k.run_id, k.tenth), 0) AS hit_rate,
       k.mean_score, k.tokens
FROM counted k
JOIN runs r ON r.id = k.run_id
JOIN teachers t ON t.id = k.teacher_id
ORDER BY r.id, k.tenth, t.ordinal
"""

TEACHER_SELECTION_BEFORE = """
CREATE OR REPLACE VIEW teacher_selection AS
WITH placed AS (
    SELECT p.run_id, c.teacher_id,
           least(floor(10 * (c.depth - 0.5) / j.steps)::int, 9) + 1 AS tenth,
           c.kept, c.winning, c.score, c.completion_tokens
    FROM candidates c
    JOIN problems p ON p.id = c.problem_id
    JOIN trajectories j ON j.problem_id = p.id AND j.winner
),
counted AS (
    SELECT run_id, teacher_id, tenth,
           count(*) AS proposed,
           count(*) FILTER (WHERE kept) AS kept,
           count(*) FILTER (WHERE winning) AS on_winning_path,
           avg(score) AS mean_score,
           coalesce(sum(completion_tokens), 0) AS tokens
    FROM placed GROUP BY run_id, teacher_id, tenth
)
SELECT r.name AS run, t.name AS teacher, k.tenth, k.proposed, k.kept, k.on_winning_path,
       k.on_winning_path / nullif(sum(k.on_winning_path) OVER (PARTITION BY k.run_id, k.tenth), 0) AS hit_rate,
       k.mean_score, k.tokens
FROM counted k
JOIN runs r ON r.id = k.run_id
JOIN teachers t ON t.id = k.teacher_id
ORDER BY r.id, k.tenth, t.ordinal
"""

COMMENTS = {
    "kept": "Of these, kept in a beam, or equal to one that was.",
    "on_winning_path": "Of these, on the winning trajectory, or equal to one that is.",
    "hit_rate": "Share of the winning steps in this tenth that this teacher wrote; a step that N proposals of it have "
    "in common counts 1/N for each of them. Adds up to 1 over the teachers.",
    "mean_score": "Mean score of its candidates there; one that repeats a sibling has the score of that.",
}

COMMENTS_BEFORE = {
    "kept": "Of these, kept in a beam.",
    "on_winning_path": "Of these, on the winning trajectory.",
    "hit_rate": "Share of the winning steps in this tenth that this teacher wrote; adds up to 1 over the teachers.",
    "mean_score": "Mean score of its scored candidates there.",
}


def upgrade() -> None:
    op.add_column(
        "candidates",
        sa.Column(
            "text_key",
            sa.Uuid(),
            nullable=True,
            comment="What equal texts share (whitespace normalised); NULL where it was invalid as proposed.",
        ),
    )
    op.add_column(
        "candidates",
        sa.Column(
            "duplicate_of",
            sa.BigInteger(),
            nullable=True,
            comment="The sibling whose text it repeats; that one alone is scored and stands for both. NULL if none.",
        ),
    )
    op.create_foreign_key(
        op.f("fk_candidates_duplicate_of"), "candidates", "candidates", ["duplicate_of"], ["id"], ondelete="CASCADE"
    )
    op.create_check_constraint(
        op.f("ck_candidates_duplicate_of"), "candidates", "duplicate_of IS NULL OR invalid_reason = 'duplicate'"
    )
    op.create_index(
        "ix_candidates_duplicate_of",
        "candidates",
        ["duplicate_of"],
        postgresql_where=sa.text("duplicate_of IS NOT NULL"),
    )
    op.execute(
        r"""
        UPDATE candidates c SET duplicate_of = (
            SELECT s.id FROM candidates s JOIN teachers t ON t.id = s.teacher_id
            WHERE s.problem_id = c.problem_id AND s.step = c.step AND s.round = c.round
                  AND s.parent_rank = c.parent_rank AND s.parent_id IS NOT DISTINCT FROM c.parent_id AND s.id <> c.id
                  AND s.invalid_reason IS DISTINCT FROM 'duplicate'
                  AND btrim(regexp_replace(s.text, '\s+', ' ', 'g')) = btrim(regexp_replace(c.text, '\s+', ' ', 'g'))
            ORDER BY t.ordinal, s.sample LIMIT 1
        )
        WHERE c.invalid_reason = 'duplicate'
        """
    )
    op.add_column(
        "runs",
        sa.Column(
            "prompt_date",
            sa.Date(),
            nullable=False,
            server_default="2025-01-01",
            comment="What chat templates take for today, on every machine and however long the run takes.",
        ),
    )
    _view(TEACHER_SELECTION, COMMENTS)


def downgrade() -> None:
    _view(TEACHER_SELECTION_BEFORE, COMMENTS_BEFORE)
    op.drop_column("runs", "prompt_date")
    op.drop_index("ix_candidates_duplicate_of", table_name="candidates")
    op.drop_constraint(op.f("ck_candidates_duplicate_of"), "candidates")
    op.drop_constraint(op.f("fk_candidates_duplicate_of"), "candidates")
    op.drop_column("candidates", "duplicate_of")
    op.drop_column("candidates", "text_key")


def _view(definition: str, comments: dict[str, str]) -> None:
    op.execute(definition)
    for column, comment in comments.items():
        op.execute(f"COMMENT ON COLUMN teacher_selection.{column} IS '{comment}'")
