"""The tests' own measure distinguishes linear from quadratic work."""

from __future__ import annotations

from tests.support.cpu_time import grows_linearly


def test_linear_work_is_linear_and_quadratic_work_is_not() -> None:
    assert grows_linearly(lambda text: [ord(character) for character in text * 100], "ab")
    assert not grows_linearly(lambda text: [max(text[:end]) for end in range(20, len(text), 20)], "ab")
