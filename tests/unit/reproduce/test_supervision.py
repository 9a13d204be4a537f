"""`make students`: which rows the students learn from, and the table of their exams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cord_worker.errors import ConfigError
from cord_worker.operations.comparison import ComparedRun, Interval, RunComparison
from cord_worker.reproduce.supervision import (
    KEPT_ANSWER,
    LOSSES,
    PREFERRING,
    TITLES,
    TRIMMED,
    WHOLE,
    Report,
    TrainingRows,
    check_options,
    same_problems,
    student_results,
    with_answer_of,
)

WHOLE_ROW = {"id": "a", "prompt": "p", "completion": "one\ntwo\n</think>\n\nThe final answer is 4."}
TRIMMED_ROW = {"id": "a", "prompt": "p", "completion": "one\n</think>\n\nThe final answer is 5."}


def compared(run: str, accuracy: float, difference: Interval | None, tokens: float) -> ComparedRun:
    return ComparedRun(
        run=run, pipeline="curation", budget="", accuracy=Interval(accuracy, accuracy - 0.05, accuracy + 0.05),
        undecided=0, score=None, accuracy_difference=difference, score_difference=None,
        tokens=Interval(tokens, tokens - 2, tokens + 2), result_tokens=Interval(tokens, tokens - 1, tokens + 1),
    )  # fmt: skip


def test_students_that_are_compared_learn_from_the_same_problems() -> None:
    wholes = [{"id": name, "from": "whole"} for name in ("c", "a", "b")]
    trimmed = [{"id": name, "from": "trimmed"} for name in ("a", "d", "c")]
    ours, others = same_problems(wholes, trimmed)
    assert [row["id"] for row in ours] == [row["id"] for row in others] == ["c", "a"]
    assert {row["from"] for row in ours} == {"whole"}
    assert {row["from"] for row in others} == {"trimmed"}


def test_a_trimmed_row_keeps_its_thinking_and_gets_the_answer_of_the_whole_one() -> None:
    assert with_answer_of(TRIMMED_ROW, WHOLE_ROW) == {
        "id": "a", "prompt": "p", "completion": "one\n</think>\n\nThe final answer is 4.",
    }  # fmt: skip
    assert TRIMMED_ROW["completion"].endswith("5.")


def test_a_completion_that_does_not_close_its_thinking_is_not_used() -> None:
    with pytest.raises(ValueError, match="unpack"):
        with_answer_of({**TRIMMED_ROW, "completion": "one"}, WHOLE_ROW)


def test_a_shorter_completion_has_fewer_tokens_and_pairs_have_no_number() -> None:
    whole, trimmed = (TrainingRows({}, [row]).mean_tokens for row in (WHOLE_ROW, TRIMMED_ROW))
    assert whole is not None
    assert trimmed is not None
    assert 0 < trimmed < whole
    assert TrainingRows({}, [{"id": "a", "chosen": "x", "rejected": "y"}]).mean_tokens is None


def test_a_folder_takes_the_same_options_again_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "options.json"
    check_options(path, {"problems": 400, "above": 0.9})
    check_options(path, {"problems": 400, "above": 0.9})
    with pytest.raises(ConfigError, match=r"other options.*--output"):
        check_options(path, {"problems": 400, "above": 0.5})
    assert json.loads(path.read_text(encoding="utf-8"))["above"] == 0.9


def test_the_table_has_every_student_with_the_figures_of_its_own_exam(tmp_path: Path) -> None:
    accuracies = {name: 0.1 * (place + 1) for place, name in enumerate(TITLES)}
    runs = [
        compared(f"student-{name}", accuracy, None if name == WHOLE else Interval(-0.125, -0.2, 0.01), 100 * accuracy)
        for name, accuracy in reversed(accuracies.items())
    ]
    training_rows: dict[str, Any] = {name: TrainingRows({}, [TRIMMED_ROW]) for name in (WHOLE, TRIMMED, KEPT_ANSWER)}
    training_rows |= dict.fromkeys(LOSSES, TrainingRows({}, [{"id": "a"}, {"id": "a"}]))
    students = student_results(training_rows, RunComparison(300, runs))
    assert [one.student for one in students] == list(TITLES)
    for one in students:
        assert one.exam.accuracy is not None
        assert one.exam.accuracy.mean == accuracies[one.student]
    trimming = RunComparison(400, [compared("cord", 0.94, None, 123), compared("cord-trim-0.9", 0.02, None, 98)])
    report = Report(trimming, students, 300)
    text = "\n".join(report.lines())
    assert "400 problems: 94.0 % [89.0, 99.0] right, 123.0 [122.0, 124.0] tokens; trimmed 2.0 %" in text
    assert f"| {TITLES[PREFERRING]} | 2 |  | 50.0 % [45.0, 55.0] | -12.5 % [-20.0, +1.0] | 50.0 [48.0, 52.0] |" in text
    assert f"| {TITLES[WHOLE]} | 1 | {students[1].row_tokens:.0f} | 20.0 % [15.0, 25.0] |  |" in text
    report.write(tmp_path / "students.json")
    written = json.loads((tmp_path / "students.json").read_text(encoding="utf-8"))
    assert [one["student"] for one in written["students"]] == list(TITLES)
    assert written["students"][0]["rows"] == 0
