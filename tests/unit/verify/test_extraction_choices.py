"""Final answers that are choices."""

from __future__ import annotations

import pytest

from cord_worker.verify import Method, Rule, compare
from tests.support.final_answers import assert_only_answer

MEANT = [
    ("The answer is B.", "B"),
    ("The answer is (B).", "B"),
    ("The correct answer is option B.", "B"),
    ("The correct option is B.", "B"),
    ("**Answer: B**", "B"),
    ("Answer: **B**", "B"),
    ("Answer: \\textbf{(B)}", "B"),
    ("\\boxed{B}", "B"),
    ("\\boxed{B}: the second option", "B"),
    ("The limit is $\\boxed{\\alpha > 2}$, which is the second option.\n\n**Answer: B**", "B"),
    ("The answer is B. Note that A is what one gets by forgetting the sign.", "B"),
    ("The answer is B because A and C contradict the graph.", "B"),
    ("The answer is B) 41.", "B"),
    ("The answer is 41, which is option B.", "B"),
    ("The value is \\boxed{41}. So the correct choice is (B).", "B"),
    ("Option B is correct.", "B"),
    ("B is the correct answer.", "B"),
    ("B is correct, A is not.", "B"),
    ("The correct choice is B, not C.", "B"),
    ("A and C are wrong, so the answer is B.", "B"),
    ("Among the options, A is too small and C too large. Hence B.", "B"),
    ("(B)", "B"),
    ("B.", "B"),
    ("B: Paris", "B"),
    ("I choose B.", "B"),
    ("I pick option B.", "B"),
    ("<answer>B</answer>", "B"),
    ("<answer>B. Paris</answer>", "B"),
    ("Alternativa B", "B"),
    ("Thus, option B.", "B"),
    ("Hence (B).", "B"),
    ("Thus (B) is correct.", "B"),
    ("So it's B.", "B"),
    ("Therefore, the statement B is correct.", "B"),
    ("The best answer is B.", "B"),
    ("The best choice is (B).", "B"),
    ("Correct option: B", "B"),
    ("Correct answer: B) 41", "B"),
    ("Correct Choice: B", "B"),
    ("Option: B", "B"),
    ("Choice: B", "B"),
    ("**B**", "B"),
    ("**(B) 41**", "B"),
    ("B) 41", "B"),
    ("B. 41", "B"),
    ("(B) 41", "B"),
    ("B – 41", "B"),
    ("[[B]]", "B"),
    ("Answer: C (Rome)", "C"),
]


@pytest.mark.parametrize(("text", "answer"), MEANT)
def test_the_stated_choice_is_found(text: str, answer: str) -> None:
    assert_only_answer(text, answer)


@pytest.mark.parametrize(
    ("text", "correct"),
    [
        ("The answer is B. The answer is C.", None),
        ("I do not think the answer is B.", False),
        ("\\boxed{B}\n\nWait, that is wrong. \\boxed{C}", False),
        ("\\boxed{C}\n\nWait, that is wrong. \\boxed{B}", True),
        ("The answer is B or C.", False),
        ("The answer is **B**.<|im_end|>", True),
    ],
)
def test_corrections_and_contradictions_count_for_choices_too(text: str, correct: bool | None) -> None:
    assert compare(text, "B", Rule(Method.CHOICE)).correct is correct
