from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cord_worker.bench.contamination import measure_contamination
from cord_worker.cli import cli
from cord_worker.contamination import Question
from cord_worker.errors import DatasetError

pytest.importorskip("datasketch")

COLOURS = ("red", "blue", "green", "white", "black")
THINGS = ("boat", "cart", "lamp", "drum", "kite")


def benchmark() -> list[str]:
    return [
        f"Ann has {number} {colour} {thing}s, and every {thing} weighs {number + 3} grams. She gives 2 of them to Tom, "
        f"who paints his {colour} {thing}s at home. How many grams do the others weigh altogether?"
        for number, (colour, thing) in enumerate(((c, t) for c in COLOURS for t in THINGS), start=11)
    ]


def others() -> list[str]:
    return [f"Let $f(x) = x^{number} - {number}x$. For which real $x$ is $f$ decreasing?" for number in range(2, 42)]


def made(name: str, texts: list[str]) -> list[Question]:
    return [Question(name, f"{name}:{line}", text) for line, text in enumerate(texts, start=1)]


def test_every_kind_of_copy_is_planted_and_found_copies_are_counted_by_kind() -> None:
    figures = measure_contamination(made("d", others()), made("b", benchmark()), copies=25, seed=3)
    assert {name: one.planted for name, one in figures.plants.items()} == dict.fromkeys(figures.plants, 5)
    for name in ("exact", "renumbered", "punctuation", "embedded"):
        assert figures.plants[name].found.total() == 5, name
    assert figures.false_alarms == figures.false_near == 0
    again = measure_contamination(made("d", others()), made("b", benchmark()), copies=25, seed=3)
    assert again.plants == figures.plants


def test_questions_that_the_benchmark_has_already_are_counted_as_false_alarms() -> None:
    shared = [*others(), benchmark()[0]]
    figures = measure_contamination(made("d", shared), made("b", benchmark()), copies=5, seed=1)
    assert figures.false_alarms == 1
    assert figures.alarms[0]["kind"] == "exact"


def test_more_copies_than_questions_are_an_error() -> None:
    with pytest.raises(DatasetError, match="Plant fewer with --copies"):
        measure_contamination(made("d", others()), made("b", benchmark()[:3]), copies=5, seed=1)


def test_the_command_prints_found_and_missed_by_kind(tmp_path: Path) -> None:
    for name, texts in (("d.jsonl", others()), ("b.jsonl", benchmark())):
        (tmp_path / name).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    arguments = ["bench", "contamination", str(tmp_path / "d.jsonl"), "--against", str(tmp_path / "b.jsonl")]
    fields = ["--question-field", "text", "--against-field", "text", "--copies", "10"]
    shown = CliRunner().invoke(cli, [*arguments, *fields])
    assert shown.exit_code == 0, shown.output
    assert "renumbered" in shown.output
    assert "false alarms: 0 of 30 other questions" in shown.output
    found = json.loads(CliRunner().invoke(cli, [*arguments, *fields, "--json"]).output)
    assert found["planted"] == 10
    assert sum(one["found"] + len(one["missed"]) for one in found["plants"].values()) == 10
