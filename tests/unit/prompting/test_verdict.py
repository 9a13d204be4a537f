"""An LLM judge's prompt and its verdict."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.config import DEFAULT_JUDGE_TEMPLATE
from cord_worker.prompting.verdict import judge_prompt, read_verdict


def prompt(passage: str | None, answer: str = "42", template: str = DEFAULT_JUDGE_TEMPLATE) -> str:
    return judge_prompt(template, question=" What is it? ", passage=passage, reference="forty-two", answer=answer)


def test_the_prompt_holds_question_passage_reference_and_answer() -> None:
    text = prompt("A table.")
    for part in ("Passage:\nA table.\n", "Question:\nWhat is it?\n", "answer:\nforty-two\n", "answer:\n42\n"):
        assert part in text
    assert '{"correctness": "True"}' in text


@pytest.mark.parametrize("passage", [None, "", "  \n"])
def test_without_a_passage_its_paragraph_is_left_out(passage: str | None) -> None:
    assert "Passage" not in prompt(passage)
    assert "{passage}" not in prompt(passage)


def test_placeholders_inside_an_answer_have_no_effect() -> None:
    assert "{reference} and {x}" in prompt(None, "{reference} and {x}")
    assert prompt("p", "a", "{answer}{reference}{other}") == "aforty-two{other}"


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ('{"correctness": "True"}', True),
        ('{"correctness": "False"}', False),
        ('{"correctness": true}', True),
        ('{"correctness":"false"}', False),
        ("{'correctness': 'True'}", True),
        ('```json\n{\n  "correctness": "False"\n}\n```', False),
        ('The answers agree.\n{"correctness": "True", "reason": "same"}\nDone.', True),
        ('{"reason": "same", "correctness": "TRUE",}', True),
        ('{"correctness": "True"} Wait, no. {"correctness": "False"}', False),
        ("{“correctness”: “True”}", True),
        ("correctness: True", True),
        ("**Correctness:** False", False),
        ("True", True),
        ('"False".', False),
        ('{"correctness"："True"}', True),
        ("", None),
        ("I cannot say.", None),
        ("It is True that the sky is blue.", None),
        ('{"correctness": "Maybe"}', None),
        ('{"correctness": ', None),
        ('{"correctness": "True"|"False"}', None),
        ('{"correctness": "True" or "False"}', True),
        ('{"incorrectness": "True"}', None),
        ('{"correctness": "Truely"}', None),
    ],
)
def test_a_verdict_is_parsed_tolerantly(reply: str, verdict: bool | None) -> None:
    assert read_verdict(reply) is verdict


@given(st.text(max_size=200))
def test_no_reply_makes_parsing_fail(reply: str) -> None:
    assert read_verdict(reply) in (True, False, None)
