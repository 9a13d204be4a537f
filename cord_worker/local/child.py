"""Becomes a program that the kernel kills when its supervisor dies: `child.py SUPERVISOR_PID PROGRAM [ARGUMENT…]`.

It is run as a file, without the package and without site-packages, so that it adds little to every start.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_COMMAND_NOT_FOUND = 127


def main(supervisor: int, argv: list[str]) -> int:
    """Replaces this process by `argv`; returns an exit code only if that is impossible."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    # The supervisor may have died before the prctl call; on other systems than Linux the guard notices later deaths.
    if os.getppid() != supervisor:
        return 1
    try:
        os.execvpe(argv[0], argv, os.environ)
    except OSError as error:
        print(f"{argv[0]} could not be started: {error.strerror}", file=sys.stderr)
    return _COMMAND_NOT_FOUND


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
