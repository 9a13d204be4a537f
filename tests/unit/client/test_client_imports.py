"""What `import cord_worker` costs, and the names that it offers."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import cord_worker
import cord_worker.client
import cord_worker.errors

HEAVY = {"torch", "transformers", "sqlalchemy", "celery", "kombu", "pyarrow", "pydantic", "alembic", "rich", "psycopg"}


def test_the_client_imports_nothing_heavy() -> None:
    script = (
        "import sys, json\n"
        "from cord_worker import Client, CordError, Run, RunNotFound, RunStatus, preset\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in json.loads(result.stdout)}
    assert "cord_worker" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_the_package_itself_imports_none_of_its_modules() -> None:
    script = "import sys, cord_worker; print([name for name in sys.modules if name.startswith('cord_worker.')])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", cord_worker.__all__)
def test_every_name_of_the_package_is_there(name: str) -> None:
    assert getattr(cord_worker, name) is not None
    assert name in dir(cord_worker)


def test_type_checkers_and_python_see_the_same_names() -> None:
    stub = ast.parse(Path(cord_worker.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imported = {
        alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    (listed,) = [ast.literal_eval(node.value) for node in stub.body if isinstance(node, ast.Assign)]
    assert listed == cord_worker.__all__
    assert set(listed) == {*imported, "__version__"}
    for name, module in imported.items():
        assert module is not None
        __import__(module)
        assert getattr(sys.modules[module], name) is getattr(cord_worker, name)


def test_every_error_that_a_wait_ends_with_is_offered() -> None:
    waiting = [name for name, one in vars(cord_worker.errors).items() if isinstance(one, type)]
    ends = [name for name in waiting if issubclass(getattr(cord_worker.errors, name), cord_worker.errors.WaitError)]
    assert len(ends) == 6
    assert set(ends) <= set(cord_worker.__all__)


def test_a_misspelt_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="Cleint"):
        cord_worker.Cleint  # type: ignore[attr-defined]  # noqa: B018
