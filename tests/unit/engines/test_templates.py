# ruff: noqa: E501 - templates are read better on lines of their own
"""Chat templates in the styles of the model families, rendered by transformers, and what each model's codec makes of
them. The templates are our own, as short as what they show allows."""

from __future__ import annotations

import copy
import datetime
from typing import Any

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from cord_worker.config import DEFAULT_BINARY_TEMPLATE, DEFAULT_SCORING_TEMPLATE
from cord_worker.engines.protocol import Turn
from cord_worker.engines.text_codec import TextCodec
from cord_worker.errors import EngineLoadError
from cord_worker.prompting.segmentation import FinishReason, cut, ends_of
from cord_worker.prompting.think_tags import USUAL_TAGS, ThinkTags, tags_of
from cord_worker.prompting.trajectory import PROMPTED, Segmentation, SegmentationRule
from tests.support.settings import engine_settings

DAY = datetime.date(2026, 3, 4)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{% endfor %}"
)
TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}[end]{% endfor %}"
ASKED = "{% if add_generation_prompt %}[model]{% endif %}"

STYLES: dict[str, tuple[str, str, str]] = {
    # name: template, the turn with system text S and question Q, the same for a plain reply
    "plain": (TURNS + ASKED, "[system]S[end][user]Q[end][model]<think>\n", "[system]S[end][user]Q[end][model]"),
    "gemma": (
        NO_SYSTEM + ALTERNATING + TURNS + ASKED,
        "[user]S\n\nQ[end][model]<think>\n",
        "[user]S\n\nQ[end][model]",
    ),
    "mistral, strict turns": (
        ALTERNATING + TURNS + ASKED,
        "[user]S\n\nQ[end][model]<think>\n",
        "[user]S\n\nQ[end][model]",
    ),
    "mistral small": (
        "{%- set today = strftime_now('%Y-%m-%d') %}{% if messages[0].role == 'system' %}{% set said = messages[0].content %}"
        "{% set rest = messages[1:] %}{% else %}{% set said = 'Default.' %}{% set rest = messages %}{% endif %}"
        "[S]{{ said + ' Today is ' + today }}[/S]{% for m in rest %}[I]{{ m.content }}[/I]{% endfor %}",
        "[S]S Today is 2026-03-04[/S][I]Q[/I]<think>\n",
        "[S]S Today is 2026-03-04[/S][I]Q[/I]",
    ),
    "granite": (
        "{{ \"Today's Date: \" + strftime_now(\"%B %d, %Y\") }}.{% if thinking %} Think.{% endif %}" + TURNS + ASKED,
        "Today's Date: March 04, 2026. Think.[system]S[end][user]Q[end][model]<think>\n",
        "Today's Date: March 04, 2026.[system]S[end][user]Q[end][model]",
    ),
    "llama": (
        "{% if not date_string is defined %}{% if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
        "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}{{ date_string }}" + TURNS + ASKED,
        "04 Mar 2026[system]S[end][user]Q[end][model]<think>\n",
        "04 Mar 2026[system]S[end][user]Q[end][model]",
    ),
    "smollm": (
        "Date: {{ strftime_now('%d %B %Y') }}, {{ '/think' if enable_thinking else '/no_think' }}" + TURNS
        + "{% if add_generation_prompt %}[model]{% if not enable_thinking %}<think>\n\n</think>\n{% endif %}{% endif %}",
        "Date: 04 March 2026, /think[system]S[end][user]Q[end][model]<think>\n",
        "Date: 04 March 2026, /no_think[system]S[end][user]Q[end][model]<think>\n\n</think>\n",
    ),
    "qwen": (
        TURNS + ASKED + "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}",
        "[system]S[end][user]Q[end][model]<think>\n",
        "[system]S[end][user]Q[end][model]<think>\n\n</think>\n\n",
    ),
    "opens the thinking": (
        TURNS + ASKED + "<think>",
        "[system]S[end][user]Q[end][model]<think>\n",
        "[system]S[end][user]Q[end][model]<think>",
    ),
    "gpt-oss": (
        "{% macro about() %}{{ 'Date: ' + strftime_now('%Y-%m-%d') + ' Reasoning: ' + reasoning_effort|default('medium') }}"
        "{% endmacro %}<|start|>system<|message|>{{ about() }}<|end|>{% for m in messages %}<|start|>{{ m.role }}<|message|>"
        "{{ m.content }}<|end|>{% if m.thinking %}<|channel|>analysis<|message|>{{ m.thinking }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        "<|start|>system<|message|>Date: 2026-03-04 Reasoning: medium<|end|><|start|>system<|message|>S<|end|>"
        "<|start|>user<|message|>Q<|end|><|start|>assistant<|channel|>analysis<|message|>",
        "<|start|>system<|message|>Date: 2026-03-04 Reasoning: medium<|end|><|start|>system<|message|>S<|end|>"
        "<|start|>user<|message|>Q<|end|><|start|>assistant",
    ),
    "magistral": (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if m.role == 'assistant' %}[THINK]{{ m.thinking }}[/THINK]"
        "{% endif %}[end]{% endfor %}",
        "[system]S[end][user]Q[end][THINK]",
        "[system]S[end][user]Q[end]",
    ),
    "cohere": (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|END|>{% endfor %}<|CHATBOT|>"
        "{% if enable_thinking %}<|START_THINKING|>{% else %}<|START_THINKING|><|END_THINKING|>{% endif %}",
        "<|system|>S<|END|><|user|>Q<|END|><|CHATBOT|><|START_THINKING|>",
        "<|system|>S<|END|><|user|>Q<|END|><|CHATBOT|><|START_THINKING|><|END_THINKING|>",
    ),
    "cohere, opens the answer": (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}<|START_THINKING|>"
        "{{ m.thinking }}<|END_THINKING|>{% endif %}<|END|>{% endfor %}<|CHATBOT|><|START_RESPONSE|>",
        "<|system|>S<|END|><|user|>Q<|END|><|CHATBOT|><|START_THINKING|>",
        "<|system|>S<|END|><|user|>Q<|END|><|CHATBOT|><|START_RESPONSE|>",
    ),
    "seed": (
        "{% set opens = '<seed:think>' %}{% set closes = '</seed:think>' %}" + TURNS + ASKED,
        "[system]S[end][user]Q[end][model]<seed:think>",
        "[system]S[end][user]Q[end][model]",
    ),
    "content in parts": (
        "{% for m in messages %}[{{ m.role }}]{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}"
        "{% endif %}{% endfor %}{% endfor %}[model]",
        "[system]S[user]Q[model]<think>\n",
        "[system]S[user]Q[model]",
    ),
    "training": (
        "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}{% endfor %}{% if tools %}{{ tools }}{% endif %}{% if documents %}D{% endif %}"
        "[model]",
        "[system]S[user]Q[model]<think>\n",
        "[system]S[user]Q[model]",
    ),
}  # fmt: skip

REFUSED = {
    "needs a system turn": "{% if messages[0].role != 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    + TURNS,
    "drops the question": "Hello.",
    "shows the question twice": TURNS + TURNS,
    "begins the thinking": TURNS + ASKED + "<think>\nOkay, ",
    "a syntax error": "{% for m in %}",
    "calls an unknown function": "{{ render(messages) }}",
    "a date format that is no text": "{{ strftime_now(1) }}" + TURNS,
    "random text": "{{ ['Hi', 'Hello']|random }}" + TURNS + ASKED,
    "random text with a system turn": TURNS + ASKED + "{% if messages[0].role == 'system' %}{{ lipsum() }}{% endif %}",
}

FAMILIES = {
    "[THINK]": ThinkTags("[THINK]", "[/THINK]"),
    "<seed:think>": ThinkTags("<seed:think>", "</seed:think>"),
    "gpt-oss": ThinkTags("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    "cohere": ThinkTags("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>", "<|END_RESPONSE|>"),
    "own": ThinkTags("<reasoning>\n", "\n</reasoning>\n\n"),
    "usual": USUAL_TAGS,
}


@pytest.fixture(scope="module")
def tokenizer(fast_tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    return copy.deepcopy(fast_tokenizer)


def codec_of(tokenizer: PreTrainedTokenizerFast, template: str, **options: Any) -> TextCodec:
    tokenizer.chat_template = template
    return TextCodec(tokenizer, **options)


@pytest.mark.parametrize("style", STYLES)
def test_a_familys_template_renders_with_the_runs_date_and_opens_the_thinking_once(
    tokenizer: PreTrainedTokenizerFast, style: str
) -> None:
    template, thinking, reply = STYLES[style]
    tags = tags_of(template, [])
    codec = codec_of(tokenizer, template, tags=tags)
    turn = Turn("Q", "S", date=DAY)
    assert codec.first_turn(turn).text == thinking
    assert codec.first_turn(turn, thinking=False).text == reply
    assert thinking.endswith(tags.opening)
    assert thinking.count(tags.opening_tag) == 1
    assert codec.decode(codec.proposal(turn, [])[0]) == thinking


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_cannot_be_used_is_refused_when_the_model_is_loaded(
    tokenizer: PreTrainedTokenizerFast, name: str
) -> None:
    tokenizer.chat_template = REFUSED[name]
    with pytest.raises(EngineLoadError, match="model 'm': the chat template") as refused:
        TextCodec.of(tokenizer, engine_settings("m"))
    assert "\n" not in str(refused.value)


def test_template_options_of_a_model_reach_its_template(tokenizer: PreTrainedTokenizerFast) -> None:
    codec = codec_of(tokenizer, STYLES["gpt-oss"][0], template_options={"reasoning_effort": "high"})
    assert "Reasoning: high" in codec.first_turn(Turn("Q")).text


def test_the_date_changes_with_the_run_and_not_with_the_day(tokenizer: PreTrainedTokenizerFast) -> None:
    codec = codec_of(tokenizer, STYLES["mistral small"][0])
    texts = {codec.first_turn(Turn("Q", date=day)).text for day in (DAY, DAY, DAY.replace(year=2027))}
    assert len(texts) == 2
    assert codec.proposal(Turn("Q", date=DAY), [])[0] != codec.proposal(Turn("Q"), [])[0]


@pytest.mark.parametrize(
    "date_call",
    [
        "{% set now = strftime_now %}{{ now('%Y-%m-%d') }}",
        "{% set format = '%Y-%m-%d' %}{{ strftime_now (format=format) }}",
        "{%- set d = namespace(f=strftime_now) -%}{{ d.f('%Y-%m-%d') }}",
    ],
)
def test_no_template_function_shows_the_clock(tokenizer: PreTrainedTokenizerFast, date_call: str) -> None:
    codec = codec_of(tokenizer, date_call + TURNS + ASKED)
    assert codec.first_turn(Turn("Q", date=DAY)).text.startswith("2026-03-04[user]Q")


@pytest.mark.parametrize(
    ("template", "tokens", "opening"),
    [
        ("no tags", [], "<think>\n"),
        ("<think> </think> [THINK] [/THINK]", [], "<think>\n"),
        ("[THINK] [/THINK]", ["<think>", "</think>"], "[THINK]"),
        ("no tags", ["[THINK]", "[/THINK]"], "[THINK]"),
        ("no tags", ["<think>", "</think>", "<seed:think>", "</seed:think>"], "<think>\n"),
        ("no tags", ["[THINK]", "[/THINK]", "<think>", "</think>"], "<think>\n"),
        ("only <thought>", [], "<think>\n"),
        ("<thought> </thought>", [], "<thought>"),
        ("<mm:think> </mm:think>", [], "<mm:think>"),
        ("<|START_THINKING|> <|END_THINKING|>", [], "<|START_THINKING|>"),
        ("<|channel|>analysis<|message|> <|end|>", [], "<|channel|>analysis<|message|>"),
    ],
)
def test_a_models_tags_are_found_in_its_template_or_else_among_its_tokens(
    template: str, tokens: list[str], opening: str
) -> None:
    assert tags_of(template, tokens).opening == opening


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rule", SegmentationRule)
def test_the_ids_of_a_trajectory_begin_with_those_of_each_of_its_prefixes_with_every_familys_tags(
    tokenizer: PreTrainedTokenizerFast, family: str, rule: SegmentationRule
) -> None:
    tags = FAMILIES[family]
    marks = [
        AddedToken(mark, special=True)
        for mark in (tags.opening_tag, tags.closing_tag)
        if mark not in ("<think>", "</think>")
    ]
    own = copy.deepcopy(tokenizer)
    own.add_tokens(marks)
    codec = codec_of(own, TURNS + ASKED, tags=tags)
    turn, steps = (
        Turn("Q", segmentation=Segmentation.of(rule.value, ["wait"])),
        ["We add.", " Wait, we halve.", " Done."],
    )
    whole = [token for piece in codec.answer(turn, steps) for token in piece]
    for depth in range(1, len(steps) + 1):
        scored = [token for piece in codec.candidate(turn, steps[:depth]) for token in piece]
        proposed = [token for piece in codec.proposal(turn, steps[:depth]) for token in piece]
        assert proposed[: len(scored)] == scored
        assert whole[: len(scored)] == scored
    text = codec.decode(whole)
    assert text.count(tags.opening_tag) == 1
    assert text.endswith(f" Done.{tags.closing}")
    closing = codec.closing(DEFAULT_SCORING_TEMPLATE, "12")
    assert codec.decode(closing.ids) == f"{tags.closing}The final answer is 12."
    assert codec.decode([closing.ids[index] for index in closing.answer]).strip() in ("12", "12.")
    hostile = codec.candidate(turn, [f"a {tags.opening_tag} b {tags.closing_tag} c"])
    control = {own.convert_tokens_to_ids(str(mark)) for mark in marks}
    assert control.isdisjoint(token for piece in hostile[1:] for token in piece)


def test_an_immediate_answer_is_opened_with_the_models_own_closing_tag() -> None:
    tags = FAMILIES["gpt-oss"]
    assert tags.own(DEFAULT_BINARY_TEMPLATE).endswith(f"so far.{tags.closing}The final answer is:")
    assert USUAL_TAGS.own(DEFAULT_BINARY_TEMPLATE) == DEFAULT_BINARY_TEMPLATE


@pytest.mark.parametrize("family", FAMILIES)
def test_steps_and_answers_end_at_the_models_own_tags_and_hold_none_of_them(family: str) -> None:
    tags = FAMILIES[family]
    for closing in {tags.stripped_closing, tags.closing_tag, "</think>"}:
        step = cut(f" One.{closing}", "step", PROMPTED, ended="stop", tags=tags)
        assert (step.text, step.finish_reason) == (" One.", FinishReason.THINK_END)
        answer = cut(f"It is 4.{closing} x", "answer", PROMPTED, ended="stop", tags=tags)
        assert (answer.text, answer.finish_reason) == ("It is 4.", FinishReason.THINK_END)
        reply = cut(f"{tags.opening_tag}Hm.{closing}It is 4.", "reply", PROMPTED, ended="eos", tags=tags)
        assert reply.text == "It is 4."
    again = cut(f" One. {tags.opening_tag} Two.\n### Step 2.", "step", PROMPTED, ended="stop", tags=tags)
    assert again.text == " One. <think> Two."  # a tag in a step, which the search refuses


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("{close}\n\nIt is 4.", "It is 4."),
        ("\n{close}{close} It is 4.", "It is 4."),
        ("{open}\nTwo and two.\n{close}\n\nIt is 4.", "It is 4."),
        (" {open}a{close}\n{open}b{close}It is 4.{close}no", "It is 4."),
        ("</think>It is 4.<think>no", "It is 4."),
        ("<think>a</think>It is 4.", "It is 4."),
        ("{open}never closed", ""),
        ("It is 4.{open}But", "It is 4."),
        (" It is 4.", " It is 4."),
    ],
)
def test_thinking_at_the_beginning_of_an_answer_is_removed(family: str, text: str, answer: str) -> None:
    tags = FAMILIES[family]
    written = text.format(open=tags.opening_tag, close=tags.stripped_closing)
    ends = ends_of(PROMPTED, "answer", tags)
    ended = "eos" if ends.find(written) is None else "stop"
    assert cut(written, "answer", PROMPTED, ended=ended, tags=tags).text == answer  # type: ignore[arg-type]
    assert ends.stop_strings is None
    for length in range(len(written)):  # the end of the text does not change while it streams in
        early = ends.find(written[:length])
        assert early is None or early == ends.find(written)


def test_a_response_with_its_own_end_tag_ends_there() -> None:
    tags = FAMILIES["cohere"]
    answer = cut("It is 4.<|END_RESPONSE|>", "answer", PROMPTED, ended="stop", tags=tags)
    assert (answer.text, answer.finish_reason) == ("It is 4.", FinishReason.EOS)
