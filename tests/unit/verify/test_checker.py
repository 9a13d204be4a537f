from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from cord_worker.errors import ProcessPoolError
from cord_worker.local.processes import start_mark
from cord_worker.verify import AnswerChecker, Rule, compare

pytestmark = pytest.mark.slow

ENDLESS = r"9^{9^{9^{9}}}"
ENDLESS_POWER = (9, 9**9)  # of `pow`: one call of C code that holds the interpreter
LONG = r"\int_0^1 e^{x^2} \sin(x^{7}) \cos(x^{5}) \ln(x+2) \sqrt{x+3} dx"
NEARLY = rf"{LONG} + 10^{{-90}}"  # distinguished after twenty seconds, by a hundred digits


@pytest.fixture(scope="module")
def checker() -> Iterator[AnswerChecker]:
    """A checker with more time than any comparison takes on a busy machine."""
    with AnswerChecker(timeout_seconds=60, workers=2) as checker:
        yield checker


def gone(pids: list[int], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while any(start_mark(pid) is not None for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def checking_processes() -> list[int]:
    """Pids of this process's children that compare answers."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "killable_process" in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


def test_the_checker_gives_the_result_of_the_comparison(checker: AnswerChecker) -> None:
    for answer, reference in (("5", "5"), (r"\frac{1}{2}", "0.5"), ("6", "5")):
        text = f"The answer is {answer}."
        assert checker.check(text, reference) == compare(text, reference)


def test_the_question_reaches_the_comparison(checker: AnswerChecker) -> None:
    answer, reference = r"\boxed{5, 3, 2}", "2, 3, 5"
    assert checker.check(answer, reference, question="Find all primes below 6.").correct is True
    assert checker.check(answer, reference, Rule(ordered=True), "Find all primes below 6.").correct is False


def test_a_comparison_that_takes_too_long_is_undecided() -> None:
    with AnswerChecker(timeout_seconds=0.001) as checker:
        verdict = checker.check(rf"\boxed{{{NEARLY}}}", LONG)

    assert (verdict.correct, verdict.method) == (None, "timeout")
    assert verdict.may_be_judged


def test_a_huge_power_ends_quickly(checker: AnswerChecker) -> None:
    assert checker.check(rf"\boxed{{{ENDLESS}}}", "9^{9^{9}}").correct is not True
    assert checker.check(r"\boxed{x+1}", "1+x").correct is True


def test_a_dead_process_is_replaced(checker: AnswerChecker) -> None:
    checker.check(r"\boxed{x+1}", "1+x")
    for pid in checking_processes():
        os.kill(pid, signal.SIGKILL)
    verdicts = [checker.check(r"\boxed{x+1}", "1+x") for _ in range(4)]

    assert verdicts[-1].correct is True
    assert all(verdict.method in {"math", "crashed"} for verdict in verdicts)


def test_many_threads_may_check_at_once(checker: AnswerChecker) -> None:
    def check(number: int) -> bool | None:
        return checker.check(rf"The final answer is \sqrt{{{number * number}}}.", str(number)).correct

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(check, range(1, 60))) == [True] * 59


@pytest.mark.parametrize("text", ["", "\0", "\ud800", "x" * 10_000_000, "{" * 30_000, r"\frac" * 3000, "(" * 1500])
def test_odd_texts_give_a_result_and_no_error(checker: AnswerChecker, text: str) -> None:
    assert checker.check(text, "5").correct is not True
    assert checker.check("The answer is 5.", text).correct is not True


def test_only_the_end_of_a_very_long_text_counts(checker: AnswerChecker) -> None:
    assert checker.check("The answer is 4. " + "so " * 3_000_000 + "The answer is 5.", "5").correct is True
    assert checker.check("The answer is 5.", "5" * 30_000).method == "unsupported"


def test_a_closed_checker_raises_an_error() -> None:
    with AnswerChecker() as checker:
        pass

    with pytest.raises(ProcessPoolError, match="closed"):
        checker.check("5", "5")


def test_a_check_interrupted_by_closing_raises_an_error() -> None:
    before = set(checking_processes())
    checker = AnswerChecker(timeout_seconds=30)
    assert checker.check(r"\boxed{x+1}", "1+x").correct
    (worker,) = set(checking_processes()) - before
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(checker.call, pow, *ENDLESS_POWER)
        used = psutil.Process(worker).cpu_times().user
        while psutil.Process(worker).cpu_times().user < used + 0.1:
            time.sleep(0.01)
        checker.close()
        with pytest.raises(ProcessPoolError, match="closed"):
            running.result(timeout=60)


def test_a_checker_without_a_worker_or_time_is_refused() -> None:
    with pytest.raises(ProcessPoolError, match="at least one worker"):
        AnswerChecker(workers=0)
    with pytest.raises(ProcessPoolError, match="positive timeout"):
        AnswerChecker(timeout_seconds=0)


def test_processes_that_cannot_start_are_an_error_and_not_a_check_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mpmath.py").write_text("raise ImportError('broken installation')")
    monkeypatch.syspath_prepend(str(tmp_path))

    with AnswerChecker() as checker, pytest.raises(ProcessPoolError, match="is installed"):
        checker.check("5", "5")


def test_closing_leaves_no_process_behind() -> None:
    before = set(checking_processes())
    with AnswerChecker() as checker:
        assert checker.check("5", "5").correct
        workers = [pid for pid in checking_processes() if pid not in before]
        assert workers

    assert gone(workers)


@pytest.mark.parametrize("busy", [False, True])
def test_the_processes_die_with_a_parent_that_is_killed(busy: bool) -> None:
    script = f"""
        import threading, time, psutil
        from cord_worker.verify import AnswerChecker
        if __name__ == "__main__":
            checker = AnswerChecker(timeout_seconds=20)
            checker.check("5", "5")
            children = psutil.Process().children(recursive=True)
            used = lambda: sum(child.cpu_times().user for child in children)
            if {busy}:
                before = used()
                threading.Thread(target=checker.call, args=(pow, *{ENDLESS_POWER})).start()
                while used() < before + 0.2:
                    time.sleep(0.01)
            print(*[child.pid for child in children], flush=True)
            time.sleep(300)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
    assert children
    assert gone(children)


def test_importing_the_checker_loads_no_sympy() -> None:
    code = "import sys, cord_worker.verify; print([m for m in ('sympy', 'mpmath', 'pint') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"
