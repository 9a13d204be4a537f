"""Options of an export are refused where they would be misread or ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cord_worker.errors import DatasetError
from cord_worker.export.files import ExportError
from cord_worker.export.format import OptionError
from cord_worker.operations.contamination import benchmark_index
from cord_worker.operations.exports import ExportOptions
from cord_worker.operations.outputs import check_export_outputs


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"form": ["jsonl"]}, "no format is called"),
        ({"form": None}, "no format is called"),
        ({"only_correct": "no"}, "--only-correct 'no': give True or False"),
        ({"only_correct": None}, "give True or False"),
        ({"card": 1}, "give True or False"),
        ({"private": "yes"}, "give True or False"),
        ({"min_score": True}, "--min-score True: give a number from 0 to 1"),
        ({"trim": "0.9"}, "--trim '0.9': give a number from 0 to 1"),
        ({"teachers": 5}, "give names of teachers"),
        ({"teachers": [5]}, "give names of teachers"),
        ({"form": "verl", "data_source": ""}, "--data-source '': give a text"),
        ({"form": "sft", "student": " "}, "--student ' ': give a text"),
        ({"license": ""}, "--license '': give a text"),
        ({"card": True, "commit_message": ""}, "--commit-message '': give a text"),
    ],
)
def test_a_value_of_another_kind_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionError, match=r"^[^\n]*$") as raised:
        ExportOptions(**options).check()
    assert told in str(raised.value)


def test_no_output_replaces_a_benchmark(tmp_path: Path) -> None:
    benchmark = tmp_path / "rows.jsonl"
    benchmark.write_text('{"question": "How many?"}\n')
    (tmp_path / "link.jsonl").symlink_to(benchmark)
    folder = tmp_path / "folder"
    folder.mkdir()
    for option, output, against in (
        ("-o", benchmark, benchmark),
        ("--failures", tmp_path / "link.jsonl", benchmark),
        ("-o", folder / "out.jsonl", folder),
    ):
        with pytest.raises(ExportError, match=f"^{option} .* the benchmark"):
            check_export_outputs([(option, str(output))], [against])


def test_a_benchmark_of_several_splits_is_refused_without_advice_that_does_not_fit(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text('{"question": "How many?"}\n')
    with pytest.raises(DatasetError, match="holds several splits: name the file of one of them: test, train"):
        benchmark_index([tmp_path], None, "--decontaminate-field")
