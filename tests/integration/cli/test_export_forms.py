"""`cordctl export` of a run whose rows have different additional fields."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
import pytest

from tests.support.cordctl_process import Cordctl, prepared

ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": "One\u2028two?", "answer": "1", "note": None, "level": 1},
    {"id": "b", "question": "b?", "answer": 0.000001, "note": {"x": [1, 2.50]}, "level": 2, "context": "A text."},
    {"id": "c", "question": "c?", "answer": ["3", "4"], "note": "text", "share": 0.12345678901234567891},
    {"id": "d", "question": "d?", "answer": "So it is.\n#### 7", "note": [1, "a"], "level": 3},
]


@pytest.fixture(scope="module")
def mixed(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
    fresh_keys: Callable[[], AbstractContextManager[str]],
) -> Iterator[Cordctl]:
    """A finished run of the rows; `run` wrote `out.parquet`."""
    folder = tmp_path_factory.mktemp("mixed")
    with migrated_database() as url, fresh_keys() as prefix:
        cordctl = prepared(folder, {"CORD_DATABASE_URL": url, "CORD_BROKER_URL": broker_url, "CORD_KEY_PREFIX": prefix})
        lines = [json.dumps(row).replace("0.12345678901234568", "0.12345678901234567891") for row in ROWS]
        (folder / "problems.jsonl").write_text("\n".join(lines), encoding="utf-8")
        ended = cordctl("run", "problems.jsonl", "--run", "mixed", "-o", "out.parquet")
        assert "worked solution" in ended.stderr
        yield cordctl


@pytest.mark.long
def test_every_form_holds_the_same_rows(mixed: Cordctl) -> None:
    for name in ("out.jsonl", "out.jsonl.gz", "out.jsonl.zst"):
        mixed("export", "mixed", "-o", name)
    table = pq.read_table(mixed.folder / "out.parquet").to_pylist()
    plain = (mixed.folder / "out.jsonl").read_bytes()
    assert [json.loads(line) for line in plain.decode().splitlines()] == table
    assert gzip.decompress((mixed.folder / "out.jsonl.gz").read_bytes()) == plain
    assert pa.input_stream(str(mixed.folder / "out.jsonl.zst"), compression="zstd").read() == plain
    assert [(row["id"], row["answer"]) for row in table] == [("a", "1"), ("b", "1e-06"), ("c", "3, 4"), ("d", "7")]
    assert table[1]["passage"] == "A text."
    assert table[0]["passage"] is None


def test_a_reader_without_a_schema_finds_one_type_a_field(mixed: Cordctl) -> None:
    mixed("export", "mixed", "-o", "out.jsonl")
    lines = [json.loads(line) for line in (mixed.folder / "out.jsonl").read_text("utf-8").splitlines()]
    assert len({json.dumps([list(line), list(line["metadata"])]) for line in lines}) == 1
    found = pyarrow.json.read_json(mixed.folder / "out.jsonl")
    assert found.to_pylist() == lines
    metadata = [line["metadata"] for line in lines]
    assert [json.loads(row["note"]) if row["note"] else None for row in metadata] == [row["note"] for row in ROWS]
    assert [row["level"] for row in metadata] == [1, 2, None, 3]
    assert metadata[2]["share"] == "0.12345678901234567891"
    assert json.loads(metadata[3]["answer"]) == ROWS[3]["answer"]


def test_an_export_can_be_read_as_a_dataset(mixed: Cordctl) -> None:
    for name in ("out.parquet", "again.jsonl.zst"):
        mixed("export", "mixed", "-o", name)
        result = mixed("validate", name).stdout
        assert "4 problems, 0 invalid rows" in result
        assert "question from 'question', answer from 'answer', passage from 'passage', id from 'id'" in result


def test_another_name_is_refused_before_any_work(mixed: Cordctl) -> None:
    before = sorted(path.name for path in mixed.folder.iterdir())
    for command in (
        ("export", "mixed", "-o", "out.json"),
        ("export", "mixed", "-o", "fine.jsonl", "--failures", "failed.csv"),
        ("run", "problems.jsonl", "--run", "mixed", "-o", "out"),
        ("eval", "problems.jsonl", "--model", "alpha", "-o", "samples.json"),
    ):
        assert ".jsonl, .jsonl.gz, .jsonl.zst, .parquet" in mixed(*command, exits=1).stderr
    assert sorted(path.name for path in mixed.folder.iterdir()) == before
