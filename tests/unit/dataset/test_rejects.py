from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cord_worker.dataset import RejectedRecord, read_problems, rejection_error, write_rejects
from cord_worker.errors import DatasetError

BAD = RejectedRecord("d.jsonl:17", "answer", "is empty: every problem needs its reference answer", {"answer": ""})


def test_rejects_are_appended_to_a_file_next_to_the_dataset(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    write_rejects(path, [BAD])
    target = write_rejects(path, iter([RejectedRecord("d.jsonl:18", None, "the line is not JSON", "{")]))

    assert target == tmp_path / "d.jsonl.rejects.jsonl"
    assert [json.loads(line) for line in target.read_text("utf-8").splitlines()] == [
        {"location": BAD.location, "field": BAD.field, "reason": BAD.reason, "raw": BAD.raw},
        {"location": "d.jsonl:18", "field": None, "reason": "the line is not JSON", "raw": "{"},
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == [target.name]


def test_a_failure_while_writing_leaves_the_old_rejects_unchanged(tmp_path: Path) -> None:
    def failing() -> Iterator[RejectedRecord]:
        yield BAD
        raise DatasetError("cut off")

    target = write_rejects(tmp_path / "d.jsonl", [BAD])
    before = target.read_bytes()
    with pytest.raises(DatasetError, match="cut off"):
        write_rejects(tmp_path / "d.jsonl", failing())

    assert target.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [target.name]


def test_no_rejects_make_no_file(tmp_path: Path) -> None:
    assert not write_rejects(tmp_path / "d.jsonl", []).exists()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be written"):
        write_rejects(tmp_path / "none" / "d.jsonl", [BAD])


def test_every_refused_row_of_a_file_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(
        b'{"question": "q", "answer": "a"}\n{"question": "\\ud800", "answer": NaN}\n\xff\n{"question": "q\\u0000"}\n'
    )
    rejected = [record for record in read_problems(path) if isinstance(record, RejectedRecord)]
    lines = write_rejects(path, rejected).read_text("utf-8").splitlines()

    assert [json.loads(line)["location"] for line in lines] == ["d.jsonl:2", "d.jsonl:3", "d.jsonl:4"]


def test_the_error_names_location_field_and_what_to_do() -> None:
    message = str(rejection_error(BAD, "skip such rows with --skip-invalid; nothing was enqueued"))

    assert message.startswith("d.jsonl:17: field 'answer' is empty")
    assert message.endswith("Correct the row, or skip such rows with --skip-invalid; nothing was enqueued.")


def test_an_error_without_another_way_names_no_option() -> None:
    assert str(rejection_error(BAD)).endswith(". Correct the row.")
