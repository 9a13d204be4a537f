"""If a context has no room for a text, the message names only settings that would help."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cord_worker.engines.room_in_context import tokens_allowed
from cord_worker.errors import TooLongError
from cord_worker.prompting.segmentation import TextKind
from tests.support.settings import greedy

SAMPLING = greedy(max_tokens=32)


def refusal(kind: TextKind, answer_tokens: int) -> str:
    with pytest.raises(TooLongError) as refused:
        tokens_allowed(
            kind, replace(SAMPLING, answer_tokens=answer_tokens), prompt=272, context=150 + answer_tokens, codec=None
        )
    return str(refused.value)


@pytest.mark.parametrize(
    ("kind", "answer_tokens", "lower"),
    [
        ("step", 64, "search.answer_tokens"),
        ("trajectory", 64, "search.answer_tokens"),
        ("answer", 64, "search.thinking_tokens"),
        ("step", 0, None),
    ],
)
def test_a_budget_is_named_only_if_a_smaller_one_makes_room(
    kind: TextKind, answer_tokens: int, lower: str | None
) -> None:
    advice = refusal(kind, answer_tokens).partition("no room for the text; ")[2]
    told = f"lower {lower}, " if lower else ""
    assert advice == f"shorten the question or passage, {told}or raise max_model_len"
