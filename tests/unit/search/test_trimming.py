"""Where a winner is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.search.trimming import cut, kept_steps

SCORES = st.lists(st.sampled_from([0.1, 0.5, 0.9, 0.95, 1.0]), max_size=8)


@pytest.mark.parametrize(
    ("scores", "above", "kept"),
    [
        ([0.2, 0.95, 0.97, 0.99], 0.9, 2),
        ([0.95, 0.2, 0.97, 0.99], 0.9, 3),
        ([0.95, 0.97], 0.9, 1),
        ([0.2, 0.95], 0.9, 2),
        ([0.2, 0.9], 0.9, None),
        ([0.95, 0.2], 0.9, None),
        ([0.3], 0.0, 1),
        ([], 0.9, None),
    ],
)
def test_the_cut_is_the_first_step_from_which_every_score_is_above_the_threshold(
    scores: list[float], above: float, kept: int | None
) -> None:
    assert cut(scores, above) == kept
    assert kept_steps(scores, above) == (len(scores) if kept is None else kept)


@given(SCORES, st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.95]))
def test_the_cut_is_what_its_definition_says(scores: list[float], above: float) -> None:
    qualified = [s for s in range(1, len(scores) + 1) if all(score > above for score in scores[s - 1 :])]
    assert cut(scores, above) == (min(qualified) if qualified else None)


@given(SCORES, st.sampled_from([0.0, 0.5, 0.9]))
def test_a_trimmed_trajectory_is_not_cut_again(scores: list[float], above: float) -> None:
    """So the cut can be checked after the longer trajectory was deleted."""
    kept = kept_steps(scores, above)
    assert kept_steps(scores[:kept], above) == kept


@given(SCORES)
def test_a_higher_threshold_keeps_no_fewer_steps(scores: list[float]) -> None:
    kept = [kept_steps(scores, above) for above in (0.0, 0.1, 0.5, 0.9, 0.95)]
    assert kept == sorted(kept)
