"""Every error is one message and an exit code."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cord_worker.cli import cli
from cord_worker.cli.command_groups import LazyGroup, print_error
from cord_worker.errors import ConfigError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("CORD_DATABASE_URL", "CORD_BROKER_URL", "CORD_STATE_DIR", "CORD_DEBUG"):
        monkeypatch.delenv(name, raising=False)


def test_a_missing_configuration_is_one_message_that_says_how_to_make_one() -> None:
    result = CliRunner().invoke(cli, ["enqueue", "problems.jsonl"])
    assert result.exit_code == 1
    assert result.stderr == "error: cord.toml: no such file. Write one with: cordctl init --preset tiny > cord.toml\n"


def test_without_any_database_the_message_names_the_ways_to_one() -> None:
    result = CliRunner().invoke(cli, ["status"])
    assert result.exit_code == 1
    assert "cordctl up" in result.stderr
    assert "CORD_DATABASE_URL" in result.stderr
    assert not Path(".cord").exists()


def test_an_unreachable_database_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORD_DATABASE_URL", "postgresql://someone:s3cret@127.0.0.1:1/none")
    monkeypatch.setattr("cord_worker.operations.database._RETRY_SECONDS", 0.0)
    result = CliRunner().invoke(cli, ["runs"])
    assert result.exit_code == 1
    assert "cannot be reached" in result.stderr
    assert "s3cret" not in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback() -> None:
    result = CliRunner().invoke(cli, ["--debug", "enqueue", "problems.jsonl"])
    assert isinstance(result.exception, ConfigError)


def test_a_message_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(ConfigError("bad \x1b]0;owned\x07\nsecond \u202eline"))
    assert capsys.readouterr().err == "error: bad \\x1b]0;owned\\x07\nsecond \\u202eline\n"


def test_the_exit_code_for_docker_is_0_if_a_restart_cannot_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORD_HOPELESS_EXIT_CODE", "0")
    result = CliRunner().invoke(cli, ["worker", "nobody", "--config", "/nowhere/cord.toml"])
    assert result.exit_code == 0
    assert "/nowhere/cord.toml" in result.stderr


def test_a_worker_that_can_never_start_exits_with_78() -> None:
    Path("cord.toml").write_text(CliRunner().invoke(cli, ["init"]).output, encoding="utf-8")
    result = CliRunner().invoke(cli, ["worker", "nobody"])
    assert result.exit_code == 78
    assert "no model is called 'nobody'" in result.stderr
    assert "planner" in result.stderr


def test_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    group = LazyGroup(name="group", sections={"": {"wait": f"{__name__}:wait"}})
    monkeypatch.setattr(group, "get_command", lambda _context, _name: wait)
    result = CliRunner().invoke(group, ["wait"])
    assert result.exit_code == 130


@click.command()
def wait() -> None:
    raise KeyboardInterrupt


def test_wrong_usage_exits_with_2() -> None:
    assert CliRunner().invoke(cli, ["init", "--preset", "huge"]).exit_code == 2
    assert CliRunner().invoke(cli, ["nonsense"]).exit_code == 2
