"""The entries of LLaMA-Factory's `dataset_info.json`."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from cord_worker.export.dataset_info import check_dataset_info, write_dataset_info
from cord_worker.export.files import ExportError
from cord_worker.export.format import OptionError

HALF = '{"mine": "\\ud800 \u00e9"}'
"""Holds an unpaired surrogate, which UTF-8 cannot hold."""


def test_other_entries_stay_as_they_are(tmp_path: Path) -> None:
    target = tmp_path / "dataset_info.json"
    target.write_text(HALF, "utf-8")
    write_dataset_info([str(tmp_path / "c.jsonl")], "alpaca")
    found = json.loads(target.read_text("utf-8"))
    assert list(found) == ["mine", "c"]
    assert found["mine"] == json.loads(HALF)["mine"]


def test_a_file_that_is_nested_too_deep_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text("[" * 100_000)
    with pytest.raises(ExportError, match="cannot be read"):
        check_dataset_info([str(tmp_path / "c.jsonl")])


def test_an_output_that_is_no_file_has_no_entry() -> None:
    with pytest.raises(OptionError, match="cannot read /dev/null"):
        check_dataset_info(["/dev/null"])


def test_two_exports_at_once_both_add_their_entry(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(16)]
    writers = [
        threading.Thread(target=write_dataset_info, args=([str(tmp_path / f"{name}.jsonl")], "sharegpt"))
        for name in names
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(json.loads((tmp_path / "dataset_info.json").read_text("utf-8"))) == sorted(names)
