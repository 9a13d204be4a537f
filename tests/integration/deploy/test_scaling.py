"""KEDA's rule on real tables: its query counts a model's waiting and leased work, and scaling by it loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from cord_worker.store.database import Database
from tests.support.cluster import Cluster
from tests.support.manifests import scaling_query
from tests.support.tables import content, count, differences
from tests.support.waiting import wait_until

PROBLEMS = 12


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Cluster]:
    with Cluster(tmp_path, database_url, broker_url) as cluster:
        yield cluster


def wanted(database: Database, model: str) -> int:
    """What KEDA reads; it wants a worker if this is above 0."""
    query = sa.text(scaling_query(model))
    return int(database.run(lambda connection: connection.execute(query).scalar_one()))


@pytest.mark.long
def test_workers_come_with_work_and_go_without_it_and_no_result_differs(cluster: Cluster, database: Database) -> None:
    models = list(cluster.config.models)
    assert [wanted(database, model) for model in models] == [0, 0, 0], "an empty database"
    cluster.start()
    cluster.enqueue(database, PROBLEMS)
    undisturbed = cluster.undisturbed(database, PROBLEMS)

    cluster.start("coordinator")
    cluster.enqueue(database, PROBLEMS)
    # No worker lives; the work is in the tables, and wakes those of the teachers.
    assert wait_until(lambda: wanted(database, "alpha") == PROBLEMS)
    assert wanted(database, "beta") == 2 * PROBLEMS
    assert wanted(database, "judge") == 0

    def unfinished(states: str) -> int:
        of_alpha = "teacher_id = (SELECT id FROM teachers WHERE name = 'alpha')"
        return count(database, f"{of_alpha} AND {states}", "candidates")

    cluster.start("alpha")
    with cluster.no_result_of("alpha", database):
        cluster.wait_until(lambda: cluster.holds_a_lease("alpha", database), 120)
        left = unfinished("state IN ('pending', 'proposing')")
        # What a worker holds counts like what waits: to take the worker away would be wrong.
        assert unfinished("state = 'pending'") < left
        assert wanted(database, "alpha") == left
        # It is lost all the same, with its node for example.
        cluster.kill("alpha")
    assert wanted(database, "alpha") == left
    cluster.wait_until(lambda: unfinished("state = 'proposing'") == 0, 60)
    assert wanted(database, "alpha") == unfinished("state = 'pending'") == left

    # A paused run wakes nobody.
    database.run(lambda connection: connection.execute(sa.text("UPDATE runs SET state = 'paused'")))
    assert [wanted(database, model) for model in models] == [0, 0, 0]
    database.run(lambda connection: connection.execute(sa.text("UPDATE runs SET state = 'active'")))

    # From here on each model is scaled to zero as soon as it has no work, far more often than KEDA would.
    alive: set[str] = set()
    started: list[str] = []

    def scale(*scaled: str) -> None:
        for model in scaled:
            work = wanted(database, model)
            if work > 0 and model not in alive:
                cluster.start(model)
                alive.add(model)
                started.append(model)
            elif work == 0 and model in alive and is_ready(model):
                assert cluster.stop(model) == 0
                alive.discard(model)

    def is_ready(model: str) -> bool:
        condition = f"pid = {cluster.processes[model].pid} AND ready_at IS NOT NULL"
        return count(database, condition, "workers") == 1

    def first_step_is_proposed() -> bool:
        scale("alpha", "beta")
        return not alive

    def all_is_done() -> bool:
        scale(*models)
        return count(database, "state = 'done'") == PROBLEMS

    # As long as the prover's worker is away, both teachers run out of work, and their workers are taken away.
    cluster.wait_until(first_step_is_proposed, 120)
    assert wanted(database, "judge") > 0
    cluster.wait_until(all_is_done, 300)
    assert started.count("beta") > 1, "scaled to zero and back"
    assert differences(undisturbed, content(database)) == []
    assert [wanted(database, model) for model in models] == [0, 0, 0]
