from __future__ import annotations

import pytest

from cord_worker.verify.answer.numerals import in_words


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("一万二千", 12_000),
        ("一亿二千万", 120_000_000),
        ("两亿五千万零三", 250_000_003),
        ("十二億三千四百五十六万七千八百九十", 1_234_567_890),
        ("一万二千亿", 1_200_000_000_000),
        ("三万亿", 3_000_000_000_000),
        ("三万亿零五万", 3_000_000_050_000),
    ],
)
def test_each_chinese_power_of_ten_thousand_multiplies_only_what_is_smaller(text: str, number: int) -> None:
    assert in_words(text) == number
