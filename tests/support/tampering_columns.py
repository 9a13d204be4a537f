"""Changes of the columns of a finished run to other values, and whether the commands find them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TSTZMULTIRANGE

from cord_worker.coordination.run_context import RunContexts
from cord_worker.errors import ConfigError
from cord_worker.operations.recomputing import wrong_run
from cord_worker.operations.table_verification import verify_runs
from cord_worker.store.audit.stored_decisions import started_problems
from cord_worker.store.database import Database
from cord_worker.store.runs.runs import get_run, resolve_run
from tests.support.tampering import differences_of
from tests.support.tampering_edits import RUN
from tests.support.tampering_values import POSTGRESQL, ROWS, STATES

AS_OF = {
    sa.Boolean: ("NOT {column}",),
    sa.Double: ("{column} / 2",),
    sa.BigInteger: ("{column} + 1", "{column} + 90"),
    sa.Integer: ("{column} + 1", "{column} + 90"),
    sa.Text: ("{column} || '!'",),
    sa.Date: ("{column} + 1",),
    sa.DateTime: ("{column} + interval '2 years'", "{column} - interval '2 years'"),
    sa.Uuid: ("gen_random_uuid()",),
    sa.LargeBinary: ("{column} || '\\x00'",),
    JSONB: ("{column} || '{{\"and\": 1}}'",),
    sa.ARRAY: ("{column} || {column}[1]", "{column}[2:]"),
    TSTZMULTIRANGE: ("{column} + tstzmultirange(tstzrange('2000-01-01', '2000-01-02'))", "'{{}}'"),
}
"""SQL: other values of a column, by its type."""
IF_NONE = {
    sa.Double: "0.5",
    sa.Integer: "1",
    sa.BigInteger: "1",
    sa.Text: "'other'",
    sa.DateTime: "now()",
    sa.Uuid: "gen_random_uuid()",
    sa.LargeBinary: "'\\x00'",
    sa.Boolean: "true",
    JSONB: "'{{}}'",
    sa.ARRAY: "ARRAY[1]",
}
"""SQL: a value for a column that is NULL, by its type."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a column: to NULL (`none`), from NULL (`set`), or to another value (SQL)."""

    column: sa.Column[Any]
    value: str
    is_none_before: bool

    @property
    def kind(self) -> str:
        """Its name in UNCHECKED."""
        if self.is_none_before:
            return "set"
        return "none" if self.value == "NULL" else "another"

    @property
    def sql(self) -> str:
        """An update of one row."""
        table, name = self.column.table.name, self.column.name
        here = f"{ROWS[table].format(row='o')} AND o.{name} IS {'' if self.is_none_before else 'NOT '}NULL"
        kind = self.column.type.compile(dialect=POSTGRESQL)
        value = f"CAST({self.value.format(column=f'o.{name}')} AS {kind})"
        first = "NOT o.winner, o.ctid" if table == "trajectories" else "o.ctid"
        # States and the like can only be changed to another one.
        return (
            f"UPDATE {table} SET {name} = changed.value FROM (SELECT o.ctid AS row, {value} AS value FROM {table} o "
            f"WHERE {here} AND {value} IS DISTINCT FROM o.{name} ORDER BY {first} LIMIT 1) changed "
            f"WHERE {table}.ctid = changed.row"
        )


def changes_of(column: sa.Column[Any]) -> list[Change]:
    """Changes of the column: to other values, to NULL and from NULL."""
    kind = next(one for one in AS_OF if isinstance(column.type, one))
    states = STATES.get((column.table.name, column.name))
    if states is not None:
        others = [f"'{one.value}'" for one in states]
    elif column.foreign_keys:
        ((_, target),) = [(key, key.column) for key in column.foreign_keys]
        rows = {**ROWS, "problems": f"{{row}}.run_id = {RUN}", "models": "true", "runs": "true"}[target.table.name]
        nearby = rows.format(row="k")
        others = [
            f"(SELECT {which}(k.{target.name}) FROM {target.table.name} k WHERE {nearby})" for which in ("min", "max")
        ]
    else:
        others = list(AS_OF[kind])
        if str(column) == "runs.config":
            others.append("jsonb_set({column}, '{{run,priority}}', '99')")
    changes = [Change(column, value, is_none_before=False) for value in others]
    if column.nullable:
        changes.append(Change(column, "NULL", is_none_before=False))
        value = others[0] if column.foreign_keys else IF_NONE[kind]
        changes.append(Change(column, value, is_none_before=True))
    return changes


def is_found(database: Database, statement: str, name: str) -> bool | None:
    """Whether a command finds this edit of the run; None if there is no such row. An edit that PostgreSQL refuses
    counts as found."""
    with database.transaction() as connection:
        run = resolve_run(connection, name)
        problem = started_problems(connection, run.id)[1]
        try:
            if connection.execute(sa.text(statement), {"problem": problem}).rowcount == 0:
                return None
            run = get_run(connection, run.id)
            try:
                context = RunContexts(database).of_run(run.id, connection)
            except ConfigError:
                return bool(list(wrong_run(connection, run)))
            if list(wrong_run(connection, run)) or differences_of(connection, context, problem):
                return True
            return bool(verify_runs(connection, RunContexts(database), [run], everything=False).broken)
        except sa.exc.IntegrityError:
            return True
        finally:
            connection.rollback()
