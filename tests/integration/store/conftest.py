"""A problem for the tests of leases."""

from __future__ import annotations

import pytest

from cord_worker.store.database import Database
from tests.support.leases import planned_problem


@pytest.fixture
def problem(database: Database) -> int:
    """A problem whose first step is planned: one candidate of each of two teachers with different models."""
    return planned_problem(database)
