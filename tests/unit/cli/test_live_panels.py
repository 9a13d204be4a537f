"""The parts of `cordctl watch` as lines of text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cord_worker.progress.live_panels import cells, compact, curve


def test_a_curve_is_relative_to_its_largest_value() -> None:
    assert curve([0, 1, 8, 16], 2) == ["   █", " ▁██"]
    assert curve([0, 0, 0], 2) == ["   ", "   "]
    assert curve([], 1) == [""]


def test_an_unknown_value_is_not_drawn_as_zero() -> None:
    assert curve([None, 0, 4], 1) == ["? █"]


@given(st.lists(st.none() | st.floats(0, 1e9), max_size=60), st.integers(1, 4))
def test_a_value_above_zero_is_always_seen(values: list[float | None], height: int) -> None:
    lines = curve(values, height)
    assert [len(line) for line in lines] == [len(values)] * height
    for place, value in enumerate(values):
        is_blank = all(line[place] == " " for line in lines)
        assert is_blank is (value == 0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.2"),
        (3, "3"),
        (12.4, "12"),
        (9_999, "9,999"),
        (12_500, "12.5k"),
        (999_999, "1.0M"),
    ],
)
def test_numbers_take_few_characters(value: float, text: str) -> None:
    assert compact(value) == text


@given(st.text(max_size=40), st.integers(4, 30))
def test_a_cell_has_its_width_whatever_the_text(text: str, width: int) -> None:
    made = cells(text, width)
    assert cell_len(made) == width
    assert made.isprintable()
