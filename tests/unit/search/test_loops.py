from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cord_worker.search.loops import is_loop

SENTENCE = "so we add the two numbers and then carry the one over "  # 12 words
ROW = " & ".join(["0"] * 8) + r" \\" + "\n"
CHECK = "Wait, let me check that once more.\n"
PARAGRAPH = (
    "Let us go back to the equation that we started with. The left side is a square, so it is at least zero, and the "
    "right side is four less than that. Hence the difference is positive for every real number, and we may divide by "
    "it without changing the direction of the inequality. "
)
NAMES = ("Ada", "Ben", "Cem", "Dora", "Eli", "Fay", "Gus", "Hal", "Ida", "Jon", "Kim", "Leo")


def loops(text: str, *, was_cut: bool) -> bool:
    return is_loop(text, ngram=12, repeats=8, was_cut=was_cut)


HONEST = {
    "zero matrix": "A is\n\\begin{pmatrix}\n" + ROW * 12 + "\\end{pmatrix}\nso its determinant is 0.",
    "zero matrix at the end": "A is\n" + ROW * 30,
    "zero matrix, no closing words": "\\begin{bmatrix}\n" + ROW * 40 + "\\end{bmatrix}",
    "identity": "\n".join(" & ".join("1" if i == j else "0" for j in range(12)) + r" \\" for i in range(12)),
    "markdown table": "| n | n mod 1 |\n|---|---|\n" + "| 0 | 0 |\n" * 60,
    "table of words": "| open | closed | open |\n" * 50,
    "table of the same sentences": "| the sum is even | yes | by parity |\n" * 30,
    "decimal": "1/3 = 0." + "3" * 900,
    "decimal, then words": "1/7 = 0." + "142857" * 200 + " and so on.",
    "spaced decimal": "0 . " + "3 " * 400,
    "one letter": "The string is " + "a" * 3000 + ".",
    "power of ten": "10^500 = 1" + "0" * 500,
    "list of zeros": "The sequence is " + "0, " * 200 + "...",
    "dice": "The rolls were " + "1, 1, 1, 2, " * 60,
    "coins": " ".join(["H", "T", "T", "H"] * 50),
    "beads": ", ".join(["red", "blue"] * 60) + ".",
    "beads of three colours": ", ".join(["red", "blue", "green"] * 50) + ".",
    "truth table": "\n".join("true false true" for _ in range(16)),
    "cases": "\n".join(f"If n = {n} then n(n + 1) is even, as one of the two factors is even." for n in range(40)),
    "numbered sentences": "".join(f"{n}. {SENTENCE}\n" for n in range(30)),
    "cases with names": "\n".join(f"If {name} has the window seat then the one beside it is free." for name in NAMES),
    "apart": "\n".join(f"{SENTENCE} then case {n} has the value {n * n} and {n + 7}" for n in range(20)),
    "sum": " + ".join(["1"] * 200) + " = 200",
    "counting": " ".join(map(str, range(500))),
    "long division": "\n".join(f"10 : 7 = 1, remainder {3 ** n % 7}; bring down the 0." for n in range(60)),
    "worked out, then over": SENTENCE * 9 + "That was the same each time, so by symmetry both parts of the "
                             "figure have the same area, and each of them is one half of the whole, hence it is three.",
    "said seven times": SENTENCE * 7,
    "twice": PARAGRAPH * 2,
    "two-word line": "carry one\n" * 40,
    "code": "for i in range(10):\n" + "    total += values[i]\n" * 20 + "print(total)",
    "latex fractions": r"\frac{1}{2} + " * 70 + r"\frac{1}{2} = 35.5",
    "same cells": r"\text{even} & \text{odd} \\ " * 60,
    "binary": "1010" * 400,
    "dna": "The strand is " + "ATCG" * 150 + ".",
    "ditto": "Row by row: " + "same " * 60,
    "chinese cases": "\n".join(f"若n等于{n}，则这个数是偶数，因为它能被二整除。" for n in range(3, 60)),
    "japanese table": "| 偶数 | 奇数 |\n" * 60,
    "chess": "e4 e5 Nf3 Nc6 Bb5 a6 " * 12,
    "underlines": "-" * 600 + "\nrow\n" + "-" * 600,
    "polynomial": " + ".join(f"a_{n} x^{n}" for n in range(120)),
}  # fmt: skip

CUT_HONEST = {
    "cases": HONEST["cases"],
    "small matrix": "\\begin{pmatrix}\n" + ROW * 9,
    "decimal": "1/3 = 0." + "3" * 400,
    "counting": HONEST["counting"],
    "table": "| 0 | 0 |\n" * 20,
    "said seven times": SENTENCE * 7,
    "paragraph three times": PARAGRAPH * 3,
    "polynomial": HONEST["polynomial"],
}

DEGENERATE = {
    "sentence": SENTENCE * 8,
    "sentence, with an honest beginning": PARAGRAPH + SENTENCE * 8,
    "check": CHECK * 20,
    "check, then leave": CHECK * 40 + "I stop here.",
    "wait": "wait " * 200,
    "Wait.": "Wait. " * 200,
    "Hmm, wait": "Hmm, wait, " * 100,
    "two sentences": "So x is four. But then y is not an integer. " * 15,
    "paragraph": PARAGRAPH * 8,
    "question": "Is it even? Let me see again.\n\n" * 20,
    "answer": "Therefore the answer is 12. " * 24,
    "boxed": "The final answer is \\boxed{12}.\n" * 24,
    "formula and words": "Since $x^2 = 4$ we get that $x = 2$. " * 20,
    "chinese": "因为我们需要再检查一遍，所以" * 60,
    "chinese, with newlines": "让我再检查一遍这个结果。\n" * 80,
    "chinese, then leave": "让我再检查一遍这个结果。\n" * 80 + "好的。",
    "japanese": "もう一度確認してみましょう。" * 60,
    "thai": "ดังนั้นเราตรวจสอบอีกครั้ง" * 60,
    "russian": "Проверим это ещё один раз. " * 30,
    "german": "Also rechnen wir das noch einmal nach. " * 20,
    "arabic": "دعنا نتحقق من ذلك مرة أخرى. " * 30,
    "apology": "I apologize for the confusion. Let me try again.\n" * 15,
    "the the": "the " * 250,
}
CUT = {
    "wait": "wait " * 100 + "wai",
    "wait with commas": "wait, " * 100,
    "half a sentence": SENTENCE * 8 + "so we add the two num",
    "half a word": CHECK * 20 + "Wait, let me che",
    "paragraph five times": PARAGRAPH * 5,
    "long paragraph four times": (PARAGRAPH + "And the same holds for the other root. ") * 4,
    "zeros": "The matrix is " + ROW * 60,
    "digits": "1/3 = 0." + "3" * 3000,
    "letters": "The word is " + "a" * 3000,
    "syllables": "ha" * 1500,
    "table": "| 0 | 0 |\n" * 120,
    "table of words": "| open | closed |\n" * 80,
    "list": "red, blue, " * 60,
    "cells of words": "| the sum is even | yes | by parity |\n" * 40,
    "newlines and marks": "- item one\n" * 80,
    "exclamation": "No! " * 150,
    "chinese": "让我再检查一遍这个结果。" * 60 + "让我再",
}


@pytest.mark.parametrize("text", HONEST.values(), ids=HONEST)
def test_honest_repetition_that_ends_by_itself_is_no_loop(text: str) -> None:
    assert not loops(text, was_cut=False)


@pytest.mark.parametrize("text", CUT_HONEST.values(), ids=CUT_HONEST)
def test_a_text_cut_by_the_cap_is_not_a_loop_for_that_reason_alone(text: str) -> None:
    assert not loops(text, was_cut=True)


@pytest.mark.parametrize("text", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize("was_cut", [False, True])
def test_endless_sentences_and_words_are_a_loop_however_the_text_ended(text: str, was_cut: bool) -> None:
    if was_cut and text.endswith(("I stop here.", "好的。")):
        pytest.skip("a text that took leave of its loop was not cut in it")
    assert loops(text, was_cut=was_cut)


@pytest.mark.parametrize("text", CUT.values(), ids=CUT)
def test_a_text_that_repeats_itself_until_the_cap_is_a_loop(text: str) -> None:
    assert loops(text, was_cut=True)


def test_a_loop_needs_the_full_number_of_repeats() -> None:
    assert not loops(SENTENCE * 7, was_cut=True)
    assert loops(SENTENCE * 8, was_cut=True)
    assert not is_loop(SENTENCE * 8, ngram=12, repeats=9, was_cut=True)


@pytest.mark.parametrize("honest", HONEST.values(), ids=HONEST)
def test_an_honest_step_before_a_loop_does_not_hide_it(honest: str) -> None:
    assert loops(f"{honest}\n{CHECK * 20}", was_cut=True)
    assert loops(f"{honest}\n{CHECK * 20}", was_cut=False)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(("ant", "bee", "cat", "dog")), max_size=12),
    st.integers(min_value=1, max_value=4),
    st.integers(min_value=2, max_value=5),
    st.integers(min_value=1, max_value=6),
)
def test_a_cut_text_of_words_is_a_loop_if_its_end_is_periodic_for_long_enough(
    words: list[str], ngram: int, repeats: int, times: int
) -> None:
    text = words * times

    def run(period: int, tail: list[str]) -> int:
        same = 0
        while same + period < len(tail) and tail[-1 - same] == tail[-1 - same - period]:
            same += 1
        return same + period

    def needed(period: int) -> int:
        few = min(repeats, 4) * period
        return few if period > 2 * ngram else repeats * max(ngram, period)

    looped = any(
        run(period, tail) >= needed(period) and run(period, tail) >= 2 * period
        for tail in (text, text[:-1])
        for period in range(1, len(tail))
    )
    assert is_loop(" ".join(text), ngram=ngram, repeats=repeats, was_cut=True) == looped


def test_a_program_with_growing_indentation_is_no_loop_and_one_without_is() -> None:
    nested = "\n".join("  " * depth + "while left < right:" for depth in range(1, 40))
    assert not loops(nested, was_cut=True)
    assert loops("\n  while left < right:" * 39, was_cut=True)


def test_an_answer_boxed_repeatedly_until_the_cap_is_a_loop_like_a_repeated_word() -> None:
    assert loops(r"\boxed{41} " * 100, was_cut=True)
    assert not loops(r"\boxed{41} " * 90, was_cut=True)
    assert not loops(r"\boxed{41} " * 100, was_cut=False)
