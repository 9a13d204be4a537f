"""The end of a step under the three segmentations, both for a streamed text and for a whole one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.config import PREFIX_PHRASES
from cord_worker.prompting.segmentation import FinishReason, SegmentedText, TextKind, cut, ends_of
from cord_worker.prompting.trajectory import PROMPTED, Segmentation

LINE_BREAK = Segmentation.of("line_break", PREFIX_PHRASES)
PHRASES = Segmentation.of("phrases", [*PREFIX_PHRASES, "等等"])
SEGMENTATIONS = {"prompted": PROMPTED, "line_break": LINE_BREAK, "phrases": PHRASES}
every_segmentation = pytest.mark.parametrize("segmentation", SEGMENTATIONS.values(), ids=SEGMENTATIONS.keys())

_PARTS = [
    *("\n", "\n", ".", " ", "!", "3", "#", "### Step", " 2.", "### Note", "</think>", "<think>", "</thi", "nk>"),
    *("text", "Wait", "WAIT, ", "wait", "ing", "Let", " me ", "check", "let’s try", " a different approach"),
    *("“", "”", "**", "等等", "。", "\ufffd"),
]
PARTS = st.lists(st.sampled_from(_PARTS), max_size=14).map("".join)


def step(text: str, segmentation: Segmentation = PROMPTED, ended: str = "eos") -> SegmentedText:
    return cut(text, "step", segmentation, ended=ended)  # type: ignore[arg-type]


def test_a_line_anchored_marker_ends_a_step() -> None:
    found = step("We add.\n\n### Step 2. We halve.", ended="stop")
    assert (found.text, found.finish_reason) == ("We add.\n", FinishReason.STEP)


@pytest.mark.parametrize("text", ["see ### Step 1 above", "a\n### Note\nb", "a\n ### Step 2.", "### Step 1. again"])
def test_other_headings_and_inline_markers_do_not_end_a_step(text: str) -> None:
    assert step(text) == SegmentedText(text, FinishReason.EOS)


def test_the_earliest_end_mark_wins() -> None:
    assert step("a</think>\n### Step 2.").finish_reason is FinishReason.THINK_END
    assert step("a\n### Step 2.</think>").finish_reason is FinishReason.STEP
    assert step("a\n\nb</think>", LINE_BREAK) == SegmentedText("a", FinishReason.STEP)
    assert step("a</think>\n\nb", LINE_BREAK) == SegmentedText("a", FinishReason.THINK_END)
    assert step("a. Wait, b</think>", PHRASES) == SegmentedText("a.", FinishReason.STEP)
    assert step("a</think>. Wait, b", PHRASES) == SegmentedText("a", FinishReason.THINK_END)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("We add.\n\nThen we halve.", "We add."),
        ("We add. \n\n\n", "We add. "),
        ("\n\nWe add.\nAnd halve.\n\nDone", "We add.\nAnd halve."),
        ("  \n\nWe add.\n\nDone", "We add."),
        ("---\n\nWe add.\n\nDone", "---\n\nWe add."),
        ("### Step 1: add\n\nWe", "### Step 1: add"),
    ],
)
def test_a_blank_line_ends_a_step_that_has_content(written: str, text: str) -> None:
    assert step(written, LINE_BREAK) == SegmentedText(text, FinishReason.STEP)


@pytest.mark.parametrize("written", ["We add.\nThen we halve.", "We add.\n \nThen", "We add.\n### Step 2. Then"])
def test_less_than_a_blank_line_ends_no_step(written: str) -> None:
    assert step(written, LINE_BREAK) == SegmentedText(written, FinishReason.EOS)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("We add. Wait, no", "We add."),
        ("We add.\n\nWAIT no", "We add."),
        ("We add\nwait - no", "We add"),
        ("Wait, we add. Let me check: it", "Wait, we add."),
        ("Is it 4? Let's try a different approach.", "Is it 4?"),
        ("Is it 4? Let’s try a different approach.", "Is it 4?"),
        ('He said "it is." Alternatively we', 'He said "it is."'),
        ("We add.\n\n**Wait**: no", "We add."),
        ("We add… Going\nback to it", "We add…"),
        ("我们相加。等等，不对", "我们相加。"),
    ],
)
def test_a_phrase_that_opens_a_sentence_ends_the_step_before_it(written: str, text: str) -> None:
    assert step(written, PHRASES) == SegmentedText(text, FinishReason.STEP)


@pytest.mark.parametrize(
    "written",
    [
        "We can wait, it is early",
        "But wait, it is early",
        "We add. Waiting helps",
        "We add. Wait",
        "Wait, we add.",
        "\n\nWait, we add.",
        "It is 3.wait no",
        "我们等等，不对",
    ],
)
def test_a_phrase_inside_a_sentence_or_word_or_before_all_content_ends_no_step(written: str) -> None:
    assert step(written, PHRASES) == SegmentedText(written, FinishReason.EOS)


def test_a_runs_own_phrases_end_its_steps() -> None:
    own = Segmentation.of("phrases", ["but (hold on)"])
    assert step("We add. But (hold on), no. Wait, no.", own).text == "We add."
    assert step("We add. Wait, no.", own).finish_reason is FinishReason.EOS


def test_a_length_cut_is_distinguished_from_eos() -> None:
    assert step("a", ended="length").finish_reason is FinishReason.LENGTH
    assert step("a", ended="eos").finish_reason is FinishReason.EOS


def test_a_stop_without_a_stop_text_is_refused() -> None:
    with pytest.raises(ValueError, match="stop text"):
        step("a", ended="stop")


@every_segmentation
def test_an_answer_may_hold_boundaries_but_no_second_think_end(segmentation: Segmentation) -> None:
    text = "\n\nIt is 3.\n### Step 2.\n\nWait, so. "
    found = cut(f"{text}</think> x", "answer", segmentation, ended="eos")
    assert found == SegmentedText(text, FinishReason.THINK_END)
    assert cut(f"{text}<think>\nBut", "answer", segmentation, ended="length") == found


@every_segmentation
@given(seen=PARTS, later=PARTS)
def test_a_streamed_text_is_cut_at_the_same_place_as_the_whole_text(
    segmentation: Segmentation, seen: str, later: str
) -> None:
    ends, text = ends_of(segmentation, "step"), seen + later
    streamed = next((end for n in range(len(text) + 1) if (end := ends.find(text[:n]))), None)
    assert ends.find(text) == streamed


@every_segmentation
@given(text=PARTS)
def test_the_window_examined_while_a_text_streams_holds_its_end(segmentation: Segmentation, text: str) -> None:
    ends = ends_of(segmentation, "step")
    first = next((n for n in range(len(text) + 1) if ends.find(text[:n])), None)
    if first is not None:
        seen = text[:first]
        window = seen.encode()[-ends.longest :].decode(errors="replace")
        assert ends.may_complete(seen[-1])
        assert ends.may_be_in(window)
        assert ends.find(seen, max(0, len(seen) - ends.longest)) == ends.find(seen)


@every_segmentation
@given(text=PARTS)
def test_a_cut_step_holds_no_end(segmentation: Segmentation, text: str) -> None:
    found = step(text, segmentation, ended="length")
    assert ends_of(segmentation, "step").find(found.text) is None
    assert found.text in text


@every_segmentation
@pytest.mark.parametrize("kind", ["trajectory", "answer", "reply"])
def test_only_steps_depend_on_the_segmentation(segmentation: Segmentation, kind: TextKind) -> None:
    assert ends_of(segmentation, kind) == ends_of(PROMPTED, kind)
    assert "### Step" not in "".join(ends_of(segmentation, kind).marks)


def test_a_reply_begins_after_the_thinking_of_the_model() -> None:
    thought = cut("<think>\nI see.\n</think>\n\n{}", "reply", PROMPTED, ended="eos")
    assert (thought.text, thought.finish_reason) == ("{}", FinishReason.EOS)
    assert cut("{}", "reply", PROMPTED, ended="length").finish_reason == FinishReason.LENGTH
