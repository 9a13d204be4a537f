"""Engines that cannot take work now: leases are returned, cost no attempt and are done later; no worker ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.engines.instant import BUSY, refused_as
from cord_worker.errors import ContentFilterError, EngineFaultError, RequestError
from cord_worker.operations.replaying import replay_run
from cord_worker.operations.run_watch import RunWatch
from cord_worker.progress import line
from cord_worker.search.seeds import answer_seed
from cord_worker.store.database import Database
from cord_worker.store.runs.runs import resolve_run
from tests.support.cluster import Cluster
from tests.support.configurations import SMALL
from tests.support.openai_local_server import LocalServer, Reply, chunks, models
from tests.support.tables import count

pytestmark = pytest.mark.long

INSTANT = f"{SMALL}[run]\nmax_attempts = 2\n"
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
"""The two together have all kinds of work, each with at most two attempts."""

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


def test_work_that_a_busy_engine_refuses_is_done_later_and_costs_no_attempt(
    tmp_path: Path, database_url: str, broker_url: str, database: Database
) -> None:
    """Every piece of work of every kind is refused the first time."""
    with Cluster(tmp_path, database_url, broker_url, JUDGED) as cluster:
        integrated = RunConfig.parse(INTEGRATED, source="test", folder=tmp_path)
        cluster.enqueue(database, 2, "judged", f" {BUSY}")
        cluster.enqueue(database, 2, "integrated", f" {BUSY}", integrated)
        cluster.start()
        cluster.wait_until(lambda: count(database, "state IN ('done', 'failed')") == 4, 120)
        assert [name for name, process in cluster.processes.items() if process.poll() is not None] == []
        logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert count(database, "state = 'done'") == 4
    for kind in ("propose", "score", "judge_candidate", "answer", "judge_answer"):
        assert f"{kind} " in "".join(line for line in logs.splitlines(keepends=True) if "is returned" in line), kind
    assert count(database, "greatest(propose_attempts, score_attempts, judgment_attempts) > 1", "candidates") == 0
    assert count(database, "greatest(answer_attempts, verdict_attempts) > 1", "trajectories") == 0
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
    """The address of an absent server, where nothing listens."""
    server = LocalServer({"/v1/models": models("somebody"), "/v1/chat/completions": chat})
    with server.running():
        pass
    return server


def test_an_absent_server_is_waited_for_at_start_and_in_a_run(
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


def test_a_worker_that_waits_for_its_server_stops_at_once_when_told(
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


FILTERED_TWICE, FILTERED_ALWAYS = "What is 0 + 0?", "What is 1 + 1?"
_ANSWERS = """
    SELECT p.key, p.state, p.failure_reason, c.lineage, j.answer_seed, j.answer_text, j.answer_attempts
    FROM trajectories j JOIN problems p ON p.id = j.problem_id JOIN candidates c ON c.id = j.candidate_id
    WHERE j.winner ORDER BY p.position
"""


def filtering(filtered: list[dict[str, Any]]) -> Callable[[dict[str, Any]], Any]:
    """Final answers are refused: of one question twice, of another always, and never of the rest."""

    def reply(body: dict[str, Any]) -> Any:
        said = json.dumps(body["messages"])
        if "</think>" not in body["messages"][-1]["content"]:
            return chat(body)
        before = sum(FILTERED_TWICE in json.dumps(one["messages"]) for one in filtered)
        if FILTERED_ALWAYS in said or (FILTERED_TWICE in said and before < 2):
            filtered.append(body)
            delta = {"refusal": "I will not."} if len(filtered) % 2 else {"content": "I"}
            choice = {"index": 0, "delta": delta, "finish_reason": None if len(filtered) % 2 else "content_filter"}
            return [{"choices": [choice]}]
        return chunks("The answer is 4.", chat=True)

    return reply


def test_a_filtered_final_answer_is_drawn_again_with_other_seeds(
    tmp_path: Path, database_url: str, broker_url: str, database: Database
) -> None:
    filtered: list[dict[str, Any]] = []
    server = LocalServer({"/v1/models": models("somebody"), "/v1/chat/completions": filtering(filtered)})
    with server.running(), Cluster(tmp_path, database_url, broker_url, SERVED.format(url=server.url)) as cluster:
        cluster.enqueue(database, 3)
        cluster.start()
        cluster.wait_until(lambda: count(database, "state IN ('done', 'failed')") == 3, 240)
    rows = database.run(lambda connection: connection.execute(sa.text(_ANSWERS)).all())
    seeds = {
        row.key: [
            answer_seed(0, row.key, row.lineage, "alpha", draw) for draw in range(cluster.config.search.max_rounds)
        ]
        for row in rows
    }
    twice, always, never = rows
    assert (twice.state, twice.answer_text, twice.answer_attempts) == ("done", "The answer is 4.", 1)
    assert twice.answer_seed == seeds[twice.key][2]
    assert (never.state, never.answer_seed) == ("done", seeds[never.key][0])
    assert (always.state, always.answer_text, always.answer_seed) == ("failed", None, seeds[always.key][0])
    assert "the final answer cannot be written" in always.failure_reason
    assert "refusal" in always.failure_reason or "content_filter" in always.failure_reason
    assert "all 3 draws" in always.failure_reason
    sent = {
        question: [body["seed"] for body in filtered if question in json.dumps(body["messages"])]
        for question in (FILTERED_TWICE, FILTERED_ALWAYS)
    }
    assert sent[FILTERED_TWICE] == [seed % (2**31 - 1) for seed in seeds[twice.key][:2]]
    assert sent[FILTERED_ALWAYS] == [seed % (2**31 - 1) for seed in seeds[always.key]]
    assert _replayed(database) == []

    other = answer_seed(0, twice.key, twice.lineage, "alpha", cluster.config.search.max_rounds)
    edit = sa.text("UPDATE trajectories SET answer_seed = :other WHERE answer_seed = :seed")
    database.run(lambda connection: connection.execute(edit, {"other": other, "seed": twice.answer_seed}))
    assert _replayed(database) == [twice.key]


def _replayed(database: Database) -> list[str | None]:
    """Problems of the run in which a replay finds differences."""
    *_, replayed = replay_run(database, "run")
    return [difference.problem for difference in replayed.differences]


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
        parked = "condition LIKE 'is the prover of a run or rescoring, but its server gives no log-probabilities%'"
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
