"""Parses and compares dates and times of day."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_MONTHS = "january february march april may june july august september october november december".split()
_MONTH = {name: at for at, name in enumerate(_MONTHS, 1)} | {name[:3]: at for at, name in enumerate(_MONTHS, 1)}
_MONTH["sept"] = 9
_WEEKDAYS = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri sat sun".split()
)
_FILLERS = frozenset("of the on de del le den der ad ce in в г года".split())
_ISO = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})|(\d{4})/(\d{1,2})/(\d{1,2})|(\d{4}) ?[年년] ?(\d{1,2}) ?[月월] ?(\d{1,2}) ?[日号일]"
)
_NUMERIC = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})")
_HALF = r"(?P<half>[ap]) ?\.? ?m\b\.?"
_CLOCK = re.compile(
    rf"(?:at )?(?P<hour>\d{{1,2}})(?:[:.](?P<minute>\d{{2}}))?(?::(?P<second>\d{{2}}))? ?{_HALF}(?: .*)?", re.IGNORECASE
)
_BARE_CLOCK = re.compile(
    r"(?:at )?(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?(?: ?(?:hours|h|hrs|uhr|o'clock))?",
    re.IGNORECASE,
)
_OCLOCK = re.compile(r"(?P<hour>\d{1,2}) o'clock", re.IGNORECASE)
_LOCALES = "de fr es it pt nl ru uk pl tr id vi ar hi sv cs".split()


@dataclass(frozen=True, slots=True)
class Date:
    """A day; parts that are not given are None."""

    year: int | None
    month: int
    day: int | None


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds from midnight; `sure` if morning or afternoon is given, or the hour is above 12 or begins with 0."""

    seconds: int
    sure: bool


@lru_cache(maxsize=256)
def dates(text: str) -> tuple[Date, ...]:
    """The days that a text may mean: two for `1/5/2024`, none if it is not a date."""
    text = text.strip()
    if len(text) > 60 or not any(char.isdigit() for char in text):
        return ()
    if match := _ISO.fullmatch(text):
        year, month, day = (int(group) for group in match.groups() if group)
        return _if_possible(Date(year, month, day))
    if match := _NUMERIC.fullmatch(text):
        first, second, year = int(match[1]), int(match[3]), int(match[4])
        found = _if_possible(Date(year, first, second)) + _if_possible(Date(year, second, first))
        return tuple(dict.fromkeys(found))
    return _date_in_words(text)


def _date_in_words(text: str) -> tuple[Date, ...]:
    words = re.findall(r"[^\W\d_]+|\d+|[^\s\w,.]", text.casefold())
    if not 2 <= len(words) <= 8:
        return ()
    month: int | None = None
    numbers: list[str] = []
    for at, word in enumerate(words):
        if word.isdigit():
            numbers.append(word)
        elif (
            word in _WEEKDAYS
            or word in _FILLERS
            or (word in ("st", "nd", "rd", "th") and at and words[at - 1].isdigit())
        ):
            continue
        elif month is None and (found := _month(word, words)) is not None:
            month = found
        else:
            return ()
    if month is None or not 1 <= len(numbers) <= 2:
        return ()
    years = [number for number in numbers if len(number) == 4]
    days = [number for number in numbers if len(number) <= 2]
    if len(years) > 1 or len(days) > 1 or len(years) + len(days) != len(numbers):
        return ()
    return _if_possible(Date(int(years[0]) if years else None, month, int(days[0]) if days else None))


def _month(word: str, words: list[str]) -> int | None:
    found = _MONTH.get(word)
    if found is not None:
        return found
    lengths = {len(other) for other in words if other.isdigit()}
    # Foreign months are looked up only beside a day and a year, because loading them is slow.
    return _foreign_months().get(word) if 4 in lengths and lengths & {1, 2} else None


@lru_cache(maxsize=1)
def _foreign_months() -> dict[str, int]:
    # Imported here: only a date in another language needs it.
    from babel import Locale

    found: dict[str, int] = {}
    for code in _LOCALES:
        months = Locale(code).months
        for context in ("format", "stand-alone"):
            for width in ("wide", "abbreviated"):
                for at, name in months[context][width].items():
                    word = name.casefold().rstrip(".")
                    if len(word) >= 3 and re.fullmatch(r"[^\W\d_]+", word):
                        found.setdefault(word, at)
    return found


def _if_possible(date: Date) -> tuple[Date, ...]:
    """The date alone; empty if there is no such month or day."""
    exists = 1 <= date.month <= 12 and (date.day is None or 1 <= date.day <= 31)
    return (date,) if exists else ()


def same_date(reference: tuple[Date, ...], given: tuple[Date, ...]) -> bool | None:
    """True if the dates agree; None if one side lacks the day or the year, or if a date may mean two days."""
    if not set(reference) & set(given):
        near = any(_agrees(one, other) for one in reference for other in given)
        return None if near else False
    return True if len(reference) == len(given) == 1 or reference == given else None


def _agrees(one: Date, other: Date) -> bool:
    return all(
        first is None or second is None or first == second
        for first, second in ((one.year, other.year), (one.month, other.month), (one.day, other.day))
    )


@lru_cache(maxsize=256)
def time(text: str) -> Time | None:
    """The time of day that a text names; None if it names none. `2:30` is not `sure`."""
    text = text.strip()
    low = text.casefold()
    if low in ("noon", "midday", "12 noon"):
        return Time(12 * 3600, sure=True)
    if low in ("midnight", "12 midnight"):
        return Time(0, sure=True)
    if match := _CLOCK.fullmatch(text):
        hour = int(match["hour"])
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if match["half"].casefold() == "p" else 0)
        return _seconds(hour, match["minute"], match["second"], sure=True)
    if match := _BARE_CLOCK.fullmatch(text):
        hour = int(match["hour"])
        sure = hour > 12 or match["hour"].startswith("0")
        return _seconds(hour, match["minute"], match["second"], sure=sure) if hour < 25 else None
    if match := _OCLOCK.fullmatch(text):
        return _seconds(int(match["hour"]), None, None, sure=False)
    return None


def _seconds(hour: int, minute: str | None, second: str | None, *, sure: bool) -> Time | None:
    minutes, seconds = int(minute or 0), int(second or 0)
    if minutes > 59 or seconds > 59 or hour > 24:
        return None
    return Time(hour % 24 * 3600 + minutes * 60 + seconds, sure)


def same_time(reference: Time, given: Time) -> bool | None:
    """True if the times agree; None if morning or afternoon is given on one side only."""
    if reference.seconds == given.seconds:
        return True if reference.sure == given.sure else None
    if reference.sure != given.sure and abs(reference.seconds - given.seconds) == 12 * 3600:
        return None
    return False
