from __future__ import annotations

import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.contamination.normal_form import is_dense, tokens, without_numbers
from tests.support.cpu_time import grows_linearly


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How many apples does Ann have?", "how many APPLES does ann have"),
        ("She paid $1,000.50 for it.", "she paid 1000.50 for it"),
        ("“It's 5–7 p.m.,” he said", '"It\'s 5-7 p.m.," he said'),
        ("Find x， y；and z。", "Find x, y; and z."),
        ("Ｆｉｎｄ　１２３", "Find 123"),
        ("a 120-page book", "a 120 page book"),
        ("a\u00a0soft\u00adhyphen\u200b here", "a softhyphen here"),
        ("**Find** the `value`", "Find the value"),
        ("5cm", "5 cm"),
    ],
)
def test_case_punctuation_width_and_layout_do_not_count(one: str, other: str) -> None:
    assert tokens(one) == tokens(other)


@pytest.mark.parametrize(
    ("latex", "plain"),
    [
        (r"$\frac{1}{2}$", "1/2"),
        (r"\dfrac12", "½"),
        (r"\frac{1}{\sqrt{3}}", "1/√3"),
        (r"\left( 3, \frac{\pi}{2} \right)", "(3, π/2)"),
        (r"$0 \le \theta < 2 \pi$", "0 ≤ θ < 2π"),
        (r"$x^{2} \leq 3 \cdot 4$", "x² ≤ 3 × 4"),
        (r"$90^\circ$ and $90^{\circ}$", "90° and 90°"),
        (r"$10,\!000$ or $10{,}000$", "10,000 or 10000"),
        (r"\[\text{sum of } \mathbf{a}\]", "sum of a"),
        (r"$a_{1} \ne x_2$", "a₁ ≠ x₂"),
        (r"Look: [asy]draw((0,0)--(1,1));[/asy] what is it?", "Look: what is it?"),
    ],
)
def test_latex_and_plain_text_have_one_form(latex: str, plain: str) -> None:
    assert tokens(latex) == tokens(plain)


@pytest.mark.parametrize(
    ("one", "other"),
    [("x + 1", "x - 1"), ("3.5", "35"), ("2 < x", "2 > x"), ("x^2", "x2"), ("12 apples", "13 apples"), ("-5", "5")],
)
def test_numbers_signs_and_operators_count(one: str, other: str) -> None:
    assert tokens(one) != tokens(other)


@pytest.mark.parametrize(
    ("text", "form", "dense"),
    [
        ("小明有３个苹果。", ["小", "明", "有", "3", "个", "苹", "果"], True),
        ("りんごはいくつ?", [*"りんごはいくつ"], True),
        ("사과가 5개", ["사", "과", "가", "5", "개"], True),
        ("كَمْ ٣٬٥٠٠", ["ك", "م", "3500"], True),
        ("ราคา ๑๒", ["ร", "า", "ค", "า", "12"], True),
        ("हिन्दी में १२", ["हिन्दी", "में", "12"], False),
        ("Сколько яблок?", ["сколько", "яблок"], False),
        ("How many 果?", ["how", "many", "果"], False),
    ],
)
def test_scripts_without_spaces_are_read_by_characters_and_others_by_words(
    text: str, form: list[str], dense: bool
) -> None:
    assert tokens(text) == [unicodedata.normalize("NFKC", token) for token in form]
    assert is_dense(tokens(text)) is dense


def test_a_form_without_numbers_keeps_everything_else() -> None:
    assert without_numbers(tokens("Ann has 3 red and 4.5 blue")) == ["ann", "has", "#", "red", "and", "#", "blue"]


@pytest.mark.parametrize("text", ["???", "\0", "。。。", "\ud800", "$$", "\u200b"])
def test_a_text_of_nothing_but_signs_is_equal_to_itself_alone(text: str) -> None:
    assert len(tokens(text)) == 1
    assert tokens(text) != tokens(text + "!")


@given(st.text(max_size=200))
def test_only_a_blank_text_has_an_empty_form_and_no_token_has_a_space(text: str) -> None:
    form = tokens(text)
    assert bool(form) is bool(text.strip())
    assert all(token and not token.isspace() for token in form)
    assert len(" ".join(form).split(" ")) == max(1, len(form))


@given(st.text(alphabet=string.ascii_letters + string.digits + " +-=<>/.,?!", max_size=80))
def test_ascii_and_full_width_letters_have_one_form(text: str) -> None:
    wide = text.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)})
    assert tokens(wide) == tokens(text)


@pytest.mark.parametrize(
    "part", ["[asy]", r"\frac{", r"\frac{1}", r"\begin{", r"\begin{array}{", r"\a{", "1,", "a -", "- ", "1.", "٬", "字"]
)
def test_the_time_is_linear_in_the_length_of_a_hostile_text(part: str) -> None:
    assert grows_linearly(tokens, part)
