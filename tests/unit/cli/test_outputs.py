"""An output never replaces an input of the user."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from cord_worker.cli import cli

ROW = json.dumps({"id": "a", "question": "What is 7 - 3?", "answer": "4"}) + "\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("CORD_")]:
        monkeypatch.delenv(name)
    Path("cord.toml").write_text(CliRunner().invoke(cli, ["init"]).output, encoding="utf-8")
    Path("rows.jsonl").write_text(ROW, encoding="utf-8")
    Path("link.jsonl").symlink_to("rows.jsonl")
    os.link("rows.jsonl", "hard.jsonl")
    Path("folder").mkdir()
    Path("folder/train.jsonl").write_text(ROW, encoding="utf-8")


def used(line: str) -> Result:
    return CliRunner().invoke(cli, line.split())


@pytest.mark.parametrize("command", ["run", "eval"])
@pytest.mark.parametrize("output", ["rows.jsonl", "./rows.jsonl", "folder/../rows.jsonl", "link.jsonl", "hard.jsonl"])
def test_a_dataset_is_not_overwritten_by_its_own_output(command: str, output: str) -> None:
    model = " --model planner" if command == "eval" else ""
    result = used(f"{command} rows.jsonl -o {output}{model}")
    assert result.exit_code == 1
    assert "is the dataset" in result.stderr
    assert Path("rows.jsonl").read_text(encoding="utf-8") == ROW
    assert not Path(".cord").exists()


@pytest.mark.parametrize(
    ("dataset", "output", "told"),
    [
        ("link.jsonl", "rows.jsonl", "is the dataset"),
        ("folder", "folder/train.jsonl", "is in the dataset's folder"),
        ("folder", "folder/new.jsonl", "is in the dataset's folder"),
        ("rows.jsonl", "rows.jsonl.rejects.jsonl", "bad rows"),
    ],
)
def test_no_other_input_is_overwritten(dataset: str, output: str, told: str) -> None:
    result = used(f"run {dataset} -o {output}")
    assert result.exit_code == 1
    assert told in result.stderr
    assert not Path(".cord").exists()


def test_one_file_is_not_written_twice() -> None:
    result = used("export mine -o out.jsonl --failures ./out.jsonl")
    assert result.exit_code == 1
    assert "are the same file" in result.stderr


@pytest.mark.parametrize("option", ["-o", "--failures"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst", "rows.parquet"])
def test_an_export_never_replaces_a_dataset(name: str, option: str) -> None:
    if name.endswith(".gz"):
        Path(name).write_bytes(gzip.compress(ROW.encode()))
    elif name.endswith(".zst"):
        with pa.output_stream(name, compression="zstd") as packed:
            packed.write(ROW.encode())
    elif name.endswith(".parquet"):
        pq.write_table(pa.table({"question": ["What is 1 + 1?"], "answer": ["2"]}), name)
    before = Path(name).read_bytes()
    other = "" if option == "-o" else "-o out.jsonl "
    result = used(f"export mine {other}{option} {name}")
    assert result.exit_code == 1
    assert "no export wrote" in result.stderr
    assert Path(name).read_bytes() == before


ROWS_OF_EXPORTS = {
    "jsonl": "id question answer trajectory final_answer score correct verification finish steps provenance metadata",
    "jsonl of samples": "id question answer trajectory final_answer score correct verification finish steps provenance "
    "metadata sample passage",
    "sft": "id prompt completion",
    "messages": "id messages",
    "verl": "data_source prompt ability reward_model extra_info",
    "failures": "id question answer reason",
}


@pytest.mark.parametrize("fields", ROWS_OF_EXPORTS.values(), ids=ROWS_OF_EXPORTS)
def test_an_earlier_export_may_be_replaced(fields: str) -> None:
    Path("out.jsonl").write_text(json.dumps(dict.fromkeys(fields.split(), "x")) + "\n", encoding="utf-8")
    result = used("export mine -o out.jsonl")
    assert "no export wrote" not in result.stderr
    assert "cordctl up" in result.stderr
