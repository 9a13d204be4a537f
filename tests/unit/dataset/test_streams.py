"""Files are read by their content, or rejected with the cause."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cord_worker.dataset import ProblemRecord, RejectedRecord, read_problems
from cord_worker.errors import DatasetError

LINES = '{"question": "Grün?", "answer": "ja"}\n{"question": "三?", "answer": "3"}\n'
TABLE = "question,answer\nGrün?,ja\n三?,3\n"


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


def answers(path: Path) -> list[str]:
    records = list(read_problems(path))
    assert all(isinstance(record, ProblemRecord) for record in records), records
    return [record.answer for record in records if isinstance(record, ProblemRecord)]


def write(tmp_path: Path, name: str, data: bytes) -> Path:
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("d.jsonl", gzip.compress(LINES.encode(), mtime=0)),
        ("d.jsonl", zstd(LINES.encode())),
        ("d.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("d.jsonl.zst", zstd(LINES.encode())),
        ("d.csv", gzip.compress(TABLE.encode(), mtime=0)),
        ("d.csv.zst", zstd(TABLE.encode())),
        ("d.jsonl", LINES.encode("utf-16")),
        ("d.csv", TABLE.encode("utf-16")),
        ("d.csv", b"\xfe\xff" + TABLE.encode("utf-16-be")),
        ("d.csv", gzip.compress(TABLE.encode("utf-16"), mtime=0)),
        ("d.json", ("[" + LINES.strip().replace("\n", ",") + "]").encode("utf-16")),
        ("d.tsv", TABLE.replace(",", "\t").encode()),
        ("d.tsv", TABLE.encode()),
        ("d.csv", TABLE.replace(",", ";").encode()),
        ("d.csv", TABLE.replace(",", "\t").encode()),
        ("d.csv", TABLE.replace(",", "|").replace("\n", "\r\n").encode()),
        ("d.CSV", TABLE.encode()),
        ("d.csv", b"sep=;\r\n" + TABLE.replace(",", ";").encode()),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:6].hex(),
)
def test_compression_encoding_and_delimiter_are_found(tmp_path: Path, name: str, data: bytes) -> None:
    assert answers(write(tmp_path, name, data)) == ["ja", "3"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("d.csv", TABLE.encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("d.csv", TABLE.encode("utf-32"), "is UTF-32"),
        ("d.csv", TABLE.encode("utf-16")[:-1], "not valid utf-16"),
        ("d.jsonl", gzip.compress(LINES.encode(), mtime=0)[:-9], "not a complete gzip file"),
        ("d.jsonl.zst", zstd(LINES.encode())[:-9], "cannot be read"),
        ("d.jsonl.zst", LINES.encode(), "is not a zstd file"),
        ("d.jsonl", bz2.compress(LINES.encode()), "compressed with bzip2"),
        ("d.jsonl", lzma.compress(LINES.encode()), "compressed with xz"),
        ("d.csv", b"PK\x03\x04 and more", "zip archive"),
        ("d.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        ("d.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        ("d.jsonl", b"\n<!DOCTYPE html><html>", "HTML page"),
        ("d.jsonl", b"PAR1abcPAR1", "is a Parquet file"),
        ("d.jsonl", b'[\n {"question": "q", "answer": "a"}\n]\n', "one JSON document"),
        ("d.csv", b"question;answer|more\na;b|c\n", "separated by ';' or '|'"),
        ("d.xlsx", b"PK\x03\x04", "unknown kind of file '.xlsx'"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:6].hex(),
)
def test_an_unreadable_file_is_refused_with_its_cause(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = write(tmp_path, name, data)
    with pytest.raises(DatasetError, match=message) as raised:
        list(read_problems(path))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_header_without_any_delimiter_is_one_column(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no field looks like the answer.*'question'"):
        list(read_problems(write(tmp_path, "d.csv", b"question\na\n")))


def test_a_decimal_comma_between_semicolons_is_kept_as_written(tmp_path: Path) -> None:
    assert answers(write(tmp_path, "d.csv", b"question;answer\nHalf?;0,50\n")) == ["0,50"]


def table(tmp_path: Path, answer: pa.Array, **more: pa.Array) -> list[ProblemRecord | RejectedRecord]:
    names = [f"q{number}" for number in range(len(answer))]
    pq.write_table(pa.table({"question": names, "answer": answer, **more}), tmp_path / "d.parquet")
    return list(read_problems(tmp_path / "d.parquet"))


@pytest.mark.parametrize(
    ("kind", "values", "texts"),
    [
        (pa.float32(), [0.1, 2.5, 12, 1e-5, 16777216, -0.3], ["0.1", "2.5", "12", "0.00001", "16777216", "-0.3"]),
        (pa.float64(), [0.1, 1e-6, 3, 1e22, 123456789.123], ["0.1", "0.000001", "3", "1e22", "123456789.123"]),
        (pa.float32(), [987654336.0, -33554436.0, -0.0], ["987654336", "-33554436", "-0"]),
        (pa.float64(), [2.0**61, 1e20], ["2305843009213693952", "100000000000000000000"]),
        (pa.decimal128(20, 4), ["2.5000", "100.0000"], ["2.5000", "100.0000"]),
        (pa.int64(), [2**62, -7], [str(2**62), "-7"]),
        (pa.uint64(), [2**64 - 1], [str(2**64 - 1)]),
        (pa.binary(), [b"blue", "grün".encode()], ["blue", "grün"]),
        (pa.large_binary(), [b"blue"], ["blue"]),
        (pa.list_(pa.float32()), [[0.1, 0.2]], ["0.1, 0.2"]),
        (pa.dictionary(pa.int8(), pa.string()), ["yes", "no"], ["yes", "no"]),
    ],
    ids=str,
)
def test_an_answer_in_a_table_is_the_text_of_its_type(
    tmp_path: Path, kind: pa.DataType, values: list[object], texts: list[str]
) -> None:
    if pa.types.is_decimal(kind):
        array = pa.array(values).cast(kind)
    elif pa.types.is_dictionary(kind):
        array = pa.array(values).dictionary_encode()
    else:
        array = pa.array(values, kind)
    assert [getattr(record, "answer", record) for record in table(tmp_path, array)] == texts


def test_half_precision_is_read_as_written(tmp_path: Path) -> None:
    import numpy as np

    halves = pa.array(np.array([0.7, 2], dtype=np.float16), pa.float16())
    assert [getattr(record, "answer", record) for record in table(tmp_path, halves)] == ["0.7", "2"]


def test_bytes_that_are_not_text_are_no_answer_but_may_be_in_other_fields(tmp_path: Path) -> None:
    refused, good = table(tmp_path, pa.array([b"\xff\xfe", b"ok"]), image=pa.array([b"a", b"\x00\xff"]))
    assert isinstance(refused, RejectedRecord)
    assert (refused.field, "not UTF-8" in refused.reason) == ("answer", True)
    assert isinstance(good, ProblemRecord)
    assert good.metadata == {"image": "AP8="}


def test_times_of_nanoseconds_are_kept(tmp_path: Path) -> None:
    (first, second) = table(tmp_path, pa.array(["1", "2"]), at=pa.array([0, 1_000_000_001], pa.timestamp("ns")))
    assert isinstance(first, ProblemRecord)
    assert isinstance(second, ProblemRecord)
    assert first.metadata == {"at": "1970-01-01T00:00:00"}
    assert second.metadata == {"at": "1970-01-01T00:00:01.000000001"}
