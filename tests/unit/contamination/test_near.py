from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cord_worker.contamination import HitKind, NearIndex, NearThresholds, Question, tokens
from cord_worker.contamination.planting import paraphrased

pytest.importorskip("datasketch")

TRAIN = "A train leaves the station at 9:15 and arrives at 12:40. It goes 84 kilometres per hour. How far does it go?"
OTHER = "Sara has twice as many marbles as Ben, and Ben has 5 more marbles than Lea. How many marbles does Lea have?"


def questions(*texts: str) -> list[Question]:
    return [Question("b.jsonl", f"b.jsonl:{line}", text) for line, text in enumerate(texts, start=1)]


def test_a_near_equal_text_is_found_with_its_similarity() -> None:
    index = NearIndex(questions(OTHER, TRAIN))
    (hit,) = index.hits([paraphrased(TRAIN, random.Random(0))])[0]
    assert (hit.kind, hit.benchmark.text) == (HitKind.NEAR, TRAIN)
    assert 0.4 <= hit.score < 1
    assert "84 kilometres" in hit.matching


def test_the_similarity_is_that_of_the_sets_of_pairs_of_words() -> None:
    (hit,) = NearIndex(questions("a b c d e f")).hits(["a b c d e g"])[0]
    assert hit.score == 4 / 6
    assert NearIndex(questions("a b c d e f"), NearThresholds(0.7)).hits(["a b c d e g"]) == [[]]


def test_repeats_name_only_earlier_texts() -> None:
    rows = questions(TRAIN, OTHER, TRAIN.replace("84", "85"), TRAIN)
    found = NearIndex(rows).repeats(rows)
    assert [[hit.benchmark.location for hit in one] for one in found] == [
        [],
        [],
        ["b.jsonl:1"],
        ["b.jsonl:1", "b.jsonl:3"],
    ]


def test_near_equal_trajectories_are_found_and_others_are_not() -> None:
    steps = [f"Step {number}: we add {number * 7} to {number * 11} and get {number * 18}." for number in range(60)]
    changed = [*steps[:30], "Wait, let me check this once more.", *steps[30:55]]
    different = [f"Alternatively, suppose that value {number * 13} were negative." for number in range(60)]
    index = NearIndex(questions(" ".join(steps)), NearThresholds(0.7))
    found = index.hits([" ".join(changed), " ".join(different)])
    assert [len(one) for one in found] == [1, 0]


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=80))
def test_every_text_is_near_to_itself(text: str) -> None:
    found = NearIndex(questions(text)).hits([text])[0]
    assert [hit.score for hit in found] == ([1.0] if tokens(text) else [])


def test_the_same_texts_give_the_same_hits_in_another_order() -> None:
    texts = [TRAIN.replace("84", str(number)) for number in range(80, 100)]
    one = NearIndex(questions(*texts)).hits([TRAIN])[0]
    other = NearIndex(questions(*reversed(texts))).hits([TRAIN])[0]
    assert {hit.benchmark.text for hit in one} == {hit.benchmark.text for hit in other}
    assert len(one) == 20
