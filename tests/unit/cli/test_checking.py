"""`cordctl check`: its output for one pair and for a file, its last line, exit codes and error messages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cord_worker.cli import cli

pytestmark = pytest.mark.slow

PAIRS = [
    {"reference": "12", "answer": "So the answer is 12.", "expected": True},
    {"reference": "12", "answer": "So the answer is 13.", "expected": True},
    {"reference": "12", "answer": "So the answer is 12.", "expected": False},
    {"reference": "12", "answer": "So the answer is 12.", "expected": None},
]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return path


def cordctl(*arguments: str | Path, standard_input: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["check", *map(str, arguments)], input=standard_input)


def test_one_pair_shows_type_readings_result_and_why() -> None:
    result = cordctl("--reference", "12", "--answer", "So the answer is 13.", "--timeout", "60")
    assert result.exit_code == 0, result.output
    lines = dict(line.split(maxsplit=1) for line in result.output.splitlines())
    assert set(lines) >= {"type", "readings", "result"}
    assert lines["result"].startswith("wrong (")


def test_one_pair_as_json_has_everything_that_a_run_stores() -> None:
    result = cordctl("--reference", "12", "--answer", "So the answer is 12.", "--json", "--timeout", "60")
    found = json.loads(result.output)
    assert list(found) == ["reference", "answer", "correct", "method", "extracted", "detail", "type", "readings"]
    assert (found["correct"], found["extracted"]) == (True, "12")


def test_a_file_lists_the_pairs_that_differ_and_ends_with_the_shares(pairs: Path) -> None:
    result = cordctl(pairs, "--timeout", "60")
    assert result.exit_code == 0, result.output
    assert "line 2: expected right, found wrong" in result.output
    assert "line 3: expected wrong, found right" in result.output
    assert "line 1:" not in result.output
    assert "line 4:" not in result.output
    assert "4 pairs, 2 differ: right refused 1 of 2 (50.00 %), wrong accepted 1 of 1" in result.output


def test_wrong_answers_accepted_are_listed_before_right_ones_refused_and_undecided_ones(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"reference": "12", "answer": "I do not know.", "expected": True},
        {"reference": "12", "answer": "12"},
        {"reference": "12", "answer": "The answer is 13.", "expected": True},
        {"reference": "12", "answer": "The answer is 12.", "expected": False},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = cordctl(path, "--timeout", "60").output
    named = [line.partition(" (")[0] for line in output.splitlines() if line.startswith("line ")]
    assert named == [
        "line 4: expected wrong, found right",
        "line 3: expected right, found wrong",
        "line 1: expected right, found undecided",
        "line 2: right",
    ]
    assert "4 pairs, 3 differ" in output


def test_the_type_of_the_reference_is_shown_without_an_answer_and_a_reading_is_shown_once() -> None:
    found = cordctl("--reference", r"[0,\infty)", "--answer", "I do not know.", "--timeout", "60").output
    assert "type      interval" in found
    twice = cordctl("--reference", "12", "--answer", r"It is \boxed{12}. So \boxed{12}.", "--json", "--timeout", "60")
    readings = json.loads(twice.output)["readings"]
    assert len(readings) == len(set(readings))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("pairs.jsonl", "--reference", "1", "--answer", "1"), "not both"),
        (("--reference", "1"), "--answer is missing"),
        (("--answer", "1"), "--reference is missing"),
    ],
)
def test_wrong_usage_names_the_mistake(arguments: tuple[str, ...], told: str) -> None:
    assert told in cordctl(*arguments).output


def test_with_json_every_line_is_an_object_and_the_last_one_has_the_shares(pairs: Path) -> None:
    result = cordctl(pairs, "--json", "--timeout", "60")
    *differing, last = map(json.loads, result.stdout.splitlines())
    assert [one["line"] for one in differing] == [3, 2]
    assert {"pairs", "right_refused_share", "wrong_accepted_share", "undecided_share"} <= set(last)
    assert (last["pairs"], last["right_refused_share"], last["wrong_accepted_share"]) == (4, 0.5, 1.0)


def test_strict_exits_with_4_if_a_pair_differs_or_the_answer_is_not_right(pairs: Path) -> None:
    assert cordctl(pairs, "--strict", "--timeout", "60").exit_code == 4
    right = ("--reference", "12", "--answer", "The answer is 12.", "--strict", "--timeout", "60")
    assert cordctl(*right).exit_code == 0
    assert cordctl(*right[:3], "The answer is 1.", *right[4:]).exit_code == 4


def test_pairs_may_come_from_standard_input(pairs: Path) -> None:
    result = cordctl("-", "--json", "--timeout", "60", standard_input=pairs.read_text())
    assert json.loads(result.stdout.splitlines()[-1])["pairs"] == 4


def test_a_bad_line_is_named_in_words_without_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"reference": "1", "answer": "1", "expected": true}\n{"reference": "1"}\nno json\n')
    result = subprocess.run(
        [sys.executable, "-m", "cord_worker.cli", "check", str(path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert f"{path}: line 2: field answer: is missing" in result.stderr
    assert f"{path}: line 3: is not JSON" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--reference", "1"),
        ("--answer", "1"),
        ("pairs.jsonl", "--reference", "1", "--answer", "1"),
        ("pairs.jsonl", "--question", "Which?"),
        ("--reference", "1", "--answer", "1", "--method", "judge"),
    ],
)
def test_impossible_combinations_of_options_exit_with_2(arguments: tuple[str, ...]) -> None:
    assert cordctl(*arguments).exit_code == 2


def test_method_and_tolerance_may_come_from_a_configuration(tmp_path: Path) -> None:
    written = CliRunner().invoke(cli, ["init", "--preset", "tiny"]).output
    path = tmp_path / "cord.toml"
    path.write_text(written + '[verify]\nmethod = "numeric"\ntolerance = { relative = 0.1 }\n')
    near = ("--reference", "100", "--answer", "The answer is 105.", "--json", "--timeout", "60")
    assert json.loads(cordctl(*near).output)["correct"] is False
    assert json.loads(cordctl(*near, "--config", path).output)["correct"] is True
    path.write_text(written + '[verify]\nmethod = "none"\n')
    refused = cordctl(*near, "--config", path)
    assert refused.exit_code == 1
    assert "is not a comparison" in refused.output


def test_it_starts_without_the_libraries_of_models_and_databases() -> None:
    script = (
        "import sys\nfrom cord_worker.cli import cli\n"
        "try:\n    cli.main(['check', '--reference', '1', '--answer', '1', '--timeout', '60'], prog_name='cordctl')\n"
        "except SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in result.stderr.split()}
    assert loaded.isdisjoint({"torch", "transformers", "sqlalchemy", "celery", "pyarrow", "sympy", "rich"})
    assert "result" in result.stdout
