"""`cordctl` as a process, in a folder with a configuration and problems."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from click.testing import CliRunner

from cord_worker.cli import cli
from tests.support.configurations import SECOND_TEACHER, SMALL

CONFIG = f"""{SMALL}{SECOND_TEACHER}
[search]
beam_width = 2
max_steps = 4
[run]
max_active = 64
max_attempts = 20
"""

FAST = {
    "CORD_HEARTBEAT_SECONDS": "0.5",
    "CORD_WORKER_TIMEOUT_SECONDS": "5",
    "CORD_RESEND_SECONDS": "3",
    "CORD_SWEEP_SECONDS": "0.3",
    "CORD_GRACE_SECONDS": "3",
}


_PLAIN = {
    *("enqueue", "validate", "runs", "status", "stats", "compare", "cost", "export", "plan"),
    *("pause", "resume", "cancel", "retry", "rm", "priority", "drain", "db", "doctor"),
}
"""Commands that supervise nothing: run in this process, which saves the time of the imports."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass
class Cordctl:
    """Runs commands in a private folder that holds cord.toml and problems.jsonl."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, exits: int = 0, timeout: float = 240.0) -> Ended:
        """Runs to the end and checks the exit code."""
        ended = self._in_process(arguments) if arguments[0] in _PLAIN else self._as_process(arguments, timeout)
        assert ended.exit_code == exits, f"{arguments}: {ended}"
        return ended

    def _in_process(self, arguments: tuple[str, ...]) -> Ended:
        cleared = dict.fromkeys((name for name in os.environ if name.startswith("CORD_")), None)
        with contextlib.chdir(self.folder):
            result = CliRunner().invoke(cli, arguments, env={**cleared, **FAST, **self.environment})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ended(result.exit_code, result.stdout, result.stderr)

    def _as_process(self, arguments: tuple[str, ...], timeout: float) -> Ended:
        result = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.variables(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ended(result.returncode, result.stdout, result.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a command that is to be interrupted."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @staticmethod
    def command(*arguments: str) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", "cord_worker.cli", *arguments]

    def variables(self) -> dict[str, str]:
        """The environment, without the service's variables of the caller."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CORD_")}
        return {**inherited, **FAST, **self.environment}

    def write_problems(self, *rows: Mapping[str, object], name: str = "problems.jsonl") -> None:
        """Writes a dataset."""
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (self.folder / name).write_text(text, encoding="utf-8")


def problem(number: int, **more: object) -> dict[str, object]:
    """A problem of the dataset."""
    return {"id": f"p{number}", "question": f"What is {number} + {number}?", "answer": str(2 * number), **more}


def prepared(folder: Path, environment: dict[str, str]) -> Cordctl:
    """A folder with a configuration and five problems."""
    (folder / "cord.toml").write_text(CONFIG, encoding="utf-8")
    cordctl = Cordctl(folder, environment)
    cordctl.write_problems(*(problem(number, topic="sums") for number in range(5)))
    return cordctl
