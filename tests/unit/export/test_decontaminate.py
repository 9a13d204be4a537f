from __future__ import annotations

from collections.abc import Iterator

from cord_worker.contamination import Question, QuestionIndex
from cord_worker.export.decontaminate import Decontaminator
from cord_worker.store.reports.results import Result

HIT = "How many apples does Ann have if she buys 12 apples and eats 5 of them on her way home?"


def result(key: str, question: str) -> Result:
    return Result(key, question, "7", None, {}, 0.5, "think_end", "7", True, None, ())


def results() -> Iterator[Result]:
    for number in range(100):
        for _ in range(2):  # two samples of every problem
            yield result(f"p{number}", HIT if number % 10 == 3 else f"What is {number} + {number}?")


def test_problems_with_a_benchmarks_question_are_left_out_and_counted_once_each() -> None:
    clean = Decontaminator(QuestionIndex([Question("b.jsonl", "b.jsonl:1", HIT.upper())]))
    kept = [one.key for one in clean.of(results())]
    assert kept == [one.key for one in results() if one.question != HIT]
    assert clean.problems == 10


def test_without_a_benchmark_everything_passes() -> None:
    clean = Decontaminator(None)
    assert list(clean.of(results())) == list(results())
    assert clean.problems == 0
