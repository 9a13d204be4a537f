"""Datasets as files of every format, and the records that are read from them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cord_worker.dataset import ProblemRecord, RejectedRecord, read_problems

GOOD = '{"question": "1 + 1?", "answer": "2", "id": "a"}'


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def problems(path: Path, **options: Any) -> list[ProblemRecord]:
    records = list(read_problems(path, **options))
    assert not [record for record in records if isinstance(record, RejectedRecord)]
    return [record for record in records if isinstance(record, ProblemRecord)]


def only_rejected(path: Path, **options: Any) -> RejectedRecord:
    (rejected,) = [record for record in read_problems(path, **options) if isinstance(record, RejectedRecord)]
    return rejected


def read_rows(tmp_path: Path, *rows: dict[str, Any], **options: Any) -> list[ProblemRecord | RejectedRecord]:
    """The records of a JSONL file with these rows."""
    path = write(tmp_path / "d.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return list(read_problems(path, **options))


def only_problem(tmp_path: Path, row: dict[str, Any], **options: Any) -> ProblemRecord:
    """The problem of a file with this one row; fails if the row is refused."""
    (problem,) = read_rows(tmp_path, row, **options)
    assert isinstance(problem, ProblemRecord), problem
    return problem


def reason_of_refusal(tmp_path: Path, row: dict[str, Any]) -> str:
    """Why a row is refused; fails if it is not."""
    (refused,) = read_rows(tmp_path, row)
    assert isinstance(refused, RejectedRecord), refused
    return refused.reason


def rejected_line(tmp_path: Path, line: str | bytes) -> RejectedRecord:
    """The rejection of a line between two good ones, which must stay."""
    body = line if isinstance(line, bytes) else line.encode()
    path = write(tmp_path / "d.jsonl", GOOD.encode() + b"\n" + body + b"\n" + GOOD.encode() + b"\n")
    records = list(read_problems(path))
    assert [type(record) for record in records] == [ProblemRecord, RejectedRecord, ProblemRecord]
    rejected = records[1]
    assert isinstance(rejected, RejectedRecord)
    assert rejected.location == "d.jsonl:2"
    json.dumps(rejected.raw, allow_nan=False).encode()
    return rejected


ROWS: list[dict[str, Any]] = [
    {"question": f"What is {n} + {n}?", "answer": str(2 * n), "id": f"p{n}", "level": "x"} for n in range(5)
]


def as_jsonl(path: Path) -> Path:
    return write(path / "d.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))


def as_ndjson(path: Path) -> Path:
    return as_jsonl(path).rename(path / "d.ndjson")


def as_gzip(path: Path) -> Path:
    return write(path / "d.jsonl.gz", gzip.compress(as_jsonl(path).read_bytes()))


def as_json(path: Path) -> Path:
    return write(path / "d.json", json.dumps(ROWS, indent=1))


def as_json_object(path: Path) -> Path:
    return write(path / "d.json", json.dumps({"version": {"n": 1}, "data": ROWS, "count": 5}))


def as_csv(path: Path) -> Path:
    text = "id,question,answer,level\r\n" + "".join(
        f'{row["id"]},"{row["question"]}",{row["answer"]},x\r\n' for row in ROWS
    )
    return write(path / "d.csv", text)


def as_parquet(path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), path / "d.parquet", row_group_size=2)
    return path / "d.parquet"


def save_stream(folder: Path, files: list[list[dict[str, Any]]]) -> Path:
    """The layout of `datasets.save_to_disk`."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05d}-of-{len(files):05d}.arrow" for n in range(len(files))]
    for name, rows in zip(names, files, strict=True):
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(folder / name), "wb") as out, pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table, max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def as_folder(path: Path) -> Path:
    return save_stream(path / "d", [ROWS[:3], ROWS[3:]])


FORMATS = [as_jsonl, as_ndjson, as_gzip, as_json, as_json_object, as_csv, as_parquet, as_folder]
