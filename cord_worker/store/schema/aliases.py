"""The alias of each table in all statements.

A letter never stands for two tables. A second row of the same table has a word as its alias: `parent`, `sibling`,
`other`.
"""

from __future__ import annotations

ALIASES = {
    "beams": "b",
    "candidates": "c",
    "models": "m",
    "problem_rollups": "k",
    "problems": "p",
    "request_rollups": "k",
    "rescores": "x",
    "rescorings": "q",
    "runs": "r",
    "teacher_rollups": "k",
    "teachers": "t",
    "trajectories": "j",
    "workers": "w",
}
"""The three tables of rollups share one alias, because statements read them in the same way."""
