"""An output file is complete or unchanged."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest

from cord_worker.export.files import ExportError, check_writable, replaced_file


def test_the_file_appears_once_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    with replaced_file(str(target)) as file:
        file.write(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_the_old_file_stays_if_writing_fails(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_bytes(b"old")
    with contextlib.suppress(ValueError), replaced_file(str(target)) as file:
        file.write(b"new")
        raise ValueError("half way")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_the_permissions_of_an_existing_file_are_kept(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.touch()
    target.chmod(0o640)
    with replaced_file(str(target)) as file:
        file.write(b"new")
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("present", [True, False])
def test_a_link_stays_and_the_file_that_it_names_is_replaced(tmp_path: Path, present: bool) -> None:
    target, link = tmp_path / "elsewhere" / "out.jsonl", tmp_path / "out.jsonl"
    target.parent.mkdir()
    if present:
        target.write_bytes(b"old")
    link.symlink_to(Path("elsewhere") / "out.jsonl")
    with replaced_file(str(link)) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert [path.name for path in target.parent.iterdir()] == ["out.jsonl"]


@pytest.mark.parametrize(("name", "what"), [("", "is a folder"), ("missing/out.jsonl", "does not exist")])
def test_an_impossible_output_path_is_named(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(ExportError, match=what):
        check_writable(str(tmp_path / name))


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    with replaced_file(str(pipe)) as file:
        file.write(b"new")
    reader.join(10)
    assert received == [b"new"]
    assert pipe.is_fifo()


def test_a_folder_that_only_seems_writable_is_named_before_any_work() -> None:
    if not Path("/proc").is_dir():
        pytest.skip("needs /proc")
    with pytest.raises(ExportError, match="cannot be written"):
        check_writable("/proc/out.jsonl")


def test_files_of_a_killed_writer_are_removed_and_those_of_a_running_one_are_not(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    with replaced_file(str(target)) as other:
        other.write(b"other")
        (tmp_path / ".out.jsonl.999999999.abcdefgh.part").write_bytes(b"half")
        with replaced_file(str(target)) as file:
            file.write(b"new")
        assert target.read_bytes() == b"new"
    assert target.read_bytes() == b"other"
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 250)
    with replaced_file(str(target)) as file:
        file.write(b"new")
    assert target.read_bytes() == b"new"


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "cord.toml").touch()
    for output in ("cord.toml/x.jsonl", "cord.toml/deeper/x.jsonl"):
        with pytest.raises(ExportError, match=r"cord\.toml is not a folder"):
            check_writable(str(tmp_path / output))
    with pytest.raises(ExportError, match=r"none/deeper does not exist"):
        check_writable(str(tmp_path / "none" / "deeper" / "x.jsonl"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_device_is_named() -> None:
    with (
        pytest.raises(ExportError, match="/dev/full cannot be written: No space left"),
        replaced_file("/dev/full") as f,
    ):
        f.write(b"x" * 100_000)
