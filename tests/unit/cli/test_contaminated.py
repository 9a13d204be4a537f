"""`cordctl contaminated` on files of every kind."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from cord_worker.cli import cli

QUESTION = (
    "A bakery sells muffins for $3 each and scones for $4 each. On Saturday it sold 25 muffins and 18 scones. "
    "How much money did the bakery take in on Saturday?"
)
OTHER = "Let $a$ and $b$ be the roots of $x^2 - 7x + 11 = 0$. Compute $a^3 + b^3$."
HOSTILE = f"\x1b[31m\u202e{QUESTION}\x07[bold]"


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def contaminated(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["contaminated", *map(str, arguments)])


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Its rows have no answers."""
    return lines(tmp_path / "benchmark.jsonl", [{"problem": "Something else is asked."}, {"problem": QUESTION}])


def test_nothing_found_ends_with_0(tmp_path: Path, benchmark: Path) -> None:
    result = contaminated(lines(tmp_path / "d.jsonl", [{"question": OTHER}]), "--against", benchmark)
    assert result.exit_code == 0, result.output
    assert "1 question, 0 with hits" in result.output


def test_something_found_ends_with_4_and_shows_both_rows_and_the_matching_text(tmp_path: Path, benchmark: Path) -> None:
    rows = [{"question": OTHER}, {"question": QUESTION.upper()}, {"question": f"Solve this. {QUESTION} Think."}]
    result = contaminated(lines(tmp_path / "d.jsonl", rows), "--against", benchmark)
    assert result.exit_code == 4
    for text in ("exact", "ngram", "d.jsonl:2", "benchmark.jsonl:2", "3 questions, 2 with hits"):
        assert text in result.output


def test_json_counts_by_kind_and_the_output_holds_every_hit(tmp_path: Path, benchmark: Path) -> None:
    rows = [{"question": QUESTION}, {"question": OTHER}, {"question": QUESTION.replace("25", "26")}]
    dataset = lines(tmp_path / "d.jsonl", rows)
    output = tmp_path / "hits.jsonl"
    result = contaminated(dataset, "--against", benchmark, "--json", "-o", output)
    assert result.exit_code == 4
    found = json.loads(result.output)
    assert (found["questions"], found["contaminated"], found["hits"]) == (3, 2, 2)
    assert found["by_kind"] == {"exact": 1, "renumbered": 1, "ngram": 0, "containment": 0, "near": 0}
    assert found["benchmarks"] == {str(benchmark): 2}
    written = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [(row["location"], row["kind"], row["benchmark_location"]) for row in written] == [
        ("d.jsonl:1", "exact", "benchmark.jsonl:2"),
        ("d.jsonl:3", "renumbered", "benchmark.jsonl:2"),
    ]
    table = tmp_path / "hits.parquet"
    contaminated(dataset, "--against", benchmark, "-o", table)
    assert pq.read_table(table).to_pylist() == written


def test_datasets_and_benchmarks_may_have_any_format_and_field(tmp_path: Path) -> None:
    table = tmp_path / "benchmark.parquet"
    pq.write_table(pa.table({"stem": [OTHER, QUESTION], "choices": [["a", "b"], ["c", "d"]]}), table)
    packed = tmp_path / "d.jsonl.gz"
    packed.write_bytes(gzip.compress(json.dumps({"row": {"q": QUESTION}}).encode()))
    result = contaminated(packed, "--question-field", "row.q", "--against", table, "--against-field", "stem", "--json")
    assert result.exit_code == 4, result.output
    assert json.loads(result.output)["first"][0]["benchmark_location"] == "benchmark.parquet:2"


@pytest.mark.parametrize("name", ["d.jsonl", "benchmark.jsonl"])
def test_the_output_never_replaces_the_dataset_or_a_benchmark(tmp_path: Path, benchmark: Path, name: str) -> None:
    dataset = lines(tmp_path / "d.jsonl", [{"question": QUESTION}])
    before = (tmp_path / name).read_bytes()
    result = contaminated(dataset, "--against", benchmark, "-o", tmp_path / name)
    assert result.exit_code == 1
    assert "which it would replace" in result.output
    assert (tmp_path / name).read_bytes() == before


def test_several_benchmarks_are_looked_up_together(tmp_path: Path, benchmark: Path) -> None:
    second = lines(tmp_path / "second.jsonl", [{"question": OTHER}])
    dataset = lines(tmp_path / "d.jsonl", [{"question": OTHER}, {"question": QUESTION}])
    found = json.loads(contaminated(dataset, "--against", benchmark, "--against", second, "--json").output)
    assert found["contaminated"] == 2
    assert found["benchmarks"] == {str(benchmark): 2, str(second): 1}


def test_within_finds_rows_that_repeat_earlier_ones(tmp_path: Path) -> None:
    rows = [{"question": QUESTION}, {"question": OTHER}, {"question": QUESTION.lower()}]
    found = json.loads(contaminated(lines(tmp_path / "d.jsonl", rows), "--within", "--json").output)
    assert found["contaminated"] == 1
    assert (found["first"][0]["location"], found["first"][0]["benchmark_location"]) == ("d.jsonl:3", "d.jsonl:1")


def test_near_finds_near_equal_trajectories_of_an_export(tmp_path: Path) -> None:
    pytest.importorskip("datasketch")
    steps = [f"Step {number}: we add {number * 7} to {number * 11} and get {number * 18}." for number in range(60)]
    texts = [" ".join(steps), " ".join(f"So {number * 13} it is." for number in range(60)), " ".join(steps[:55])]
    dataset = lines(tmp_path / "out.jsonl", [{"question": "x", "trajectory": text} for text in texts])
    arguments = ("--within", "--kind", "near", "--similarity", "0.7", "--question-field", "trajectory", "--json")
    found = json.loads(contaminated(dataset, *arguments).output)
    assert found["by_kind"]["near"] == found["contaminated"] == 1
    assert found["first"][0]["location"] == "out.jsonl:3"


def test_only_the_kinds_that_are_asked_for_count(tmp_path: Path, benchmark: Path) -> None:
    dataset = lines(tmp_path / "d.jsonl", [{"question": QUESTION}])
    assert contaminated(dataset, "--against", benchmark, "--kind", "renumbered").exit_code == 0
    assert contaminated(dataset, "--against", benchmark, "--kind", "exact").exit_code == 4


def test_hostile_text_is_shown_as_escapes(tmp_path: Path) -> None:
    benchmark = lines(tmp_path / "b.jsonl", [{"question": HOSTILE}])
    result = contaminated(lines(tmp_path / "d.jsonl", [{"question": f"{HOSTILE} now"}]), "--against", benchmark)
    assert result.exit_code == 4
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output
    assert "\x07" not in result.output
    assert "[bold]" in result.output


@pytest.mark.parametrize("question", ["a\0b", "", None, 5])
def test_a_row_without_a_question_is_one_line_of_error_or_left_out_and_counted(
    tmp_path: Path, benchmark: Path, question: object
) -> None:
    dataset = lines(tmp_path / "d.jsonl", [{"question": OTHER}, {"question": question}])
    result = contaminated(dataset, "--against", benchmark, "-o", tmp_path / "hits.jsonl")
    assert result.exit_code == 1
    assert "d.jsonl:2" in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "hits.jsonl").exists()
    left_out = contaminated(dataset, "--against", benchmark, "--skip-unreadable", "--json")
    assert left_out.exit_code == 0, left_out.output
    assert json.loads(left_out.output)["invalid"] == 1


def test_a_lone_surrogate_is_refused_by_the_reader(tmp_path: Path, benchmark: Path) -> None:
    dataset = tmp_path / "d.jsonl"
    dataset.write_text('{"question": "What is \\ud800?"}\n', encoding="utf-8")
    result = contaminated(dataset, "--against", benchmark)
    assert result.exit_code == 1
    assert result.output.count("\n") == 1


def test_an_error_of_a_row_names_the_option_of_this_command(tmp_path: Path, benchmark: Path) -> None:
    good = lines(tmp_path / "d.jsonl", [{"question": OTHER}])
    bad = lines(tmp_path / "bad.jsonl", [{"question": OTHER}, {"question": ""}])
    for arguments in ((bad, "--against", benchmark), (good, "--against", bad), (bad, "--within")):
        result = contaminated(*arguments)
        assert result.exit_code == 1
        assert "bad.jsonl:2" in result.output
        assert "--skip-unreadable" in result.output
        assert "--skip-invalid" not in result.output
        assert "enqueued" not in result.output
        assert contaminated(*arguments, "--skip-unreadable").exit_code in (0, 4)


def test_backslashes_of_benchmarks_are_restored_by_the_option_that_the_error_names(tmp_path: Path) -> None:
    benchmark = tmp_path / "b.jsonl"
    benchmark.write_text('{"question": "Compute $\\alpha + 1$ and then the sum of all of its digits, please."}\n')
    dataset = lines(tmp_path / "d.jsonl", [{"question": OTHER}])
    benchmark.write_text(benchmark.read_text().replace("\\\\", "\\"))
    refused = contaminated(dataset, "--against", benchmark)
    assert refused.exit_code == 1
    assert "--repair-latex" in refused.output
    assert contaminated(dataset, "--against", benchmark, "--repair-latex").exit_code == 0


def test_an_error_of_a_benchmarks_split_names_its_option(tmp_path: Path, benchmark: Path) -> None:
    result = contaminated(
        lines(tmp_path / "d.jsonl", [{"question": OTHER}]), "--against", benchmark, "--against-split", "test"
    )
    assert result.exit_code == 1
    assert "leave out --against-split" in result.output


@pytest.mark.parametrize("wrong", ["empty", "missing", "output"])
def test_an_error_has_another_exit_code_than_a_hit(tmp_path: Path, benchmark: Path, wrong: str) -> None:
    dataset = lines(tmp_path / "d.jsonl", [] if wrong == "empty" else [{"question": QUESTION}])
    if wrong == "missing":
        dataset.unlink()
    output = tmp_path / ("no/hits.jsonl" if wrong == "output" else "hits.jsonl")
    assert contaminated(dataset, "--against", benchmark, "-o", output).exit_code in (1, 2)
    if wrong == "output":
        assert contaminated(dataset, "--against", benchmark).exit_code == 4


def test_an_error_names_the_option_of_the_benchmarks_field(tmp_path: Path) -> None:
    benchmark = lines(tmp_path / "b.jsonl", [{"text": QUESTION}])
    result = contaminated(lines(tmp_path / "d.jsonl", [{"question": OTHER}]), "--against", benchmark)
    assert result.exit_code == 1
    assert "--against-field" in result.output
    assert "--question-field" not in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--against FILE, or --within"),
        (("--within", "--against-field", "x"), "go with --against FILE"),
        (("--within", "--json", "-o", "-"), "give one of them"),
        (("--within", "--similarity", "0.5"), "goes with --near"),
        (("--within", "--kind", "exactly"), "exact"),
    ],
)
def test_wrong_usage_ends_with_2(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    result = contaminated(lines(tmp_path / "d.jsonl", [{"question": OTHER}]), *arguments)
    assert result.exit_code == 2
    assert says in result.output
