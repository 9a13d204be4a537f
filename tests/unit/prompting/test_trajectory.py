"""Trajectories as text under the three segmentations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.config import PREFIX_PHRASES
from cord_worker.prompting.segmentation import FinishReason, cut
from cord_worker.prompting.trajectory import (
    PROMPTED,
    Segmentation,
    proposal_pieces,
    scoring_pieces,
    trajectory_text,
)

LINE_BREAK = Segmentation.of("line_break", ())
PHRASES = Segmentation.of("phrases", PREFIX_PHRASES)
SEGMENTATIONS = {"prompted": PROMPTED, "line_break": LINE_BREAK, "phrases": PHRASES}
every_segmentation = pytest.mark.parametrize("segmentation", SEGMENTATIONS.values(), ids=SEGMENTATIONS.keys())
STEPS = st.lists(st.text("ab \n.", max_size=5), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("segmentation", "text"),
    [
        (PROMPTED, "### Step 1. Add.\n### Step 2. Wait, halve."),
        (LINE_BREAK, " Add.\n\n Wait, halve."),
        (PHRASES, " Add. Wait, halve."),
    ],
)
def test_steps_are_joined_as_they_were_divided(segmentation: Segmentation, text: str) -> None:
    assert trajectory_text([" Add.", " Wait, halve.\n"], segmentation) == text


@every_segmentation
@given(steps=STEPS)
def test_a_prefix_is_the_same_pieces_whatever_follows(segmentation: Segmentation, steps: list[str]) -> None:
    longest = proposal_pieces(steps, segmentation)
    for depth in range(len(steps)):
        prompt = proposal_pieces(steps[:depth], segmentation)
        assert longest[: len(prompt)] == prompt
    assert "" not in longest


@every_segmentation
@given(steps=STEPS)
def test_a_candidate_is_stripped_on_the_right_and_nowhere_else(segmentation: Segmentation, steps: list[str]) -> None:
    text = "".join(scoring_pieces(steps, segmentation))
    whole = "".join(part for number, step in enumerate(steps, 1) for part in (segmentation.opening(number), step))
    assert text == whole.rstrip()


@pytest.mark.parametrize("segmentation", [LINE_BREAK, PHRASES])
@pytest.mark.parametrize("closing", ["", "\n", "  "])
def test_a_step_that_only_closes_the_thinking_leaves_no_boundary(segmentation: Segmentation, closing: str) -> None:
    assert trajectory_text([" Add.", closing], segmentation) == " Add."


@pytest.mark.parametrize("segmentation", [LINE_BREAK, PHRASES])
@given(
    paragraphs=st.lists(st.sampled_from(["We add.", "Wait, no: 3.", "Then we halve.\nDone."]), min_size=1, max_size=5)
)
def test_a_text_divided_into_steps_and_joined_again_is_the_text(
    segmentation: Segmentation, paragraphs: list[str]
) -> None:
    text = "\n\n".join(paragraphs)
    steps, rest = [], text
    while True:
        step = cut(rest, "step", segmentation, ended="eos")
        steps.append(step.text)
        if step.finish_reason is FinishReason.EOS:
            break
        rest = rest[len(step.text) :].removeprefix(segmentation.opening(len(steps) + 1))
    assert trajectory_text(steps, segmentation) == text
