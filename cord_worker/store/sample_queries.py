"""Queries to be shown to people, who run them in psql."""

from __future__ import annotations


def candidates_of_first_problem(run: str) -> str:
    """SQL: every step that was proposed for the run's first problem, with its score and whether it was kept."""
    return (
        "SELECT c.step, t.name AS teacher, round(c.score::numeric, 3) AS score, c.rank, c.kept, c.winning, "
        "left(c.text, 60) AS text FROM candidates c JOIN teachers t ON t.id = c.teacher_id "
        "JOIN problems p ON p.id = c.problem_id JOIN runs r ON r.id = p.run_id "
        f"WHERE r.name = {_literal(run)} AND p.position = 0 ORDER BY c.step, c.rank"
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
