from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.prompting.segmentation import FinishReason, cut, cut_answer, cut_step, find_end

PARTS = st.lists(
    st.sampled_from(["\n", "### Step", " 2.", "### Note", "</think>", "<think>", "text", " ", "#", "</thi", "nk>"]),
    max_size=12,
).map("".join)


def test_a_line_anchored_marker_ends_a_step() -> None:
    cut = cut_step("We add.\n\n### Step 2. We halve.", ended="stop")
    assert (cut.text, cut.finish_reason) == ("We add.\n", FinishReason.STEP)


@pytest.mark.parametrize("text", ["see ### Step 1 above", "a\n### Note\nb", "a\n ### Step 2.", "### Step 1. again"])
def test_other_headings_and_inline_markers_do_not_end_a_step(text: str) -> None:
    cut = cut_step(text, ended="eos")
    assert (cut.text, cut.finish_reason) == (text, FinishReason.EOS)


def test_the_earliest_end_mark_wins() -> None:
    assert cut_step("a</think>\n### Step 2.", ended="stop").finish_reason is FinishReason.THINK_END
    assert cut_step("a\n### Step 2.</think>", ended="stop").finish_reason is FinishReason.STEP


def test_a_length_cut_is_told_apart_from_eos() -> None:
    assert cut_step("a", ended="length").finish_reason is FinishReason.LENGTH
    assert cut_step("a", ended="eos").finish_reason is FinishReason.EOS


def test_a_stop_without_a_stop_text_is_refused() -> None:
    with pytest.raises(ValueError, match="stop text"):
        cut_step("a", ended="stop")


def test_an_answer_may_hold_step_headings_but_no_second_think_end() -> None:
    cut = cut_answer("It is 3.\n### Step 2.</think> x", ended="eos")
    assert (cut.text, cut.finish_reason) == ("It is 3.\n### Step 2.", FinishReason.THINK_END)
    cut = cut_answer("It is 3. <think>\nBut", ended="length")
    assert (cut.text, cut.finish_reason) == ("It is 3. ", FinishReason.THINK_END)


@given(PARTS, PARTS)
def test_a_text_that_streams_in_is_cut_where_the_whole_text_is(seen: str, later: str) -> None:
    whole = cut_step(seen + later, ended="eos")
    streamed = next(
        (find_end((seen + later)[:n]) for n in range(len(seen + later) + 1) if find_end((seen + later)[:n])),
        None,
    )
    assert whole.text == (seen + later if streamed is None else (seen + later)[: streamed.position])


@given(PARTS)
def test_a_cut_step_holds_no_end_mark(text: str) -> None:
    cut = cut_step(text, ended="length")
    assert find_end(cut.text) is None
    assert text.startswith(cut.text)


def test_a_reply_is_what_follows_the_thinking_of_the_model() -> None:
    thought = cut("<think>\nI see.\n</think>\n\n{}", "reply", ended="eos")
    assert (thought.text, thought.finish_reason) == ("{}", FinishReason.EOS)
    assert cut("{}", "reply", ended="length").finish_reason == FinishReason.LENGTH
