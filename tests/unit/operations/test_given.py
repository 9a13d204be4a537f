"""Datasets and configurations that a Python program gives, as files that are read like any other."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord, RejectedRecord, read_problems, rejection_error
from cord_worker.errors import ConfigError, DatasetError
from cord_worker.operations.given_configs import given_config
from cord_worker.operations.given_datasets import dataset_path
from cord_worker.presets import PRESETS, preset_text

ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": "Was ist 2 + 2?", "answer": "4", "level": 1},
    {"id": "b", "question": "What is 1/2?", "answer": "0.5", "level": 2},
]


def records(dataset: object) -> list[ProblemRecord | RejectedRecord]:
    with dataset_path(dataset) as path:
        return list(read_problems(path))


def values(dataset: object) -> list[tuple[Any, ...]]:
    found = records(dataset)
    assert all(isinstance(one, ProblemRecord) for one in found), found
    return [(one.key, one.question, one.answer, one.metadata) for one in found if isinstance(one, ProblemRecord)]


GIVEN = {
    "list": ROWS,
    "generator": (row for row in ROWS),
    "tuple": tuple(ROWS),
    "table": pa.Table.from_pylist(ROWS),
    "reader": pa.Table.from_pylist(ROWS).to_reader(1),
    "pandas": pd.DataFrame(ROWS, index=["x", "y"]),
    "pandas, another order": pd.DataFrame(ROWS[::-1]).iloc[::-1],
    "polars": pl.DataFrame(ROWS),
    "numpy": [{**row, "level": np.int64(row["level"])} for row in ROWS],
}


@pytest.mark.parametrize("kind", GIVEN)
def test_rows_of_every_kind_are_the_same_problems(kind: str) -> None:
    assert values(GIVEN[kind]) == [
        ("a", "Was ist 2 + 2?", "4", {"level": 1}),
        ("b", "What is 1/2?", "0.5", {"level": 2}),
    ]


def test_a_path_stays_itself_and_rows_leave_no_file() -> None:
    with dataset_path("somewhere/rows.jsonl") as path:
        assert path == Path("somewhere/rows.jsonl")
    with dataset_path(ROWS) as path:
        assert isinstance(path, Path)
        assert path.is_file()
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "", "answer": "4"}, "is empty"),
        ({"question": "What?", "answer": "\ud800"}, "surrogate"),
        ({"question": "What?", "answer": "4", "more": {1: "a", "1": "b"}}, "twice"),
        ({"question": "What?"}, "is missing"),
    ],
)
def test_a_bad_row_is_rejected_in_its_place(row: dict[str, Any], reason: str) -> None:
    found = records([*ROWS, row])
    assert isinstance(found[2], RejectedRecord)
    assert found[2].location == "rows.jsonl:3"
    assert reason in found[2].reason


def test_a_missing_value_of_a_table_is_missing_and_not_a_text() -> None:
    found = records(pd.DataFrame([*ROWS, {"id": "c", "question": "What?", "answer": None, "level": math.nan}]))
    assert isinstance(found[2], RejectedRecord)
    assert (found[2].location, found[2].field) == ("rows.parquet:3", "answer")


def broken() -> Iterator[dict[str, Any]]:
    yield ROWS[0]
    raise OSError("the source is gone")


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ([], "holds no rows"),
        (pd.DataFrame({"question": []}), "holds no rows"),
        (ROWS[0], "dict is not a dataset"),
        (b"rows.jsonl", "bytes is not a dataset"),
        (7, "int is not a dataset"),
        (None, "NoneType is not a dataset"),
        ("", "is empty"),
        ("https://example.org/rows.jsonl", "is a URL"),
        ([ROWS[0], "What?"], "row 2 of the dataset is of the type str"),
        ([{1: "What?"}], "row 1 of the dataset: the name of the field 1 is not text"),
        ([{"question": "What?", "answer": {"4"}}], "field 'answer' cannot be written as JSON: a value of the type set"),
        (pd.DataFrame([[1, 2]], columns=["question", "question"]), "DataFrame cannot be read as a table"),
        (pd.Series(["What?"]), "Series cannot be read as a table"),
        (pl.Series(["What?"]), "Series cannot be read as a table"),
    ],
    ids=str,
)
def test_what_is_no_dataset_is_refused_in_one_line(dataset: object, told: str) -> None:
    with pytest.raises(DatasetError) as raised:
        records(dataset)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_error_of_the_source_stays_that_error() -> None:
    with pytest.raises(OSError, match="the source is gone"):
        records(broken())


@pytest.mark.parametrize("name", PRESETS)
def test_a_configuration_is_the_same_as_a_file_a_mapping_and_an_object(name: str, tmp_path: Path) -> None:
    file = tmp_path / "cord.toml"
    file.write_text(preset_text(name), encoding="utf-8")
    from_file = given_config(file)
    assert from_file.path == file
    from_mapping = given_config(tomllib.loads(preset_text(name)))
    from_object = given_config(from_mapping.config)
    assert from_file.config.fingerprint() == from_mapping.config.fingerprint() == from_object.config.fingerprint()
    assert from_object.config == from_mapping.config
    for given in (from_mapping, from_object):
        # Worker processes read this file.
        written = given.file(tmp_path / "state")
        assert RunConfig.load(written) == given.config
        assert written.stat().st_mode & 0o777 == 0o600


def test_a_relative_folder_of_a_mapping_is_one_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    given = given_config(
        {
            "models": {"m": {"path": Path("mine"), "engine": "instant"}},
            "teachers": ({"name": "m", "model": "m"},),
            "prover": {"model": "m"},
        }
    )
    assert given.config.models["m"].path == str(tmp_path / "mine")
    monkeypatch.chdir("/")
    assert RunConfig.load(given.file(tmp_path / "state")) == given.config


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "models: is missing"),
        ({"models": None}, "cannot be written as TOML"),
        (7, "int is not a configuration"),
        ("", "is empty"),
        ("nowhere.toml", "no such file"),
        ({"serch": {}}, "serch"),
    ],
    ids=str,
)
def test_what_is_no_configuration_is_refused(config: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        given_config(config)


@pytest.mark.parametrize("rows", [[{"question": "q", "answer": math.nan}], [{"question": "q"}], [{"x": 1}]])
def test_errors_name_rows_without_the_temporary_folder(rows: list[dict[str, Any]]) -> None:
    paths: list[str] = []

    def read() -> None:
        with dataset_path(rows) as path:
            paths.append(str(path))
            for record in read_problems(path):
                if isinstance(record, RejectedRecord):
                    raise rejection_error(record)

    with pytest.raises(DatasetError, match=r"rows\.jsonl") as caught:
        read()
    assert paths
    assert paths[0].removesuffix("rows.jsonl") not in str(caught.value)


def test_a_row_that_is_no_mapping_is_named_by_its_type() -> None:
    with pytest.raises(DatasetError, match="row 1 of the dataset is of the type int, not a mapping"):
        records([1])
