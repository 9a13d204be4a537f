"""`cordctl run`, `up` and `down` with embedded services: interrupted, killed, failing, reused."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

import cord_worker
from cord_worker.engines.instant import refused_as
from cord_worker.errors import ContentFilterError
from cord_worker.local.services import held
from cord_worker.store.database import Database
from cord_worker.store.schema.migration import upgrade
from tests.support.cordctl_process import Cordctl, problem


def processes_of(state_dir: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            text = " ".join(process.cmdline()) + process.cwd() + process.environ().get("CORD_STATE_DIR", "")
            if state_dir in text and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def wait_for_no_process(state_dir: str, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while (left := processes_of(state_dir)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


@contextmanager
def services_of(cordctl: Cordctl) -> Iterator[Database]:
    """The migrated database of a state folder, whose servers run for the length of a `with`."""
    with held(Path(cordctl.environment["CORD_STATE_DIR"])) as endpoints:
        upgrade(endpoints.database_url)
        database = Database(endpoints.database_url)
        try:
            yield database
        finally:
            database.close()


def hold_back(cordctl: Cordctl, key: str) -> None:
    """Keeps problem `key` from being admitted until `let_go`, so that a run cannot end before it is interrupted."""
    statement = f"""
        CREATE FUNCTION test_hold_back() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER test_hold_back BEFORE UPDATE ON problems FOR EACH ROW
        WHEN (OLD.key = '{key}' AND OLD.state = 'queued') EXECUTE FUNCTION test_hold_back()
    """
    with services_of(cordctl) as database:
        database.run(lambda connection: connection.execute(sa.text(statement)))


def let_go(cordctl: Cordctl) -> None:
    """Undoes `hold_back`."""
    with services_of(cordctl) as database:
        database.run(lambda connection: connection.execute(sa.text("DROP FUNCTION test_hold_back() CASCADE")))


def wait_for_log(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"{text!r} was never said; exit code {process.wait()}")


@pytest.mark.long
def test_a_run_ends_with_a_summary_an_export_and_no_process(embedded_cordctl: Cordctl) -> None:
    result = embedded_cordctl("run", "problems.jsonl", "--run", "mine", "-o", "out.jsonl")
    assert "5 problems added" in result.stderr
    assert "5: 5 done, 0 failed" in result.stdout
    assert "alpha-hot" in result.stdout
    assert len((embedded_cordctl.folder / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 5
    state_dir = embedded_cordctl.environment["CORD_STATE_DIR"]
    wait_for_no_process(state_dir)
    # The finished run can be read without a running service.
    assert json.loads(embedded_cordctl("status", "--json").stdout)["problems"]["done"] == 5
    wait_for_no_process(state_dir)


@pytest.mark.long
def test_the_summary_and_status_count_the_reasons_of_invalid_candidates_by_teacher(embedded_cordctl: Cordctl) -> None:
    refused = {**problem(1), "question": f"What is 1 + 1? {refused_as(ContentFilterError)}"}
    embedded_cordctl.write_problems(problem(0), refused)
    summary = embedded_cordctl("run", "problems.jsonl", "-o", "out.jsonl").stdout
    teachers = json.loads(embedded_cordctl("status", "--json").stdout)["teachers"]
    assert all(sum(one["invalid_reasons"].values()) == one["invalid"] for one in teachers.values())
    counted = [f"{name} {one['invalid']} content_filter" for name, one in teachers.items() if one["invalid"]]
    assert counted
    assert "; ".join(counted) in summary
    panel = embedded_cordctl("status").stdout
    assert all(f"invalid: {one}" in panel for one in counted)


@pytest.mark.long
def test_an_interrupted_run_stops_cleanly_and_continues_the_next_time(embedded_cordctl: Cordctl) -> None:
    embedded_cordctl.write_problems(*(problem(number) for number in range(60)))
    hold_back(embedded_cordctl, "p59")
    process = embedded_cordctl.start("run", "problems.jsonl", "--run", "mine", "-o", "out.jsonl")
    wait_for_log(process, "problems added")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run the same command again to continue" in error
    assert "Traceback" not in error
    assert not (embedded_cordctl.folder / "out.jsonl").exists()
    wait_for_no_process(embedded_cordctl.environment["CORD_STATE_DIR"])
    let_go(embedded_cordctl)
    result = embedded_cordctl("run", "problems.jsonl", "--run", "mine", "-o", "out.jsonl")
    assert "nothing new (60 already there)" in result.stderr
    assert "60 done" in result.stdout
    check_next_commands(embedded_cordctl, result.stdout)


def check_next_commands(cordctl: Cordctl, said: str) -> None:
    """The commands that the end of a run proposes work in a shell, and name this run."""
    program = f'cordctl() {{ {shlex.join(cordctl.command())} "$@"; }}'
    commands = [line.strip() for line in said.partition("Next:\n")[2].splitlines() if line[2] != " "]
    wanted = {
        " show best mine": "step 1",
        " stats mine": "alpha",
        " cost mine": "alpha",
        " replay mine": "no difference",
        " export mine": "",
    }
    assert len(commands) == len(wanted)
    for command, (part, answer) in zip(commands, wanted.items(), strict=True):
        assert part in command
        ended = subprocess.run(
            ["bash", "-c", f"{program}\n{command}"],
            cwd=cordctl.folder,
            env=cordctl.variables(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, (command, ended.stderr)
        assert answer in ended.stdout, (command, ended.stdout)
    assert (cordctl.folder / "correct.jsonl").exists()


@pytest.mark.long
def test_a_killed_run_leaves_no_process_and_continues_to_the_same_bytes(embedded_cordctl: Cordctl) -> None:
    embedded_cordctl.write_problems(*(problem(number) for number in range(40)))
    embedded_cordctl("run", "problems.jsonl", "--run", "mine", "-o", "whole.jsonl")
    other = Cordctl(embedded_cordctl.folder, {"CORD_STATE_DIR": embedded_cordctl.environment["CORD_STATE_DIR"] + "2"})
    hold_back(other, "p39")
    process = other.start("run", "problems.jsonl", "--run", "mine", "-o", "killed.jsonl", "--json")
    assert process.stdout is not None
    problems = (json.loads(line)["problems"] for line in process.stdout)
    assert any(states.get("searching", 0) + states.get("done", 0) for states in problems)
    assert process.poll() is None
    process.kill()
    process.communicate()
    wait_for_no_process(other.environment["CORD_STATE_DIR"])
    let_go(other)
    other("run", "problems.jsonl", "--run", "mine", "-o", "killed.jsonl")
    whole, killed = (embedded_cordctl.folder / name for name in ("whole.jsonl", "killed.jsonl"))
    assert whole.read_bytes() == killed.read_bytes()


@pytest.mark.long
def test_a_model_that_cannot_be_loaded_is_one_clear_error(embedded_cordctl: Cordctl) -> None:
    folder = embedded_cordctl.folder / "broken"
    folder.mkdir()
    config = embedded_cordctl.folder / "cord.toml"
    text = config.read_text(encoding="utf-8").replace('path = "judge"\nengine = "instant"', 'path = "./broken"')
    config.write_text(text, encoding="utf-8")
    result = embedded_cordctl("run", "problems.jsonl", "-o", "out.jsonl", exits=1)
    assert result.stderr.count("error:") <= 2
    assert "worker-judge" in result.stderr
    assert "broken" in result.stderr
    assert "Traceback" not in result.stderr
    wait_for_no_process(embedded_cordctl.environment["CORD_STATE_DIR"])


@pytest.mark.long
def test_a_model_that_takes_too_long_to_load_is_one_clear_error(embedded_cordctl: Cordctl) -> None:
    config = embedded_cordctl.folder / "cord.toml"
    model = Path(cord_worker.__file__).parent / "demo" / "models" / "prover"
    text = config.read_text(encoding="utf-8").replace('path = "judge"\nengine = "instant"', f'path = "{model}"')
    config.write_text(text, encoding="utf-8")
    # Shorter than the imports alone, which belong to loading. The other model's worker may be the first to say so.
    embedded_cordctl.environment["CORD_LOAD_TIMEOUT_SECONDS"] = "0.01"
    result = embedded_cordctl("run", "problems.jsonl", "-o", "out.jsonl", exits=1)
    assert "The process worker-" in result.stderr
    assert "was not loaded within 0.01 s" in result.stderr
    assert "CORD_LOAD_TIMEOUT_SECONDS" in result.stderr
    assert "exit code 78" in result.stderr
    assert "Traceback" not in result.stderr
    wait_for_no_process(embedded_cordctl.environment["CORD_STATE_DIR"])


def test_an_impossible_run_is_refused_before_anything_starts(embedded_cordctl: Cordctl) -> None:
    assert "missing.jsonl" in embedded_cordctl("run", "missing.jsonl", "-o", "out.jsonl", exits=1).stderr
    assert "does not exist" in embedded_cordctl("run", "problems.jsonl", "-o", "no/out.jsonl", exits=1).stderr
    assert not Path(embedded_cordctl.environment["CORD_STATE_DIR"]).exists()


@pytest.mark.long
def test_up_serves_later_commands_until_down(embedded_cordctl: Cordctl) -> None:
    cordctl = embedded_cordctl
    started = cordctl("up").stdout
    assert "ready: judge" in started
    assert "coordinator.log" in started
    assert "already running" in cordctl("up").stdout
    cordctl("enqueue", "problems.jsonl", "--run", "mine")
    assert "done" in cordctl("status", "mine", "--watch").stdout
    cordctl("export", "mine", "-o", "up.jsonl")
    assert len((cordctl.folder / "up.jsonl").read_text(encoding="utf-8").splitlines()) == 5
    reused = cordctl("run", "problems.jsonl", "--run", "again", "-o", "out.jsonl")
    assert "workers that run in the background" in reused.stderr
    other = (cordctl.folder / "cord.toml").read_text(encoding="utf-8").replace('path = "judge"', 'path = "other"')
    (cordctl.folder / "other.toml").write_text(other, encoding="utf-8")
    refused = cordctl("run", "problems.jsonl", "--config", "other.toml", "-o", "out.jsonl", exits=1)
    assert "cordctl down" in refused.stderr
    assert cordctl("down").stdout == "stopped\n"
    assert "nothing runs" in cordctl("down").stdout
    wait_for_no_process(cordctl.environment["CORD_STATE_DIR"])
