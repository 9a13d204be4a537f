"""Rows whose LaTeX was not escaped: rejected with the field, or restored if asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from cord_worker.dataset import Change, ProblemRecord, ReadOptions, RejectedRecord, read_problems

REPAIR = ReadOptions(repair_latex=True)
GOOD = '{"question": "Is it?", "answer": "yes"}'


def write(tmp_path: Path, kind: str, *rows: str) -> Path:
    path = tmp_path / f"d{kind}"
    path.write_text("\n".join(rows) if kind == ".jsonl" else f"[{','.join(rows)}]", encoding="utf-8")
    return path


CONTROL = [
    (r'{"question": "What is \frac{1}{4}?", "answer": "1/4"}', "question", "a form feed before 'rac'", r"\frac"),
    (r'{"question": "q", "answer": "\theta"}', "answer", "a tab before 'heta'", r"\theta"),
    (r'{"question": "q", "answer": "2\beta"}', "answer", "a backspace before 'eta'", r"\beta"),
    (r'{"question": "q", "answer": "x \neq 2"}', "answer", "a line break before 'eq'", r"\neq"),
    (r'{"question": "q", "answer": "\nu"}', "answer", "a line break before 'u'", r"\nu"),
    (r'{"question": "q", "answer": "\rangle"}', "answer", "a carriage return before 'angle'", r"\rangle"),
    (r'{"question": "q", "answer": "\u000bec{v}"}', "answer", "a vertical tab before 'ec'", r"\vec"),
    (r'{"question": "q", "answer": "1", "passage": "Let $x \to 0$"}', "passage", "a tab before 'o'", r"\to"),
]


@pytest.mark.parametrize("kind", [".jsonl", ".json"])
@pytest.mark.parametrize(("row", "field", "what", "command"), CONTROL, ids=[case[3] for case in CONTROL])
def test_a_lost_backslash_is_named_and_restored_if_asked(
    tmp_path: Path, kind: str, row: str, field: str, what: str, command: str
) -> None:
    path = write(tmp_path, kind, GOOD, row)
    good, refused = read_problems(path)
    assert isinstance(good, ProblemRecord)
    assert isinstance(refused, RejectedRecord)
    assert refused.field == field
    assert what in refused.reason
    assert f"\\{command}" in refused.reason
    assert "--repair-latex" in refused.reason
    _, repaired = read_problems(path, options=REPAIR)
    assert isinstance(repaired, ProblemRecord)
    assert command in f"{repaired.question} {repaired.answer} {repaired.passage}"
    assert [(note.change, note.field, note.shown) for note in repaired.notes] == [(Change.LATEX, field, command)]


@pytest.mark.parametrize("kind", [".jsonl", ".json"])
@pytest.mark.parametrize("command", ["sqrt", "cdot", "upsilon", "(", "left", "infty"])
def test_a_backslash_that_json_does_not_know_is_named_and_restored_if_asked(
    tmp_path: Path, kind: str, command: str
) -> None:
    path = write(tmp_path, kind, GOOD, rf'{{"question": "q", "answer": "a \{command} b \theta c"}}', GOOD)
    records = list(read_problems(path))
    refused = records[1]
    assert isinstance(refused, RejectedRecord)
    assert f"\\{command} with one backslash" in refused.reason
    assert len(records) == 3
    repaired = list(read_problems(path, options=REPAIR))[1]
    assert isinstance(repaired, ProblemRecord)
    assert repaired.answer == rf"a \{command} b \theta c"


def test_a_possible_line_break_in_a_damaged_row_is_refused_even_with_repair(tmp_path: Path) -> None:
    path = write(tmp_path, ".jsonl", r'{"question": "Half is \frac{1}{2}.\nu is what?", "answer": "1"}')
    (refused,) = read_problems(path, options=REPAIR)
    assert isinstance(refused, RejectedRecord)
    assert "may be \\nu or meant as it is" in refused.reason


def test_line_breaks_tabs_and_escaped_latex_are_left_unchanged(tmp_path: Path) -> None:
    row = r'{"question": "Given:\n\ta\nu is $\\frac{1}{2}$\nexists x", "answer": "one\ntwo\tthree"}'
    (problem,) = read_problems(write(tmp_path, ".jsonl", row))
    assert isinstance(problem, ProblemRecord)
    assert problem.question == "Given:\n\ta\nu is $\\frac{1}{2}$\nexists x"
    assert problem.answer == "one\ntwo\tthree"
    assert problem.notes == ()


def test_further_fields_are_checked_if_asked(tmp_path: Path) -> None:
    path = write(tmp_path, ".jsonl", r'{"question": "q", "answer": "a", "gold": "\frac{1}{2}", "note": "\frac"}')
    assert isinstance(next(read_problems(path)), ProblemRecord)
    refused = next(read_problems(path, options=ReadOptions(checked=("gold",))))
    assert isinstance(refused, RejectedRecord)
    assert refused.field == "gold"


def test_doubled_backslashes_are_kept_and_noted(tmp_path: Path) -> None:
    (problem,) = read_problems(write(tmp_path, ".jsonl", r'{"question": "q", "answer": "\\\\frac{1}{2}"}'))
    assert isinstance(problem, ProblemRecord)
    assert problem.answer == r"\\frac{1}{2}"
    assert [note.change for note in problem.notes] == [Change.DOUBLED_BACKSLASHES]


def test_a_table_is_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(b"question,answer\nq,\x0crac{1}{2}\n")
    (refused,) = read_problems(path)
    assert isinstance(refused, RejectedRecord)
    assert refused.field == "answer"


def test_a_lost_backslash_in_a_passed_through_field_is_noted_or_restored(tmp_path: Path) -> None:
    row = r'{"question": "q", "answer": "1", "solution": "\fbox{2} \frac{1}{2}", "more": ["\beta"]}'
    path = write(tmp_path, ".jsonl", row)
    (kept,) = read_problems(path)
    assert isinstance(kept, ProblemRecord)
    assert kept.metadata["more"] == ["\beta"]
    assert {(note.change, note.field) for note in kept.notes} == {
        (Change.LATEX_LEFT, "solution"),
        (Change.LATEX_LEFT, "more"),
    }
    (restored,) = read_problems(path, options=REPAIR)
    assert isinstance(restored, ProblemRecord)
    assert restored.metadata == {"solution": r"\fbox{2} \frac{1}{2}", "more": [r"\beta"]}


def test_passed_through_fields_help_to_decide(tmp_path: Path) -> None:
    row = r'{"question": "Under it\nu holds.", "answer": "1", "note": "\frac{1}{2}"}'
    (refused,) = read_problems(write(tmp_path, ".jsonl", row))
    assert isinstance(refused, RejectedRecord)
    assert refused.field == "question"
    (unclear,) = read_problems(write(tmp_path, ".jsonl", row.replace(r"\frac", "frac")))
    assert isinstance(unclear, ProblemRecord)
    assert [(note.change, note.shown) for note in unclear.notes] == [(Change.LATEX_DOUBTFUL, r"\nu")]


def test_a_control_character_that_is_stripped_is_noted(tmp_path: Path) -> None:
    (problem,) = read_problems(write(tmp_path, ".jsonl", r'{"question": "\f 5?", "answer": "\r7"}'))
    assert isinstance(problem, ProblemRecord)
    assert (problem.question, problem.answer) == ("5?", "7")
    assert [(note.change, note.field) for note in problem.notes] == [
        (Change.INVISIBLE, "question"),
        (Change.INVISIBLE, "answer"),
    ]
