"""Every method of [verify], case by case, in four languages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.verify import Method, Rule, compare
from cord_worker.verify.choices import choice_of
from cord_worker.verify.plain_quantities import quantity
from cord_worker.verify.writing_systems import one_form
from tests.support.cpu_time import grows_linearly

EXACT = Rule(Method.EXACT)
CHOICE = Rule(Method.CHOICE)
NUMERIC = Rule(Method.NUMERIC, relative=0.001)


@pytest.mark.parametrize(
    ("generated", "reference", "correct"),
    [
        ("The final answer is Paris.", "paris", True),
        ("Paris", "Paris", True),
        ("**Answer:** North America", "North America", True),
        ("The answer is 1,200.", "1200", True),
        ("The answer is 1/2.", "0.5", False),
        ("The answer is x + 1.", "1 + x", False),
        ("答案是北京。", "北京", True),
        ("최종 답은 서울입니다.", "서울", True),
        ("الإجابة النهائية هي القاهرة.", "القاهرة", True),
        ("الجواب هو: القَاهِرَة", "القاهرة", True),
        ("答案是上海。", "北京", False),
    ],
)
def test_exact_compares_texts_after_normalisation(generated: str, reference: str, correct: bool) -> None:
    assert compare(generated, reference, EXACT).correct is correct


@pytest.mark.parametrize(
    ("generated", "reference", "correct"),
    [
        ("The answer is B.", "B", True),
        ("The answer is (B).", "B", True),
        ("The answer is [b]", "B", True),
        ("The correct answer is **B) 45 apples**", "(B)", True),
        ("Answer: B. 45", "B", True),
        ("B", "(B) 45", True),
        ("The answer is 45.", "(B) 45", True),
        (r"so \boxed{\text{(B)}}", "B", True),
        ("Option B", "B", True),
        ("The answer is J.", "J", True),
        ("The answer is C.", "B", False),
        ("The answer is (A) and (B).", "A", False),
        ("The answer is (B) as (C) is wrong.", "B", True),
        ("The answer is A dog.", "A", False),
        ("The answer is 45.", "B", False),
        ("We do not know.", "B", None),
        ("答案是（Ｂ）。", "B", True),
        ("所以选B", "B", True),
        ("答案：选项 C", "C", True),
        ("정답은 B입니다.", "B", True),
        ("정답: (B) 서울", "B", True),
        ("الإجابة الصحيحة هي (B).", "B", True),
        ("The answer is yes.", "yes", True),
        ("Yes, it lowers the pressure.", "yes", True),
        ("The answer is Yes because it helps.", "yes", True),
        ("The answer is no.", "yes", False),
        ("Maybe.", "maybe", True),
        ("No difference was seen.", "no", False),
        ("Yes: the therapy helps. " + "It was tested in many places. " * 20, "yes", True),
        ("It was tested in many places. " * 20 + "\nNo.", "no", True),
        ("答案是：是。", "yes", True),
        ("答案：否", "no", True),
        ("정답: 아니요", "no", True),
        ("الإجابة: نعم", "yes", True),
        ("الجواب هو ربما", "maybe", True),
        ("The answer is Paris.", "Paris", True),
    ],
)
def test_choice_compares_the_decisions(generated: str, reference: str, correct: bool | None) -> None:
    assert compare(generated, reference, CHOICE).correct is correct


@pytest.mark.parametrize(
    ("generated", "reference", "correct"),
    [
        ("The answer is 1,568.6.", "1568.6", True),
        ("The answer is $1,568.60 million.", "1568.6 million", True),
        ("The answer is $1.5686 billion.", "1568.6 million", True),
        ("The answer is 1568.6.", "1568.6 million", False),
        ("The answer is 1,570.", "1568.6", True),
        ("The answer is 1,571.", "1568.6", False),
        ("The answer is 12.5%.", "12.5", True),
        ("The answer is 0.125.", "12.5%", True),
        ("The answer is 12.5 per cent.", "0.125", True),
        ("The answer is 12.5%.", "1.25%", False),
        ("The answer is (1,234).", "-1234", True),
        ("The answer is -$1,234.", "-1,234 dollars", True),
        ("The answer is 1234.", "-1234", False),
        ("Revenue grew by about 12.5% in 2019.", "12.5%", True),
        ("The answer is 120 - 100 = 20.", "20", True),
        ("The answer is 3/4.", "0.75", True),
        (r"\boxed{\frac{3}{4}}", "0.75", True),
        ("The answer is 12 km.", "12 m", False),
        ("The answer is 12 km.", "12", True),
        ("The answer is €5.", "5 dollars", False),
        ("The answer is 12,5.", "12.5", True),
        ("The answer is 1.234,5.", "1234.5", True),
        ("The answer is 1 234 567.", "1,234,567", True),
        ("The answer is 1.2e3.", "1200", True),
        ("The answer is nothing.", "12", False),
        ("The answer is Europe.", "Europe", True),
        ("The answer is 0.", "0", True),
        ("The answer is 0.0001.", "0", False),
        ("最终答案是１，２００元。", "1200", True),
        ("答案是3.5万元。", "35000", True),
        ("答案是 1.2 亿。", "120000000", True),
        ("답: 3만 원", "30,000원", True),
        ("최종 답은 1,200개입니다.", "1200", True),
        ("الإجابة النهائية هي ١٢٫٥٪.", "12.5", True),
        ("الجواب هو ١٬٢٣٤.", "1234", True),
        ("الجواب: ٣ مليون", "3000000", True),
    ],
)
def test_numeric_compares_quantities_within_the_tolerance(generated: str, reference: str, correct: bool) -> None:
    assert compare(generated, reference, NUMERIC).correct is correct


NOUNS = """
box/boxes foot/feet child/children lady/ladies glass/glasses person/people bus/buses goose/geese mouse/mice
woman/women knife/knives leaf/leaves potato/potatoes prize/prizes house/houses shoe/shoes case/cases virus/viruses
cookie/cookies lens/lenses quiz/quizzes plane/planes sheep/sheep
"""


@pytest.mark.parametrize("method", [Method.NUMERIC, Method.MATH])
@pytest.mark.parametrize("noun", NOUNS.split())
def test_a_unit_is_the_same_in_the_singular_and_the_plural(noun: str, method: Method) -> None:
    singular, _, plural = noun.partition("/")
    assert compare(f"5 {plural}", f"5 {singular}", Rule(method)).correct is True
    assert compare(f"5 {singular}", f"5 {plural}", Rule(method)).correct is True


@pytest.mark.parametrize("method", [Method.NUMERIC, Method.MATH])
@pytest.mark.parametrize(
    ("answer", "reference", "correct"),
    [
        ("4 ft", "4 feet", True),
        ("5000 m", "5 km", True),
        ("5 m", "5 km", False),
        ("60 minutes", "1 hour", True),
        ("5 square feet", "5 sq ft", True),
        ("10 USD", "$10", True),
        ("10 euros", "10 dollars", False),
        ("100 yuan", "100 元", True),
        ("5 公里", "5 km", True),
        ("5 boxes", "5 crates", False),
        ("3 planes", "3 plans", False),
        ("3 hours", "3 days", False),
    ],
)
def test_quantities_are_equal_if_one_unit_converts_into_the_other(
    answer: str, reference: str, correct: bool, method: Method
) -> None:
    assert compare(answer, reference, Rule(method)).correct is correct


@pytest.mark.parametrize(
    ("rule", "given_number", "correct"),
    [
        (Rule(Method.NUMERIC), "100", True),
        (Rule(Method.NUMERIC), "100.01", False),
        (Rule(Method.NUMERIC, relative=0.01), "101", True),
        (Rule(Method.NUMERIC, relative=0.01), "101.01", False),
        (Rule(Method.NUMERIC, absolute=0.5), "99.5", True),
        (Rule(Method.NUMERIC, absolute=0.5), "99.4", False),
        (Rule(Method.NUMERIC, relative=0.01, absolute=0.5), "99.2", True),
    ],
)
def test_the_larger_tolerance_applies(rule: Rule, given_number: str, correct: bool) -> None:
    assert compare(f"The answer is {given_number}.", "100", rule).correct is correct


@pytest.mark.parametrize(
    ("generated", "reference", "correct"),
    [
        ("最终答案是１２。", "12", True),
        ("答案：12，因为 3×4=12。", "12", True),
        ("因此答案是12个苹果。", "12", True),
        ("答案是12以上。", "12", False),
        ("答案是12万。", "12", False),
        ("答案为 x=5", "5", True),
        ("答案是13。", "12", False),
        ("최종 답은 12입니다.", "12", True),
        ("정답은 12개입니다.", "12", True),
        ("답은 12이다. 왜냐하면 3×4=12 이기 때문이다.", "12", True),
        ("정답은 12가 아니다.", "12", False),
        ("정답은 13입니다.", "12", False),
        ("الإجابة النهائية هي ١٢.", "12", True),
        ("الجواب هو ١٢ تفاحة.", "12", True),
        ("الإجابة: 12 لأن 3 في 4 يساوي 12", "12", True),
        ("الإجابة النهائية هي ١٣.", "12", False),
        ("الإجابة هي ١٢ أو ١٣", "12", False),
        ("The answer is ۱۲.", "12", True),
        (r"\boxed{１２}", "12", True),
        ("The final answer is 12.", "١٢", True),
        ("#### 三", "三", True),
    ],
)
def test_mathematics_is_compared_in_every_script(generated: str, reference: str, correct: bool) -> None:
    assert compare(generated, reference).correct is correct


def test_composed_and_decomposed_letters_are_one_text() -> None:
    assert compare("정답은 서울입니다.", "서울", EXACT).correct is True


@pytest.mark.parametrize("method", list(Method))
def test_a_paragraph_equals_itself_under_every_method(method: Method) -> None:
    text = "患者的血压在两周后下降。\n效果持续一年，副作用很少。 " * 30

    assert compare(text, text, Rule(method)).correct is True


@given(st.text(max_size=80))
def test_no_text_makes_a_method_fail(text: str) -> None:
    choice_of(text)
    quantity(text)
    assert one_form(one_form(text)) == one_form(text)
    for method in (Method.EXACT, Method.CHOICE, Method.NUMERIC):
        compare(text, text or "x", Rule(method))


@given(st.integers(-(10**9), 10**9))
def test_a_quantity_is_read_in_every_notation(value: int) -> None:
    arabic = str(value).translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))
    wide = str(value).translate(str.maketrans("0123456789-", "０１２３４５６７８９－"))
    for text in (f"{value:,}", f"{value} dollars", f"${value:,}", arabic, wide):
        found = quantity(one_form(text))
        assert found is not None
        assert found.value == value, text


@pytest.mark.parametrize(("method", "reference"), [(Method.EXACT, "B"), (Method.CHOICE, "B"), (Method.NUMERIC, "12")])
@pytest.mark.parametrize("part", ["1,", "(", "1 ", "=", "答案是", "12 个 ", "A)", "1.000"])
@pytest.mark.long
def test_the_time_of_a_comparison_is_linear_in_the_length_of_a_hostile_text(
    part: str, method: Method, reference: str
) -> None:
    assert grows_linearly(lambda text: compare(text, reference, Rule(method)), part)
