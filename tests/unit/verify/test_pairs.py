"""Pairs with an expected result: bad lines are named, numbers keep their text, shares have the documented bases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cord_worker.errors import DatasetError
from cord_worker.verify import CheckResult, Method, Rule
from cord_worker.verify.pairs import AnswerPair, CheckedPair, PairFigures, checked_pairs, read_pairs


def write_pairs(folder: Path, *lines: str | bytes | dict[str, Any]) -> Path:
    path = folder / "pairs.jsonl"
    encoded = [
        line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line)).encode()
        for line in lines
    ]
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return path


def test_known_fields_are_read_and_others_ignored(tmp_path: Path) -> None:
    path = write_pairs(
        tmp_path,
        b'\xef\xbb\xbf{"reference": "7", "answer": "It is 7.", "expected": true, "category": "numbers"}',
        "",
        {"reference": "B", "answer": "A", "expected": False, "method": "choice", "question": "Which one?"},
        {"reference": "1/3", "answer": "0.33", "expected": None, "method": None},
        {"reference": "1/3", "answer": "0.33"},
    )
    assert read_pairs(path) == [
        AnswerPair(1, "7", "It is 7.", True),
        AnswerPair(3, "B", "A", False, Method.CHOICE, "Which one?"),
        AnswerPair(4, "1/3", "0.33", None),
        AnswerPair(5, "1/3", "0.33", None, has_expected=False),
    ]


def test_a_number_keeps_the_text_that_it_has_in_the_file(tmp_path: Path) -> None:
    (pair,) = read_pairs(
        write_pairs(tmp_path, '{"reference": 0.10000, "answer": 123456789012345678901, "expected": true}')
    )
    assert (pair.reference, pair.answer) == ("0.10000", "123456789012345678901")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"reference": "\\frac{1}{2"', "is not JSON"),
        ("[1, 2]", "is not an object"),
        ("[" * 100_000, "nested too deeply"),
        (b'{"reference": "\xff"}', "is not UTF-8"),
        ({"answer": "7", "expected": True}, "field reference: is missing"),
        ({"reference": "7", "answer": ["7"], "expected": True}, 'field answer: is ["7"]'),
        ({"reference": None, "answer": "7", "expected": True}, "field reference: is null; give the text"),
        ({"reference": "7", "answer": "7", "expected": "yes"}, 'field expected: is "yes"'),
        ('{"reference": "7", "answer": "7", "expected": 1}', "field expected: is 1;"),
        ({"reference": "7", "answer": "7", "expected": True, "method": "judge"}, 'field method: is "judge"'),
        ({"reference": "7", "answer": "7", "expected": True, "question": ["?"]}, 'field question: is ["?"]'),
    ],
)
def test_a_bad_line_is_named_with_its_field_and_nothing_is_checked(
    line: str | bytes | dict[str, Any], named: str, tmp_path: Path
) -> None:
    path = write_pairs(tmp_path, {"reference": "7", "answer": "7", "expected": True}, line)
    with pytest.raises(DatasetError) as raised:
        read_pairs(path)
    assert f"{path}: line 2: " in str(raised.value)
    assert named in str(raised.value)
    assert str(raised.value).endswith("Nothing was checked.")


def test_the_first_of_many_bad_lines_are_named_and_the_others_counted(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"line 20: (.|\n)*… and 5 more"):
        read_pairs(write_pairs(tmp_path, *["{}"] * 25))


def test_an_empty_or_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no pair"):
        read_pairs(write_pairs(tmp_path, ""))
    with pytest.raises(DatasetError, match=r"absent\.jsonl: cannot be read"):
        read_pairs(tmp_path / "absent.jsonl")


def checked_pair(expected: bool | None, found: bool | None) -> CheckedPair:
    return CheckedPair(AnswerPair(1, "7", "7", expected), CheckResult(found, "exact"))


def figures_of(*pairs: CheckedPair) -> dict[str, int | float]:
    figures = PairFigures()
    for one in pairs:
        figures.add(one)
    return figures.to_json()


def test_shares_are_of_the_pairs_expected_right_of_those_expected_wrong_and_of_all() -> None:
    found = figures_of(
        checked_pair(True, True),
        checked_pair(True, False),
        checked_pair(True, None),
        checked_pair(True, True),
        checked_pair(False, True),
        checked_pair(False, False),
        checked_pair(False, None),
        checked_pair(False, False),
        checked_pair(None, True),
        checked_pair(None, None),
    )
    assert (found["pairs"], found["expected_right"], found["expected_wrong"]) == (10, 4, 4)
    assert (found["right_refused_share"], found["wrong_accepted_share"], found["undecided_share"]) == (0.5, 0.25, 0.3)
    assert found["differing"] == 4


def test_a_share_without_such_pairs_is_zero() -> None:
    found = figures_of(checked_pair(None, False))
    assert (found["right_refused_share"], found["wrong_accepted_share"]) == (0.0, 0.0)


def test_many_pairs_are_checked_in_several_processes_and_come_in_their_order() -> None:
    pairs = [AnswerPair(n, str(n), f"The answer is {n if n % 5 else n + 1}.", bool(n % 5)) for n in range(1, 201)]
    found = list(checked_pairs(pairs, Rule(), processes=2, timeout_seconds=60))
    assert [one.pair for one in found] == pairs
    assert not any(one.differs for one in found)


def test_the_method_of_a_pair_overrides_the_callers() -> None:
    pairs = [AnswerPair(1, "0.5", "The answer is 1/2.", None, method) for method in (Method.EXACT, Method.MATH, None)]
    found = list(checked_pairs(pairs, Rule(Method.EXACT), processes=1, timeout_seconds=60))
    assert [one.result.correct for one in found] == [False, True, False]
