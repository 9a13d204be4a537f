from __future__ import annotations

from datetime import date
from typing import Any

import jinja2
import jinja2.ext
import pytest

from cord_worker.errors import RequestError
from cord_worker.prompting.first_turn import render_first_turn

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class JinjaTokenizer:
    """Renders a template the way transformers does, without loading it."""

    def __init__(self, template: str | None) -> None:
        self.chat_template = template

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> str:
        def raise_exception(message: str) -> None:
            raise jinja2.TemplateError(message)

        environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = raise_exception
        template = options.pop("chat_template", self.chat_template)
        return environment.from_string(template or "").render(messages=conversation, **options)


def text_of(template: str | None, **turn: Any) -> str:
    return render_first_turn(JinjaTokenizer(template), **turn).text


@pytest.mark.parametrize("added", ["", "<think>\n", "<think>", "<think>\n\n</think>\n\n"])
def test_the_turn_ends_with_one_think_whatever_the_template_adds(added: str) -> None:
    text = text_of(CHATML.replace("assistant\n", "assistant\n" + added), question="How many?")
    assert text == "<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n<think>\n"


@pytest.mark.parametrize("added", ["", "<think>\n\n</think>\n\n"])
def test_a_turn_for_a_plain_reply_opens_no_thinking(added: str) -> None:
    template = CHATML.replace("assistant\n", "assistant\n{% if not enable_thinking %}" + added + "{% endif %}")
    text = text_of(template, question="How many?", thinking=False)
    assert text == f"<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n{added}"
    assert text_of(None, question="How many?", thinking=False) == "Question: How many?\n\nAnswer:"


def test_system_text_and_passage_stand_before_the_question() -> None:
    text = text_of(CHATML, question=" Q ", system="Be brief.", passage="P\n")
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nP\n\nQ<|im_end|>\n<|im_start|>assistant\n<think>\n"
    )


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}U:{{ messages[0].content }}\nA:",
        "{% for m in messages if m.role == 'user' %}U:{{ m.content }}\nA:{% endfor %}",
    ],
)
def test_a_system_turn_that_the_template_refuses_or_drops_stands_before_the_question(template: str) -> None:
    assert text_of(template, question="Q", system="S") == "U:S\n\nQ\nA:<think>\n"


def test_a_base_model_gets_a_plain_prompt() -> None:
    first = render_first_turn(JinjaTokenizer(None), question="Q", system="S")
    assert first.text == "S\n\nQuestion: Q\n\nAnswer: <think>\n"
    assert not first.is_templated


def test_the_date_is_the_same_on_every_day() -> None:
    text = text_of("{{ strftime_now('%Y-%m-%d') }} {{ date_string }} {{ messages[0].content }}", question="Q")
    assert text.startswith("2025-01-01 01 Jan 2025 Q")


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("{% set now = strftime_now %}{{ now('%d.%m.%Y') }}", "04.03.2026"),
        ("{{ [strftime_now][0] ('%B') }}", "March"),
        ("{{ strftime_now ('%H:%M') }}", "00:00"),
        ("{{ strftime_now(format='%-d %b') }}", "4 Mar"),
        ("{{ strftime_now('%d\\n%y') }}", "04\n26"),
        ("{{ strftime_now('100%% %%Y %Y%') }}", "100% %Y 2026%"),
        ("{# strftime_now(today) #}{{ ['%', 'Y']|join|replace('', '') ~ '' }}", "%Y"),
        ("{{ strftime_now(['%', 'Y']|join) }}", "2026"),
        ("{% macro day() %}{{ strftime_now('%j') }}{% endmacro %}{{ day() }}", "063"),
        ("{{ strftime_now('%s') }}", "1772582400"),
        ("  {% if strftime_now is defined %}\n{{ strftime_now('%A') }}{% endif %}", "Wednesday"),
        ("\n{{ strftime_now('%A') }}", "\nWednesday"),
    ],
)
def test_every_way_to_ask_for_the_date_gives_the_runs_date(template: str, rendered: str) -> None:
    text = text_of(template + "|{{ messages[0].content }}", question="Q", today=date(2026, 3, 4))
    assert text == rendered + "|Q<think>\n"


def test_a_date_without_a_format_is_refused() -> None:
    with pytest.raises(RequestError, match="cannot be rendered"):
        text_of("{{ strftime_now(5) }}{{ messages[0].content }}", question="Q")


def test_think_tags_inside_a_question_stay_and_are_marked_as_content() -> None:
    first = render_first_turn(JinjaTokenizer(CHATML), question="what is <think>?")
    assert [piece.text for piece in first.pieces if piece.is_content] == ["what is <think>?"]
    assert first.pieces[-1].text.endswith("<think>\n")


def test_a_question_at_the_very_end_of_a_template_is_left_whole() -> None:
    assert text_of("{{ messages[0].content }}", question="why <think>") == "why <think><think>\n"


@pytest.mark.parametrize("template", ["nothing", "{{ messages[0].content }} {{ messages[0].content }}"])
def test_a_template_that_does_not_show_the_question_once_is_refused(template: str) -> None:
    with pytest.raises(RequestError, match="exactly once"):
        text_of(template, question="Q")


def test_a_broken_template_is_named() -> None:
    with pytest.raises(RequestError, match="cannot be rendered"):
        text_of("{% if %}", question="Q")


def test_a_blank_question_is_refused() -> None:
    with pytest.raises(RequestError, match="blank"):
        text_of(CHATML, question=" \n")
