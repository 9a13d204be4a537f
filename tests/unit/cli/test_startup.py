"""The cost of `cordctl --help`, and the help of every command."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from cord_worker.cli import cli

HEAVY = (
    *("torch", "transformers", "sqlalchemy", "celery", "kombu", "pyarrow", "pydantic", "alembic", "rich", "psycopg"),
    *("textual", "opentelemetry"),
)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, name
        found.append((*path, name))
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
    return found


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys, json\n"
        "from cord_worker.cli import cli\n"
        "try:\n    cli.main(['--help'], prog_name='cordctl')\n"
        "except SystemExit:\n    pass\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in json.loads(result.stderr)}
    assert loaded.isdisjoint(HEAVY)
    assert "run" in result.stdout


@pytest.mark.parametrize("module", ["operations.database", "operations.local_run", "coordination.process.main"])
def test_only_a_migration_imports_alembic(module: str) -> None:
    script = f"import sys, cord_worker.{module}\nsys.exit('alembic' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("path", commands(cli), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, [*path, "--help"])
    assert result.exit_code == 0, result.output
    usage, _, rest = result.output.partition("\n")
    assert usage.startswith("Usage: ")
    assert len(rest.strip().splitlines()[0].strip()) > 10
