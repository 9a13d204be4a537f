"""A client in this process: a real database and broker, workers with the engine that answers at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from cord_worker import Client, EnqueuedRun
from cord_worker.client import session
from cord_worker.store.reports import results, search_trees
from tests.support.cordctl_process import FAST, Cordctl, prepared


class Place:
    """A folder with cord.toml and problems.jsonl, `cordctl` in it, and a client of the same services."""

    def __init__(self, cordctl: Cordctl, client: Client) -> None:
        self.cordctl = cordctl
        self.client = client
        self.folder = cordctl.folder
        self.config = cordctl.folder / "cord.toml"
        self.problems = cordctl.folder / "problems.jsonl"


class DonePlace(Place):
    """The same with a finished run `done` of five problems."""

    def __init__(self, place: Place, run: EnqueuedRun, messages: list[str]) -> None:
        super().__init__(place.cordctl, place.client)
        self.run = run
        self.messages = messages


def _clear(patch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CORD_")]:
        patch.delenv(name)
    for name, value in FAST.items():
        patch.setenv(name, value)


def _place(folder: Path, url: str, broker_url: str, prefix: str, patch: pytest.MonkeyPatch) -> Place:
    _clear(patch)
    patch.setenv("CORD_KEY_PREFIX", prefix)
    cordctl = prepared(folder, {"CORD_DATABASE_URL": url, "CORD_BROKER_URL": broker_url, "CORD_KEY_PREFIX": prefix})
    return Place(cordctl, Client(folder / "state", database_url=url, broker_url=broker_url))


@pytest.fixture
def place(
    tmp_path: Path, database_url: str, broker_url: str, key_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """With the test's own migrated database, and no workers."""
    place = _place(tmp_path, database_url, broker_url, key_prefix, monkeypatch)
    with place.client:
        yield place


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
    fresh_keys: Callable[[], AbstractContextManager[str]],
) -> Iterator[DonePlace]:
    """A run that `run_local` finished, made once for a module; its tests only read."""
    folder = tmp_path_factory.mktemp("done")
    with migrated_database() as url, fresh_keys() as prefix, pytest.MonkeyPatch.context() as patch:
        place = _place(folder, url, broker_url, prefix, patch)
        messages: list[str] = []
        with place.client as client:
            run = client.run_local(place.problems, place.config, run="done", on_message=messages.append)
            yield DonePlace(place, run, messages)


@pytest.fixture
def empty_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder that does not exist yet, without any service in the environment."""
    _clear(monkeypatch)
    base = Path(tempfile.mkdtemp(prefix="cord-k-"))
    try:
        yield base / "state"
    finally:
        with Client(base / "state") as client:
            client.down()
        while base.exists():
            shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come one at a time, from PostgreSQL too."""
    monkeypatch.setattr(session, "_BATCH_ROWS", 1)
    monkeypatch.setitem(results._STREAMED, "yield_per", 1)
    monkeypatch.setitem(search_trees._STREAMED, "yield_per", 1)
