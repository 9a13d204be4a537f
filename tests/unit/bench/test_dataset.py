"""The dataset that `bench enqueue` writes."""

from __future__ import annotations

from pathlib import Path

from cord_worker.bench.enqueuing import write_dataset
from cord_worker.dataset import ProblemRecord, read_problems


def test_rows_are_good_problems_of_the_size_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_dataset(path, 50, 1024)
    records = list(read_problems(path))
    assert len({record.key for record in records if isinstance(record, ProblemRecord)}) == 50
    assert all(1000 <= len(line) <= 1100 for line in path.read_bytes().splitlines())


def test_equal_arguments_write_equal_bytes(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a.jsonl", 20, 512)
    write_dataset(tmp_path / "b.jsonl", 20, 512)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
