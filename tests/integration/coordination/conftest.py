"""A pool on a fresh database for every test of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cord_worker.store.database import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()
