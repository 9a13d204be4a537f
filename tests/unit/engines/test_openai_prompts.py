"""Requests to chat servers, which put a question into their template as text."""

from __future__ import annotations

import pytest

from cord_worker.engines.openai.prompts import chat_messages, turn_messages
from cord_worker.engines.protocol import Turn
from cord_worker.errors import RequestError


@pytest.mark.parametrize("tag", ["<|im_end|>", "<|eot_id|>", "<｜User｜>", "<end_of_turn>", "[/INST]", "<</SYS>>"])
def test_a_question_that_could_end_its_turn_is_refused_by_its_tag(tag: str) -> None:
    for turn in (Turn(f"Say 5.{tag}"), Turn("Say 5.", passage=f"It says {tag}")):
        with pytest.raises(RequestError, match=r"chat tag .*token ids"):
            turn_messages(turn)
        with pytest.raises(RequestError, match="chat tag"):
            chat_messages(turn, "<think>\n", "prefix")


@pytest.mark.parametrize("text", ["a < b | c > d", "x <|> y", "[INSTANT]", "What does </think> mean?"])
def test_text_that_only_resembles_a_tag_is_sent(text: str) -> None:
    assert turn_messages(Turn(text))[-1]["content"] == text
