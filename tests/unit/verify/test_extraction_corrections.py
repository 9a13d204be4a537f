"""Final answers that a text corrects, denies or contradicts."""

from __future__ import annotations

import pytest

from cord_worker.verify import Method, Rule, compare
from tests.support.final_answers import assert_only_answer

MEANT = [
    ("~~3~~ 41", "41"),
    # Corrections.
    ("The answer is 40. Wait, no. It is 41.", "41"),
    ("The answer is 40. Actually, recounting gives 41.", "41"),
    ("Answer: 40\n\nCorrection: 41", "41"),
    ("The answer is 40. Wait, that is wrong. The answer is 41.", "41"),
    ("The answer is 40. No, the answer is 41.", "41"),
    ("The answer is 40? No; the answer is 41.", "41"),
    ("The answer is 40... scratch that, the answer is 41.", "41"),
    ("At first the answer seems to be 40.\n\nThe answer is 41.", "41"),
    ("The answer is not 40. The answer is 41.", "41"),
    ("The answer is not 40 but 41.", "41"),
    ("The answer is 41, not 40.", "41"),
    ("The answer is 41 rather than 40.", "41"),
    ("The answer is 41 (not 40).", "41"),
    ("I do not think the answer is 40. The answer is 41.", "41"),
    ("You might think the answer is 40, but the answer is 41.", "41"),
    # Corrections in other words, and later sentences that correct nothing.
    ("The answer is 41. However, with tips it would be 50.", "41"),
    ("The answer is 41. Wait, let me double-check: 20 + 21 = 41. Yes, that is correct.", "41"),
    (
        "Okay, let's see. The answer is 20? Hmm, no. Wait, there are also 21 blue ones. So 41.\n\n**Answer:** 41",
        "41",
    ),
    ("The answer is 40.\n\nWait, I forgot one marble. So the total is 41.", "41"),
    ("The answer is 40.\n\nHold on. 20 + 21 = 41, not 40.\n\nThe answer is 41.", "41"),
    ("Answer: 40. Sorry, I meant 41.", "41"),
    ("The answer is 40, no wait, 41.", "41"),
    ("Initially I got 40, but the answer is 41.", "41"),
    ("The answer 40 is wrong. The answer is 41.", "41"),
    ("Corrected answer: 41", "41"),
    ("The answer is 41. Actually, this can also be shown by induction.", "41"),
    ("The answer is 41. Wait times were ignored.", "41"),
    ("The answer is 41. Hmm, interesting problem!", "41"),
    ("The answer is 41. Sorry for the long explanation.", "41"),
    ("40 is not the answer. 41 is.", "41"),
    ("I am not sure, but the answer is 41.", "41"),
    ("The answer is not enough information.", "not enough information"),
    ("The limit does not exist.", "does not exist"),
    ("The answer is not 41; it is 40.", "40"),
    ("The answer is not 41. It is 40.", "40"),
    ("Final: <answer>41</answer> Correction: <answer>40</answer>", "40"),
    ("Answer: Not possible", "not possible"),
    ("The answer is red, not blue.", "red"),
    (
        "Alright. The answer could be 40, but let me check. 20+21=41. So the answer is 41.",
        "41",
    ),
    ("Perhaps the answer is 40. No wait. The answer is 41.", "41"),
    (
        "So the answer is 41.\n\nTo double-check, suppose the answer was 40: then 40 - "
        "21 = 19, which is wrong. So 41 is right.",
        "41",
    ),
    ("The answer is 41. Remember that 40 is a common mistake.", "41"),
    ("The answer is 41. A common mistake is to answer 40.", "41"),
    ("A common mistake is to think that the answer is 40. The answer is 41.", "41"),
    ("Many students say the answer is 40. Actually, it is 41.", "41"),
    ("The obvious answer is 40, but the correct answer is 41.", "41"),
    ("The answer is not obvious. After some work we get 41.", "41"),
    ("The answer is not yet clear. So we compute 20 + 21 = 41.", "41"),
    ("The answer is 40, I guess. Hmm, actually 41.", "41"),
    ("Answer: 40\n\nWait.\n\nAnswer: 41", "41"),
    ("Answer: ~~40~~ 41", "41"),
    ("Answer: <del>40</del> 41", "41"),
    ("I apologize for the mistake. The answer is 41.", "41"),
    ("Sorry about the earlier mistake. The correct answer is 41.", "41"),
    ("Answer: 40 (Correction: 41)", "41"),
    ("No. Wait, yes.", "yes"),
    ("No. Actually, yes.", "yes"),
    ("41, not 40", "41"),
    ("<answer>41, not 40</answer>", "41"),
]


REFUSED: list[tuple[str, str]] = [
    ("-41", "41"),
    ("- 41", "41"),
    ("-\\frac{3}{8}", "\\frac{3}{8}"),
    ("So the value is -41.", "41"),
    ("**Answer:**\n-41", "41"),
    ("First we subtract.\n\n-41", "41"),
    ("The answer is 40. Wait, no. It is 41.", "40"),
    ("The answer is 40. Actually, recounting gives 41.", "40"),
    ("Answer: 40\n\nCorrection: 41", "40"),
    ("The answer is 40. No, the answer is 41.", "40"),
    ("\\boxed{40} is tempting, but it ignores the last marble.\n\n**Answer: 41**", "40"),
    ("\\boxed{40}\n\n**Final Answer: 41**", "40"),
    ("I do not think the answer is 40.", "40"),
    ("I don't believe that the answer is 40.", "40"),
    ("It is false that the answer is 40.", "40"),
    ("It is wrong to say that the answer is 40.", "40"),
    ("The answer is not 40.", "40"),
    ("The answer isn't 40.", "40"),
    ("The answer cannot be 40.", "40"),
    ("The answer is 40? No, that counts the blue ones only.", "40"),
    ("The answer is 40, which is wrong.", "40"),
    ("The answer is 41, not 40.", "40"),
    ("The answer is 41 rather than 40.", "40"),
    ("The answer is not 40 but 41.", "40"),
    ("The answer is 40 or 41.", "40"),
    ("The answer is 40 or 41.", "41"),
    ("The answer is either 40 or 41.", "41"),
    ("The answer is B or C.", "B"),
    ("The answer is (B) or (C).", "C"),
    ("The answer is both A and C.", "A"),
    ("The answer is no.", "Yes"),
    ("No, they never meet.", "Yes"),
    ("**Answer: C**", "B"),
    ("\\boxed{41} million", "41"),
    ("$x = -\\boxed{41}$", "41"),
    ("$\\boxed{2}$ and $\\boxed{9}$", "9"),
    ("**Answer:**\n\n- x = 3\n- x = 5", "3"),
    ("Therefore, $x = 40$.", "41"),
    ("So she pays 40 dollars in total.", "41"),
    ("答案不是40。", "40"),
    ("Die Antwort ist nicht 40.", "40"),
    ("La réponse n'est pas 40.", "40"),
    ("La respuesta no es 40.", "40"),
    ("Ответ не 40.", "40"),
    ("答えは40ではありません。", "40"),
    ("정답은 40이 아닙니다.", "40"),
    ("الإجابة ليست 40.", "40"),
    ("~~41~~ 40", "41"),
    ("\\boxed{40}<|im_end|>\n<|im_start|>user\nHm?<|im_end|>\n<|im_start|>assistant\n\\boxed{41}", "41"),
    ("<think>The answer is 41.</think>The answer is 40.", "41"),
    ("The answer is x = 3 or x = 5.", "3"),
    ("So the two numbers are 3 and 5.", "5"),
    ("The vertices are $(0,0)$ and $(1,2)$.", "(1,2)"),
    ("The answer is 40.\n\nWait, I forgot one marble. So the total is 41.", "40"),
    ("\\boxed{40}\n\nOops, 20 + 21 is 41.", "40"),
    ("Answer: 40. Sorry, I meant 41.", "40"),
    ("Answer: 40 — no, 41.", "40"),
    ("Answer: 40, or rather 41.", "40"),
    ("The answer is 40, no wait, 41.", "40"),
    ("The answer is 40... no, it's 41.", "40"),
    ("The answer was 40 at first, but it is 41.", "40"),
    ("My first answer was 40. The correct answer is 41.", "40"),
    ("The answer is 40. This is incorrect.", "40"),
    ("The answer is 40. That can't be right.", "40"),
    ("Answer: 40\n\nUpdated answer: 41", "40"),
    ("Réponse : 40. Non, c'est 41.", "40"),
    ("答えは40です。いや、41です。", "40"),
    ("40 is not the answer.", "40"),
    ("The answer is definitely not 40.", "40"),
    ("The correct choice is B, not C.", "C"),
    ("Answer: A, B", "A"),
    ("Answer: A or B", "A"),
    ("Answer: A/B", "A"),
    ("Answer: neither A nor B", "A"),
    ("Answer: not A", "A"),
    ("The statement is false.", "true"),
    ("<answer>40 or 41</answer>", "41"),
    ("<answer>not 41</answer>", "41"),
    ("Answer: Tom has 41 marbles and Ann has 20.", "41"),
    ("Answer: Tom has 41 marbles and Ann has 20.", "20"),
    ("41 is wrong.", "41"),
    ("I doubt that the answer is 41.", "41"),
    ("The answer is never 41.", "41"),
    ("The answer is not 41, it is 40.", "41"),
    ("Question: What is 20+21?\nAnswer: 41\n\nQuestion: What is 2+2?\nAnswer: 4", "4"),
    ("The answer is False.", "true"),
    ("The answer is red, not blue.", "blue"),
    (
        "\\boxed{40}\n\nWait, that double counts a marble. Let me recount: 20 + 19 = 39.\n\n\\boxed{39}",
        "40",
    ),
    ("The obvious answer is 40, but the correct answer is 41.", "40"),
    ("**Answer:** 40\n\n**Corrected Answer:** 41", "40"),
    ("Final answer: 40. Apologies for the confusion, the correct final answer is 41.", "40"),
    ("The answer is 40. I made an error: there are 21 blue ones, so the total is 41.", "40"),
]


UNDECIDED: list[tuple[str, str]] = [
    ("The answer is", "41"),
    ("**Final Answer**", "41"),
    ("Answer:", "41"),
    ("\\boxed{}", "41"),
    ("\\boxed{41", "41"),
    ("####", "41"),
    ("?", "41"),
    ("<answer></answer>", "41"),
    ('{"answer": null}', "41"),
    ("I'm sorry, I can't help with that.", "41"),
    ("Let x = 41.", "41"),
    ("We are given 41 marbles.", "41"),
    ("First \\boxed{40}. Later \\boxed{41}.", "41"),
    ("First \\boxed{40}. Later \\boxed{41}.", "40"),
    ("\\boxed{40}\n\nThe answer is 41.", "41"),
    ("\\boxed{40}\n\nThe answer is 41.", "40"),
    ("The answer is 40. The answer is 41.", "41"),
    ("Answer: 40\nAnswer: 41", "40"),
    ("<answer>40</answer> <answer>41</answer>", "41"),
    ("", "41"),
    ("<think>The answer is 41.", "41"),
    ("I do not know.", "41"),
    ("I do not think the answer is 40.", "41"),
    ("The answer is not 40.", "41"),
    ("Let me think about the marbles and the boxes first.", "41"),
    ("We need to find the number of marbles. There are 20 red and 21 blue ones.", "41"),
    ("If the answer is 41, then there are 20 red ones.", "41"),
    ("Suppose the answer is 41.", "41"),
    ("Is the answer 41?", "41"),
    ("The answer is 41?", "41"),
    ("The answer is 40. Wait, let me recheck.", "40"),
    ("He sells 20 marbles and keeps 21 marbles.", "21"),
    ("Ich glaube nicht, dass die Antwort 41 ist.", "41"),
    ("It takes 3 hours and 20 minutes.", "3 hours 20 minutes"),
    ("He earns 41 more dollars than Ann.", "41"),
    ("If you have 2 more questions, ask me!", "2"),
    ("Nobody would say that the answer is 40.", "40"),
    ("He says the answer is 40.", "40"),
    ("The answer could be 40.", "40"),
    ("The answer may be 40.", "40"),
    ("The answer is unknown.", "41"),
    ("There is not enough information to decide.", "41"),
    ("The statement is not true.", "true"),
    ("Answer: She needs $41 more.", "41"),
    ("The maximum is attained at $x = 3$, where $f(3) = 41$.", "41"),
    ("So, he can buy 41 pens with $82.", "41"),
    ("<answer></answer>", "41"),
    ("Isaac Newton discovered it.", "Isaac Newton"),
    ("\\boxed{40}\n\nBut the question asks for half, thus \\boxed{20}.", "20"),
    ("The area is $\\boxed{40}$ for the square. For the circle, it is $\\boxed{12}$.", "12"),
    ("Part (a): $\\boxed{40}$\nPart (b): $\\boxed{12}$", "40"),
    ("Some might say the answer is 40, but it is 41.", "41"),
    ("So B it is.", "B"),
    ("<B>", "B"),
]


@pytest.mark.parametrize(("text", "answer"), MEANT)
def test_the_corrected_answer_is_found(text: str, answer: str) -> None:
    assert_only_answer(text, answer)


@pytest.mark.parametrize(("text", "answer"), REFUSED)
def test_an_answer_that_the_text_denies_or_replaces_is_incorrect(text: str, answer: str) -> None:
    assert compare(text, answer).correct is False


@pytest.mark.parametrize(("text", "answer"), UNDECIDED)
def test_contradictions_and_texts_without_an_answer_are_undecided(text: str, answer: str) -> None:
    verdict = compare(text, answer)

    assert (verdict.correct, verdict.method) == (None, "undecided")
    assert verdict.detail


@pytest.mark.parametrize(
    ("text", "reference", "correct"),
    [
        ("The answer is 100. Wait, no. It is 200.", "100", False),
        ("The answer is 100. Wait, no. It is 200.", "200", True),
        ("I do not think the answer is 100.", "100", False),
        ("First \\boxed{100}. Then \\boxed{200}.", "100", None),
        ("First \\boxed{100}. Then \\boxed{100.5}.", "100", True),
        ("The answer is 100 or 200.", "100", False),
        ("The answer is between 90 and 100.", "90", False),
    ],
)
def test_corrections_and_contradictions_count_within_a_tolerance_too(
    text: str, reference: str, correct: bool | None
) -> None:
    assert compare(text, reference, Rule(Method.NUMERIC, relative=0.01)).correct is correct


def test_contradicting_answers_are_incorrect_if_all_are_wrong() -> None:
    assert compare("First \\boxed{40}. Later \\boxed{41}.", "7").correct is False
