from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cord_worker.cli import cli
from cord_worker.errors import ConfigError, ProcessPoolError
from cord_worker.verify import AnswerChecker, Method, Rule
from cord_worker.verify.by_math_verify import check_configured, compare_by_math_verify, version

pytest.importorskip("math_verify")

BY_MATH_VERIFY = Rule(Method.MATH_VERIFY)


@pytest.fixture(scope="module")
def checker() -> Iterator[AnswerChecker]:
    with AnswerChecker(timeout_seconds=60) as checker:
        yield checker


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cord_worker.verify.by_math_verify._PACKAGE", "math_verify_that_is_not_installed")


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("72", "So it is $72$."),
        ("72", "The answer is 72.0"),
        (r"\frac{14}{3}", r"\boxed{14/3}"),
        (r"$\frac{14}{3}$", r"\boxed{\dfrac{14}{3}}"),
        ("p - q", r"\boxed{-q + p}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"$\left(3, \frac{\pi}{2}\right)$"),
        ("x^2 - 1", "$(x-1)(x+1)$"),
        (r"\text{Evelyn}", r"\boxed{\text{Evelyn}}"),
    ],
)
def test_an_answer_that_math_verify_finds_equal_is_right(checker: AnswerChecker, reference: str, answer: str) -> None:
    result = checker.check(answer, reference, BY_MATH_VERIFY)
    assert (result.correct, result.method) == (True, "math_verify")


@pytest.mark.parametrize(
    ("reference", "answer"),
    [("72", "$73$"), ("72", "I do not know."), ("72", ""), (r"\frac12", r"\boxed{\frac13}"), ("B", r"\boxed{A}")],
)
def test_an_answer_that_math_verify_finds_unequal_or_cannot_find_is_wrong(
    checker: AnswerChecker, reference: str, answer: str
) -> None:
    result = checker.check(answer, reference, BY_MATH_VERIFY)
    assert (result.correct, result.method) == (False, "unequal")


@pytest.mark.parametrize("reference", ["", "  ", "###", "{", "\0"])
def test_a_reference_that_math_verify_cannot_read_leaves_the_answer_undecided(
    checker: AnswerChecker, reference: str
) -> None:
    result = checker.check(r"\boxed{5}", reference, BY_MATH_VERIFY)
    assert (result.correct, result.method) == (None, "unsupported")


def test_math_verify_alone_decides_even_if_our_own_rules_decide_otherwise(checker: AnswerChecker) -> None:
    assert checker.check(r"\boxed{(1,3)}", r"\{1,3\}").correct is not True
    assert checker.check("1/4", "25 percent of it is 1/4", BY_MATH_VERIFY).correct is not True
    assert checker.check("fifteen", "15").correct is True
    assert checker.check("fifteen", "15", BY_MATH_VERIFY).correct is False


def test_the_version_of_math_verify_is_kept_with_every_result(checker: AnswerChecker) -> None:
    installed = importlib.metadata.version("math-verify")
    for answer, reference in (("$5$", "5"), ("$6$", "5"), ("nothing", "5"), ("$5$", "###"), ("$5$", "")):
        detail = checker.check(answer, reference, BY_MATH_VERIFY).to_json()["detail"]
        assert f"math-verify {installed}" in detail


def test_a_comparison_that_never_ends_is_killed_and_undecided() -> None:
    with AnswerChecker(timeout_seconds=1) as checker:
        result = checker.check("$" + "9^{" * 4 + "9" + "}" * 4 + "$", "9^{9^{9^{9}}} + 1", BY_MATH_VERIFY)
        assert result.correct is not True
        assert checker.check("$5$", "5", BY_MATH_VERIFY).correct is True


@pytest.mark.parametrize("text", ["", "\0", "\ud800", "x" * 100_000, "{" * 30_000, r"\frac" * 3000, "(" * 1500])
@pytest.mark.long
def test_odd_texts_give_a_result_and_no_error(text: str) -> None:
    with AnswerChecker(timeout_seconds=5) as checker:
        assert checker.check(text, "5", BY_MATH_VERIFY).correct is not True
        assert checker.check("$5$", text, BY_MATH_VERIFY).correct is not True


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_makes_math_verify_raise(answer: str, reference: str) -> None:
    result = compare_by_math_verify(answer, reference)
    assert result.method in ("math_verify", "unequal", "unsupported")


@pytest.mark.usefixtures("no_package")
def test_without_the_package_nothing_is_decided_and_the_error_names_what_to_install() -> None:
    assert version() is None
    with AnswerChecker() as checker, pytest.raises(ProcessPoolError, match=r"pip install 'cord-worker\[math-verify\]'"):
        checker.check("$5$", "5", BY_MATH_VERIFY)
    with pytest.raises(ConfigError, match=r"pip install 'cord-worker\[math-verify\]'"):
        check_configured("math_verify")
    check_configured("math")


@pytest.mark.usefixtures("no_package")
def test_validate_and_doctor_say_in_one_line_that_the_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    preset = CliRunner().invoke(cli, ["init", "--preset", "tiny"]).output
    Path("cord.toml").write_text(f'{preset}\n[verify]\nmethod = "math_verify"\n', encoding="utf-8")
    Path("problems.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n', encoding="utf-8")
    validated = CliRunner().invoke(cli, ["validate", "problems.jsonl", "--config", "cord.toml"])
    assert validated.exit_code == 1
    assert validated.output.count("\n") == 1
    assert "pip install 'cord-worker[math-verify]'" in validated.output
    diagnosed = CliRunner().invoke(cli, ["doctor", "--config", "cord.toml"])
    assert diagnosed.exit_code == 4
    assert "math-verify" in diagnosed.output


def test_cordctl_check_takes_the_method() -> None:
    result = CliRunner().invoke(cli, ["check", "--reference", "1/2", "--answer", "$0.5$", "--method", "math_verify"])
    assert result.exit_code == 0, result.output
    assert "right (math_verify)" in result.output
