"""`AnswerChecker`: comparing in a process of its own, which is killed when it takes too long (`local.killable`).

A thread that hangs in a computation cannot be ended.
"""

from __future__ import annotations

from dataclasses import replace

from cord_worker.local.killable import ATTEMPTS, CallFailed, KillablePool, ProcessEnded
from cord_worker.verify.check_result import CheckResult
from cord_worker.verify.comparison import compare
from cord_worker.verify.rule import Rule
from cord_worker.verify.same_answer import prepare, type_of

TEXT_LIMIT = 20_000
"""Characters, from the end, of a generated text that are looked at."""

_BY_MATH = Rule()


class AnswerChecker(KillablePool):
    """Checks answers in warm processes; usable from several threads at once.

    Args:
        timeout_seconds: of a processor; after this a check ends as `correct=None`, method "timeout". Start-up does not
            count.
        workers: processes, hence checks at a time; each holds the units and numerals, about 60 MiB.
    """

    def __init__(self, timeout_seconds: float = 5.0, workers: int = 1) -> None:
        super().__init__(timeout_seconds, workers, prepare=_prepare)

    def check(
        self, generated_answer: str, reference: str, rule: Rule = _BY_MATH, question: str | None = None
    ) -> CheckResult:
        """The result by `rule` on the last `TEXT_LIMIT` characters of `generated_answer`; waits for a free process.

        `question` says whether the order of a list counts, where `rule.ordered` leaves it open; of a long one the last
        `TEXT_LIMIT` characters are read, where problems ask what they ask.

        A check whose process ends in it, time after time and while others work, ends as method "crashed".

        Raises:
            ProcessPoolError: the checker is closed, or its processes cannot be started, or are killed whatever they do.
        """
        try:
            return self.attempt(generated_answer, reference, rule, question, attempts=ATTEMPTS)
        except ProcessEnded as error:
            return crashed(ATTEMPTS, str(error))

    def attempt(
        self, generated_answer: str, reference: str, rule: Rule, question: str | None, *, attempts: int = 1
    ) -> CheckResult:
        """As `check`; raises ProcessEnded where its process ended in it, though others work."""
        if len(reference) > TEXT_LIMIT:
            return CheckResult(None, "unsupported", None, f"the reference is longer than {TEXT_LIMIT} characters")
        try:
            return self.call(
                _compared, generated_answer[-TEXT_LIMIT:], reference, rule, _end(question), attempts=attempts
            )
        except TimeoutError:
            return CheckResult(None, "timeout", None, f"the comparison took longer than {self.timeout_seconds:g} s")
        except CallFailed as error:
            # A library raises anything on what is no mathematics: that is no finding about the answer.
            return CheckResult(None, "crashed", None, f"the comparison failed with {error.kind}")


def crashed(attempts: int, reason: str) -> CheckResult:
    """The result on an answer whose check was given up."""
    return CheckResult(None, "crashed", None, f"the check was given up after {attempts} attempts: {reason}")


def _end(question: str | None) -> str | None:
    return None if question is None else question[-TEXT_LIMIT:]


def _compared(generated_answer: str, reference: str, rule: Rule, question: str | None) -> CheckResult:
    """`compare` as a function of positions, as a pool calls it."""
    result = compare(generated_answer, reference, rule, question=question)
    if result.type is not None or result.method == "unsupported":
        return result
    # The reference alone decides it, also where no answer was found.
    return replace(result, type=type_of(reference, rule, question))


def _prepare() -> None:
    """The slow imports (formulas, units), outside any check's time."""
    prepare()
    compare(r"\boxed{x+1}", r"1+x")
    compare(r"\boxed{5\text{ m}}", "500 cm")
