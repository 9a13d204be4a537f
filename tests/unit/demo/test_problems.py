"""Word problems: reproducible, disjoint between splits, and with right answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cord_worker.demo
from cord_worker.demo.problems import Split, generate, in_range, split_of

BUNDLED = Path(cord_worker.demo.__file__).parent / "problems.jsonl"


def test_the_same_seed_gives_the_same_problems_and_another_seed_gives_others() -> None:
    assert generate(50, 3, "heldout") == generate(50, 3, "heldout")
    assert generate(50, 3, "heldout") != generate(50, 4, "heldout")


def test_a_longer_list_begins_with_the_shorter_one() -> None:
    assert generate(50, 3, "train")[:20] == generate(20, 3, "train")


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_every_question_belongs_to_the_split_it_was_drawn_for(split: Split) -> None:
    assert {split_of(problem.question) for problem in generate(500, 0, split)} == {split}


def test_train_and_heldout_questions_never_overlap_for_any_seeds() -> None:
    train = {problem.question for seed in range(3) for problem in generate(2000, seed, "train")}
    heldout = {problem.question for seed in range(3) for problem in generate(2000, seed, "heldout")}
    assert not train & heldout


def test_questions_and_ids_are_distinct() -> None:
    drawn = generate(3000, 0, "train")
    assert len({problem.question for problem in drawn}) == len({problem.id for problem in drawn}) == 3000


def test_the_answer_lists_the_amounts_that_the_question_describes() -> None:
    gains, losses = r"buys|finds|added|brings", r"gives away|sells|lost|takes"
    for problem in generate(500, 11, "heldout"):
        opening, *changes, _ = re.split(r"(?<=[.?]) ", problem.question)
        amounts = [int(*re.findall(r"\d+", opening))]
        for change in changes:
            numbers = [int(number) for number in re.findall(r"\d+", change)]
            size = numbers[0] * (numbers[1] if len(numbers) == 2 else 1)
            assert bool(re.search(gains, change)) != bool(re.search(losses, change))
            amounts.append(amounts[-1] + (size if re.search(gains, change) else -size))
        listed = amounts if "start" in problem.question.rpartition(". ")[2] else amounts[1:]
        assert problem.answer == ", ".join(map(str, listed)), problem.question


def test_amounts_stay_between_0_and_99_and_changes_number_two_to_four() -> None:
    for problem in generate(1000, 5, "train"):
        assert in_range(problem.plan.amounts())
        assert 2 <= len(problem.plan.changes) <= 4


def test_the_command_prints_heldout_problems_without_loading_torch() -> None:
    program = (
        "import runpy, sys; sys.argv = ['problems', '--count', '5', '--seed', '1']; "
        "runpy.run_module('cord_worker.demo.problems', run_name='__main__'); "
        "sys.exit(int('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [
        {"id": problem.id, "question": problem.question, "answer": problem.answer}
        for problem in generate(5, 1, "heldout")
    ]
    assert lines == expected


def test_the_bundled_file_holds_forty_heldout_problems() -> None:
    lines = [json.loads(line) for line in BUNDLED.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == len({line["id"] for line in lines}) == 40
    assert all(split_of(line["question"]) == "heldout" for line in lines)
