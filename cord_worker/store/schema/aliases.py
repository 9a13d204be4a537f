"""The alias of each table in all statements.

A letter never stands for two tables. A further row of a table has a word for what it is: `parent`, `sibling`, `other`.
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
"""The tables of rollups share one: a statement reads them in the same way."""
