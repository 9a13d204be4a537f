"""The `Site` of the page that `cordctl view` serves, and which requests are answered."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from cord_worker import __version__
from cord_worker.config import Settings
from cord_worker.store.database import Database
from cord_worker.store.runs.runs import list_runs, resolve_run
from cord_worker.web.access import Access, checked_token, is_loopback, new_token
from cord_worker.web.documents import Site
from cord_worker.web.paths import segment

POLL_SECONDS = 2.0


def access_of(settings: Settings, host: str, names: Sequence[str] = ()) -> Access:
    """Which requests a server on this address answers. On loopback no token is needed unless the environment sets one.

    Raises ConfigError for an unusable token.
    """
    token = None if settings.view_token is None else checked_token(settings.view_token)
    if is_loopback(host):
        return Access.of(names, token)
    return Access.of([host, socket.gethostname(), *names], token or new_token())


def site_of_server(database: Database, run_name: str | None) -> Site:
    """The `Site` of a server whose page opens on the run with this name; without a name, on the newest run if there is
    one. Raises RunNotFound for an unknown name."""
    if run_name is not None:
        name: str | None = database.run(lambda connection: resolve_run(connection, run_name)).name
    else:
        runs = database.run(list_runs)
        name = runs[-1].name if runs else None
    return Site(
        size="server",
        version=__version__,
        run=None if name is None else segment(name),
        is_live=True,
        poll_seconds=POLL_SECONDS,
        has_prompts=True,
        has_comparisons=True,
        made_at=None,
        left_out=(),
        whole_problems=None,
    )
