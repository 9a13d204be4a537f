"""`datasets.load_dataset` takes a folder with its card, and a dataset of the hub that was pushed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cord_worker.export.card import card_text
from cord_worker.export.format import Choices, LeftOut, Need, Source
from cord_worker.export.formats import FORMATS
from cord_worker.export.rows import write_rows
from cord_worker.export.student import Student
from cord_worker.operations.hub_push import PushTarget, push
from tests.support.cards import facts
from tests.support.exported import MODELS, RESULT, TREE, scope
from tests.support.hub_server import WRITER, hub_server, use_hub, variables

_LOAD = """
import json, sys
from datasets import load_dataset
loaded = load_dataset(sys.argv[1])
print(json.dumps({"rows": {name: part.to_list() for name, part in loaded.items()}}))
"""


def loaded(where: str, environment: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each split, as a process with `datasets` loads them."""
    ended = subprocess.run(
        [sys.executable, "-c", _LOAD, where], env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    rows: dict[str, list[dict[str, Any]]] = json.loads(ended.stdout.splitlines()[-1])["rows"]
    return rows


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_loads_with_its_types_from_a_folder_and_from_the_hub(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = FORMATS[form]
    student = Student(str(MODELS / "student")) if Need.STUDENT in chosen.needs else None
    run = scope(Choices(), student=student)
    wrong = [RESULT, *([] if form != "dpo" else [_wrong()])]
    rows = [row for row in chosen.rows(run, TREE if chosen.source is Source.TREE else wrong)
            if not isinstance(row, LeftOut)]  # fmt: skip
    assert rows
    fields = chosen.fields(run)
    folder = tmp_path / "data"
    folder.mkdir()
    # A column that is empty in the first split has no type of its own there.
    empty = {**rows[0], **{name: None for name in fields if name != "id"}}
    write_rows(str(folder / "a.jsonl"), [empty], fields)
    write_rows(str(folder / "b.jsonl"), rows, fields)
    files = {"a.jsonl": ("train", 1), "b.jsonl": ("test", len(rows))}
    card = folder / "README.md"
    card.write_text(card_text(facts(format=chosen, fields=fields, files=files)), encoding="utf-8")
    with hub_server() as hub:
        environment = variables(hub, str(tmp_path / "home"), WRITER)
        expected = json.loads(json.dumps({"train": [empty], "test": rows}))
        assert _plain(loaded(str(folder), environment)) == _plain(expected)
        use_hub(monkeypatch, hub, str(tmp_path / "cache"), WRITER)
        push(PushTarget("org/rows"), {name: folder / name for name in files}, card, "mine")
        assert _plain(loaded("org/rows", environment)) == _plain(expected)


def _wrong() -> Any:
    from dataclasses import replace

    return replace(RESULT, correct=False, sample=1)


def _plain(value: Any) -> Any:
    """Without members that are null: an object that is null may be loaded as one with null members."""
    if isinstance(value, dict):
        plain = {name: _plain(one) for name, one in value.items()}
        return {name: one for name, one in plain.items() if one not in (None, {}, [])}
    return [_plain(one) for one in value] if isinstance(value, list) else value
