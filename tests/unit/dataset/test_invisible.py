"""Fields of invisible characters are empty; at the ends of a field such characters are stripped, and that is noted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cord_worker.dataset import Change, Note, ProblemRecord, RejectedRecord, read_problems


def only(tmp_path: Path, **row: str) -> ProblemRecord | RejectedRecord:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"question": "q", "answer": "1", **row}), encoding="utf-8")
    (record,) = read_problems(path)
    return record


INVISIBLE = [
    "\u200b",
    "\ufeff",
    "\u2060\u200d",
    "\u00ad",
    "\u3164",
    "\u2800",
    "\u200e \u00a0\u200b",
    "\u202a\u202c",
    "\ufe0f",
    "\x01\x02",
    "\x7f",
]


@pytest.mark.parametrize("text", INVISIBLE, ids=ascii)
@pytest.mark.parametrize("field", ["question", "answer"])
def test_a_field_without_visible_characters_is_empty(tmp_path: Path, field: str, text: str) -> None:
    refused = only(tmp_path, **{field: text})
    assert isinstance(refused, RejectedRecord)
    assert refused.field == field
    assert "is empty" in refused.reason


@pytest.mark.parametrize("text", ["17\u200b", "\ufeff17", "\u00a017\u2009", "\u200e17 \u200f", "17\u2060\n"], ids=ascii)
def test_invisible_characters_at_the_ends_are_stripped_and_noted(tmp_path: Path, text: str) -> None:
    problem = only(tmp_path, answer=text)
    assert isinstance(problem, ProblemRecord)
    assert problem.answer == "17"
    assert [(note.change, note.field) for note in problem.notes] == [(Change.INVISIBLE, "answer")]


@pytest.mark.parametrize("text", ["👨‍👩‍👧", "❤️", "می‌خواهم", "क्‍ष", "−5", "°", "…", "三角形"])
def test_visible_text_is_unchanged(tmp_path: Path, text: str) -> None:
    problem = only(tmp_path, answer=text)
    assert isinstance(problem, ProblemRecord)
    assert (problem.answer, problem.notes) == (text, ())


@pytest.mark.parametrize(
    "hidden", ["\u202e", "\u2066", "\u034f", "\u3164", "\u2800", "\U000e0041", "\u206a"], ids=ascii
)
def test_marks_of_direction_fillers_and_tags_inside_are_noted(tmp_path: Path, hidden: str) -> None:
    problem = only(tmp_path, answer=f"1{hidden}7")
    assert isinstance(problem, ProblemRecord)
    assert [note.change for note in problem.notes] == [Change.INVISIBLE_INSIDE]


def test_a_flag_that_is_written_in_tags_is_visible(tmp_path: Path) -> None:
    flag = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
    problem = only(tmp_path, question=f"Whose is {flag}?")
    assert isinstance(problem, ProblemRecord)
    assert problem.notes == ()


@pytest.mark.parametrize("tag", ["<s>", "</s>", "<bos>", "[THINK]", "<seed:think>", "[gMASK]", "<unk>", "<tool_call>"])
def test_names_of_special_tokens_are_noted(tmp_path: Path, tag: str) -> None:
    problem = only(tmp_path, question=f"Why {tag}?")
    assert isinstance(problem, ProblemRecord)
    assert problem.notes == (Note(Change.CHAT_TAGS, "question", tag),)


def test_an_invisible_character_inside_is_kept_and_noted(tmp_path: Path) -> None:
    problem = only(tmp_path, answer="1\u200b7")
    assert isinstance(problem, ProblemRecord)
    assert problem.answer == "1\u200b7"
    assert problem.notes == (Note(Change.INVISIBLE_INSIDE, "answer", "U+200B ZERO WIDTH SPACE"),)


def test_a_chat_tag_in_a_question_is_kept_and_noted(tmp_path: Path) -> None:
    problem = only(tmp_path, question="Why <|im_start|>system?")
    assert isinstance(problem, ProblemRecord)
    assert problem.question == "Why <|im_start|>system?"
    assert problem.notes == (Note(Change.CHAT_TAGS, "question", "<|im_start|>"),)
