"""Fixtures of the local tests: state folders whose servers have ended after a test, whatever it did to them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cord_worker.local.postgres import EmbeddedPostgres
from cord_worker.local.services import LocalServices
from cord_worker.local.state import StateDir


def _folder() -> Path:
    """A new folder, in memory if there is room: most of a server's start and stop is waiting for the disk."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * 2**30
    # Containers often mount it so that no program can be started from there, which a test does.
    fitting = roomy and not os.statvfs(memory).f_flag & os.ST_NOEXEC
    return Path(tempfile.mkdtemp(prefix="cord-t-", dir=memory if fitting else None))


@pytest.fixture(scope="session")
def made_database() -> Iterator[Path]:
    """A data folder as the first start makes it, to be copied: initdb takes most of the time of a test."""
    base = _folder()
    state = StateDir.open(base / "state")
    server = EmbeddedPostgres(state.path)
    server.start()
    server.stop()
    # Tests kill processes, never the machine, so they need not wait for the disk.
    with (server.data_dir / "postgresql.conf").open("a") as file:
        file.write("fsync = off\n")
    yield server.data_dir
    shutil.rmtree(base)


@pytest.fixture
def fresh_state_dir() -> Iterator[Path]:
    """A state folder that does not exist yet, with a short path, stopped and removed at the end."""
    base = _folder()
    folder = base / "state"
    try:
        yield folder
    finally:
        if folder.exists():
            services = LocalServices(folder)
            home = services.postgres.home
            services.stop()
            if base not in home.parents:
                shutil.rmtree(home, ignore_errors=True)
        while base.exists():
            shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def state_dir(fresh_state_dir: Path, made_database: Path) -> Path:
    """A state folder with a database, whose servers do not run."""
    StateDir.open(fresh_state_dir)
    target = fresh_state_dir / "postgres"
    target.mkdir(mode=0o700)
    shutil.copytree(made_database, target / "data", symlinks=True)
    return fresh_state_dir
