"""`AnswerChecker`: compares answers in separate processes, which are killed if a check takes too long.

A thread that hangs in a computation could not be ended. The processes are those of `local.killable`.
"""

from __future__ import annotations

from dataclasses import replace

from cord_worker.local.killable import ATTEMPTS, CallFailed, KillablePool, ProcessEnded
from cord_worker.verify import by_math_verify
from cord_worker.verify.check_result import CheckResult
from cord_worker.verify.comparison import compare
from cord_worker.verify.rule import Method, Rule
from cord_worker.verify.same_answer import prepare, type_of

TEXT_LIMIT = 20_000
"""Characters of a generated text, from the end, that are read."""

_BY_MATH = Rule()


class AnswerChecker(KillablePool):
    """Checks answers in warm processes; usable from several threads at once.

    Args:
        timeout_seconds: processor time, in seconds; after it a check ends as `correct=None`, method "timeout". Start-up
            does not count.
        workers: processes, and so the number of concurrent checks; each holds units and numerals, about 60 MiB.
    """

    def __init__(self, timeout_seconds: float = 5.0, workers: int = 1) -> None:
        super().__init__(timeout_seconds, workers, prepare=_prepare)
        self._by_math_verify = KillablePool(timeout_seconds, workers, prepare=by_math_verify.prepare)

    def close(self) -> None:
        """Ends the processes; checks that still run raise ProcessPoolError."""
        super().close()
        self._by_math_verify.close()

    def warm_up_for(self, method: str) -> None:
        """Starts a process for checks by `method` (of [verify]), so that it is ready when an answer comes."""
        if method == Method.MATH_VERIFY:
            self._by_math_verify.warm_up()
        elif method in tuple(Method):
            self.warm_up()

    def check(
        self, generated_answer: str, reference: str, rule: Rule = _BY_MATH, question: str | None = None
    ) -> CheckResult:
        """The result by `rule` on the last `TEXT_LIMIT` characters of `generated_answer`; waits for a free process.

        If `rule.ordered` is None, `question` decides whether the order of a list counts; only its last `TEXT_LIMIT`
        characters are read, because problems ask at their end.

        If a check repeatedly ends its process while other checks work, its result has the method "crashed".

        Raises:
            ProcessPoolError: the checker is closed, its processes cannot be started or are killed whatever they do, or
                the package that the rule needs is not installed.
        """
        try:
            return self.attempt(generated_answer, reference, rule, question, attempts=ATTEMPTS)
        except ProcessEnded as error:
            return result_of_given_up_check(ATTEMPTS, str(error))

    def attempt(
        self, generated_answer: str, reference: str, rule: Rule, question: str | None, *, attempts: int = 1
    ) -> CheckResult:
        """Like `check`; raises ProcessEnded if the check ended its process although other checks work."""
        if len(reference) > TEXT_LIMIT:
            return CheckResult(None, "unsupported", None, f"the reference is longer than {TEXT_LIMIT} characters")
        text = generated_answer[-TEXT_LIMIT:]
        try:
            if rule.method == Method.MATH_VERIFY:
                by_math_verify.check_installed()
                compare_alone = by_math_verify.compare_by_math_verify
                return self._by_math_verify.call(compare_alone, text, reference, attempts=attempts)
            return self.call(_compare_and_add_type, text, reference, rule, _end(question), attempts=attempts)
        except TimeoutError:
            return CheckResult(None, "timeout", None, f"the comparison took longer than {self.timeout_seconds:g} s")
        except CallFailed as error:
            # A library may raise any error on a text that is not mathematics: that says nothing about the answer.
            return CheckResult(None, "crashed", None, f"the comparison failed with {error.kind}")


def result_of_given_up_check(attempts: int, reason: str) -> CheckResult:
    """The result for an answer whose check was given up."""
    return CheckResult(None, "crashed", None, f"the check was given up after {attempts} attempts: {reason}")


def _end(question: str | None) -> str | None:
    return None if question is None else question[-TEXT_LIMIT:]


def _compare_and_add_type(generated_answer: str, reference: str, rule: Rule, question: str | None) -> CheckResult:
    """`compare` with positional arguments, as a pool calls it; adds the reference's type if nothing was compared."""
    result = compare(generated_answer, reference, rule, question=question)
    if result.type is not None or result.method == "unsupported":
        return result
    # The reference alone decides its type, even if no answer was found.
    return replace(result, type=type_of(reference, rule, question))


def _prepare() -> None:
    """Does the slow imports (formulas, units) outside any check's time."""
    prepare()
    compare(r"\boxed{x+1}", r"1+x")
    compare(r"\boxed{5\text{ m}}", "500 cm")
