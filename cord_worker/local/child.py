"""Becomes a program that the kernel kills when its supervisor dies: `child.py SUPERVISOR_PID PROGRAM [ARGUMENT…]`.

Run as a file, without the package and without site-packages, so that it costs little before every start.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_COMMAND_NOT_FOUND = 127


def main(supervisor: int, argv: list[str]) -> int:
    """Replace this process by `argv`; returns an exit code only when that is impossible."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    # It may have died before the kernel was told; elsewhere than on Linux the guard notices what comes later.
    if os.getppid() != supervisor:
        return 1
    try:
        os.execvpe(argv[0], argv, os.environ)
    except OSError as error:
        print(f"{argv[0]} could not be started: {error.strerror}", file=sys.stderr)
    return _COMMAND_NOT_FOUND


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
