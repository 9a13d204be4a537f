"""The final answer is extracted from a worked solution, and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cord_worker.dataset import Change, ProblemRecord, ReadOptions, RejectedRecord, read_problems
from cord_worker.dataset.solutions import AmbiguousAnswer, final_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("He has 3*4 = <<3*4=12>>12 eggs.\nHalf is 6.\n#### 6", "6"),
        ("So 1,200 dollars. #### 1,200", "1,200"),
        ("#### -5", "-5"),
        ("Thus $\\boxed{\\dfrac{3}{8}}$.", "\\dfrac{3}{8}"),
        ("\\boxed{9}", "9"),
        ("$\\boxed{9}$", "9"),
        ("We get \\boxed{\\text{(C)}} .", "\\text{(C)}"),
        ("so \\fbox{12}", "12"),
        ("so \\boxed 7", "7"),
        ("once \\boxed{4}, again \\boxed{ 4 }", "4"),
        ("x is \\boxed{2} or \\boxed{-2}", "2, -2"),
        ("\\boxed{\\left\\{1, 2\\right\\}}", "\\left\\{1, 2\\right\\}"),
        ("Long words.\n#### \\boxed{8}", "8"),
        ("Long words.\n####\n17", "17"),
        ("Long words.\n#### 17</s>", "17"),
        ("Long words.\n**#### 17**", "17"),
        ("```\nLong words.\n#### 17\n```", "17"),
        ("Long words.\n####17", "17"),
        ("so \\boxed 17", "17"),
        ("so $\\boxed\\pi$", "\\pi"),
        ("so \\framebox{6}", "6"),
        ("so \\framebox[1cm]{6}", "6"),
        ("\\boxed{3,000}, \\boxed{7}", "3,000; 7"),
        ("so x = \\boxed{3}.", "3"),
        ("**\\boxed{3}**", "3"),
        ("- \\boxed{3}", "3"),
        ("Answer - \\boxed{3} - as was shown", "3"),
        ("\\[ x = \\boxed{3} \\]", "3"),
        ("it is \\boxed{30}^\\circ", "30"),
        ("it is \\boxed{3}\\text{ cm}", "3"),
        ("\\textbf{\\boxed{3}}", "3"),
        ("So \\boxed{8}.\n#### 8", "8"),
        ("<reasoning>…</reasoning><answer>blue</answer>", "blue"),
    ],
)
def test_the_final_answer_of_a_solution_is_extracted(text: str, answer: str) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "72",
        "\\frac{1}{2}",
        "The drug lowers blood pressure in most patients, as three trials have shown.",
        "#### Background\nLong.\n#### Results\nThe drug works.",
        "It works. #### Why\nBecause.",
        "##### 5",
        "A title:\n#### Proof. Suppose not.",
        "as in note ####12",
        "Issue #5 and #### marks a heading\nin Markdown",
        "The answer is 4 because 2 + 2 = 4.",
    ],
)
def test_an_answer_without_a_mark_stays_whole(text: str) -> None:
    assert final_answer(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("First \\boxed{3}, then \\boxed{5}.", "several boxes"),
        ("So \\boxed{\\frac{1}{2", "never closed"),
        ("So \\boxed{}.", "empty"),
        ("So \\boxed{4}.\n#### 5", "two final answers"),
        ("So 5.\n#### ", "nothing after"),
        ("#### One\n#### 5", "several lines"),
        ("Long.\n#### 17\n\nI hope that this is clear!", "continues after"),
        ("from \\boxed{3} and \\boxed{5}", "several boxes"),
        ("so \\boxed\\frac34", "without braces"),
        ("so \\boxed\\frac 3 4", "without braces"),
        *(
            (text, "only a part")
            for text in (
                "$-\\boxed{4}$",
                "$x - \\boxed{4}$",
                "\\boxed{1.5} \\times 10^{-2}",
                "\\boxed{4}\\%",
                "10^{\\boxed{2}}",
                "\\sqrt{\\boxed{7}}",
                "\\frac{1}{\\boxed{7}}",
                "3\\boxed{7}",
                "\\boxed{1}\\text{ or }4",
                "\\boxed{1} or 4",
                "\\boxed{3}^2",
                "\\boxed{3}x",
                "\\pm\\boxed{3}",
            )
        ),
    ],
)
def test_ambiguous_final_answers_are_reported(text: str, reason: str) -> None:
    with pytest.raises(AmbiguousAnswer, match=reason):
        final_answer(text)


def read(tmp_path: Path, *rows: object, **options: Any) -> list[ProblemRecord | RejectedRecord]:
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return list(read_problems(path, options=ReadOptions(**options)))


def test_the_whole_solution_stays_in_the_metadata_and_is_noted(tmp_path: Path) -> None:
    solution = "Ten times two is twenty.\n#### 20"
    (problem,) = read(tmp_path, {"question": "10 * 2?", "answer": solution, "level": 1})
    assert isinstance(problem, ProblemRecord)
    assert problem.answer == "20"
    assert problem.metadata == {"answer": solution, "level": 1}
    assert [note.change for note in problem.notes] == [Change.FINAL_ANSWER]


def test_as_is_keeps_the_whole_answer(tmp_path: Path) -> None:
    solution = "Ten times two is twenty.\n#### 20"
    (problem,) = read(tmp_path, {"question": "10 * 2?", "answer": solution}, answer_as_is=True)
    assert isinstance(problem, ProblemRecord)
    assert (problem.answer, problem.metadata, problem.notes) == (solution, {}, ())


def test_a_solution_with_two_results_is_refused_with_advice(tmp_path: Path) -> None:
    (refused,) = read(tmp_path, {"question": "q", "answer": "\\boxed{1}, no: \\boxed{2}"})
    assert isinstance(refused, RejectedRecord)
    assert refused.field == "answer"
    assert "--answer-as-is" in refused.reason
