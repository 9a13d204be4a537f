"""Private folders with paths that are short enough for a unix socket.

A socket's path may have about 107 bytes (103 on macOS). If the state folder's own path is longer, sockets go into a
short folder under `XDG_RUNTIME_DIR` or /tmp, named after the state folder and its user.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from cord_worker.errors import LocalServiceError

MAX_SOCKET_PATH_BYTES = 100
_LONGEST_SOCKET_NAME = ".s.PGSQL.5432"


def socket_dir(home: Path, uid: int) -> Path:
    """A 0700 folder of user `uid` for the sockets of `home`, made if missing.

    Raises:
        LocalServiceError: something that is not this user's private folder has that path.
    """
    inside = home / "run"
    if _fits(inside):
        return private_dir(inside, uid)
    name = f"cord-{uid}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and uid == os.geteuid() and Path(runtime).is_dir() and _fits(Path(runtime) / name):
        return private_dir(Path(runtime) / name, uid)
    return private_dir(Path("/tmp") / name, uid)


def private_dir(path: Path, uid: int) -> Path:
    """`path` as a folder that only user `uid` can enter, made if missing, never following a link.

    Raises:
        LocalServiceError: something else is there already, or it belongs to another user.
    """
    try:
        path.mkdir(mode=0o700)
        if uid != os.geteuid():
            os.chown(path, uid, -1)
    except FileExistsError:
        pass
    except OSError as error:
        raise LocalServiceError(f"Could not make the private folder {path}: {error.strerror}.") from error
    facts = path.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != uid or stat.S_IMODE(facts.st_mode) & 0o077:
        raise LocalServiceError(
            f"{path} is not a private folder of user {uid} (mode {stat.filemode(facts.st_mode)}, owner "
            f"{facts.st_uid}), so no server socket is put there. Remove it, or use a state folder with a shorter "
            "path (CORD_STATE_DIR)."
        )
    return path


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / _LONGEST_SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES
