from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cord_worker.search.types import Candidate, InvalidReason, SearchError
from cord_worker.search.validity import duplicates, invalid_reason, storable, text_key

SENTENCE = "so we add the two numbers and then carry the one over "  # 12 words


def reason(text: str, ngram: int = 12, repeats: int = 8) -> InvalidReason | None:
    return invalid_reason(text, loop_ngram=ngram, loop_repeats=repeats)


@pytest.mark.parametrize("text", ["### Note", "### Step 2.", "Step 2:", "## Setting up\n"])
def test_without_markers_a_heading_is_text_like_any_other(text: str) -> None:
    assert reason(text) is InvalidReason.MARKER_ONLY
    assert invalid_reason(text, loop_ngram=12, loop_repeats=8, has_markers=False) is None


@pytest.mark.parametrize("text", ["---", "***\n", "###", "\\[ \\]"])
def test_without_markers_markup_alone_is_no_content(text: str) -> None:
    assert invalid_reason(text, loop_ngram=12, loop_repeats=8, has_markers=False) is InvalidReason.MARKER_ONLY


@pytest.mark.parametrize("text", ["", "\n", " \n\n"])
def test_a_step_that_may_be_empty_closes_the_thinking(text: str) -> None:
    assert invalid_reason(text, loop_ngram=12, loop_repeats=8, may_be_empty=True) is None
    assert invalid_reason(text, loop_ngram=12, loop_repeats=8) is not None


def sibling(
    id: int, text: str | None, *, teacher: int, sample: int = 0, parent: int | None = 1, invalid: str | None = None
) -> Candidate:
    return Candidate(
        id=id,
        parent_id=parent,
        step=2,
        round=0,
        teacher=teacher,
        sample=sample,
        lineage=str(id),
        text=text,
        finish_reason="step",
        score=0.5,
        thinking_tokens=3,
        invalid_reason=invalid,
        parent_rank=0,
        depth=2,
    )


@pytest.mark.parametrize(
    "text",
    [
        "5",
        " 3 + 4 = 7",
        "∞",
        "所以答案是七。",
        "### Note\nThe sum is 7.",
        "Step 3: 4",
        "### Step 3. The sum is 7.",
        "# Step 3. The sum is 7.",
        "stepwise",
        "steps",
        "It is 7. Step 4 follows.",
        "#5 is odd",
        "| 0 | 0 |\n" * 10,
        "-" * 80 + "\nrow\n" + "-" * 80,
        "कि",
    ],
)
def test_a_step_with_content_is_valid(text: str) -> None:
    assert reason(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", InvalidReason.EMPTY),
        (" ", InvalidReason.WHITESPACE),
        ("\n\t \u3000\u00a0", InvalidReason.WHITESPACE),
        ("### Step 3.", InvalidReason.MARKER_ONLY),
        ("Step 3.", InvalidReason.MARKER_ONLY),
        ("  **Step 3:**\n", InvalidReason.MARKER_ONLY),
        ("step", InvalidReason.MARKER_ONLY),
        ("### Step 1.\n### Step 2.\n", InvalidReason.MARKER_ONLY),
        ("### Verification\n", InvalidReason.MARKER_ONLY),
        ("...", InvalidReason.MARKER_ONLY),
        ("---\n***", InvalidReason.MARKER_ONLY),
        ("\u200b\ufeff", InvalidReason.MARKER_ONLY),
        ("\ufffd\ufffd", InvalidReason.MARKER_ONLY),
        ("。", InvalidReason.MARKER_ONLY),
        ("a <think> b", InvalidReason.THINK_TAG),
        ("a </think> b", InvalidReason.THINK_TAG),
        ("a\x00b", InvalidReason.UNSTORABLE),
        ("a\ud800b", InvalidReason.UNSTORABLE),
        ("\x00", InvalidReason.UNSTORABLE),
        (SENTENCE * 8, InvalidReason.LOOP),
        ("Wait. " * 200, InvalidReason.LOOP),
        ("因为我们需要再检查一遍，所以" * 60, InvalidReason.LOOP),
        ("因为我们需要再检查一遍，所以我们从头开始计算这两个数的和，再看看结果是不是七，如果不是就再来一次，一直到得到七为止，"
         "然后把这个结果写下来，再用另外一种方法验证一下。\n" * 12, InvalidReason.LOOP),
        ("ดังนั้นเราตรวจสอบอีกครั้ง" * 60, InvalidReason.LOOP),
    ],
)  # fmt: skip
def test_a_step_without_content_is_invalid_with_its_reason(text: str, expected: InvalidReason) -> None:
    assert reason(text) is expected


@settings(deadline=None)
@given(st.text())
def test_any_text_can_be_checked_and_the_stored_text_has_no_nul_and_no_surrogate(text: str) -> None:
    verdict = reason(text)
    cleaned = storable(text)
    assert "\x00" not in cleaned
    cleaned.encode("utf-8")
    assert (cleaned == text) == (verdict is not InvalidReason.UNSTORABLE)
    assert len(cleaned) == len(text)


@pytest.mark.parametrize(
    "text",
    [
        " ".join(map(str, range(1_400_000))),
        "".join(map(str, range(400_000))),
        "".join(random.Random(0).choices("一二三四五六七八九十百千万的是不了人我在有他这中大来上国", k=700_000)),
        "#" * 10_000_000,
        "\n#" * 5_000_000,
        " " * 9_999_999 + ".",
        "Step 1. " * 1_250_000,
        "step   " * 1_400_000,
        "<" * 10_000_000,
        "a" * 10_000_000,
    ],
    ids=["words", "digits", "han", "hashes", "heading-lines", "spaces", "markers", "steps", "tags", "one-letter"],
)
@pytest.mark.long
def test_megabytes_of_text_are_checked_in_linear_time(text: str) -> None:
    begin = time.process_time()
    reason(text)
    assert time.process_time() - begin < 60  # quadratic work on these 2 to 10 MB takes hours


def test_the_first_teacher_and_sample_stand_for_their_duplicates() -> None:
    same = [
        sibling(1, "a  b\n", teacher=2),
        sibling(2, "a b", teacher=1, sample=1),
        sibling(3, " a\tb", teacher=1, sample=0),
        sibling(4, "a b c", teacher=0),
    ]
    assert duplicates(same) == {1: 3, 2: 3}


@settings(deadline=None)
@given(st.permutations(range(8)), st.lists(st.sampled_from(["a", "a ", "b", "a b", "a  b"]), min_size=8, max_size=8))
def test_duplicates_do_not_depend_on_arrival(order: list[int], texts: list[str]) -> None:
    siblings = [sibling(id, text, teacher=id // 2, sample=id % 2) for id, text in enumerate(texts)]
    found = duplicates([siblings[index] for index in order])
    assert found == duplicates(siblings)
    normal = [" ".join(text.split()) for text in texts]
    assert found == {id: normal.index(text) for id, text in enumerate(normal) if normal.index(text) != id}


def test_cousins_with_the_same_text_are_no_duplicates() -> None:
    assert duplicates([sibling(1, "a", teacher=0, parent=1), sibling(2, "a", teacher=0, parent=2)]) == {}


def test_a_sibling_that_was_invalid_as_proposed_stands_for_no_other() -> None:
    assert duplicates([sibling(1, "a", teacher=0, invalid="loop"), sibling(2, "a", teacher=1)]) == {}


@pytest.mark.parametrize("reason", ["unscorable", "too_long", "not_finite", "unjudgeable"])
def test_a_copy_of_a_candidate_that_could_not_be_scored_is_still_a_duplicate(reason: str) -> None:
    assert duplicates([sibling(1, "a", teacher=0, invalid=reason), sibling(2, " a\n", teacher=1)]) == {2: 1}


@given(st.text(), st.text())
def test_texts_that_differ_only_in_whitespace_share_their_key(one: str, other: str) -> None:
    same = one.split() == other.split()
    assert (text_key(storable(one)) == text_key(storable(other))) == (storable(one).split() == storable(other).split())
    assert not same or text_key(storable(one)) == text_key(storable(other))


@pytest.mark.parametrize("space", [" ", "\n", "\t", "\u00a0", "\u3000", "\u2028", "\x85", "\x1c", "\r\n", "  \n "])
def test_every_kind_of_whitespace_is_one_space_in_a_key(space: str) -> None:
    assert text_key(f"{space}a{space}b") == text_key("a b") != text_key("ab")


def test_a_candidate_without_text_must_be_marked_invalid() -> None:
    assert duplicates([sibling(1, None, teacher=0, invalid="too_long")]) == {}
    with pytest.raises(SearchError, match=r"candidate 7 .* no text"):
        duplicates([sibling(7, None, teacher=0)])


@pytest.mark.parametrize(
    "sentence",
    [
        "因此我们把三个苹果和四个苹果加在一起，得到七个苹果。",
        "그래서 사과 세 개와 네 개를 더하면 모두 일곱 개가 되므로 다시 한번 확인해 보면 다음과 같습니다. ",
        "ولذلك نجمع ثلاث تفاحات مع أربع تفاحات أخرى فنحصل على سبع تفاحات في المجموع كله. ",
    ],
)
def test_a_loop_is_detected_in_every_script_and_a_plain_sentence_is_no_loop(sentence: str) -> None:
    assert invalid_reason(sentence * 2, loop_ngram=12, loop_repeats=8) is None
    assert invalid_reason(sentence * 30, loop_ngram=12, loop_repeats=8) is InvalidReason.LOOP
