"""The method `math_verify`: the package math-verify alone decides, as in published figures.

The reference is put in a box, because only then does math-verify read a bare `p - q` or `B`. The time limits of
math-verify are off, because they use signals, which work only in a main thread. Instead, the process that checks
answers has a limit (`AnswerChecker`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import logging

from cord_worker.errors import ConfigError, ProcessPoolError
from cord_worker.verify.check_result import CheckResult
from cord_worker.verify.rule import Method

INSTALLING = "pip install 'cord-worker[math-verify]'"
_PACKAGE = "math_verify"


def version() -> str | None:
    """The version of the installed package; None if it is not installed."""
    if importlib.util.find_spec(_PACKAGE) is None:
        return None
    return importlib.metadata.version(_PACKAGE)


def check_configured(method: str) -> None:
    """Raises ConfigError if `method` (of [verify]) is math_verify and this machine does not have the package."""
    if method == Method.MATH_VERIFY and version() is None:
        raise ConfigError(
            f'verify.method is "{Method.MATH_VERIFY}", which needs the package math-verify, and it is not installed: '
            f"{INSTALLING}"
        )


def check_installed() -> None:
    """Raises ProcessPoolError if this machine does not have the package, and so cannot check such answers."""
    if version() is None:
        raise ProcessPoolError(
            f'answers with the method "{Method.MATH_VERIFY}" need the package math-verify, and it is not installed: '
            f"{INSTALLING}"
        )


def prepare() -> None:
    """Does the slow imports, and compares a first pair."""
    for name in ("math_verify", "latex2sympy2_extended"):
        logging.getLogger(name).setLevel(logging.ERROR)  # it warns of the time limits that are off
    compare_by_math_verify(r"\boxed{x+1}", "1+x")


def compare_by_math_verify(generated_answer: str, reference: str) -> CheckResult:
    """The result of math-verify on `generated_answer`; may take very long on hostile input (see `AnswerChecker`).

    Undecided ("unsupported") if math-verify reads no mathematics in the reference and the texts are not equal. An
    answer in which it reads nothing is wrong, as in published figures. The version is in `detail`.
    """
    from math_verify import parse, verify

    by = f"by math-verify {version()}"
    if not reference.strip():
        return CheckResult(None, "unsupported", None, f"the reference is empty ({by})")
    wanted = parse(rf"\boxed{{{reference.strip()}}}", parsing_timeout=None)
    found = parse(generated_answer, parsing_timeout=None)
    # `found` holds the expression and, after it, the text of the answer.
    readings = tuple(part for part in found if isinstance(part, str))[-1:]
    extracted = readings[0] if readings else None
    for expected, given in itertools.product(wanted, found):
        try:
            equal = verify(expected, given, timeout_seconds=None, raise_on_error=True)
        except MemoryError:  # says nothing about the answer
            raise
        except Exception:  # noqa: BLE001 - math-verify itself counts a pair that it cannot compare as unequal
            continue
        if equal:
            return CheckResult(True, "math_verify", extracted, f"equal {by}", readings=readings)
    if all(isinstance(part, str) for part in wanted):
        return CheckResult(None, "unsupported", extracted, f"the reference is not read {by}", readings=readings)
    if not found:
        return CheckResult(False, "unequal", None, f"no answer is found {by}")
    return CheckResult(False, "unequal", extracted, f"not equal {by}", readings=readings)
