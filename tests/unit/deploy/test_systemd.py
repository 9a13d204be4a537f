"""The systemd units: systemd takes them, and they obey the service's exit codes and times."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cord_worker.config.environment import Settings
from cord_worker.local.supervisor import DO_NOT_RESTART
from tests.support.commands import unknown_of

FOLDER = Path(__file__).parents[3] / "deploy" / "systemd"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))


def unit(name: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read(FOLDER / name, encoding="utf-8")
    return parsed


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_unit(name: str, tmp_path: Path) -> None:
    """With the program and the user of this machine: the analyser also looks whether they exist."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    text = text.replace("/opt/cord/bin/cordctl", str(Path(sys.executable).with_name("cordctl")))
    file = tmp_path / name.replace("@.", "@qwq-32b.")
    file.write_text(text, encoding="utf-8")

    def verify() -> str:
        command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(file)]
        checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return "\n".join(line for line in (checked.stdout + checked.stderr).splitlines() if file.name in line)

    assert verify() == ""
    file.write_text(text.replace("TimeoutStopSec=", "TimeoutStopsSec="), encoding="utf-8")
    assert "TimeoutStopsSec" in verify()


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_obeys_the_exit_code_that_forbids_another_start_and_waits_for_the_grace_period(name: str) -> None:
    service = unit(name)["Service"]
    program, *words = service["ExecStart"].split()
    assert program.endswith("/cordctl")
    assert unknown_of(words) == []
    assert service["RestartPreventExitStatus"] == str(DO_NOT_RESTART)
    assert service["Restart"] == "on-failure"
    assert float(service["TimeoutStopSec"]) >= Settings.model_fields["grace_seconds"].default + 10
    assert service["KillMode"] == "mixed"
    assert re.fullmatch(r"[a-z]+", service["User"])
