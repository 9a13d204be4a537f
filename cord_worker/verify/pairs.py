"""Pairs of a reference and an answer with an expected result: reads them from JSON lines, checks and counts them.

Each line is one object: `reference`, `answer`, and optionally `expected`, `method` and `question`. `expected` is true,
false, or null if people would not agree; without it the result is only reported and counted. Other fields are ignored.
Numbers keep their text from the file.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from cord_worker.errors import DatasetError
from cord_worker.verify.check_result import CheckResult
from cord_worker.verify.checker import AnswerChecker
from cord_worker.verify.rule import Method, Rule

STANDARD_INPUT = Path("-")

_MOST_NAMED = 20
_PAIRS_PER_PROCESS = 50
"""Fewest pairs per process: below this, starting a further process takes longer than it saves."""
_TOGETHER = 512
"""Maximum number of pairs in progress: bounds the memory used in addition to the file."""
_MOST_PROCESSES = 16


@dataclass(frozen=True, slots=True)
class AnswerPair:
    """One line of the file, numbered from 1.

    `expected` is None if no result is clearly right, or if the line has no such field (`has_expected`). `method` is
    None if the caller's method applies.
    """

    line: int
    reference: str
    answer: str
    expected: bool | None
    method: Method | None = None
    question: str | None = None
    has_expected: bool = True


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not a valid pair: its number, the field, and what to do."""

    line: int
    field: str | None
    reason: str

    def __str__(self) -> str:
        field = "" if self.field is None else f"field {self.field}: "
        return f"line {self.line}: {field}{self.reason}"


@dataclass(frozen=True, slots=True)
class CheckedPair:
    """A pair and its result."""

    pair: AnswerPair
    result: CheckResult

    @property
    def differs(self) -> bool:
        """True if another result is expected; always False if the pair expects no certain one."""
        return self.pair.expected is not None and self.result.correct is not self.pair.expected

    @property
    def severity(self) -> int:
        """Sort key, the worst first: 0 for a wrong answer accepted, 1 for a right one refused, 2 for an undecided one,
        3 if the result does not differ from what is expected."""
        if not self.differs:
            return 3
        return 0 if self.result.correct else 1 if self.result.correct is False else 2

    def to_json(self) -> dict[str, Any]:
        """A JSON object for scripts; keys are stable."""
        pair, result = self.pair, self.result
        return {
            "line": pair.line,
            "reference": pair.reference,
            "answer": pair.answer,
            "expected": pair.expected,
            "correct": result.correct,
            **result.to_json(),
        }


@dataclass(slots=True)
class PairFigures:
    """Counts over checked pairs. An undecided right answer counts as refused; an undecided wrong one is not counted as
    accepted."""

    pairs: int = 0
    expected_right: int = 0
    expected_wrong: int = 0
    right_refused: int = 0
    wrong_accepted: int = 0
    undecided: int = 0
    differing: int = 0

    def add(self, checked: CheckedPair) -> None:
        """Counts one more pair."""
        expected, found = checked.pair.expected, checked.result.correct
        self.pairs += 1
        self.expected_right += expected is True
        self.expected_wrong += expected is False
        self.right_refused += expected is True and found is not True
        self.wrong_accepted += expected is False and found is True
        self.undecided += found is None
        self.differing += checked.differs

    def to_json(self) -> dict[str, int | float]:
        """A JSON object for scripts; keys are stable. Shares are of the pairs expected right, of those expected wrong,
        and of all; 0 if there are none."""
        return {
            "pairs": self.pairs,
            "expected_right": self.expected_right,
            "expected_wrong": self.expected_wrong,
            "right_refused": self.right_refused,
            "wrong_accepted": self.wrong_accepted,
            "undecided": self.undecided,
            "differing": self.differing,
            "right_refused_share": _share(self.right_refused, self.expected_right),
            "wrong_accepted_share": _share(self.wrong_accepted, self.expected_wrong),
            "undecided_share": _share(self.undecided, self.pairs),
        }


def read_pairs(path: Path) -> list[AnswerPair]:
    """The pairs of the file at `path` (`-`: of standard input).

    Raises DatasetError that names every bad line (the first ones if there are many), or the unreadable file.
    """
    name = "standard input" if path == STANDARD_INPUT else str(path)
    try:
        if path == STANDARD_INPUT:
            lines = list(parsed_lines(sys.stdin.buffer))
        else:
            with path.open("rb") as file:
                lines = list(parsed_lines(file))
    except OSError as error:
        raise DatasetError(f"{name}: cannot be read: {error.strerror or error}") from None
    bad = [line for line in lines if isinstance(line, BadLine)]
    if bad:
        named = "\n".join(f"{name}: {line}" for line in bad[:_MOST_NAMED])
        more = f"\n… and {len(bad) - _MOST_NAMED:,} more" if len(bad) > _MOST_NAMED else ""
        raise DatasetError(f"{named}{more}\nNothing was checked.")
    pairs = [line for line in lines if isinstance(line, AnswerPair)]
    if not pairs:
        raise DatasetError(f"{name}: holds no pair; write one JSON object per line: reference, answer, expected")
    return pairs


def parsed_lines(file: BinaryIO | Iterable[bytes]) -> Iterator[AnswerPair | BadLine]:
    """A pair, or its error, for every line that is not blank; lines are numbered from 1."""
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield _parse_line(number, line)


def _parse_line(number: int, line: bytes) -> AnswerPair | BadLine:
    try:
        row = json.loads(line.decode("utf-8-sig"), parse_int=_Number, parse_float=_Number)
    except UnicodeDecodeError as error:
        return BadLine(number, None, f"is not UTF-8 ({error.reason} at byte {error.start}); save the file as UTF-8")
    except RecursionError:
        return BadLine(number, None, "is nested too deeply; write one flat object with reference, answer, expected")
    except ValueError as error:
        return BadLine(number, None, f"is not JSON ({error}); write one object per line, backslashes doubled")
    if not isinstance(row, dict):
        return BadLine(number, None, "is not an object; write reference, answer and expected as one JSON object")
    texts: dict[str, str | None] = {}
    for field, needed in (("reference", True), ("answer", True), ("question", False)):
        value = row.get(field)
        if value is None and needed:
            return BadLine(number, field, f"{'is null' if field in row else 'is missing'}; give the text")
        if value is not None and not isinstance(value, str):
            return BadLine(number, field, f"is {_shown(value)}; give a text")
        texts[field] = value
    expected = row.get("expected")
    if expected is not None and not isinstance(expected, bool):
        found = f"is {_shown(expected)}"
        return BadLine(number, "expected", f"{found}; write true, false, or null if no result is clearly right")
    method = row.get("method")
    if method is not None and method not in tuple(Method):
        return BadLine(number, "method", f"is {_shown(method)}; write {', '.join(Method)}, or leave it out")
    return AnswerPair(
        number,
        str(texts["reference"]),
        str(texts["answer"]),
        expected,
        None if method is None else Method(method),
        texts["question"],
        "expected" in row,
    )


class _Number(str):
    """A number of the file, as text."""

    __slots__ = ()


def checked_pairs(
    pairs: Iterable[AnswerPair], rule: Rule, *, processes: int | None = None, timeout_seconds: float = 5.0
) -> Iterator[CheckedPair]:
    """Every pair with its result, in order, checked in several concurrent processes (as many as there are processors).

    Raises ProcessPoolError if they cannot be started.
    """
    remaining = iter(pairs)
    batch = list(islice(remaining, _TOGETHER))
    count = min(processes or usable_processors(), 1 + len(batch) // _PAIRS_PER_PROCESS)
    with AnswerChecker(timeout_seconds, workers=count) as checker, ThreadPoolExecutor(2 * count) as threads:
        checker.warm_up_for(rule.method)

        def check(pair: AnswerPair) -> CheckedPair:
            chosen = rule if pair.method is None else replace(rule, method=pair.method)
            return CheckedPair(pair, checker.check(pair.answer, pair.reference, chosen, pair.question))

        while batch:
            yield from threads.map(check, batch)
            batch = list(islice(remaining, _TOGETHER))


def usable_processors() -> int:
    """Number of processors that this process may use, at most 16."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, min(_MOST_PROCESSES, len(os.sched_getaffinity(0))))
    return max(1, min(_MOST_PROCESSES, os.cpu_count() or 1))


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, _Number) else json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else f"{text[:40]}…"
