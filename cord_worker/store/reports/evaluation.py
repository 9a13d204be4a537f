"""Figures for evaluations: how many final answers of every teacher are right, and the tokens that it generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class AnswerCounts:
    """How many of one teacher's final answers to one problem are right, wrong and undecided.

    `problem` is the key of its row in `problems`; `categories` are its values of the requested fields, in their order.
    A text in which the check found no answer is in none of the three counts.
    """

    problem: int
    teacher: str
    categories: tuple[str | None, ...]
    correct: int
    wrong: int
    undecided: int


@dataclass(frozen=True, slots=True)
class TeacherTokens:
    """Tokens that one teacher generated in a run: for candidates (`thinking`) and for final answers (`answers`).

    `model` is the path of the teacher's model.
    """

    teacher: str
    model: str
    thinking: int
    answers: int


_ANSWER_COUNTS = sa.text(
    """
    SELECT p.id AS problem, t.name AS teacher,
           ARRAY(SELECT p.attributes ->> field.name
                 FROM unnest(CAST(:fields AS text[])) WITH ORDINALITY AS field(name, number)
                 ORDER BY number) AS categories,
           count(*) FILTER (WHERE j.correct) AS correct,
           count(*) FILTER (WHERE NOT j.correct) AS wrong,
           count(j.id) FILTER (WHERE j.correct IS NULL AND NOT coalesce(
               j.verification ->> 'method' = 'undecided' AND j.verification -> 'readings' = '[]'::jsonb, false
           )) AS undecided
    FROM problems p
    JOIN teachers t ON t.run_id = p.run_id
    LEFT JOIN (candidates c JOIN trajectories j ON j.candidate_id = c.id AND j.answer_state <> 'none')
           ON c.problem_id = p.id AND c.teacher_id = t.id AND p.state = 'done'
    WHERE p.run_id = :run_id AND p.state IN ('done', 'failed')
    GROUP BY p.id, t.id
    ORDER BY t.ordinal, p.position
    """
)

_TEACHER_TOKENS = sa.text(
    """
    SELECT t.name AS teacher, m.path AS model,
           coalesce(sum(c.completion_tokens), 0)::bigint AS thinking,
           coalesce(sum(j.answer_completion_tokens), 0)::bigint AS answers
    FROM teachers t
    JOIN models m ON m.id = t.model_id
    LEFT JOIN candidates c ON c.teacher_id = t.id
    LEFT JOIN trajectories j ON j.candidate_id = c.id
    WHERE t.run_id = :run_id GROUP BY t.id, m.path ORDER BY t.ordinal
    """
)

_ATTRIBUTE_NAMES = sa.text(
    "SELECT DISTINCT jsonb_object_keys(attributes) AS name FROM problems WHERE run_id = :run_id ORDER BY name"
)


def read_answer_counts(connection: sa.Connection, run_id: int, fields: Sequence[str] = ()) -> list[AnswerCounts]:
    """The counts of every teacher for every done or failed problem, by teacher, then in dataset order. A failed problem
    has counts of 0."""
    rows = connection.execute(_ANSWER_COUNTS, {"run_id": run_id, "fields": list(fields)})
    return [AnswerCounts(**{**row._mapping, "categories": tuple(row.categories)}) for row in rows]


def attribute_names(connection: sa.Connection, run_id: int) -> list[str]:
    """Names of the fields in `problems.attributes` of the run, in alphabetical order."""
    return list(connection.execute(_ATTRIBUTE_NAMES, {"run_id": run_id}).scalars())


def read_teacher_tokens(connection: sa.Connection, run_id: int) -> list[TeacherTokens]:
    """The tokens that each teacher of the run generated, in the teachers' order."""
    return [TeacherTokens(**row._mapping) for row in connection.execute(_TEACHER_TOKENS, {"run_id": run_id})]
