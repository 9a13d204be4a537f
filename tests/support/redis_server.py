"""A private Redis, which tests may configure, empty and kill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cord_worker.local.redis import EmbeddedRedis
from cord_worker.local.state import StateDir


@contextmanager
def private_redis(folder: Path) -> Iterator[EmbeddedRedis]:
    """An embedded server in `folder` for the length of a `with`."""
    state = StateDir.open(folder)
    server = EmbeddedRedis(state.path)
    with state.locked():
        server.start()
    yield server
    with state.locked():
        server.stop()
