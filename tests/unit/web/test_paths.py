"""Paths of documents, and documents as JSON."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.web.documents import Interval
from cord_worker.web.paths import encoded, name_of, segment, six_digits


@given(st.text())
def test_a_name_is_one_plain_part_of_a_path_and_comes_back(name: str) -> None:
    written = segment(name)
    assert re.fullmatch(r"[A-Za-z0-9_~-]*", written)
    assert name_of(written) == name


@pytest.mark.parametrize(
    "text", ["a/b", "..", ".", "%2e", "~", "~4", "~zz", "~41", "~FF", "~c3~a9", "ü", "a b", "~ 41"]
)
def test_no_other_text_names_a_run(text: str) -> None:
    assert name_of(text) is None


def test_a_document_is_json_with_the_names_of_its_fields() -> None:
    assert json.loads(encoded({"found": [Interval(0.5, 0.25, 1.0), None]})) == {
        "found": [{"mean": 0.5, "low": 0.25, "high": 1.0}, None]
    }


def test_numbers_that_json_does_not_know_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        encoded([float("nan")])


def test_figures_keep_six_digits_however_small_they_are() -> None:
    assert [six_digits(value) for value in (None, 0.123456789, 1.23456789e-30, 0.0)] == [
        None,
        0.123457,
        1.23457e-30,
        0.0,
    ]
