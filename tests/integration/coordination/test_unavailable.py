"""Engines that cannot take work now: it goes back, costs no attempt and is done later; nobody's worker ends."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "engines"))
from cluster import Cluster, count
from openai_local_server import LocalServer, Reply, chunks, models

from cord_worker.config import RunConfig
from cord_worker.engines.instant import BUSY, refused_as
from cord_worker.errors import ContentFilterError, EngineFaultError, RequestError
from cord_worker.operations.watching import RunWatch
from cord_worker.progress import line
from cord_worker.store.database import Database
from cord_worker.store.runs.runs import resolve_run

INSTANT = """
[models.alpha]
path = "alpha"
engine = "instant"
[models.judge]
path = "judge"
engine = "instant"
[[teachers]]
name = "alpha"
model = "alpha"
[prover]
model = "judge"
[run]
max_attempts = 2
"""
JUDGED = (
    INSTANT
    + """
[search]
beam_width = 2
max_steps = 3
selection = "binary_judgment"
[binary]
judgments = 2
"""
)
INTEGRATED = (
    INSTANT
    + """
[search]
pipeline = "integration"
trajectories = 2
max_steps = 3
[integration]
model = "judge"
[verify]
method = "judge"
[verify.judge]
model = "judge"
"""
)
"""The two together do all kinds of work, none of which may be tried more than twice."""

SERVED = """
[models.alpha]
path = "served"
engine = "openai"
[models.alpha.openai]
base_url = "{url}"
api = "chat"
max_retries = 1
[models.judge]
path = "judge"
engine = "instant"
[[teachers]]
name = "alpha"
model = "alpha"
[prover]
model = "judge"
[verify]
method = "none"
[search]
beam_width = 2
max_steps = 3
[run]
max_attempts = 2
"""


def test_work_that_an_engine_is_too_busy_for_is_done_later_at_no_cost(
    tmp_path: Path, database_url: str, broker_url: str, database: Database
) -> None:
    """Every piece of work of every kind is refused at its first try."""
    with Cluster(tmp_path, database_url, broker_url, JUDGED) as cluster:
        integrated = RunConfig.parse(INTEGRATED, source="test", folder=tmp_path)
        cluster.enqueue(database, 2, "judged", f" {BUSY}")
        cluster.enqueue(database, 2, "integrated", f" {BUSY}", integrated)
        cluster.start()
        cluster.wait_until(lambda: count(database, "state IN ('done', 'failed')") == 4, 120)
        assert [name for name, process in cluster.processes.items() if process.poll() is not None] == []
        logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert count(database, "state = 'done'") == 4
    for kind in ("propose", "score", "judge", "answer", "verdict"):
        assert f"{kind} " in "".join(line for line in logs.splitlines(keepends=True) if "goes back" in line), kind
    assert count(database, "greatest(propose_attempts, score_attempts, judgment_attempts) > 1", "candidates") == 0
    assert count(database, "greatest(answer_attempts, judgment_attempts) > 1", "trajectories") == 0
    assert count(database, "sources IS NOT NULL AND state = 'scored'", "candidates") > 0


def test_the_reason_of_a_failed_problem_names_the_cause(
    tmp_path: Path, database_url: str, broker_url: str, database: Database
) -> None:
    kinds = (ContentFilterError, EngineFaultError, RequestError)
    with Cluster(tmp_path, database_url, broker_url, JUDGED) as cluster:
        for kind in kinds:
            cluster.enqueue(database, 1, kind.cause, f" {refused_as(kind)}")
        cluster.start()
        cluster.wait_until(lambda: count(database, "state = 'failed'") == len(kinds), 120)
    for kind in kinds:
        assert count(database, f"failure_reason LIKE '%{kind.cause}%'") == 1
        assert count(database, f"invalid_reason = '{kind.cause}'", "candidates") > 0
    assert count(database, "invalid_reason = 'too_long'", "candidates") == 0


def chat(body: dict[str, Any]) -> Any:
    number = body.get("seed", 0) % 100_000
    return chunks(f" The sum has {number} parts,", f" of which {number + 1} count.", "\n</think>", chat=True)


@pytest.fixture
def away() -> LocalServer:
    """A server that is away: its address is known, nobody listens there."""
    server = LocalServer({"/v1/models": models("somebody"), "/v1/chat/completions": chat})
    with server.running():
        pass
    return server


def test_a_server_that_is_away_is_waited_for_at_start_and_in_a_run(
    tmp_path: Path, database_url: str, broker_url: str, database: Database, away: LocalServer
) -> None:
    condition = f"condition LIKE 'waits for {away.url}: no connection%' AND condition_since IS NOT NULL"
    with ExitStack() as stack, Cluster(tmp_path, database_url, broker_url, SERVED.format(url=away.url)) as cluster:
        cluster.enqueue(database, 2, "first")
        cluster.start()
        cluster.wait_until(lambda: count(database, condition, "workers") == 1, 60)
        assert count(database, "ready_at IS NOT NULL AND condition IS NOT NULL", "workers") == 0
        run = database.run(lambda connection: resolve_run(connection, "first"))
        told = line(RunWatch(database, run, worker_timeout_seconds=60).snapshot())
        assert f"waits for {away.url}: no connection" in told

        serving = stack.enter_context(ExitStack())
        serving.enter_context(away.running())
        cluster.wait_until(lambda: count(database, "state = 'done'") == 2, 120)
        cluster.wait_until(lambda: count(database, "condition IS NOT NULL", "workers") == 0, 60)

        loading = {path: lambda _: Reply({"error": {"message": "Loading model"}}, status=503) for path in away.answers}
        good = dict(away.answers)
        away.answers |= loading
        cluster.enqueue(database, 2, "second")
        condition = condition.replace("no connection", "HTTP 503: Loading model")
        cluster.wait_until(lambda: count(database, condition, "workers") == 1, 60)
        serving.close()
        condition = condition.replace("HTTP 503: Loading model", "no connection")
        cluster.wait_until(lambda: count(database, condition, "workers") == 1, 60)
        cluster.wait_until(lambda: count(database, "state = 'proposing'", "candidates") == 0, 60)
        away.answers |= good
        stack.enter_context(away.running())
        cluster.wait_until(lambda: count(database, "state = 'done'") == 4, 120)
        cluster.wait_until(lambda: count(database, "condition IS NOT NULL", "workers") == 0, 60)
        assert [name for name, process in cluster.processes.items() if process.poll() is not None] == []
    assert count(database, "propose_attempts <> 1", "candidates") == 0
    assert count(database, "state = 'invalid'", "candidates") == 0
    starts = "SELECT count(*) FROM workers WHERE role = 'model'"
    assert database.run(lambda connection: connection.execute(sa.text(starts)).scalar_one()) == 2


def test_a_worker_that_waits_for_its_server_leaves_at_once_when_told(
    tmp_path: Path, database_url: str, broker_url: str, database: Database, away: LocalServer
) -> None:
    with Cluster(tmp_path, database_url, broker_url, SERVED.format(url=away.url)) as cluster:
        with away.running():
            cluster.start("coordinator", "alpha")
            ready = "ready_at IS NOT NULL AND role = 'model'"
            cluster.wait_until(lambda: count(database, ready, "workers") == 1, 60)
        cluster.enqueue(database, 1)
        cluster.wait_until(lambda: count(database, "condition LIKE 'waits for %'", "workers") == 1, 60)
        assert cluster.stop("alpha", 60) == 0
    assert count(database, "state = 'proposing' OR propose_attempts > 0", "candidates") == 0


PROVED = SERVED.replace('model = "judge"', 'model = "alpha"').replace(
    '[models.judge]\npath = "judge"\nengine = "instant"\n', ""
)


def test_a_run_is_never_bound_to_a_server_without_scores(
    tmp_path: Path, database_url: str, broker_url: str, database: Database, away: LocalServer
) -> None:
    with away.running(), Cluster(tmp_path, database_url, broker_url, PROVED.format(url=away.url)) as cluster:
        cluster.start()
        ready = "ready_at IS NOT NULL AND role = 'model'"
        cluster.wait_until(lambda: count(database, ready, "workers") == 1, 60)
        cluster.enqueue(database, 1)
        parked = "condition LIKE 'is the prover of a run, but its server gives no log-probabilities%'"
        cluster.wait_until(lambda: count(database, parked, "workers") == 1, 60)
        assert cluster.processes["alpha"].poll() is None
        assert count(database, "scoring_mode IS NOT NULL", "runs") == 0
        assert count(database, "score_attempts > 0 OR state = 'invalid'", "candidates") == 0
        assert cluster.stop("alpha", 60) == 0
        cluster.start("alpha")
        cluster.wait_until(lambda: cluster.processes["alpha"].poll() == 78, 60)
        log = "".join(path.read_text() for path in tmp_path.glob("*alpha*.log"))
    assert "is the prover of run" in log
    assert "cordctl cancel" in log
    assert "Traceback" not in log
