from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cord_worker.contamination import Hit, HitKind, Question, QuestionIndex, Thresholds, tokens
from cord_worker.contamination.planting import PLANTS, embedded, paraphrased, punctuated, renumbered
from tests.support.cpu_time import grows_linearly

BAKERY = (
    "A bakery sells muffins for $3 each and scones for $4 each. On Saturday it sold 25 muffins and 18 scones. "
    "How much money did the bakery take in on Saturday?"
)
CHINESE = "小明有３个苹果，小红比小明多５个苹果，他们把所有的苹果平均分给四个同学，每个同学得到几个苹果？"
ARABIC = "اشترى أحمد ثلاثة كتب بسعر 15 دينارا للكتاب الواحد ودفع 100 دينار فكم دينارا بقي معه بعد الشراء؟"
PARAPHRASES = Path(__file__).parents[2] / "fixtures" / "paraphrases.json"


def questions(*texts: str) -> list[Question]:
    return [Question("benchmark.jsonl", f"benchmark.jsonl:{line}", text) for line, text in enumerate(texts, start=1)]


def hits(benchmark: str, text: str, thresholds: Thresholds | None = None) -> list[Hit]:
    return QuestionIndex(questions(benchmark), thresholds or Thresholds()).hits([text])[0]


def numbered_words(count: int) -> list[str]:
    """Different words without digits: `wordaa`, `wordab`, …"""
    return [f"word{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(count)]


@pytest.mark.parametrize("question", [BAKERY, CHINESE, ARABIC])
@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (PLANTS["exact"], HitKind.EXACT),
        (renumbered, HitKind.RENUMBERED),
        (punctuated, HitKind.EXACT),
        (embedded, HitKind.NGRAM),
    ],
)
def test_a_copy_is_found_in_every_script(question: str, plant: object, kind: HitKind) -> None:
    assert callable(plant)
    (hit,) = hits(question, plant(question, random.Random(0)))
    assert (hit.kind, hit.score) == (kind, 1.0)
    assert hit.benchmark.text == question


def test_a_mechanical_paraphrase_is_found_by_the_words_that_it_keeps() -> None:
    question = f"{BAKERY} Write the result in whole dollars, without the sign of the dollar."
    (hit,) = hits(question, paraphrased(question, random.Random(0)))
    assert hit.kind in (HitKind.NGRAM, HitKind.CONTAINMENT)
    assert hit.score < 1


def test_free_paraphrases_are_found_in_part_as_the_documentation_says() -> None:
    pairs = json.loads(PARAPHRASES.read_text(encoding="utf-8"))
    index = QuestionIndex(questions(*(pair["question"] for pair in pairs)))
    found = index.hits([pair["paraphrase"] for pair in pairs])
    assert sum(map(bool, found)) == 5
    assert len(pairs) == 12


def test_a_hit_names_the_row_the_matching_text_and_the_score() -> None:
    index = QuestionIndex(questions("Something else.", BAKERY))
    (hit,) = index.hits([f"Solve: {BAKERY} Think."])[0]
    assert hit.to_json() == {
        "kind": "ngram",
        "score": 1.0,
        "matching": " ".join(tokens(BAKERY)),
        "benchmark_file": "benchmark.jsonl",
        "benchmark_location": "benchmark.jsonl:2",
        "benchmark_question": BAKERY,
    }


def test_a_run_of_13_words_is_a_hit_and_one_of_12_is_none() -> None:
    words = numbered_words(40)
    question = " ".join(words)
    twelve = " ".join(["x", *words[5:17], "y"])
    thirteen = " ".join(["x", *words[5:18], "y"])
    assert hits(question, twelve) == []
    (hit,) = hits(question, thirteen)
    assert (hit.kind, hit.score, hit.matching) == (HitKind.NGRAM, 13 / 40, " ".join(words[5:18]))


def test_the_longest_of_several_runs_counts() -> None:
    words = numbered_words(40)
    text = " ".join([*words[:14], "gap", *words[20:36], "gap", *words[2:15]])
    (hit,) = hits(" ".join(words), text)
    assert hit.matching == " ".join(words[20:36])


def test_a_short_question_must_occur_whole_and_a_very_short_one_alone() -> None:
    assert [hit.kind for hit in hits("How many positive divisors does the number 196 have?", "Tell me: how many "
            "positive divisors does the number 196 have? Explain.")] == [HitKind.NGRAM]  # fmt: skip
    assert hits("What is 2 + 2?", "Tell me: what is 2 + 2? Explain.") == []
    assert [hit.kind for hit in hits("What is 2 + 2?", "what is 2+2")] == [HitKind.EXACT]


def test_containment_needs_two_fifths_of_the_short_ngrams_in_any_order() -> None:
    words = numbered_words(22)  # 20 n-grams of 3 words
    enough = " x ".join(" ".join(words[at : at + 4]) for at in (16, 12, 8, 4))  # 2 n-grams in each of 4 pieces
    (hit,) = hits(" ".join(words), enough)
    assert hit.kind is HitKind.CONTAINMENT
    assert hit.score == pytest.approx(0.4)
    assert hit.matching == " … ".join(" ".join(words[at : at + 4]) for at in (16, 12, 8, 4))
    assert hits(" ".join(words), enough.replace("wordas", "other")) == []


def test_a_phrase_that_many_questions_share_is_no_hit() -> None:
    phrase = "the answer can be written as m over n with coprime positive integers find the sum of m and n"
    bench = [f"A {name} problem about {name} things. {phrase}." for name in ("cube", "ball", "tree", "road", "fish")]
    index = QuestionIndex(questions(*bench))
    assert index.hits([f"Quite another matter altogether, with rivers. {phrase}."]) == [[]]
    assert [hit.kind for hit in index.hits([bench[2]])[0]][:1] == [HitKind.EXACT]


def test_a_question_with_other_numbers_is_renumbered_and_not_exact() -> None:
    (hit,) = hits(BAKERY, BAKERY.replace("25", "26"))
    assert hit.kind is HitKind.RENUMBERED
    assert "#" in hit.matching


def test_equal_questions_of_a_benchmark_are_one_hit_on_the_first() -> None:
    index = QuestionIndex(questions(BAKERY, BAKERY.upper(), BAKERY))
    (hit,) = index.hits([BAKERY])[0]
    assert hit.benchmark.location == "benchmark.jsonl:1"
    assert index.count == 3


def test_repeats_name_only_earlier_questions() -> None:
    rows = questions(BAKERY, CHINESE, renumbered(BAKERY, random.Random(1)), BAKERY.upper())
    found = QuestionIndex(rows).repeats(rows)
    assert [[(hit.kind.value, hit.benchmark.location) for hit in one] for one in found] == [
        [],
        [],
        [("renumbered", "benchmark.jsonl:1")],
        [("exact", "benchmark.jsonl:1")],
    ]
    assert QuestionIndex(rows).repeats(rows[2:]) == found[2:]


@pytest.mark.parametrize("text", ["", " ", "\0", "word", "?", "\ud800", "字", "word " * 20_000, "0" * 100_000])
def test_odd_texts_have_a_hit_on_themselves_and_on_nothing_else(text: str) -> None:
    index = QuestionIndex(questions(BAKERY, text))
    assert [hit.kind for hit in index.hits([text])[0]] == ([HitKind.EXACT] if text.strip() else [])
    assert [hit.benchmark.text for hit in index.hits([BAKERY])[0]] == [BAKERY]
    assert QuestionIndex([]).hits([text, BAKERY]) == [[], []]


@settings(deadline=None)
@given(st.lists(st.text(max_size=60), max_size=6))
def test_every_question_hits_itself_exactly(texts: list[str]) -> None:
    index = QuestionIndex(questions(*texts))
    for text, found in zip(texts, index.hits(texts), strict=True):
        exact = [hit for hit in found if hit.kind is HitKind.EXACT]
        assert len(exact) == bool(text.strip())
        assert all(tokens(hit.benchmark.text) == tokens(text) and hit.score == 1 for hit in exact)


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40))
def test_exact_is_symmetric(one: str, other: str) -> None:
    def is_exact(benchmark: str, text: str) -> bool:
        return any(hit.kind is HitKind.EXACT for hit in hits(benchmark, text))

    assert is_exact(one, other) == is_exact(other, one)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcdefg"), min_size=8, max_size=30), st.data())
def test_a_question_is_found_within_any_longer_text(words: list[str], data: st.DataObject) -> None:
    around = st.lists(st.sampled_from("stuvw"), max_size=20)
    text = " ".join([*data.draw(around), *words, *data.draw(around)])
    assert hits(" ".join(words), text)[0].score == 1


@settings(deadline=None)
@given(st.lists(st.text("abc \u5b57", max_size=40), max_size=8), st.text("abc \u5b57", max_size=60))
def test_texts_are_found_together_as_they_are_alone(texts: list[str], question: str) -> None:
    index = QuestionIndex(questions(question, *texts[:2]))
    assert index.hits(texts) == [index.hits([text])[0] for text in texts]


@pytest.mark.parametrize("part", ["a ", "a b ", "字", "1 ", "how many apples does ann have now? "])
def test_the_time_is_linear_in_the_length_of_a_hostile_text(part: str) -> None:
    index = QuestionIndex(questions(BAKERY, "a " * 40, "a b " * 20, "how many apples does ann have now? " * 3))
    assert grows_linearly(lambda text: index.hits([text]), part)
