"""The fork server of one command: it imports what workers need while services start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cord_worker.config import RunConfig, Settings
from cord_worker.local.fork_server import ForkServer, start_fork_server
from cord_worker.local.state import StateDir
from cord_worker.operations.fleet import preloaded_modules


@contextmanager
def preloading(config: RunConfig, settings: Settings) -> Iterator[ForkServer | None]:
    """A fork server for the workers of `config`; None if no worker can be forked, or workers run in the background.

    This imports little and makes no file, so that the server can start before anything else.
    """
    folder = settings.state_dir
    has_workers = folder.is_dir() and StateDir.open(folder).read().living_daemon() is not None
    server = None if has_workers else start_fork_server(preloaded_modules(config))
    try:
        yield server
    finally:
        if server is not None:
            server.close()
