"""The metrics of a process for Prometheus."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from cord_worker.store.database import Database
from tests.support.cluster import Cluster
from tests.support.tables import count

PROBLEMS = 4


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("CORD_METRICS_PORT", "0")
    monkeypatch.setenv("CORD_LOG_FORMAT", "json")
    with Cluster(tmp_path, database_url, broker_url) as cluster:
        yield cluster


def port_of(database: Database, pid: int) -> int:
    query = sa.text("SELECT metrics_port FROM workers WHERE pid = :pid AND stopped_at IS NULL")
    return int(database.run(lambda connection: connection.execute(query, {"pid": pid}).scalar_one()))


def status_of(port: int, path: str) -> int:
    """The status with which a process answers a probe."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def scrape(database: Database, pid: int) -> dict[tuple[str, tuple[str, ...]], float]:
    """Samples of the process by name and label values, in the order of the labels' names."""
    port = port_of(database, pid)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        text = response.read().decode()
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_worker_counts_its_work_and_its_cost(cluster: Cluster, database: Database) -> None:
    cluster.start()
    cluster.enqueue(database, PROBLEMS)
    cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 90)
    alpha = scrape(database, cluster.processes["alpha"].pid)
    judge = scrape(database, cluster.processes["judge"].pid)
    by_alpha = f"IN (SELECT id FROM workers WHERE pid = {cluster.processes['alpha'].pid})"
    answered_by_alpha = count(database, f"answer_worker_id {by_alpha}", "trajectories")
    proposed = count(database, f"propose_worker_id {by_alpha}", "candidates")
    scored = count(database, "score IS NOT NULL", "candidates")
    assert alpha["cord_candidate_overhead_seconds_count", ("propose",)] == proposed > 0
    assert judge["cord_candidate_overhead_seconds_count", ("score",)] == scored > 0
    assert judge["cord_candidates_total", ("score", "valid")] == scored
    for part in ("transit", "start", "room", "lease", "engine", "write"):
        assert judge["cord_task_part_seconds_count", ("score", part)] > 0, part
        assert alpha.get(("cord_task_part_seconds_count", ("answer", part)), 0) > 0 or not answered_by_alpha, part
    tokens = sa.text("SELECT sum(score_prompt_tokens) + (SELECT sum(base_prompt_tokens) FROM problems) FROM candidates")
    read = database.run(lambda connection: connection.execute(tokens).scalar_one())
    assert judge["cord_tokens_total", ("prompt", "score")] == read
    answered = f"FROM trajectories WHERE answer_worker_id {by_alpha}"
    tokens = sa.text(f"SELECT coalesce(sum(answer_completion_tokens), 0) {answered}")
    written = database.run(lambda connection: connection.execute(tokens).scalar_one())
    assert alpha.get(("cord_tokens_total", ("completion", "answer")), 0) == written
    assert alpha["cord_process_info", ("alpha", "model")] == 1
    coordinator = scrape(database, cluster.processes["coordinator"].pid)
    assert coordinator["cord_leading", ()] == 1
    assert coordinator["cord_process_info", ("", "coordinator")] == 1
    assert coordinator["cord_workers", ("alpha", "running")] == 1
    assert coordinator["cord_lost_leases_total", ()] == 0
    assert ("cord_leading", ()) not in alpha
    for name in cluster.names:
        lines = (cluster.config_path.parent / f"{name}.log").read_text().splitlines()
        assert {json.loads(line)["worker"] for line in lines} <= {name}


def test_a_worker_is_ready_until_it_is_drained_and_alive_until_it_ends(cluster: Cluster, database: Database) -> None:
    ready_file = cluster.config_path.parent / "ready"
    cluster.environment["CORD_READY_FILE"] = str(ready_file)
    cluster.start("alpha")
    cluster.wait_until(lambda: count(database, "ready_at IS NOT NULL", "workers") == 1, 60)
    assert cluster.stop("alpha") == 0
    with database.transaction() as session:
        # The next start waits for this row's lock, before it takes work.
        session.execute(sa.text("UPDATE models SET weights_digest = NULL"))
        ready_file.touch()
        cluster.start("alpha")
        cluster.wait_until(lambda: not ready_file.exists(), 60)
    cluster.wait_until(lambda: count(database, "stopped_at IS NULL", "workers") == 1, 60)
    port = port_of(database, cluster.processes["alpha"].pid)
    cluster.wait_until(lambda: status_of(port, "/ready") == 200, 60)
    assert ready_file.exists()
    cluster.start("coordinator", "beta", "judge")
    with cluster.no_result_of("alpha", database):
        cluster.enqueue(database, PROBLEMS)
        cluster.wait_until(lambda: cluster.holds_a_lease("alpha", database), 60)
        drain = sa.text("UPDATE workers SET drain_requested_at = now() WHERE pid = :pid")
        database.run(lambda connection: connection.execute(drain, {"pid": cluster.processes["alpha"].pid}))
        cluster.wait_until(lambda: status_of(port, "/ready") == 503, 60)
        assert status_of(port, "/alive") == 200
    assert cluster.processes["alpha"].wait(timeout=60) == 0


def test_a_port_that_is_taken_is_named(cluster: Cluster, database: Database) -> None:
    cluster.start("coordinator")
    cluster.wait_until(lambda: count(database, "metrics_port IS NOT NULL", "workers") == 1, 60)
    query = sa.text("SELECT metrics_port FROM workers")
    taken = database.run(lambda connection: connection.execute(query).scalar_one())
    cluster.environment["CORD_METRICS_PORT"] = str(taken)
    cluster.start("alpha")
    assert cluster.processes["alpha"].wait(timeout=60) == 78
    assert f"CORD_METRICS_PORT: port {taken}" in (cluster.config_path.parent / "alpha.log").read_text()
