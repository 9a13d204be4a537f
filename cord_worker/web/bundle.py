"""`cordctl report --bundle DIR`: a run as a folder of static files, with a file for each problem."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from cord_worker.display_text import counted
from cord_worker.export.files import ExportError
from cord_worker.local import limits, processes
from cord_worker.store.database import Database
from cord_worker.store.runs.runs import resolve_run
from cord_worker.web.file_documents import positions_of, problem_documents, run_documents, site_of
from cord_worker.web.pages import APP_SCRIPT, APP_STYLE, App, page
from cord_worker.web.paths import encoded

MARK = "cord-bundle.json"
"""The file that marks a folder as a bundle, so that no other folder is replaced."""
LICENCES = "THIRD-PARTY-LICENCES.txt"
_PART = ".part"


@dataclass(frozen=True, slots=True)
class Bundle:
    """The bundle that was written: its run and folder, the numbers of its problems and files, and their bytes."""

    run: str
    folder: str
    problems: int
    files: int
    bytes: int

    def sentence(self) -> str:
        """One sentence for the terminal."""
        return (
            f"{self.folder}: {counted(self.problems, 'problem')} in {counted(self.files, 'file')}. A browser can "
            f"read it only from a web server, such as: python -m http.server --bind 127.0.0.1 --directory {self.folder}"
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON object for scripts; keys are stable."""
        return {
            "run": self.run,
            "output": self.folder,
            "problems": self.problems,
            "files": self.files,
            "bytes": self.bytes,
        }


def check_bundle_folder(folder: str) -> None:
    """Raises ExportError if the folder cannot be made, or exists and is not a bundle."""
    target = Path(folder)
    if not folder or target.name in ("", ".."):
        raise ExportError("the bundle's folder has no name: give one.")
    if not target.parent.is_dir():
        raise ExportError(f"{target} cannot be made: the folder {target.parent} does not exist. Make it first.")
    if target.exists() and not (target / MARK).is_file() and not _is_empty(target):
        raise ExportError(f"{target} exists and is not a bundle: name another folder, or remove it first.")


def write_bundle(database: Database, run_name: str | None, folder: str, *, keys: Sequence[str] = ()) -> Bundle:
    """Writes the run with all of its problems, or those named by `keys`, to `folder`. The files are written to a
    temporary folder next to it, which is then renamed and replaces an older bundle.

    Raises ExportError if the folder cannot be written; RunNotFound; StoreError for an unknown problem.
    """
    check_bundle_folder(folder)
    target = Path(folder)
    app = App.read()
    try:
        _remove_leftovers(target)
        part = target.parent / f".{target.name[:50]}.{os.getpid()}{_PART}"
        part.mkdir()
        try:
            with database.transaction(one_snapshot=True) as connection:
                run = resolve_run(connection, run_name)
                chosen = positions_of(connection, run, keys)
                writer = _Writer(part)
                shared, problems = run_documents(connection, run)
                for path, document in shared.items():
                    writer.write(path, encoded(document))
                positions = chosen if keys else problems.rows.position
                for position in positions:
                    for path, document in problem_documents(connection, run, position):
                        writer.write(path, encoded(document))
            writer.write(APP_SCRIPT, app.script)
            writer.write(APP_STYLE, app.style)
            licences = files("cord_worker.web") / "static" / LICENCES
            if licences.is_file():
                writer.write(LICENCES, licences.read_bytes())
            writer.write("index.html", page(site_of(run, "bundle", whole_problems=chosen if keys else None)).encode())
            writer.write(MARK, encoded({"run": run.name}))
            _put_in_place(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        reason = limits.limit_that_caused(error) or str(error.strerror or error)
        raise ExportError(f"{target} cannot be written: {reason}.") from error
    return Bundle(run.name, folder, len(positions), writer.files, writer.bytes)


class _Writer:
    """Writes files below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files = self.bytes = 0

    def write(self, path: str, data: bytes) -> None:
        """Writes one file, and makes the folders above it."""
        file = self._folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        self.files += 1
        self.bytes += len(data)


def _put_in_place(part: Path, target: Path) -> None:
    if not target.exists():
        part.rename(target)
        return
    old = part.with_name(f"{part.name}.old")
    target.rename(old)
    try:
        part.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and next(folder.iterdir(), None) is None


def _remove_leftovers(target: Path) -> None:
    """Removes the unfinished folders of writers that were killed."""
    prefix = f".{target.name[:50]}."
    for left in target.parent.iterdir():
        pid = left.name.removeprefix(prefix).partition(".")[0]
        is_ours = left.name.startswith(prefix) and _PART in left.name and pid.isdigit() and left.is_dir()
        if is_ours and processes.identify(int(pid)) is None:
            shutil.rmtree(left, ignore_errors=True)
