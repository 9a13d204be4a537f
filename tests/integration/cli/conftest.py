"""`cordctl` as users run it: real processes, a real database and broker, the engine that answers at once."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.cordctl_process import Cordctl, prepared


@pytest.fixture
def cordctl(tmp_path: Path, database_url: str, broker_url: str, key_prefix: str) -> Cordctl:
    """With the test's own migrated database."""
    return prepared(
        tmp_path,
        {"CORD_DATABASE_URL": database_url, "CORD_BROKER_URL": broker_url, "CORD_KEY_PREFIX": key_prefix},
    )


@pytest.fixture
def embedded_cordctl(tmp_path: Path) -> Iterator[Cordctl]:
    """With no services but those that the commands embed."""
    base = Path(tempfile.mkdtemp(prefix="cord-c-"))
    cordctl = prepared(tmp_path, {"CORD_STATE_DIR": f"{base}/state"})
    try:
        yield cordctl
    finally:
        subprocess.run(cordctl.command("down"), cwd=tmp_path, env=cordctl.variables(), check=False)
        # A server that ends a moment later may still write here.
        while base.exists():
            shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
    fresh_keys: Callable[[], AbstractContextManager[str]],
) -> Iterator[Cordctl]:
    """A finished run `done` of five problems, made once for a module; its tests only read."""
    folder = tmp_path_factory.mktemp("finished")
    with migrated_database() as url, fresh_keys() as prefix:
        cordctl = prepared(folder, {"CORD_DATABASE_URL": url, "CORD_BROKER_URL": broker_url, "CORD_KEY_PREFIX": prefix})
        cordctl("run", "problems.jsonl", "--run", "done", "-o", "out.jsonl")
        yield cordctl
