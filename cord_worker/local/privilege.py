"""Chooses the user that a PostgreSQL server runs as: PostgreSQL refuses root.

Ordinary users run it as themselves. Root runs it in a user namespace in which root appears as user 1000: programs and
files stay where they are, unchanged. If namespaces are refused, root runs it as an existing unprivileged user, with the
data in a folder that belongs to that user. No user is ever added and no existing folder's mode is changed.
`CORD_ROOT_STRATEGY=namespace|user` forces one of the two.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from cord_worker.errors import LocalServiceError

Strategy = Literal["self", "namespace", "user"]

_NAMESPACE = ("unshare", "-U", "--map-user=1000", "--map-group=1000", "--")
_UNPRIVILEGED_USERS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class RunAs:
    """How to start a program so that it does not run as root."""

    strategy: Strategy
    uid: int
    gid: int

    def run(self, argv: list[str], cwd: Path, timeout: float) -> subprocess.CompletedProcess[str]:
        """Runs a program to its end with a small environment; `stdout` has its output, errors included.

        Raises:
            LocalServiceError: the program could not be started or took longer than `timeout` seconds.
        """
        prefix = list(_NAMESPACE) if self.strategy == "namespace" else []
        other = self.strategy == "user"
        try:
            return subprocess.run(
                [*prefix, *argv],
                cwd=cwd,
                env=_server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
                user=self.uid if other else None,
                group=self.gid if other else None,
                extra_groups=[] if other else None,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LocalServiceError(f"{argv[0]} could not be run as user {self.uid}: {error}.") from error


def choose(data_strategy: Strategy | None = None) -> RunAs:
    """How this process must run PostgreSQL.

    Args:
        data_strategy: the strategy that existing data was made with; root must use the same.

    Raises:
        LocalServiceError: this is root, and neither a namespace nor an unprivileged user is available, or the existing
            data needs the other strategy.
    """
    uid = os.geteuid()
    if uid != 0:
        return RunAs("self", uid, os.getegid())
    forced = os.environ.get("CORD_ROOT_STRATEGY") or None
    if forced not in {None, "namespace", "user"}:
        raise LocalServiceError(f"CORD_ROOT_STRATEGY is {forced!r}; allowed are namespace and user.")
    strategy = forced or data_strategy or ("namespace" if namespaces_work() else "user")
    if data_strategy not in {None, strategy}:
        raise LocalServiceError(
            f"The database in this state folder was made with CORD_ROOT_STRATEGY={data_strategy}, and {strategy} is "
            f"asked for now. Set CORD_ROOT_STRATEGY={data_strategy}, or use a new state folder (CORD_STATE_DIR)."
        )
    if strategy == "namespace":
        if namespaces_work():
            return RunAs("namespace", 0, 0)
        raise LocalServiceError(
            "PostgreSQL refuses to run as root, and this machine refuses user namespaces (unshare -U). Run as an "
            "ordinary user, set CORD_ROOT_STRATEGY=user with a new state folder, or set CORD_DATABASE_URL."
        )
    for name in _UNPRIVILEGED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return RunAs("user", entry.pw_uid, entry.pw_gid)
    raise LocalServiceError(
        "PostgreSQL refuses to run as root, user namespaces are refused here, and there is no user postgres or nobody. "
        "Run as an ordinary user, or set CORD_DATABASE_URL to your own server."
    )


@cache
def namespaces_work() -> bool:
    """Whether root can start a program under another user number in a user namespace."""
    if shutil.which(_NAMESPACE[0]) is None:
        return False
    try:
        answer = subprocess.run(
            [*_NAMESPACE, "id", "-u"], capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and answer.stdout.strip() == "1000"


def _server_environment() -> dict[str, str]:
    # The caller's PG* variables (PGDATA, PGHOST, PGPORT…) would redirect the server's programs.
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LD_LIBRARY_PATH", "TMPDIR", "TZ"}}
    return {**kept, "LC_ALL": "C"}
