from __future__ import annotations

import pytest

from cord_worker.config import DEFAULT_SCORING_TEMPLATE
from cord_worker.errors import RequestError
from cord_worker.prompting.scoring import answer_positions, closing


@pytest.mark.parametrize("answer", ["204", "-3", r"\frac{1}{2}", "三", "{answer}", "a long sentence, with {braces}"])
def test_the_span_is_the_answer(answer: str) -> None:
    part = closing(DEFAULT_SCORING_TEMPLATE, answer)
    assert part.text == f"\n</think>\n\nThe final answer is {answer}."
    assert part.text[part.answer_start : part.answer_end] == answer


@pytest.mark.parametrize(("template", "tail"), [(DEFAULT_SCORING_TEMPLATE, "."), ("{answer}</s> ok", "</s> ok")])
def test_with_the_full_stop_all_text_after_the_answer_is_scored(template: str, tail: str) -> None:
    part, without = (closing(template, "{answer}", full_stop=full_stop) for full_stop in (True, False))
    assert (part.text, part.answer_start) == (without.text, without.answer_start)
    assert part.text[part.answer_start : part.answer_end] == f"{{answer}}{tail}"


@pytest.mark.parametrize("template", ["no placeholder", "{answer} and {answer}"])
def test_a_template_without_exactly_one_placeholder_is_refused(template: str) -> None:
    with pytest.raises(RequestError, match="exactly once"):
        closing(template, "1")


@pytest.mark.parametrize("answer", ["", " \n"])
def test_a_blank_answer_is_refused(answer: str) -> None:
    with pytest.raises(RequestError, match="blank"):
        closing(DEFAULT_SCORING_TEMPLATE, answer)


def test_an_empty_token_between_answer_tokens_belongs_to_it() -> None:
    assert answer_positions([(0, 4), (4, 4), (4, 6), (6, 6), (6, 8), (8, 8)], 4, 8) == [2, 3, 4]


def test_tokens_that_touch_the_answer_belong_to_it_and_neighbours_do_not() -> None:
    offsets = [(0, 2), (2, 3), (3, 6), (6, 8), (8, 9)]
    assert answer_positions(offsets, 4, 8) == [2, 3]


def test_several_tokens_of_one_character_all_belong_to_the_answer() -> None:
    assert answer_positions([(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)], 1, 2) == [1, 2, 3]


def test_an_answer_without_tokens_is_refused() -> None:
    with pytest.raises(RequestError, match="M = 0"):
        answer_positions([(0, 1), (3, 4)], 1, 3)
