"""A bench of an engine alone imports nothing of the service. The bench that compares the service with its engine reads
the database, and only the processes that it starts use Celery."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

CELERY = {"celery", "kombu"}
SERVICE = CELERY | {"redis", "sqlalchemy", "psycopg"}


def imported(module: str) -> set[str]:
    """The packages that are loaded after importing the module."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert module in done.stdout.split()
    return set(done.stdout.split())


@pytest.mark.parametrize("name", ["answers", "direct", "engine_host", "families", "scoring"])
def test_a_bench_of_an_engine_alone_imports_nothing_of_the_service(name: str) -> None:
    if name == "families":
        pytest.importorskip("torch")
    assert imported(f"cord_worker.bench.{name}") & SERVICE == set()


@pytest.mark.parametrize("module", ["cord_worker.bench.engine", "cord_worker.cli.bench"])
def test_the_bench_that_compares_an_engine_with_the_service_needs_no_celery(module: str) -> None:
    assert imported(module) & CELERY == set()
