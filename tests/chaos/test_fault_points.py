"""A process killed before and after every commit and every send: the tables end as those of an undisturbed run.

Driven from the list of points itself: a point without a scenario fails, and so does a commit or send without a point.
"""

from __future__ import annotations

import ast
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import redis
import sqlalchemy as sa

from cord_worker.config import ProverConfig, RunConfig
from cord_worker.coordination.fault_points import VARIABLE, FaultPoint, Side, all_points, arm
from cord_worker.engines.instant import BUSY, ENGINE_DIES, UNANSWERABLE, takes
from cord_worker.errors import ConfigError
from cord_worker.local.redis import EmbeddedRedis
from cord_worker.operations import run_control
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.runs.rescorings import begin_rescoring
from cord_worker.store.runs.spending import NewLimits
from tests.chaos.checkers import strike_checkers
from tests.chaos.configurations import FAST, configuration, problems
from tests.chaos.fleet import COORDINATOR, REPOSITORY, Fleet
from tests.support.tables import Content, content, count, differences, unfinished

UNDECIDABLE = " [an undecidable problem]"
"""An addition to questions: the second problem of their run cannot be decided."""
_REFUSED = f"""
    CREATE OR REPLACE FUNCTION test_undecidable() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF EXISTS (
            SELECT 1 FROM problems
            WHERE id = NEW.problem_id AND question LIKE '%{UNDECIDABLE}' AND key = 'problem-1'
        ) THEN
            RAISE EXCEPTION 'this problem cannot be decided';
        END IF;
        RETURN NEW;
    END $$;
    CREATE OR REPLACE TRIGGER test_undecidable BEFORE INSERT ON candidates FOR EACH ROW
    EXECUTE FUNCTION test_undecidable()
"""

_NEWEST = "(SELECT max(id) FROM runs)"


@dataclass(frozen=True)
class Place:
    """The servers and processes in which the points are passed."""

    fleet: Fleet
    database: Database
    broker: EmbeddedRedis
    undisturbed: dict[Work, Content]

    @property
    def redis(self) -> redis.Redis:
        """A client of the broker."""
        return redis.Redis(unix_socket_path=str(self.broker.socket_path))

    def give(self, run: str, work: Work) -> None:
        """Enqueues the run."""
        config = RunConfig.parse(work.config, source="test", folder=self.fleet.folder)
        self.database.run(
            lambda connection: enqueue(connection, run, config, problems(4, addition=work.addition, exact=work.exact))
        )

    def finish(self, run: str, work: Work) -> Content:
        """Waits for the end of the run, and of its rescoring if it has one; returns its tables."""
        self.fleet.wait_until(lambda: unfinished(self.database, run) == 0, 120, f"the end of {run}")
        if work.rescored:
            self.rescore(run)
            left = "state NOT IN ('scored', 'invalid')"
            self.fleet.wait_until(lambda: count(self.database, left, "rescores") == 0, 60, f"the rescoring of {run}")
        return content(self.database, run)

    def rescore(self, run: str) -> None:
        """Asks alpha for a second set of scores."""
        model, prover = self.fleet.config.models["alpha"], ProverConfig(model="alpha")
        self.database.run(lambda connection: begin_rescoring(connection, run, "again", model, prover))


@dataclass(frozen=True)
class Work:
    """The enqueued problems and their configuration."""

    addition: str = ""
    max_attempts: int = 1000
    max_active: int = 2
    exact: bool = False
    rescored: bool = False

    @property
    def config(self) -> str:
        """A search with judgments: alpha writes, the prover scores and judges answers, the critic judges candidates."""
        return configuration(
            "rewarded", max_active=self.max_active, max_attempts=self.max_attempts, max_steps=3, few=True
        )


Meanwhile = Callable[[Place, Callable[[], bool]], None]
"""Acts on the place until `is_dead()` holds."""


def nothing(place: Place, is_dead: Callable[[], bool]) -> None:
    place.fleet.wait_until(is_dead, 60, "the passing of the point")


def asked_to_end(name: str) -> Meanwhile:
    def ask(place: Place, is_dead: Callable[[], bool]) -> None:
        newest = f"problem_id IN (SELECT id FROM problems WHERE run_id = {_NEWEST})"
        place.fleet.wait_until(
            lambda: count(place.database, f"state = 'scored' AND {newest}", "candidates") > 0, 60, "a score"
        )
        place.fleet.signal(name, signal.SIGTERM)
        nothing(place, is_dead)

    return ask


def emptied_broker(place: Place, is_dead: Callable[[], bool]) -> None:
    place.redis.flushall()
    nothing(place, is_dead)


def paused_replica(place: Place, is_dead: Callable[[], bool]) -> None:
    """Half of the model's messages go to a replica that is paused."""
    nothing(place, is_dead)
    place.fleet.kill("alpha-2")


def vanished_replica(place: Place, is_dead: Callable[[], bool]) -> None:
    """Work waits for two replicas, then one of them is lost; the broker is emptied so that the sweeper sends again."""

    def emptied() -> bool:
        place.redis.flushall()
        time.sleep(0.3)
        return is_dead()

    place.fleet.pause("alpha")
    place.fleet.wait_until(emptied, 60, "the passing of the point")
    place.fleet.kill("alpha-2")
    place.fleet.resume("alpha")


def more_comes(place: Place, is_dead: Callable[[], bool]) -> None:
    """Runs are enqueued until a message reaches the coordinator while it has stepped back."""
    stepped_back = "steps_back_until IS NOT NULL AND stopped_at IS NULL"
    given = float("-inf")

    def more() -> bool:
        nonlocal given
        if is_dead():
            return True
        if time.monotonic() - given > 1.0 and count(place.database, stepped_back, "workers"):
            given = time.monotonic()
            place.give(f"more-{time.monotonic_ns()}", Work())
        return False

    place.fleet.wait_until(more, 120, "the passing of the point")


def rescored(place: Place, is_dead: Callable[[], bool]) -> None:
    """The newest run is scored again as soon as it has ended."""
    name = sa.text(f"SELECT name FROM runs WHERE id = {_NEWEST}")
    run = str(place.database.run(lambda connection: connection.execute(name).scalar_one()))
    place.fleet.wait_until(lambda: unfinished(place.database, run) == 0, 120, f"the end of {run}")
    place.rescore(run)
    nothing(place, is_dead)


def limited(place: Place, is_dead: Callable[[], bool]) -> None:
    """The newest run is paused by a spending limit, which is lifted after the passing of the point."""
    limit = sa.text(f"UPDATE runs SET max_tokens = 1 WHERE id = {_NEWEST}")
    place.database.run(lambda connection: connection.execute(limit))
    nothing(place, is_dead)
    paused = f"id = {_NEWEST} AND state = 'paused' AND pause_reason IS NOT NULL"
    place.fleet.wait_until(lambda: count(place.database, paused, "runs") == 1, 60, "the pause of the run")
    name = sa.text(f"SELECT name FROM runs WHERE id = {_NEWEST}")
    run = str(place.database.run(lambda connection: connection.execute(name).scalar_one()))
    run_control.resume(place.database, run, limits=NewLimits(max_tokens="none"), worker_timeout_seconds=60.0)


def killed_checkers(place: Place, is_dead: Callable[[], bool]) -> None:
    """Kills every process that compares answers as soon as it appears."""

    def strike() -> bool:
        strike_checkers(place.fleet, signal.SIGKILL, COORDINATOR)
        return is_dead()

    place.fleet.wait_until(strike, 60, "the passing of the point")


@dataclass(frozen=True)
class Scenario:
    """How a point is passed: the process that is killed there, at which passing, with which work and preparation."""

    victim: str
    passing: int = 1
    work: Work = Work()
    before: tuple[str, ...] = ()
    """Processes that are started, and paused, before the work comes."""
    holder: str | None = None
    """A worker that dies with leases in hand."""
    meanwhile: Meanwhile = nothing
    timeout: str = FAST["CORD_WORKER_TIMEOUT_SECONDS"]
    """When the victim gives up a silent worker."""
    fault: str = ""
    """Another fault that the victim has first."""


SCENARIOS: dict[str, Scenario] = {
    FaultPoint.ENTER_MODEL: Scenario("alpha"),
    FaultPoint.CHECK_WEIGHTS: Scenario("alpha"),
    FaultPoint.REGISTER: Scenario("alpha"),
    FaultPoint.READY: Scenario("alpha"),
    FaultPoint.HEARTBEAT: Scenario("alpha", passing=2),
    FaultPoint.LEAVE_SHARD: Scenario("alpha", meanwhile=asked_to_end("alpha")),
    FaultPoint.SIGN_OFF: Scenario("alpha", meanwhile=asked_to_end("alpha")),
    "claim propose": Scenario("alpha", passing=2),
    "finish propose": Scenario("alpha", passing=2),
    "claim score": Scenario("prover", passing=2),
    "finish score": Scenario("prover", passing=2),
    "claim judge_candidate": Scenario("critic", passing=2),
    "finish judge_candidate": Scenario("critic", passing=2),
    "claim answer": Scenario("alpha"),
    "finish answer": Scenario("alpha"),
    FaultPoint.FAIL_ANSWER: Scenario("alpha", work=Work(UNANSWERABLE)),
    FaultPoint.RETURN_LEASES: Scenario("alpha", work=Work(BUSY)),
    "claim judge_answer": Scenario("prover"),
    "finish judge_answer": Scenario("prover"),
    "claim rescore": Scenario("alpha", work=Work(rescored=True), meanwhile=rescored),
    "finish rescore": Scenario("alpha", work=Work(rescored=True), meanwhile=rescored),
    FaultPoint.STEAL_WORK: Scenario("alpha", before=("alpha-2",), meanwhile=paused_replica),
    FaultPoint.ADVANCE: Scenario(COORDINATOR, passing=3),
    FaultPoint.FAIL_DECISION: Scenario(COORDINATOR, work=Work(UNDECIDABLE)),
    FaultPoint.PASS_ON: Scenario(
        COORDINATOR, work=Work(max_active=4), fault="advance:raise:1-1000", meanwhile=more_comes
    ),
    FaultPoint.STEP_BACK: Scenario(COORDINATOR, work=Work(max_active=4), fault="advance:raise:1-1000"),
    "claim check_answer": Scenario(COORDINATOR, work=Work(exact=True)),
    "finish check_answer": Scenario(COORDINATOR, work=Work(exact=True)),
    FaultPoint.RETURN_CHECKS: Scenario(COORDINATOR, work=Work(exact=True), meanwhile=killed_checkers),
    FaultPoint.END_VERIFIED: Scenario(COORDINATOR),
    FaultPoint.ADMIT: Scenario(COORDINATOR),
    FaultPoint.EXPIRE: Scenario(COORDINATOR, holder="alpha"),
    FaultPoint.RECLAIM: Scenario(COORDINATOR, holder="alpha"),
    FaultPoint.PARK: Scenario(COORDINATOR, work=Work(ENGINE_DIES, max_attempts=2)),
    FaultPoint.SPENDING_LIMIT: Scenario(COORDINATOR, work=Work(takes(0.3)), meanwhile=limited),
    FaultPoint.SWEEP: Scenario(COORDINATOR),
    "send advance": Scenario("critic"),
    "send propose": Scenario(COORDINATOR, passing=2),
    "send score": Scenario("alpha", passing=2),
    "send judge_candidate": Scenario("prover"),
    "send answer": Scenario(COORDINATOR),
    "send judge_answer": Scenario(COORDINATOR),
    "send rescore": Scenario(COORDINATOR, work=Work(rescored=True), meanwhile=rescored),
    "send verify": Scenario("alpha"),
    FaultPoint.MARK_BROKER: Scenario(COORDINATOR, meanwhile=emptied_broker),
    FaultPoint.DISCARD_QUEUE: Scenario(COORDINATOR, before=("alpha-2",), meanwhile=vanished_replica, timeout="6"),
    FaultPoint.ACKNOWLEDGE: Scenario("alpha", passing=2),
}


@pytest.fixture(scope="module")
def place(fleet: Fleet, database: Database, broker: EmbeddedRedis) -> Place:
    database.run(lambda connection: connection.execute(sa.text(_REFUSED)))
    fleet.start(COORDINATOR, "alpha", "prover", "critic")
    return Place(fleet, database, broker, {})


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("point", all_points())
def test_a_process_killed_at_a_fault_point_changes_nothing_in_the_tables(place: Place, point: str, side: Side) -> None:
    scenario = SCENARIOS[point]
    if scenario.work not in place.undisturbed:
        run = f"undisturbed-{len(place.undisturbed)}"
        place.give(run, scenario.work)
        place.undisturbed[scenario.work] = place.finish(run, scenario.work)
    undisturbed = place.undisturbed[scenario.work]
    assert len(undisturbed["problems"]) == 4

    fleet, database = place.fleet, place.database
    fleet.kill(scenario.victim)
    if scenario.holder is not None:
        fleet.kill(scenario.holder)
        fleet.start(scenario.holder, **{VARIABLE: "finish propose:before:1"})
    fleet.start(*scenario.before)
    for name in scenario.before:
        fleet.wait_until(partial(serves, fleet, database, name), 60, "a replica")
        fleet.pause(name)
    plans = [*filter(None, [scenario.fault]), f"{point}:{side}:{scenario.passing}"]
    fault = {VARIABLE: ",".join(plans), "CORD_WORKER_TIMEOUT_SECONDS": scenario.timeout}
    fleet.start(scenario.victim, **fault)
    pid = fleet.pid(scenario.victim)
    place.give(f"{point}-{side}", scenario.work)
    scenario.meanwhile(place, lambda: fleet.pid(scenario.victim) != pid or not fleet.is_alive(scenario.victim))
    assert fleet.exit_code(pid) == -signal.SIGKILL
    disturbed = place.finish(f"{point}-{side}", scenario.work)
    assert differences(undisturbed, disturbed) == []


def serves(fleet: Fleet, database: Database, name: str) -> bool:
    """Whether the current process of this name takes work."""
    pid = fleet.pid(name)
    return count(database, f"pid = {pid} AND ready_at IS NOT NULL AND stopped_at IS NULL", "workers") > 0


def test_every_commit_and_send_of_the_coordination_has_a_fault_point() -> None:
    """Finds transactions outside `commit` and `read`, and messages outside `sending`, in the source."""
    folder = REPOSITORY / "cord_worker" / "coordination"
    unnamed = []
    used = set()
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        covered = {
            id(node)
            for block in ast.walk(tree)
            if isinstance(block, ast.With) and any("sending(" in ast.unparse(item) for item in block.items)
            for node in ast.walk(block)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "FaultPoint":
                used.add(node.attr)
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner, name = ast.unparse(node.func.value), node.func.attr
            commits = name in {"run", "transaction", "begin"} and owner.endswith(("database", "connection", "engine"))
            sends = name in SENDING and id(node) not in covered
            if (commits and path.name != "transactions.py") or sends:
                unnamed.append(f"{path.name}:{node.lineno}: {ast.unparse(node)[:80]}")
    assert unnamed == []
    assert used == {point.name for point in FaultPoint}, "fault points that no code passes"


SENDING = {"send_task", "apply_async", "delay", "publish", "queue_purge", "acknowledge"}


def test_a_read_only_transaction_refuses_a_write(database: Database) -> None:
    from sqlalchemy.exc import DBAPIError

    from cord_worker.coordination.transactions import read

    with pytest.raises(DBAPIError, match="read-only"):
        read(database, lambda connection: connection.execute(sa.text("UPDATE workers SET pid = 1")))
    assert read(database, lambda connection: connection.execute(sa.text("SELECT 1")).scalar_one()) == 1
    database.run(lambda connection: connection.execute(sa.text("UPDATE workers SET pid = pid")))


@pytest.mark.parametrize(
    "plan",
    ["somewhere:before:1", "advance:during:1", "advance:before:x", "advance", "advance:raise:1-x", "admit:hang:1,x"],
)
def test_an_unknown_fault_is_refused(plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, plan)
    with pytest.raises(ConfigError, match="points: enter model"):
        arm()
