"""Parses numbers in words: English by its grammar, Chinese and Japanese by character, others by a table.

Every function takes a whole text and returns None if the text is not a number.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

_ZERO_TO_NINETEEN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_SMALL = {word: value for value, word in enumerate(_ZERO_TO_NINETEEN)} | {"naught": 0, "nil": 0, "nought": 0}
_TENS = {
    word: 10 * (place + 2) for place, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split())
}
_TENS["fourty"] = 40  # a frequent misspelling
_SCALES = {
    "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15, "lakh": 10**5,
    "crore": 10**7,
}  # fmt: skip
_DENOMINATORS = {
    "half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fourteenth": 14, "fifteenth": 15,
    "sixteenth": 16, "seventeenth": 17, "eighteenth": 18, "nineteenth": 19, "twentieth": 20, "thirtieth": 30,
    "fortieth": 40, "fiftieth": 50, "sixtieth": 60, "hundredth": 100, "thousandth": 1000, "millionth": 10**6,
}  # fmt: skip
_WORD = re.compile(r"[a-z]+")


def denominator_of(word: str) -> int | None:
    """The denominator that a word names: 7 for "sevenths", 4 for "quarters"."""
    word = word.casefold()
    return _DENOMINATORS.get(word) or _DENOMINATORS.get("half" if word == "halves" else word.removesuffix("s"))


@lru_cache(maxsize=256)
def in_words(text: str) -> Fraction | None:
    """The number that `text` writes in English words, in Chinese or Japanese characters, or in words of another
    language that are not all ASCII (for those, see `foreign`)."""
    text = text.strip().casefold()
    if not text or len(text) > 200 or any(char.isascii() and char.isdigit() for char in text):
        return None
    if text.isascii():
        return english(text)
    value = han(text)
    return value if value is not None else _by_table(text)


def foreign(text: str) -> Fraction | None:
    """The number that a word of another language names, if it is written in ASCII letters: `doce`, `elf`.

    Such a word may also be a name or a product of letters, so call this only where a number is expected.
    """
    return _by_table(text) if text.isascii() and 2 <= len(text) <= 60 and re.sub("[ -]", "", text).isalpha() else None


def english(text: str) -> Fraction | None:
    """The number in English words: `minus one hundred and five`, `three sevenths`, `two and a half`."""
    if not re.fullmatch(r"[a-z][a-z ,-]*", text):
        return None
    words = _WORD.findall(text)
    sign = 1
    if words and words[0] in ("minus", "negative"):
        sign, words = -1, words[1:]
    if not words:
        return None
    if "point" in words:
        return _with_point(words, sign)
    value = _whole(words)
    if value is None:
        value = _with_fraction(words)
    return None if value is None else sign * value


def _with_point(words: list[str], sign: int) -> Fraction | None:
    at = words.index("point")
    whole = _whole(words[:at]) if at else Fraction(0)
    digits = [_SMALL.get(word, 10) for word in words[at + 1 :]]  # 10: not a digit
    if whole is None or not digits or max(digits) > 9:
        return None
    return sign * (whole + Fraction(int("".join(map(str, digits))), 10 ** len(digits)))


def _with_fraction(words: list[str]) -> Fraction | None:
    below = denominator_of(words[-1])
    if below is None:
        return None
    before = words[:-1]
    if not before:
        # "third" alone may be an ordinal.
        return Fraction(1, below) if words[0] in ("half", "quarter") else None
    if "and" in before:
        for at in range(len(before) - 1, -1, -1):
            if before[at] != "and":
                continue
            whole, upper = _whole(before[:at]), _count(before[at + 1 :])
            if whole is not None and upper is not None and upper < below:
                return whole + upper / below
    upper = _count(before)
    # "one third" and "two thirds" are fractions; "two third" and "one thirds" are not.
    if upper is None or (upper == 1) != (not words[-1].endswith("s")):
        return None
    return upper / below


def _count(words: list[str]) -> Fraction | None:
    return Fraction(1) if words in (["a"], ["an"]) else _whole(words)


def _whole(words: list[str]) -> Fraction | None:
    """An integer in words, by the English grammar."""
    if not words or words[-1] == "and":
        return None
    if words[0] in ("a", "an") and len(words) > 1:
        words = ["one", *words[1:]]
    total = current = 0
    last = ""
    scale = 10**30
    for word in words:
        if word in _SMALL:
            if last in _SMALL or (last in _TENS and not 0 < _SMALL[word] < 10):
                return None
            current += _SMALL[word]
        elif word in _TENS:
            if last in _SMALL or last in _TENS:
                return None
            current += _TENS[word]
        elif word == "hundred":
            if not 0 < current < 100 or last == "hundred":
                return None
            current *= 100
        elif word in _SCALES:
            if current == 0 or _SCALES[word] >= scale:
                return None
            scale = _SCALES[word]
            total += current * scale
            current = 0
        elif word != "and" or last not in ("hundred", *_SCALES):
            return None
        last = word
    return Fraction(total + current)


_HAN_DIGITS = dict(zip("零〇一二三四五六七八九", (0, *range(10)), strict=True)) | {"两": 2, "兩": 2}
_HAN_DIGITS |= dict(zip("壹贰叁肆伍陆柒捌玖", range(1, 10), strict=True))
_HAN_PLACES = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_HAN_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_HAN = re.compile(r"[零〇一二三四五六七八九两兩壹贰叁肆伍陆柒捌玖十拾百佰千仟万萬亿億]{1,30}")


def han(text: str) -> Fraction | None:
    """The number in Chinese or Japanese characters: `二分之一`, `负三点五`, `一万二千`, `百分之二十` (0.2)."""
    if text[:1] in ("负", "負") and len(text) > 1:
        value = han(text[1:])
        return None if value is None else -value
    below, divided, above = text.partition("分之")
    if divided:
        lower, upper = han(below), han(above)
        return upper / lower if lower and upper is not None else None
    whole, _, after = text.replace("點", "点").partition("点")
    if after:
        value = han(whole)
        digits = [_HAN_DIGITS.get(char) for char in after]
        if value is None or None in digits:
            return None
        return value + Fraction(int("".join(map(str, digits))), 10 ** len(digits))
    if not _HAN.fullmatch(text):
        return None
    if all(char in _HAN_DIGITS for char in text):
        return Fraction(int("".join(str(_HAN_DIGITS[char]) for char in text)))
    total = section = digit = 0
    for char in text:
        if char in _HAN_DIGITS:
            digit = _HAN_DIGITS[char]
        elif char in _HAN_PLACES:
            section += (digit or 1) * _HAN_PLACES[char]
            digit = 0
        else:
            total = _times_myriad(total, section + digit, _HAN_MYRIADS[char])
            section = digit = 0
    return Fraction(total + section + digit)


def _times_myriad(total: int, count: int, myriad: int) -> int:
    """The number so far, after `count` and `myriad` were read.

    In 一万二千亿, 亿 multiplies all before it; in 一亿二千万, 万 multiplies only 二千.
    """
    if not count:
        return (total or 1) * myriad
    below = total % myriad
    return total - below + (below + count) * myriad


_LANGUAGES = (
    "ar es fr de it pt nl pl ru uk cs sv da fi hu ro tr id vi th ko fa he bn te el no ca sk sl sr lt lv kz az"
).split()
_ADDED_WORDS = {
    "ko": "영 하나 둘 셋 넷 다섯 여섯 일곱 여덟 아홉 열 열하나 열둘 열셋 열넷 열다섯 열여섯 열일곱 열여덟 열아홉 스물",
    "hi": "शून्य एक दो तीन चार पाँच छह सात आठ नौ दस ग्यारह बारह तेरह चौदह पंद्रह सोलह सत्रह अठारह उन्नीस बीस",
    "ja": "ゼロ ひとつ ふたつ みっつ よっつ いつつ むっつ ななつ やっつ ここのつ とお",
    "ar": "صفر واحدة اثنتان ثلاث أربع خمس ست سبع ثمان تسع عشر",
    "ar2": "صفر واحد اثنين ثلاثة أربعة خمسة ستة سبعة ثمانية تسعة عشرة",
}
"""Words for 0, 1, 2, … that num2words lacks; `ar2` has other forms of the Arabic words."""
_KOREAN_TENS = {"서른": 30, "마흔": 40, "쉰": 50, "예순": 60, "일흔": 70, "여든": 80, "아흔": 90}
_MORE_ARABIC = {
    "إحدى عشرة": 11, "اثنتا عشرة": 12, "اثني عشر": 12, "اثنتي عشرة": 12, "ثلاث عشرة": 13, "أربع عشرة": 14,
    "خمس عشرة": 15, "ست عشرة": 16, "سبع عشرة": 17, "ثماني عشرة": 18, "تسع عشرة": 19, "مئة": 100, "مائتان": 200,
    "عشرين": 20, "ثلاثين": 30, "أربعين": 40, "خمسين": 50, "ستين": 60, "سبعين": 70, "ثمانين": 80, "تسعين": 90,
}  # fmt: skip


def _by_table(text: str) -> Fraction | None:
    value = _table().get(_key(text))
    return None if value is None else Fraction(value)


@lru_cache(maxsize=1)
def _table() -> dict[str, int]:
    """The words for 0 to 200 and some round numbers; a word that means two numbers is left out."""
    # Imported here: only an answer in words needs it.
    import num2words

    found: dict[str, int] = {}
    doubtful: set[str] = set()

    def note(word: str, value: int) -> None:
        key = _key(word)
        if found.setdefault(key, value) != value:
            doubtful.add(key)

    values = [*range(201), *range(300, 1000, 100), *range(1000, 10_001, 1000), 10**5, 10**6]
    for language in _LANGUAGES:
        for value in values:
            try:
                note(num2words.num2words(value, lang=language), value)
            except (NotImplementedError, OverflowError, KeyError, IndexError, ValueError, TypeError):
                break
    for words in _ADDED_WORDS.values():
        for value, word in enumerate(words.split()):
            note(word, value)
    native = _ADDED_WORDS["ko"].split()[1:10]
    for ten, tens in [("스물", 20), *_KOREAN_TENS.items()]:
        note(ten, tens)
        for value, word in enumerate(native, 1):
            note(ten + word, tens + value)
    for word, value in _MORE_ARABIC.items():
        note(word, value)
    return {key: value for key, value in found.items() if key not in doubtful}


def _key(text: str) -> str:
    """The text without accents, spaces and hyphens; Arabic letters with several spellings become one."""
    bare = "".join(char for char in unicodedata.normalize("NFD", text.casefold()) if not unicodedata.combining(char))
    bare = bare.translate(str.maketrans("أإآىة", "ااايه"))
    return re.sub(r"[\s,'-]+", "", unicodedata.normalize("NFC", bare))
