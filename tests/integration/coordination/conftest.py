"""Finished runs for the tests of edits by hand, and trimmed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from cord_worker.store.database import Database
from tests.support.cluster import Cluster
from tests.support.tampering import finished_runs
from tests.support.trimmed_runs import trimmed_runs


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
) -> Iterator[Database]:
    """`finished_runs` for a module, whose tests undo their edits."""
    with migrated_database() as url, finished_runs(tmp_path_factory.mktemp("tampering"), url, broker_url) as database:
        yield database


@pytest.fixture(scope="module")
def trimmed(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
) -> Iterator[tuple[Cluster, Database]]:
    """`trimmed_runs` for a module, with workers for all models."""
    with migrated_database() as url, trimmed_runs(tmp_path_factory.mktemp("trimming"), url, broker_url) as found:
        yield found
