"""Queries that are shown to users, who run them in psql."""

from __future__ import annotations


def candidates_of_best_problem(run: str) -> str:
    """SQL: every proposed step of the run's best problem (a correct one if there is one, then the highest score), with
    its score and whether it was kept."""
    return (
        "SELECT c.step, t.name AS teacher, round(c.score::numeric, 3) AS score, c.rank, c.kept, c.winning, "
        "left(c.text, 60) AS text FROM candidates c JOIN teachers t ON t.id = c.teacher_id "
        "WHERE c.problem_id = (SELECT p.id FROM trajectories j JOIN problems p ON p.id = j.problem_id "
        f"JOIN runs r ON r.id = p.run_id WHERE r.name = {_literal(run)} AND p.state = 'done' "
        "AND j.answer_state <> 'none' ORDER BY j.correct IS TRUE DESC, coalesce(j.score, 0) DESC, p.position LIMIT 1) "
        "ORDER BY c.step, c.rank"
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
