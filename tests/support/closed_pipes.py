"""Runs commands whose output nobody reads."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def without_reader(
    commands: Sequence[Sequence[str]],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 240.0,
) -> list[tuple[int, str]]:
    """The exit code and standard error of each command. All run at once, and the reading end of their standard output
    is closed before they start."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        started = [
            subprocess.Popen(command, cwd=folder, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True)
            for command in commands
        ]
    finally:
        os.close(writing)
    ended = []
    for process in started:
        _, errors = process.communicate(timeout=timeout)
        ended.append((process.returncode, errors))
    return ended
