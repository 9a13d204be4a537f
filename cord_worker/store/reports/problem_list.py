"""A run's problems as a list that is filtered, searched, sorted and read page by page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from cord_worker.store.schema.tables import ProblemState

QUESTION_START = 160
"""Characters of a question in a list."""
_ANSWER_START = 160
_LOSER_START = 80
_NEAREST_START = 160

_SCORE = "k.score_sum / nullif(k.scored_answers, 0)"
_CORRECT = "k.correct::float8 / nullif(k.checked, 0)"
_STEPS = "k.answer_steps::float8 / nullif(k.answers, 0)"
_TOKENS = "k.step_tokens + k.answer_tokens"
_SECONDS = "CAST(extract(epoch FROM p.finished_at - p.admitted_at) AS float8)"
SORTS: Mapping[str, str] = {
    "position": "p.position",
    "id": 'p.key COLLATE "C"',
    "score": _SCORE,
    "gain": f"{_SCORE} - p.base_score",
    "correct": _CORRECT,
    "steps": _STEPS,
    "tokens": _TOKENS,
    "result_tokens": "k.result_tokens",
    "lead": "k.lead",
    "seconds": _SECONDS,
}
"""What a list can be sorted by, and the SQL of each, about a problem `p` and its rollup `k`."""
CORRECTNESS: Mapping[str, str] = {
    "right": f"{_CORRECT} > 0.5",
    "wrong": f"{_CORRECT} <= 0.5",
    "undecided": "coalesce(k.checked, 0) = 0 AND k.undecided > 0",
}
"""Results of checks that a list can be restricted to, and the SQL of each. Of several samples, the majority decides."""
LOSERS: Mapping[str, str] = {
    "other_text": """EXISTS (
        SELECT 1 FROM candidates loser
        JOIN candidates c ON c.problem_id = loser.problem_id AND c.step = loser.step AND c.winning
        WHERE loser.id = k.nearest_loser_id AND loser.text IS DISTINCT FROM c.text
    )"""
}
"""Nearest losers that a list can be restricted to, and the SQL of each."""
_NEAREST_LOSER = """
    LEFT JOIN LATERAL (
        SELECT loser.step, t.name AS teacher, loser.text, loser.text IS NOT DISTINCT FROM c.text AS repeats,
               loser.lineage
        FROM candidates loser
        JOIN teachers t ON t.id = loser.teacher_id
        JOIN candidates c ON c.problem_id = loser.problem_id AND c.step = loser.step AND c.winning
        WHERE loser.id = k.nearest_loser_id OFFSET 0
    ) near ON true
"""
"""SQL: the nearest loser of the rollup `k`. A step has one winning candidate at most."""
_ROLLUPS_OF_RUN = """
    LEFT JOIN (SELECT * FROM current_problem_rollups WHERE run_id = :run_id OFFSET 0) k ON k.problem_id = p.id
"""
"""SQL: joins the rollups `k` to the problems `p`; PostgreSQL reads those of the whole run at once."""
_ROLLUP_OF_PROBLEM = """
    LEFT JOIN LATERAL (SELECT * FROM current_problem_rollups WHERE problem_id = p.id OFFSET 0) k ON true
"""
"""SQL: the same, with one look-up for each problem: faster for a page."""


@dataclass(frozen=True, slots=True)
class ProblemFilter:
    """Which problems are listed: in one of `states` (all if empty), of this `correctness` (a key of CORRECTNESS), with
    the text `contains` in their id, question or answer (case is ignored), and with a nearest `loser` of this kind (a
    key of LOSERS)."""

    states: Sequence[str] = ()
    correctness: str | None = None
    contains: str | None = None
    loser: str | None = None

    def conditions(self) -> tuple[str, dict[str, Any]]:
        """SQL that holds for these problems, and its parameters."""
        parts = ["p.run_id = :run_id"]
        values: dict[str, Any] = {}
        if self.states:
            parts.append("p.state = ANY(:states)")
            values["states"] = list(self.states)
        if self.correctness is not None:
            parts.append(f"({CORRECTNESS[self.correctness]})")
        if self.contains:
            parts.append(
                "(position(lower(:contains) IN lower(p.key)) > 0 OR position(lower(:contains) IN lower(p.question)) > 0"
                " OR position(lower(:contains) IN lower(p.answer)) > 0)"
            )
            values["contains"] = self.contains
        if self.loser is not None:
            parts.append(LOSERS[self.loser])
        return " AND ".join(parts), values


@dataclass(frozen=True, slots=True)
class ListedProblem:
    """One line of the list. Figures of a run of samples are means; `correct` is None if nothing is decided. `tokens`:
    generated for it by all teachers, final answers included, without copies in a trimmed run. `result_tokens`: of the
    winner, thinking and final answer. `seconds`: from admission to its end. `lead`: the least difference, over the
    winner's steps, between the step's score and the best one that did not enter the beam; the fields `loser_…` are
    about that one, and `loser_repeats` says whether it has the text of the winning step. Texts are cut."""

    position: int
    key: str
    state: str
    score: float | None
    gain: float | None
    correct: float | None
    steps: float | None
    tokens: int | None
    result_tokens: float | None
    lead: float | None
    loser_step: int | None
    loser_teacher: str | None
    loser_text: str | None
    loser_repeats: bool | None
    seconds: float | None
    answer: str
    question: str


def list_statement(where: str, sort: str, *, descending: bool, is_page: bool) -> sa.TextClause:
    """Lists the problems for which `where` (SQL) holds; see `list_problems`. `is_page`: it lists only a few."""
    order = f"{SORTS[sort]} {'DESC' if descending else 'ASC'} NULLS LAST, p.position"
    # The page is chosen first, so that rollups of other problems are read only if the filter or the order needs them.
    rollups = _ROLLUPS_OF_RUN if "k." in where + order else ""
    return sa.text(
        f"""
        WITH page AS MATERIALIZED (
            SELECT p.id, row_number() OVER (ORDER BY {order}) AS place
            FROM problems p {rollups} WHERE {where} ORDER BY {order} LIMIT :limit OFFSET :offset
        )
        SELECT p.position, p.key, p.state, {_SCORE} AS score, {_SCORE} - p.base_score AS gain, {_CORRECT} AS correct,
               {_STEPS} AS steps, {_TOKENS} AS tokens, k.result_tokens, k.lead, near.step AS loser_step,
               near.teacher AS loser_teacher, left(near.text, {_LOSER_START}) AS loser_text,
               near.repeats AS loser_repeats, {_SECONDS} AS seconds,
               left(p.answer, {_ANSWER_START}) AS answer, left(p.question, {QUESTION_START}) AS question
        FROM page JOIN problems p ON p.id = page.id {_ROLLUP_OF_PROBLEM if is_page else _ROLLUPS_OF_RUN}
        {_NEAREST_LOSER}
        ORDER BY page.place
        """
    )


def list_problems(
    connection: sa.Connection,
    run_id: int,
    chosen: ProblemFilter,
    *,
    sort: str = "position",
    descending: bool = False,
    offset: int = 0,
    limit: int | None = None,
) -> list[ListedProblem]:
    """The chosen problems from `offset` on, at most `limit`, by `sort` (a key of SORTS). Those without that figure come
    last; equal ones are in dataset order."""
    where, values = chosen.conditions()
    statement = list_statement(where, sort, descending=descending, is_page=limit is not None)
    rows = connection.execute(statement, {"run_id": run_id, "limit": limit, "offset": offset, **values})
    return [ListedProblem(*row) for row in rows]


def count_problems(connection: sa.Connection, run_id: int, chosen: ProblemFilter) -> int:
    """How many problems are chosen."""
    where, values = chosen.conditions()
    return int(connection.execute(count_statement(where), {"run_id": run_id, **values}).scalar_one())


def count_statement(where: str) -> sa.TextClause:
    """Counts the problems for which `where` (SQL) holds."""
    rollups = _ROLLUPS_OF_RUN if "k." in where else ""
    return sa.text(f"SELECT count(*) FROM problems p {rollups} WHERE {where}")


@dataclass(frozen=True, slots=True)
class ProblemWithNeighbours:
    """A problem by its position in the dataset, with the positions of its neighbours (None at the ends), the other
    fields of its dataset row (`attributes`), its `seconds` from admission to its end, and the `characters` of all texts
    of its search. `result_tokens`, `lead` and `loser_…` as in ListedProblem; `loser` is its lineage."""

    id: int
    key: str
    attributes: Mapping[str, Any]
    seconds: float | None
    characters: int
    previous: int | None
    next: int | None
    result_tokens: float | None
    lead: float | None
    loser: str | None
    loser_step: int | None
    loser_teacher: str | None
    loser_text: str | None
    loser_repeats: bool | None


_AT = sa.text(
    f"""
    SELECT p.id, p.key, p.attributes, CAST(extract(epoch FROM p.finished_at - p.admitted_at) AS float8) AS seconds,
           (SELECT coalesce(sum(length(c.text)), 0) FROM candidates c WHERE c.problem_id = p.id) AS characters,
           (SELECT max(other.position) FROM problems other
            WHERE other.run_id = p.run_id AND other.position < p.position) AS previous,
           (SELECT min(other.position) FROM problems other
            WHERE other.run_id = p.run_id AND other.position > p.position) AS next,
           k.result_tokens, k.lead, near.lineage AS loser, near.step AS loser_step, near.teacher AS loser_teacher,
           left(near.text, {_NEAREST_START}) AS loser_text, near.repeats AS loser_repeats
    FROM problems p {_ROLLUP_OF_PROBLEM} {_NEAREST_LOSER} WHERE p.run_id = :run_id AND p.position = :position
    """
)

_POSITION = sa.text("SELECT position FROM problems WHERE run_id = :run_id AND key = :key")


def problem_at(connection: sa.Connection, run_id: int, position: int) -> ProblemWithNeighbours | None:
    """The problem at this position of the dataset; None if there is none."""
    row = connection.execute(_AT, {"run_id": run_id, "position": position}).one_or_none()
    return None if row is None else ProblemWithNeighbours(**row._mapping)


def position_of(connection: sa.Connection, run_id: int, key: str) -> int | None:
    """The position of the problem called `key` in the dataset; None if there is none."""
    return connection.execute(_POSITION, {"run_id": run_id, "key": key}).scalar_one_or_none()


_ANSWERED = sa.text(
    """
    SELECT p.position FROM problems p
    WHERE p.run_id = :run_id AND EXISTS (
        SELECT 1 FROM trajectories j WHERE j.problem_id = p.id AND j.answer_state <> 'none'
    )
    ORDER BY p.position
    """
)


def positions_with_answers(connection: sa.Connection, run_id: int) -> list[int]:
    """The positions of the problems that have a final answer, or will have one."""
    return list(connection.execute(_ANSWERED, {"run_id": run_id}).scalars())


_STATES = sa.text("SELECT state, count(*) AS number FROM problems WHERE run_id = :run_id GROUP BY state")


def problems_by_state(connection: sa.Connection, run_id: int) -> dict[str, int]:
    """How many problems of the run are in each state; 0 for states without any."""
    found = {row.state: row.number for row in connection.execute(_STATES, {"run_id": run_id})}
    return {state.value: found.get(state.value, 0) for state in ProblemState}
