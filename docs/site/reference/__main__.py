"""Writes docs/reference and docs/llms.txt again."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cord_worker.local.services import LocalServices
from cord_worker.store.database import Database
from cord_worker.store.schema.migration import upgrade
from docs.site.index import DOCS, list_for_language_models
from docs.site.reference import FROM_CODE, FROM_DATABASE

FOLDER = DOCS / "reference"


@contextlib.contextmanager
def migrated_database() -> Iterator[str]:
    """The URL of a database with the newest schema: CORD_DATABASE_URL, which is migrated, or a temporary one."""
    if named := os.environ.get("CORD_DATABASE_URL"):
        upgrade(named)
        yield named
        return
    folder = Path(tempfile.mkdtemp(prefix="cord-reference-"))
    services = LocalServices(folder / "state")
    try:
        url = services.ensure_started().database_url
        upgrade(url)
        yield url
    finally:
        services.release()
        # The watchdog of the servers, which ends a moment later, may still write here.
        while folder.exists():
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Writes every page, and the list for language models."""
    FOLDER.mkdir(exist_ok=True)
    for name, page in FROM_CODE.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
    with migrated_database() as url:
        database = Database(url)
        for name, read_page in FROM_DATABASE.items():
            (FOLDER / name).write_text(database.run(read_page), encoding="utf-8")
        database.close()
    (DOCS / "llms.txt").write_text(list_for_language_models(), encoding="utf-8")
    print(f"wrote {len(FROM_CODE) + len(FROM_DATABASE)} pages to {FOLDER}")


if __name__ == "__main__":
    main()
