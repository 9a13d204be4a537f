"""Every statement of the store is understood by PostgreSQL with the newest schema, whether or not it is executed."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.pq import ExecStatus

from cord_worker.store.runs import enqueue
from tests.support.statements import WRITTEN_BY_FUNCTIONS, all_statements, as_postgres_reads, calls_of_text, constants


def test_every_statement_is_found() -> None:
    outside, functions = calls_of_text()
    assert outside > 150
    assert len(constants()) >= outside
    assert functions == set(WRITTEN_BY_FUNCTIONS)
    assert all(written() for written in WRITTEN_BY_FUNCTIONS.values())


@pytest.fixture
def staged(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection with the temporary table of `enqueue`."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute(str(enqueue._STAGE).encode())
        yield connection


def refusal(connection: psycopg.Connection, clause: sa.TextClause) -> str | None:
    """The error of PostgreSQL when it prepares this statement; None if there is none.

    The types of parameters are inferred; an undetermined one is text, as psycopg sends a string.
    """
    query = as_postgres_reads(clause).encode()
    types: list[int] = []
    while True:
        with connection.transaction(force_rollback=True):
            result = connection.pgconn.prepare(b"", query, types)
            if result.status == ExecStatus.COMMAND_OK:
                return None
            message = result.error_message.decode().strip()
        number = message.partition("could not determine data type of parameter $")[2].split()
        if not number:
            return message
        types += [0] * (int(number[0]) - len(types))
        types[int(number[0]) - 1] = psycopg.postgres.types["text"].oid


def test_postgres_can_prepare_every_statement(staged: psycopg.Connection) -> None:
    refused = {name: said for name, clause in all_statements().items() if (said := refusal(staged, clause)) is not None}
    assert refused == {}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT no_such_column FROM problems",
        "SELECT 1 FROM no_such_table",
        "SELEC 1",
        "UPDATE problems SET id = 'x'::uuid",
    ],
)
def test_a_statement_that_does_not_fit_the_schema_is_refused(staged: psycopg.Connection, statement: str) -> None:
    clause = sa.text(f"{statement} WHERE true AND :given IS NULL")
    assert refusal(staged, clause) is not None
