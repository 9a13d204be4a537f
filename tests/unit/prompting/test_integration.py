"""The integrator's prompt, and the parsing of its reply."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.config import DEFAULT_INTEGRATION_PROMPT
from cord_worker.prompting.integration import Integration, integration_prompt, read_integration
from cord_worker.prompting.trajectory import PROMPTED, Segmentation, SegmentationRule, trajectory_text

TWO = Integration(text=" a\n### Step 2. b", answer="42")


@pytest.mark.parametrize(
    "reply",
    [
        '{"integrated_step1": "a", "integrated_step2": "b", "answer_part": "42"}',
        '{"integrated_step2": "b", "answer_part": 42, "integrated_step1": " a\\n"}',
        '```json\n{"integrated_step1": "a", "integrated_step2": "b", "answer_part": "42"}\n```',
        'Here it is:\n```\n{"integrated_step1": "a",\n "integrated_step2": "b",\n "answer_part": "42",\n}\n```\nDone.',
        "{'integrated_step1': 'a', 'integrated_step2': 'b', 'answer_part': '42'}",
        '{"integrated_step1": "a", "integrated_step2": "b", "answer_part": "42"',
        '{"Integrated Step 1": "a", "integrated_step_2": ["b"], "answer part": "42", "remark": {"x": null}}',
        '[{"integrated_step1": "a", "integrated_step2": "b", "answer_part": "42"}]',
        '{"integrated_step1": "### Step 1. a", "integrated_step2": "Step 7: b", "answer_part": "42"}',
        '{"integrated_step1": "a\\n### Step 9. b", "integrated_step2": "", "answer_part": "42</think> and more"}',
    ],
)
def test_the_usual_syntax_errors_of_a_model_are_repaired(reply: str) -> None:
    assert read_integration(reply, PROMPTED, complete=True) == TWO


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot merge these.",
        "{}",
        '{"answer_part": "42"}',
        '{"integrated_step1": "", "answer_part": "42"}',
        '{"integrated_step1": {"title": "a"}, "answer_part": "42"}',
        '{"integrated_step1": null, "integrated_step2": "b"}',
        '{"correctness": "True"}',
        "{" * 50_000,
        '{"integrated_step1":' + "[" * 50_000,
    ],
)
def test_a_reply_without_the_object_is_malformed(reply: str) -> None:
    assert read_integration(reply, PROMPTED, complete=True) is None


def test_an_object_that_the_cap_cut_off_is_not_completed() -> None:
    cut = '{"integrated_step1": "a", "integrated_step2": "b is th'
    assert read_integration(cut, PROMPTED, complete=False) is None
    assert read_integration(json.dumps({"integrated_step1": "a"}) + " And so on", PROMPTED, complete=False) is not None


def test_latex_is_not_read_as_an_escape_sequence() -> None:
    written = r'{"integrated_step1": "\(x\) is \frac{1}{2} \times \neq\nThen", "answer_part": "\boxed{2} \\text{m}"}'
    found = read_integration(written, PROMPTED, complete=True)
    assert found == Integration(" \\(x\\) is \\frac{1}{2} \\times \\neq\nThen", "\\boxed{2} \\text{m}")


@pytest.mark.parametrize(
    "command", ["nu", "ne", "ni", "nabla", "tan", "to", "beta", "forall", "rangle", "upsilon", "bm"]
)
@pytest.mark.parametrize("text", ["so \\%s{x}", "so $\\%s$.", "f(\\%s x)", "a \\%s b", "\\%s"])
def test_a_command_is_not_read_as_a_line_break_or_a_tab(command: str, text: str) -> None:
    written = text % command
    found = read_integration(f'{{"integrated_step1": "{written}", "answer_part": "1"}}', PROMPTED, complete=True)
    assert found == Integration(f" {written}", "1")


@pytest.mark.parametrize("text", ["First.\\nThen.", "Let\\nu = x + 1", "so:\\ni = 2\\ne = 3", "One.\\n\\nnot two"])
def test_a_line_break_before_a_word_is_not_read_as_a_command(text: str) -> None:
    found = read_integration(f'{{"integrated_step1": "{text}", "answer_part": "1"}}', PROMPTED, complete=True)
    assert found == Integration(f" {text}".replace("\\n", "\n"), "1")


def test_an_answer_that_is_missing_is_none() -> None:
    for reply in ('{"integrated_step1": "a"}', '{"integrated_step1": "a", "answer_part": "  "}'):
        assert read_integration(reply, PROMPTED, complete=True) == Integration(" a", None)


@given(st.lists(st.text(st.characters(blacklist_characters="\x00")), min_size=1, max_size=6), st.text())
def test_the_steps_of_any_object_are_numbered_from_one(steps: list[str], answer: str) -> None:
    fields = {f"integrated_step{number}": text for number, text in enumerate(steps, start=1)}
    found = read_integration(json.dumps({**fields, "answer_part": answer}, ensure_ascii=False), PROMPTED, complete=True)
    assert found is None or is_numbered(found)


def is_numbered(found: Integration) -> bool:
    markers = re.findall(r"^### Step (\d+)\.", trajectory_text([found.text], PROMPTED), re.MULTILINE)
    return [int(number) for number in markers] == list(range(1, len(markers) + 1))


@given(st.text(max_size=300), st.booleans())
def test_any_reply_is_refused_or_has_numbered_steps_and_an_answer_that_is_not_blank(reply: str, complete: bool) -> None:
    for text in (reply, "{" + reply, '{"integrated_step1": "' + reply):
        found = read_integration(text, PROMPTED, complete=complete)
        assert found is None or (is_numbered(found) and (found.answer is None or found.answer.strip()))


def test_text_from_outside_is_never_taken_for_a_placeholder() -> None:
    prompt = integration_prompt(
        DEFAULT_INTEGRATION_PROMPT, "What is {trajectories}? ", [[" a {question}", " b"], [" {trajectories}"]], PROMPTED
    )
    assert prompt.count("What is {trajectories}?") == 1
    assert "=== Attempt 1 ===\n### Step 1. a {question}\n### Step 2. b" in prompt
    assert "=== Attempt 2 ===\n### Step 1. {trajectories}" in prompt
    assert '"integrated_stepN"' in prompt


def test_without_markers_the_merged_steps_are_paragraphs() -> None:
    reply = json.dumps({"integrated_step1": "a", "integrated_step2": "b", "answer_part": "42"})
    found = read_integration(reply, Segmentation(SegmentationRule.LINE_BREAK), complete=True)
    assert found == Integration("a\n\nb", "42")
