"""A problem that kills its worker is given up alone, can be retried, and affects no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cord_worker.dataset import ProblemRecord
from cord_worker.engines.instant import dies_while, takes
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.runs.retry import restart_failed, retry_failed
from tests.support.cluster import Cluster
from tests.support.configurations import SECOND_TEACHER, SMALL
from tests.support.tables import content, count, differences

pytestmark = pytest.mark.long

BATCHED = SMALL.replace('path = "alpha"\n', 'path = "alpha"\nbatch_size = 64\n')
CONFIG = f"""{BATCHED}{SECOND_TEACHER}
[search]
beam_width = 2
max_steps = 2
[run]
max_active = 64
max_attempts = 3
"""


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Cluster]:
    with Cluster(tmp_path, database_url, broker_url, CONFIG) as cluster:
        yield cluster


def enqueue_with_poison(cluster: Cluster, database: Database, problems: int, file: Path) -> None:
    """The problem in the middle kills every process that proposes for it, as long as the file exists."""
    records = [
        ProblemRecord(
            f"problem-{n}",
            f"What is {n} + {n}? {takes(0.2)} {dies_while(file) if n == problems // 2 else ''}",
            str(2 * n),
            None,
            {},
            f"x:{n}",
        )
        for n in range(problems)
    ]
    database.run(lambda connection: enqueue(connection, "run", cluster.config, records))


def keep_running(cluster: Cluster) -> None:
    """Restarts crashed workers, as a supervisor does."""
    for name, process in list(cluster.processes.items()):
        if process.poll() is not None:
            assert process.returncode == 9, name
            cluster.start(name)


def test_only_the_problem_that_kills_its_worker_is_given_up_among_fifty_at_once(
    cluster: Cluster, database: Database, tmp_path: Path
) -> None:
    poison = tmp_path / "poison"
    poison.touch()
    enqueue_with_poison(cluster, database, 50, poison)
    cluster.start()

    def is_over() -> bool:
        keep_running(cluster)
        return count(database, "state IN ('done', 'failed')") == 50

    cluster.wait_until(is_over, 180)
    assert count(database, "state = 'failed'") == 1
    parked = "key = 'problem-25' AND state = 'failed' AND failure_reason LIKE '%given up after 3 attempts%(lost)'"
    assert count(database, parked) == 1
    # Two shared attempts, then exclusive ones: no harmless problem was tried more often than that.
    innocent = "propose_attempts > 3 AND problem_id IN (SELECT id FROM problems WHERE state = 'done')"
    assert count(database, innocent, "candidates") == 0
    assert count(database, "propose_attempts > 1 AND state = 'scored'", "candidates") > 0


def test_a_problem_that_was_given_up_continues_and_ends_like_an_undisturbed_one(
    cluster: Cluster, database: Database, tmp_path: Path
) -> None:
    poison = tmp_path / "poison"
    enqueue_with_poison(cluster, database, 3, poison)
    cluster.start()
    undisturbed = cluster.undisturbed(database, 3)

    poison.touch()
    enqueue_with_poison(cluster, database, 3, poison)
    cluster.start()

    def is_given_up() -> bool:
        keep_running(cluster)
        # The other teacher's proposal may be on its last attempt, in a worker that is dead and not yet known to be.
        of_failed = "problem_id IN (SELECT id FROM problems WHERE state = 'failed')"
        leased = count(database, f"state = 'proposing' AND {of_failed}", "candidates")
        return count(database, "state = 'failed'") == 1 and not leased

    cluster.wait_until(is_given_up, 120)
    committed = count(database, "proposed_at IS NOT NULL", "candidates")
    poison.unlink()
    first = database.run(lambda connection: retry_failed(connection, "run"))
    assert first.problems == {"searching": 1}
    assert database.run(lambda connection: retry_failed(connection, "run")).count == 0

    def is_done() -> bool:
        keep_running(cluster)
        return count(database, "state = 'done'") == 3

    cluster.wait_until(is_done, 120)
    assert differences(undisturbed, content(database)) == []
    assert 0 < committed < count(database, "proposed_at IS NOT NULL", "candidates")


def test_a_problem_that_was_given_up_can_start_again_from_the_beginning(
    cluster: Cluster, database: Database, tmp_path: Path
) -> None:
    poison = tmp_path / "poison"
    poison.touch()
    enqueue_with_poison(cluster, database, 1, poison)
    cluster.start()

    def is_given_up() -> bool:
        keep_running(cluster)
        return count(database, "state = 'failed'") == 1

    cluster.wait_until(is_given_up, 120)
    poison.unlink()
    keep_running(cluster)
    assert database.run(lambda connection: restart_failed(connection, "run")).problems == {"queued": 1}
    cluster.wait_until(lambda: count(database, "state = 'done'") == 1, 120)
    assert count(database, "propose_attempts > 1", "candidates") == 0
