"""Datasets by hub id, read from a hub on loopback; the commands that take a DATASET take them."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from huggingface_hub import constants

from cord_worker.cli import cli
from cord_worker.dataset import ProblemRecord, read_problems
from cord_worker.dataset.hub import HubDataset, HubSnapshot, download, named_dataset
from cord_worker.errors import DatasetError, HubError
from tests.support.hub_server import READER, STRANGER, WRITER, Fault, HubServer, hub_server, use_hub, variables

ROWS: list[dict[str, Any]] = [
    {"id": f"p{n}", "question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(6)
]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that the library uses without a token; the present folder is empty."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with hub_server() as server:
        use_hub(monkeypatch, server, str(tmp_path / "cache"))
        yield server


def keys(snapshot: HubSnapshot) -> list[str]:
    return [record.key for record in read_problems(snapshot) if isinstance(record, ProblemRecord)]


def cordctl(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_a_dataset_is_read_like_a_folder_with_its_files(hub: HubServer) -> None:
    shards = {f"data/train-{n:05d}-of-00002.parquet": parquet(ROWS[3 * n : 3 * n + 3]) for n in range(2)}
    commit = hub.put("org/sums", {**shards, "notes.txt": b"no rows"})
    snapshot = download(HubDataset("org/sums"), None)
    assert (snapshot.id, snapshot.revision, snapshot.split) == ("org/sums", commit, "train")
    assert [file.name for file in snapshot.files] == [f"sums/{name}" for name in shards]
    records = list(read_problems(snapshot))
    assert [record.location for record in records][2:4] == [
        "sums/data/train-00000-of-00002.parquet:3",
        "sums/data/train-00001-of-00002.parquet:1",
    ]
    assert keys(snapshot) == [row["id"] for row in ROWS]


def test_only_the_files_of_the_split_are_downloaded(hub: HubServer) -> None:
    hub.put("org/sums", {"train.jsonl.gz": gzip.compress(lines(ROWS)), "test.jsonl": lines(ROWS[:1])})
    assert keys(download(HubDataset("org/sums"), "test")) == ["p0"]
    assert not any("train" in one for one in hub.asked)
    assert keys(download(HubDataset("org/sums"), "train")) == [row["id"] for row in ROWS]


def test_the_card_of_a_dataset_decides(hub: HubServer) -> None:
    card = "---\nconfigs:\n- config_name: a\n  data_files: x/*.jsonl\n- config_name: b\n  data_files: y.jsonl\n---\n"
    files = {"README.md": card.encode(), "x/1.jsonl": lines(ROWS[:2]), "y.jsonl": lines(ROWS[2:]), "z.jsonl": b"{}"}
    hub.put("org/sums", files)
    with pytest.raises(DatasetError, match=r"^org/sums holds several splits: .*: a/train, b/train"):
        download(HubDataset("org/sums"), None)
    snapshot = download(HubDataset("org/sums"), "b")
    assert snapshot.split == "b/train"
    assert keys(snapshot) == ["p2", "p3", "p4", "p5"]


def test_a_revision_is_pinned_when_it_is_resolved(hub: HubServer) -> None:
    first = hub.put("org/sums", {"train.jsonl": lines(ROWS[:1])})
    snapshot = download(HubDataset("org/sums"), None)
    hub.put("org/sums", {"train.jsonl": lines(ROWS)})
    hub.put("org/sums", {"train.jsonl": lines(ROWS[:2])}, "refs/convert/parquet")
    assert keys(snapshot) == ["p0"]
    assert keys(download(HubDataset("org/sums", first), None)) == ["p0"]
    assert len(keys(download(HubDataset("org/sums", "main"), None))) == len(ROWS)
    assert len(keys(download(HubDataset("org/sums", "refs/convert/parquet"), None))) == 2
    with pytest.raises(HubError, match="not this revision"):
        download(HubDataset("org/sums", "v9"), None)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"sums.py": b"raise SystemExit", "README.md": b""}, "scripts of a repository are never run"),
        ({"README.md": b""}, "holds no data files"),
        ({"state.json": b"{}", "data-00000-of-00001.arrow": b""}, "save_to_disk"),
        ({"train-00000-of-00002.jsonl": b"{}"}, "number 00001 is missing"),
        ({"train.jsonl": b"{}", "train.csv": b"a"}, "has files of several kinds"),
        ({"../../evil.jsonl": b"{}"}, "leads out of the repository"),
        ({"/evil.jsonl": b"{}"}, "leads out of the repository"),
        ({"README.md": b"---\nconfigs:\n- data_files: ../x.jsonl\n---\n", "a.jsonl": b"{}"}, "outside the folder"),
    ],
)
def test_a_repository_that_cannot_be_read_is_refused_in_one_sentence(
    hub: HubServer, files: dict[str, bytes], told: str
) -> None:
    hub.put("org/sums", files)
    with pytest.raises(DatasetError, match=told) as error:
        download(HubDataset("org/sums"), None)
    assert "cord-hub-" not in str(error.value)
    assert "org/sums" in str(error.value)


@pytest.mark.parametrize(
    ("token", "told"),
    [(None, "no token is set"), (STRANGER, "wrong or has expired"), (READER, None)],
)
def test_a_private_dataset_needs_a_token(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, told: str | None
) -> None:
    hub.put("org/sums", {"train.jsonl": lines(ROWS)}, private=True)
    use_hub(monkeypatch, hub, str(tmp_path / "cache"), token)
    if told is None:
        assert len(keys(download(HubDataset("org/sums"), None))) == len(ROWS)
        return
    with pytest.raises(HubError, match=told) as error:
        download(HubDataset("org/sums"), None)
    assert str(token) not in str(error.value)


@pytest.mark.parametrize(("token", "told"), [(None, "no token is set"), (READER, "the token")])
def test_a_gated_dataset_names_its_conditions(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, told: str
) -> None:
    hub.put("org/sums", {"train.jsonl": lines(ROWS)})
    use_hub(monkeypatch, hub, str(tmp_path / "cache"), token)
    # Everybody sees the page of a gated dataset; its files need the conditions.
    hub.faults.append(Fault("(GET|HEAD) .*/resolve/", status=403, times=9, code="GatedRepo"))
    with pytest.raises(HubError, match=f"only to those who have accepted the conditions on its page .{told}"):
        download(HubDataset("org/sums"), None)


def test_an_empty_revision_does_not_mean_the_newest_one(hub: HubServer) -> None:
    hub.put("org/sums", {"train.jsonl": lines(ROWS)})
    result = cordctl("validate", "org/sums@")
    assert result.exit_code == 1
    assert "no revision follows the @" in result.stderr
    assert hub.asked == []


def test_a_hub_that_is_down_or_breaks_off_is_an_error_even_if_files_are_cached(hub: HubServer) -> None:
    hub.put("org/sums", {"train.jsonl": lines(ROWS)})
    download(HubDataset("org/sums"), None)
    hub.faults.append(Fault("GET /api/datasets/org/sums$", status=500))
    with pytest.raises(HubError, match="does not answer for org/sums"):
        download(HubDataset("org/sums"), None)
    hub.faults.append(Fault("GET", ends=True))
    with pytest.raises(HubError, match="cannot be reached"):
        download(HubDataset("org/sums"), None)


def test_offline_mode_is_named(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"^org/sums: no such file or folder\. .*HF_HUB_OFFLINE"):
        download(HubDataset("org/sums"), None)
    assert hub.asked == []


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("text", "revision"),
    [("org/sums", None), ("org/sums@main", "main"), ("org/sums@refs/pr/1", "refs/pr/1"), ("org/v1.5-sums", None)],
)
def test_an_id_is_a_dataset_of_the_hub(text: str, revision: str | None) -> None:
    assert named_dataset(text) == HubDataset(text.partition("@")[0], revision)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    "text",
    ["sums", "a/b/c", "./org/sums", "../org/sums", "/org/sums", "org/sums.jsonl", "org/sums.parquet", "org/", "o--r/g"],
)
def test_other_texts_are_paths(text: str) -> None:
    assert named_dataset(text) == Path(text)


@pytest.mark.usefixtures("hub")
def test_a_path_that_exists_comes_before_a_dataset_of_the_hub() -> None:
    Path("org/sums").mkdir(parents=True)
    Path("org/sums/train.jsonl").write_bytes(lines(ROWS[:1]))
    assert named_dataset("org/sums") == Path("org/sums")
    result = cordctl("validate", "org/sums")
    assert "1 problem" in result.output
    missing = cordctl("validate", "org/nothing.jsonl")
    assert missing.exit_code == 1
    assert "does not exist" in missing.stderr
    assert "org/name" in missing.stderr


def test_validate_and_contaminated_take_an_id(hub: HubServer) -> None:
    commit = hub.put("org/sums", {"train.jsonl": lines(ROWS), "test.jsonl": lines(ROWS[4:])})
    result = cordctl("validate", "org/sums", "--split", "train")
    assert result.exit_code == 0, result.output
    assert f"org/sums@{commit[:12]}: 6 problems, 0 invalid rows" in result.stdout
    assert f"org/sums@{commit}" in result.stderr
    longer = [{"question": f"How many apples are left of {n} boxes with many apples each?"} for n in range(3)]
    hub.put("org/benchmark", {"test.jsonl": lines(longer)})
    hub.put("org/apples", {"train.jsonl": lines(longer[1:2])})
    found = cordctl("contaminated", "org/apples", "--against", "org/benchmark", "--kind", "exact", "--json")
    assert found.exit_code == 4
    assert json.loads(found.stdout)["by_kind"]["exact"] == 1
    splits = cordctl("validate", "org/sums")
    assert splits.exit_code == 1
    assert "choose one with --split: test, train" in splits.stderr


def test_a_process_reads_the_hub_of_its_environment(hub: HubServer, tmp_path: Path) -> None:
    hub.put("org/sums", {"train.parquet": parquet(ROWS)}, private=True)
    command = [sys.executable, "-m", "cord_worker.cli", "--debug", "validate", "org/sums", "--json"]
    environment = {**os.environ, **variables(hub, str(tmp_path / "home"), WRITER)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["problems"] == 6
    assert WRITER not in ended.stdout + ended.stderr
