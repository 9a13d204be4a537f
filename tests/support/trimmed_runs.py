"""Finished runs of several searches, and runs that were trimmed from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.operations.trimming import Trim, trim_run
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import enqueue
from tests.support.cluster import Cluster
from tests.support.configurations import INSTANT, REWARD
from tests.support.tables import count

PROBLEMS = 12
ABOVE = 0.5
REFEREE = '[models.referee]\npath = "referee"\nengine = "instant"\n'
BY_JUDGE = '[verify]\nmethod = "judge"\n[verify.judge]\nmodel = "referee"\n'
SOURCES = {
    "cord": INSTANT,
    "greedy": INSTANT.replace("[search]\n", '[search]\npipeline = "greedy"\ntrajectories = 3\n'),
    "mcts": INSTANT.replace("[search]\n", '[search]\npipeline = "mcts"\ntrajectories = 3\n'),
    "judged": INSTANT.replace("[search]\n", '[search]\nselection = "reward_model"\n') + REWARD + REFEREE + BY_JUDGE,
}
OTHERS = {
    "sample": INSTANT.replace("[search]\n", '[search]\npipeline = "sample"\ntrajectories = 2\n'),
    "curation": INSTANT.replace("[search]\n", '[search]\npipeline = "curation"\ntrajectories = 2\n'),
}


def enqueue_into(database: Database, name: str, problems: range) -> None:
    """Enqueues these problems into the run, with the configuration that its name begins with."""
    config = RunConfig.parse((SOURCES | OTHERS)[name.partition("-")[0]], source=name, folder=Path())
    records = [
        ProblemRecord(f"problem-{n}", f"What is {n} + {n}?", str(2 * n), None, {"level": n}, f"x:{n}") for n in problems
    ]
    database.run(partial(enqueue, name=name, config=config, records=records))


@contextmanager
def trimmed_runs(
    folder: Path, url: str, broker_url: str, problems: int = PROBLEMS
) -> Iterator[tuple[Cluster, Database]]:
    """Finished runs of several searches, each trimmed as NAME-trim-0.5, and workers for all models."""
    with Cluster(folder, url, broker_url, SOURCES["judged"]) as cluster:
        database = Database(url)
        cluster.start()
        for name in SOURCES | OTHERS:
            enqueue_into(database, name, range(problems))
        wait_for_all(cluster, database)
        for name in SOURCES:
            trim_run(database, Trim(name, ABOVE))
        wait_for_all(cluster, database)
        yield cluster, database
        database.close()


def wait_for_all(cluster: Cluster, database: Database) -> None:
    """Waits until every problem of every run is final."""
    cluster.wait_until(lambda: count(database, "finished_at IS NULL") == 0, 200)
