"""The logs of a state folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cord_worker.cli import cli
from cord_worker.local.logs import LogFollower, find_logs, last_lines, select_logs

NAMES = ("worker-planner", "worker-planner-2", "worker-plan", "daemon", "coordinator", "watchdog")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for folder in ("logs", "redis"):
        (tmp_path / folder).mkdir()
    for name in NAMES:
        (tmp_path / "logs" / f"{name}.log").write_text(f"{name} begins\n{name} goes on\n", encoding="utf-8")
    (tmp_path / "redis" / "redis.log").write_text("ready\n", encoding="utf-8")
    return tmp_path


def test_a_name_means_all_workers_of_a_model_or_one_process(state: Path) -> None:
    logs = find_logs(state)
    names = ["coordinator", "plan", "planner", "planner-2", "daemon", "watchdog", "redis"]
    assert [log.name for log in logs] == names
    assert [log.name for log in select_logs(logs, [])] == names[:5]
    assert [log.name for log in select_logs(logs, ["planner"])] == ["planner", "planner-2"]
    assert [log.name for log in select_logs(logs, ["worker-planner-2", "redis"])] == ["planner-2", "redis"]
    assert find_logs(state / "nowhere") == []


@pytest.mark.parametrize("size", [1, 40_000])
def test_the_last_lines_are_read_without_the_rest(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"".join(b"%d %s\n" % (number, b"x" * size) for number in range(9)) + b"a torn \xff")
    found = last_lines(path, 3)
    assert [line.split()[0] for line in found.lines] == ["6", "7", "8"]
    assert (found.rest, found.end) == ("a torn \ufffd", path.stat().st_size - 8)
    assert last_lines(path, 0).lines == []
    assert len(last_lines(path, 100).lines) == 9


def test_following_waits_for_whole_lines_and_notices_new_and_replaced_logs(state: Path) -> None:
    planner, other = state / "logs" / "worker-planner.log", state / "logs" / "worker-planner-3.log"
    places = {log.path: last_lines(log.path, 0).end for log in find_logs(state)}
    follower = LogFollower(state, ["planner"], places)
    assert list(follower.new_lines()) == []
    with planner.open("a", encoding="utf-8") as file:
        file.write("first\nsecond is to")
    assert [line for _, line in follower.new_lines()] == ["first"]
    with planner.open("a", encoding="utf-8") as file:
        file.write("rn\n")
    other.write_text("new\n", encoding="utf-8")
    assert [(log.name, line) for log, line in follower.new_lines()] == [
        ("planner", "second is torn"),
        ("planner-3", "new"),
    ]
    planner.write_text("anew\n", encoding="utf-8")
    assert [line for _, line in follower.new_lines()] == ["anew"]


def test_the_command_prints_harmless_lines_and_names_what_there_is(state: Path) -> None:
    (state / "logs" / "worker-planner.log").write_text("a\x1b[2J\u202eb\n", encoding="utf-8")
    printed = CliRunner().invoke(cli, ["logs", "planner", "--lines", "1", "--state-dir", str(state)])
    assert printed.exit_code == 0
    assert printed.output.splitlines() == [
        f"==> planner: {state}/logs/worker-planner.log",
        "a\\x1b[2J\\u202eb",
        f"==> planner-2: {state}/logs/worker-planner-2.log",
        "worker-planner-2 goes on",
    ]
    unknown = CliRunner().invoke(cli, ["logs", "planer", "--state-dir", str(state)])
    assert unknown.exit_code == 1
    assert "did you mean 'planner'?" in unknown.output
