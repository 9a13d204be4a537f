"""The file's name decides its file type, and every field has one type for all readers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
import pytest

from cord_worker.dataset.records import NumberText
from cord_worker.export import rows as rows_module
from cord_worker.export.file_types import FileType, check_output, file_type_of
from cord_worker.export.files import ExportError
from cord_worker.export.metadata import MAX_FIELDS, Metadata
from cord_worker.export.rows import write_rows

ROWS: list[dict[str, Any]] = [{"id": "a", "score": 0.5}, {"id": "b", "score": None}]
SCHEMA = {"id": "text", "score": "number"}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("-", FileType.LINES),
        ("out.jsonl", FileType.LINES),
        ("OUT.JSONL", FileType.LINES),
        ("a.b/run.v2.jsonl.gz", FileType.GZIP_LINES),
        ("out.jsonl.zst", FileType.ZSTD_LINES),
        ("out.parquet", FileType.PARQUET),
    ],
)
def test_the_files_name_decides_its_type(name: str, form: FileType) -> None:
    assert file_type_of(name) is form


@pytest.mark.parametrize(
    "name",
    ["out", "out.json", "out.csv", "out.txt", "out.gz", "out.zst", "out.parquet.gz", "out.jsonl.bz2", ".jsonl"],
)
def test_any_other_ending_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match=r"\.jsonl, \.jsonl\.gz, \.jsonl\.zst, \.parquet, or give -"):
        check_output(str(tmp_path / "x" / name))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "message"), [("", "no name"), ("new.jsonl/", "folder")])
def test_an_output_that_is_no_file_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        file_type_of(name)


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    if path.suffix == ".zst":
        data = pa.input_stream(str(path), compression="zstd").read()
    else:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in data.decode().splitlines()]


@pytest.mark.parametrize("ending", [form.value for form in FileType])
def test_every_file_type_writes_the_same_rows_as_the_same_bytes(tmp_path: Path, ending: str) -> None:
    first, second = tmp_path / f"one{ending}", tmp_path / f"two{ending}"
    assert write_rows(str(first), iter(ROWS), SCHEMA) == write_rows(str(second), iter(ROWS), SCHEMA) == 2
    assert read(first) == ROWS
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, second.name]


@pytest.mark.parametrize("ending", [form.value for form in FileType])
def test_a_failure_while_writing_leaves_the_old_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out{ending}"
    path.write_bytes(b"old")

    def failing() -> Any:
        yield ROWS[0]
        raise LookupError("half way")

    with pytest.raises(LookupError):
        write_rows(str(path), failing(), SCHEMA)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"], ids=ascii)
def test_a_line_separator_in_a_text_does_not_end_its_line(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "out.jsonl"
    write_rows(str(path), [{"id": f"one{separator}two"}], {"id": "text"})
    (line,) = path.read_text("utf-8").splitlines()
    assert json.loads(line) == {"id": f"one{separator}two"}


KINDS = {
    "level": frozenset({"integer"}),
    "share": frozenset({"integer", "number", "null"}),
    "topic": frozenset({"string", "null"}),
    "easy": frozenset({"boolean"}),
    "mixed": frozenset({"string", "object", "integer"}),
    "tags": frozenset({"array"}),
    "long": frozenset({"exact"}),
    "wide": frozenset({"integer", "wide"}),
    "wider": frozenset({"wide", "number"}),
    "none": frozenset({"null"}),
}
ATTRIBUTES: list[dict[str, Any]] = [
    {"level": 1, "share": 1, "topic": "sums", "easy": True, "mixed": {"a": [1]}, "tags": ["x"], "none": None},
    {
        "wide": 2**53 + 1,
        "wider": 2**53 + 1,
        "share": 0.5,
        "topic": None,
        "mixed": "text",
        "long": NumberText(0.1, "0.12345678901234567890"),
    },
    {},
]


def test_metadata_has_one_type_per_field(tmp_path: Path) -> None:
    metadata = Metadata(KINDS)
    rows = [{"metadata": metadata.of(attributes)} for attributes in ATTRIBUTES]
    assert [list(row["metadata"]) for row in rows] == [sorted(KINDS)] * 3
    first, second, third = (row["metadata"] for row in rows)
    assert (first["level"], first["share"], first["topic"], first["easy"]) == (1, 1.0, "sums", True)
    assert (first["mixed"], second["mixed"], first["tags"]) == ('{"a": [1]}', '"text"', '["x"]')
    assert second["long"] == "0.12345678901234567890"
    assert (second["wide"], second["wider"]) == (2**53 + 1, str(2**53 + 1))
    assert set(third.values()) == {None}
    for ending in (".jsonl", ".parquet"):
        path = tmp_path / f"out{ending}"
        write_rows(str(path), rows, {"metadata": metadata.schema})
        assert read(path) == rows
    # A reader without a schema infers the same one.
    found = pyarrow.json.read_json(tmp_path / "out.jsonl").to_pylist()
    assert found == rows


def test_without_metadata_it_is_empty_and_readable(tmp_path: Path) -> None:
    metadata = Metadata({})
    assert metadata.of({}) == {}
    path = tmp_path / "out.parquet"
    write_rows(str(path), [{"metadata": metadata.of({})}], {"metadata": metadata.schema})
    assert pq.read_table(path).num_rows == 1


def test_fields_that_differ_in_every_row_become_one_text() -> None:
    metadata = Metadata({f"field{number}": frozenset({"string"}) for number in range(MAX_FIELDS + 1)})
    assert metadata.of({"field3": "x"}) == {"json": '{"field3": "x"}'}
    assert metadata.of({}) == {"json": None}


def test_row_groups_are_as_large_as_memory_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer keeps metadata of every group until the end, so many small ones would let memory grow."""
    groups = []
    for limit in (1 << 40, 0):
        monkeypatch.setattr(rows_module, "_GROUP_BYTES", limit)
        output = tmp_path / "rows.parquet"
        written = [{"id": str(number)} for number in range(3500)]
        assert write_rows(str(output), written, {"id": "text"}) == 3500
        assert pq.read_table(output).to_pylist() == written
        groups.append(pq.ParquetFile(output).metadata.num_row_groups)
    assert groups == [1, 4]
