"""`cordctl view` and `cordctl report` as commands."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from cord_worker.cli import cli
from cord_worker.web.paths import segment
from tests.integration.web.conftest import OTHER, RUN


def environment(url: str) -> dict[str, str]:
    """Variables of a command on this database."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("CORD_")}
    return {**plain, "CORD_DATABASE_URL": url, "PYTHONUNBUFFERED": "1"}


def test_view_prints_its_address_serves_the_run_and_ends_at_ctrl_c(hostile_url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cord_worker.cli", "view", OTHER, "--port", "0"]
    environ = {**environment(hostile_url), "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().removeprefix("open ").strip()
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(address, timeout=30) as answer:
                site = json.loads(answer.read().decode().split('id="site">')[1].split("</script>")[0])
            assert (site["size"], site["run"], site["is_live"]) == ("server", segment(OTHER), True)
            with urllib.request.urlopen(f"{address}runs.json", timeout=30) as answer:
                assert [run["name"] for run in json.load(answer)["runs"]] == [OTHER, RUN]
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


def test_report_says_what_it_wrote(hostile_url: str, tmp_path: Path) -> None:
    def used(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["report", RUN, *arguments], env=environment(hostile_url))
        assert result.exit_code == 0, result.output
        return result.stdout

    told = json.loads(used("-o", str(tmp_path / "a.html"), "--trees", "2", "--json"))
    assert (told["whole_searches"], told["other_winners"]) == (2, 10)
    assert told["bytes"] == (tmp_path / "a.html").stat().st_size
    assert "2 whole searches and 10 other winners of 12 problems." in used(
        "-o", str(tmp_path / "a.html"), "--trees", "2"
    )
    assert "python -m http.server" in used("--bundle", str(tmp_path / "bundle"))


def test_a_port_that_is_taken_is_named(hostile_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(cli, ["view", "--port", port], env=environment(hostile_url))
    assert result.exit_code == 1
    assert f"port {port} of 127.0.0.1 cannot be served" in result.output
