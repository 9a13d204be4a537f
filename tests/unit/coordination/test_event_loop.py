"""The engine's event loop waits only for its engine: calls of the database there are refused."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

import cord_worker
from cord_worker.coordination.fault_points import FaultPoint
from cord_worker.coordination.transactions import commit, read
from cord_worker.store.database import Database

ROOMS = ("coordination", "engines")
BLOCKING = {"run", "of_run", "submit", "commit", "read", "check", "call", "result", "sleep"}
"""Names of what waits: for the database, for another thread or process, or for the time to pass."""
HARMLESS = {"self._thread.submit"}
"""Of an executor: its future is awaited."""


def test_database_calls_on_an_event_loop_are_refused() -> None:
    nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing", retry_seconds=0.0)

    async def ask() -> None:
        with pytest.raises(RuntimeError, match="event loop"):
            read(nowhere, lambda connection: connection.execute(sa.text("SELECT 1")))
        with pytest.raises(RuntimeError, match="event loop"):
            commit(nowhere, FaultPoint.HEARTBEAT, lambda connection: connection.execute(sa.text("SELECT 1")))

    asyncio.run(ask())


def test_no_coroutine_calls_a_blocking_function() -> None:
    """Examines every coroutine of the packages that run on the engine's loop."""
    package = Path(cord_worker.__file__).parent
    found = []
    for path in sorted(file for room in ROOMS for file in (package / room).rglob("*.py")):
        for coroutine in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(coroutine, ast.AsyncFunctionDef):
                continue
            awaited = {id(node.value) for node in ast.walk(coroutine) if isinstance(node, ast.Await)}
            for node in ast.walk(coroutine):
                if not isinstance(node, ast.Call) or id(node) in awaited:
                    continue
                name = ast.unparse(node.func)
                if name.rpartition(".")[2] in BLOCKING and name not in HARMLESS:
                    found.append(f"{path.name}:{node.lineno}: {name}")
    assert found == []
