"""Shells complete commands, options, words and the models of cord.toml, without slow imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cord_worker.cli import cli

HEAVY = {"torch", "transformers", "sqlalchemy", "celery", "kombu", "pyarrow", "pydantic", "alembic", "rich", "psycopg"}


def completed_by_bash(folder: Path, line: str) -> list[str]:
    """What bash offers after `line`, whose last word is the one to complete; `folder` is the current one."""
    program = folder / "bin" / "cordctl"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m cord_worker.cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    words = line.split(" ")
    script = (
        'eval "$(cordctl completion bash)"\n'
        f"COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}\n"
        '_cordctl_completion cordctl\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    environment = {
        **os.environ,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def offered(line: str) -> tuple[list[str], set[str]]:
    """What the last word of `line` is completed to, and the packages that this imported."""
    code = (
        "import json, sys\nfrom cord_worker.cli import main\n"
        "try:\n    main()\nfinally:\n    print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    words = line.split(" ")
    environment = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_CORDCTL_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}
    return [row.partition(",")[2] for row in done.stdout.splitlines()], loaded


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    result = CliRunner().invoke(cli, ["completion", shell], prog_name="cordctl")
    assert result.exit_code == 0
    assert f"_CORDCTL_COMPLETE={shell}_complete" in result.stdout


def test_bash_completes_commands_options_and_models(tmp_path: Path) -> None:
    (tmp_path / "cord.toml").write_text('[models]\nqwq.path = "a"\nqwen.path = "b"\nr1.path = "c"\n', encoding="utf-8")
    (tmp_path / "other.toml").write_text('models.glm = { path = "d" }\n', encoding="utf-8")
    assert completed_by_bash(tmp_path, "cordctl exp") == ["export"]
    assert completed_by_bash(tmp_path, "cordctl init --pre") == ["--preset"]
    assert completed_by_bash(tmp_path, "cordctl worker q") == ["qwq", "qwen"]
    assert completed_by_bash(tmp_path, "cordctl worker --config other.toml g") == ["glm"]


@pytest.mark.parametrize("text", [None, "models = 3", "models = [", "\0"])
def test_a_configuration_that_cannot_be_read_offers_no_model(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "cord.toml").write_text(text, encoding="utf-8")
    assert completed_by_bash(tmp_path, "cordctl worker q") == []


@pytest.mark.parametrize("line", ["cordctl ", "cordctl run --", "cordctl worker p", "cordctl init --preset "])
def test_completion_imports_nothing_heavy(line: str) -> None:
    words, loaded = offered(line)
    assert words or line == "cordctl worker p"
    assert loaded.isdisjoint(HEAVY)
