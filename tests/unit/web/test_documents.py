"""The examples of documents, which the front end's tests read, are what the documents say they are."""

from __future__ import annotations

import json

import pytest

from cord_worker.web.documents import Interval, StepTexts
from tests.support.web_documents import FOLDER, KINDS, faults


@pytest.mark.parametrize("name", KINDS)
def test_an_example_is_a_document(name: str) -> None:
    value = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert list(faults(value, KINDS[name])) == []


def test_every_example_belongs_to_a_document() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(KINDS)


def test_other_json_is_no_document() -> None:
    assert list(faults({"mean": 1, "low": 0.5, "high": 2.0}, Interval)) == []
    assert list(faults({"mean": None, "low": 0.5, "high": 2.0}, Interval))
    assert list(faults({"mean": 1.0, "low": 0.5}, Interval))
    assert list(faults({"step": 1, "first": True, "texts": ["a", None]}, StepTexts))
    assert list(faults({"step": 1, "first": 0, "texts": ["a", 1]}, StepTexts))
