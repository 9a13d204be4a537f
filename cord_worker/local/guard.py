"""Kills the process groups of a supervisor that is gone: `guard.py`, one for each supervisor.

The kernel's death signal (`child.py`) reaches only a supervisor's direct children, and only on Linux. The guard reads
`+GROUP` and `-GROUP` lines from a pipe whose other end only the supervisor holds. When the pipe closes, the supervisor
has died or ended, and the guard kills every group still listed, grandchildren included.
It is run as a file, without the package and without site-packages.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable


def main(lines: Iterable[str]) -> None:
    """Reads the supervisor's lines to their end, then kills the groups that are still listed."""
    groups: set[int] = set()
    for line in lines:
        change, group = line[0], int(line[1:])
        groups = groups | {group} if change == "+" else groups - {group}
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.stdin)
