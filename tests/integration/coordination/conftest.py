"""Finished runs for the tests of edits by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from cord_worker.store.database import Database
from tests.support.tampering import finished_runs


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
) -> Iterator[Database]:
    """`finished_runs` for a module, whose tests undo their edits."""
    with migrated_database() as url, finished_runs(tmp_path_factory.mktemp("tampering"), url, broker_url) as database:
        yield database
