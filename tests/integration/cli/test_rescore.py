"""`cordctl rescore`: a second set of scores, on one machine by one command, or by workers that run elsewhere."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from cord_worker.local.services import held
from cord_worker.store.database import Database
from tests.integration.cli.test_bundled_models import with_tiny_models
from tests.support.cordctl_process import Cordctl
from tests.support.tables import Content, content, differences, findings

PLAIN = """
[models.plain]
path = "bundled:prover-plain"
dtype = "float64"
device = "cpu"
threads = 1
batch_size = 16
"""
OTHER = '[models.other]\npath = "other"\nengine = "instant"\n'


def other_config(cordctl: Cordctl, table: str) -> None:
    """Writes other.toml: cord.toml with one more model, which only `rescore` uses."""
    text = (cordctl.folder / "cord.toml").read_text(encoding="utf-8")
    (cordctl.folder / "other.toml").write_text(text + table, encoding="utf-8")


def rescores_of(content_: Content, name: str) -> list[tuple[object, ...]]:
    """The rows of one rescoring, without its name."""
    return [(row[0], *row[2:]) for row in content_["rescores"] if row[1] == name]


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.long
def test_a_rescoring_whose_worker_is_killed_and_that_is_interrupted_has_the_same_scores(
    embedded_cordctl: Cordctl,
) -> None:
    cordctl = with_tiny_models(embedded_cordctl)
    other_config(cordctl, PLAIN)
    cordctl("run", "problems.jsonl", "--run", "tiny", "-o", "out.jsonl")
    asked = ("rescore", "tiny", "--prover", "plain", "--config", "other.toml")
    undisturbed = cordctl(*asked)
    assert "starting a coordinator and a worker for the model plain" in undisturbed.stderr
    assert "0 left" in undisturbed.stdout

    with (
        held(Path(cordctl.environment["CORD_STATE_DIR"])) as endpoints,
        closing(Database(endpoints.database_url)) as database,
    ):
        before = content(database)

        def number(where: str) -> int:
            statement = (
                "SELECT count(*) FROM rescores x JOIN rescorings q ON q.id = x.rescoring_id "
                f"WHERE q.name = 'killed' AND {where}"
            )
            return int(database.run(lambda c: c.execute(sa.text(statement)).scalar_one()))

        # One candidate is not leased, so however fast the workers are, the interruption comes before the end.
        held_back = """
            CREATE FUNCTION test_hold_back() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
            CREATE TRIGGER test_hold_back BEFORE UPDATE ON rescores FOR EACH ROW
            WHEN (NEW.state = 'scoring' AND OLD.candidate_id = {candidate}) EXECUTE FUNCTION test_hold_back()
        """
        last = sa.text("SELECT max(candidate_id) FROM rescores")
        candidate = database.run(lambda c: c.execute(last).scalar_one())
        database.run(lambda c: c.execute(sa.text(held_back.format(candidate=candidate))))
        process = cordctl.start(*asked, "--name", "killed")
        wait_until(lambda: number("x.state = 'scoring'") > 0)
        worker = sa.text("SELECT pid FROM workers WHERE role = 'model' AND stopped_at IS NULL ORDER BY started_at DESC")
        pid = database.run(lambda c: c.execute(worker).scalars().first()) or 0
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: number("x.rescore_attempts > 1") > 0)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)
        assert process.returncode == 130, error
        assert "run the same command again to continue" in error
        assert "Traceback" not in error
        assert number("x.state IN ('queued', 'pending')") > 0
        database.run(lambda c: c.execute(sa.text("DROP FUNCTION test_hold_back() CASCADE")))

        ended = json.loads(cordctl(*asked, "--name", "killed", "--json").stdout)
        assert (ended["created"], ended["added"], ended["left"], ended["given_up"]) == (False, 0, 0, 0)
        after = content(database)
        assert rescores_of(after, "killed") == rescores_of(before, "plain")
        assert len(rescores_of(after, "plain")) == ended["candidates"] > 100
        assert differences({**before, "rescores": []}, {**after, "rescores": []}) == []
        assert findings(database, "tiny") == []

    shown = cordctl("compare", "tiny").stdout
    assert "tiny@plain" in shown
    assert "tiny@killed" in shown
    (compared,) = json.loads(cordctl("compare", "tiny", "tiny@killed", "--json").stdout)["rescorings"]
    assert compared["rescoring"] == "tiny@killed"
    assert compared["problems"] == 8
    assert compared["score"]["mean"] > 0
    assert compared["rescore"]["mean"] > 0
    assert 0 < compared["correlation"]["mean"] < 1


@pytest.mark.long
def test_with_services_the_command_queues_and_a_worker_that_starts_later_does_the_work(cordctl: Cordctl) -> None:
    other_config(cordctl, OTHER)
    cordctl("run", "problems.jsonl", "--run", "mine", "-o", "out.jsonl")
    asked = ("rescore", "mine", "--prover", "other", "--config", "other.toml")
    queued = cordctl(*asked)
    assert "no living process: coordinator, other" in queued.stdout
    assert "cordctl worker other --config other.toml" in queued.stdout
    waiting = json.loads(cordctl(*asked, "--json").stdout)
    assert waiting["left"] == waiting["candidates"] > 0
    assert waiting["missing_workers"] == ["coordinator", "other"]

    processes = [cordctl.start("coordinator"), cordctl.start("worker", "other", "--config", "other.toml")]
    try:
        ended = json.loads(cordctl(*asked, "--wait", "--json").stdout)
    finally:
        for process in processes:
            process.terminate()
            process.communicate(timeout=60)
    assert (ended["scored"], ended["left"], ended["missing_workers"]) == (waiting["candidates"], 0, [])

    (compared,) = json.loads(cordctl("compare", "mine@other", "--json").stdout)["rescorings"]
    assert compared["scored"] == waiting["candidates"]
    assert "mine@other is deleted" in cordctl("rescore", "mine", "--remove", "other", "--yes").stdout
    assert json.loads(cordctl("compare", "mine", "--json").stdout)["rescorings"] == []


@pytest.mark.long
def test_a_paused_run_stays_queued_and_bad_options_are_refused(cordctl: Cordctl) -> None:
    other_config(cordctl, OTHER)
    cordctl("run", "problems.jsonl", "--run", "mine", "-o", "out.jsonl")
    cordctl("pause", "mine")
    asked = ("rescore", "mine", "--prover", "other", "--config", "other.toml")
    assert "run mine is paused. Continue with: cordctl resume mine" in cordctl(*asked).stdout
    assert "is paused" in cordctl(*asked, "--wait", exits=1).stderr
    assert "another prover" in cordctl("rescore", "mine", "--prover", "judge", "--name", "other", exits=1).stderr
    assert "did you mean 'other'" in cordctl("compare", "mine@othr", exits=1).stderr
    unknown = cordctl("rescore", "mine", "--prover", "othr", "--config", "other.toml", exits=1).stderr
    assert "did you mean 'other'" in unknown
    cordctl("cancel", "mine", "--yes")
    assert "cancelled" in cordctl(*asked, exits=1).stderr
