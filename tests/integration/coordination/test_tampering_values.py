"""No value that PostgreSQL can store, in whatever column, ends a command with anything but findings."""

from __future__ import annotations

import random
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.store.audit.stored_decisions import started_problems
from cord_worker.store.database import Database
from cord_worker.store.runs.runs import resolve_run
from tests.support.tampering import CONFIGS, look_everywhere
from tests.support.tampering_values import COLUMNS, random_edit

EDITS_OF_A_COLUMN = 1
MOST_TRIES = 400
"""In a few columns most edits are refused by a constraint, or find no row; only one run has rescorings."""
REFUSED = {"problems.run_id", "candidates.invalid_reason", "rescores.rescoring_id"}
"""Columns in which all are: other runs have rows of the same keys, all invalid candidates are duplicates, and both
rescorings have the same candidates."""


@pytest.mark.parametrize("column", COLUMNS, ids=str)
@pytest.mark.long
def test_any_value_that_can_be_stored_ends_in_findings_or_in_nothing(
    column: sa.Column[Any], finished: Database
) -> None:
    chance = random.Random(str(column))
    done = tries = 0
    while done < EDITS_OF_A_COLUMN and tries < MOST_TRIES:
        tries += 1
        done += is_looked_through(finished, column, chance)
    assert (done > 0) == (str(column) not in REFUSED)


def is_looked_through(database: Database, column: sa.Column[Any], chance: random.Random) -> bool:
    """Whether a random edit of the column could be made; both commands have then looked at its run."""
    edit = random_edit(column, chance)
    with database.transaction() as connection:
        run = resolve_run(connection, chance.choice(list(CONFIGS)))
        problem = chance.choice(started_problems(connection, run.id))
        try:
            if connection.execute(sa.text(edit.sql), {"problem": problem}).rowcount == 0:
                return False
        except (sa.exc.IntegrityError, sa.exc.DataError):
            return False
        else:
            named = connection.execute(sa.text("SELECT name FROM runs WHERE id = :run"), {"run": run.id}).scalar_one()
            look_everywhere(connection, database, named)
            return True
        finally:
            connection.rollback()
