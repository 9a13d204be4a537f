"""`cordctl db psql`: what psql is called with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from cord_worker.config import Settings
from cord_worker.operations import psql


@pytest.mark.parametrize(
    ("url", "argument", "password"),
    [
        ("postgresql+psycopg://me:s%40cret@db.example:6543/cord", "postgresql://me@db.example:6543/cord", "s@cret"),
        ("postgresql://me@db.example/cord?sslmode=require", "postgresql://me@db.example/cord?sslmode=require", None),
    ],
)
def test_psql_gets_the_url_without_its_password_and_the_password_by_its_environment(
    url: str, argument: str, password: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said.json"
    program = tmp_path / "psql"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"json.dump([sys.argv[1:], os.environ.get('PGPASSWORD')], open({str(said)!r}, 'w'))\nsys.exit(3)\n"
    )
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PGPASSWORD", raising=False)
    assert psql.run_psql(Settings(database_url=url), ["-c", "SELECT 1"]) == 3
    assert json.loads(said.read_text()) == [[argument, "-c", "SELECT 1"], password]
