"""Edits of any column of a finished run to any value that PostgreSQL can store, however impossible."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB

from cord_worker.store.schema.tables import (
    AnswerState,
    Base,
    CandidateState,
    ProblemState,
    RescoreState,
    RunState,
    TeacherRole,
)
from tests.support.tampering_edits import RUN

TABLES = ("problems", "candidates", "trajectories", "beams", "models", "teachers", "runs", "rescorings", "rescores")
COLUMNS = [
    column
    for table in TABLES
    for column in Base.metadata.tables[table].columns
    if column.name != "id"  # GENERATED ALWAYS: PostgreSQL refuses a change
]
STATES = {
    ("problems", "state"): ProblemState,
    ("candidates", "state"): CandidateState,
    ("trajectories", "answer_state"): AnswerState,
    ("runs", "state"): RunState,
    ("teachers", "role"): TeacherRole,
    ("rescores", "state"): RescoreState,
}
MODEL_OF_RUN = f"{{row}}.id IN (SELECT model_id FROM teachers WHERE run_id = {RUN})"
ROWS = {
    "problems": "{row}.id = :problem",
    "candidates": "{row}.problem_id = :problem",
    "trajectories": "{row}.problem_id = :problem",
    "beams": "{row}.problem_id = :problem",
    "models": MODEL_OF_RUN,
    "teachers": f"{{row}}.run_id = {RUN}",
    "runs": f"{{row}}.id = {RUN}",
    "rescorings": f"{{row}}.run_id = {RUN}",
    "rescores": "{row}.problem_id = :problem",
    "problem_rollups": "{row}.problem_id = :problem",
    "teacher_rollups": "{row}.problem_id = :problem",
    "request_rollups": "{row}.problem_id = :problem",
}
"""SQL: rows of a table that are the problem's or its run's."""
POSTGRESQL: sa.Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
_COLUMN = "THIS_COLUMN"
_INSTANTS = ("'infinity'", "'-infinity'", "'4713-11-24 00:00:00+00 BC'", "'294276-12-31 23:59:59+00'", "'epoch'")
_STRANGE_JSON = ("null", "[]", "{}", '""', "true", "-7", "1e400", "1e5000", "[null]", '{"x": [{"y": 1e5000}]}')
_STRANGE = {
    sa.Boolean: ("true", "false"),
    sa.Double: ("'NaN'", "'Infinity'", "'-Infinity'", "5e-324", "-5e-324", "1.7976931348623157e308", "0", "-1e-320"),
    sa.BigInteger: ("9223372036854775807", "-9223372036854775808", "0", "-1"),
    sa.Integer: ("2147483647", "-2147483648", "0", "-1", "1"),
    sa.Text: ("''", "'%s {}'", "' (candidate 1): '", "repeat(chr(10), 9)", "repeat('ab', 50000)", "U&'\\+01F600'"),
    sa.Date: ("'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"),
    sa.DateTime: _INSTANTS,
    sa.Uuid: ("'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"),
    sa.LargeBinary: ("'\\x'", "'\\x00'", "convert_to(repeat('x', 999), 'UTF8')"),
    JSONB: (
        *(f"'{value}'" for value in _STRANGE_JSON),
        "CAST(repeat('[', 1500) || repeat(']', 1500) AS jsonb)",
        *(
            f"jsonb_set({_COLUMN}, ARRAY[(SELECT {which}(k) FROM jsonb_object_keys({_COLUMN}) k)], '{value}')"
            for which in ("min", "max")
            for value in _STRANGE_JSON
        ),
        *(f"{_COLUMN} - (SELECT {which}(k) FROM jsonb_object_keys({_COLUMN}) k)" for which in ("min", "max")),
    ),
    sa.ARRAY: ("'{}'", "'{NULL}'", "'{{1,2},{3,4}}'", "'[5:6]={1,2}'", "'{9223372036854775807}'"),
}
"""SQL: impossible values of a column, by its type."""
_OF_ANOTHER_ROW = "(SELECT s.{name} FROM {table} s ORDER BY s.ctid OFFSET {place} LIMIT 1)"


@dataclass(frozen=True, slots=True)
class RandomEdit:
    """Sets `column` to `value` (SQL) in a row of the problem or its run; `place`, modulo their number, says which."""

    column: sa.Column[Any]
    value: str
    place: int

    @property
    def sql(self) -> str:
        """The update; it changes nothing if the row has this value already."""
        table, name = self.column.table.name, self.column.name
        kind = self.column.type.compile(dialect=POSTGRESQL)
        return (
            f"UPDATE {table} SET {name} = changed.value FROM (SELECT o.ctid AS row, CAST({self.value} AS {kind}) AS "
            f"value FROM {table} o WHERE {ROWS[table].format(row='o')} ORDER BY o.ctid "
            f"OFFSET {self.place} % (SELECT count(*) FROM {table} o WHERE {ROWS[table].format(row='o')}) LIMIT 1) "
            f"changed WHERE {table}.ctid = changed.row AND {table}.{name} IS DISTINCT FROM changed.value"
        )


def random_edit(column: sa.Column[Any], chance: random.Random) -> RandomEdit:
    """Some edit of the column: to an impossible value, to NULL, or to the value of any other row."""
    kind = next(one for one in _STRANGE if isinstance(column.type, one))
    values = [value.replace(_COLUMN, f"o.{column.name}") for value in _STRANGE[kind]]
    values.append(_OF_ANOTHER_ROW.format(name=column.name, table=column.table.name, place=chance.randrange(90)))
    states = STATES.get((column.table.name, column.name))
    if states is not None:
        values = [f"'{state}'" for state in states]
    for key in column.foreign_keys:
        target = key.column
        place = chance.randrange(12)
        values = [_OF_ANOTHER_ROW.format(name=target.name, table=target.table.name, place=place), *values[-1:]]
    if column.nullable:
        values.append("NULL")
    return RandomEdit(column, chance.choice(values).replace(":", "\\:"), chance.randrange(1000))
