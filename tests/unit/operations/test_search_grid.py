"""`cordctl show`: what a stored search looks like as a grid, and in a terminal."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from cord_worker.cli.search_tables import print_path, print_search, print_step
from cord_worker.errors import StoreError
from cord_worker.name_suggestions import unknown
from cord_worker.operations.search_grid import SearchGrid, grid_of
from cord_worker.store.reports.search_trees import BeamSlot, Search, SearchTree
from tests.support.exported import candidate, tree

TREE = tree(
    candidate("A", " Count: 2 and 2.", 0.5, winning=True, kept=True, rank=0),
    candidate("B", " Count: 2 and 3.", 0.3, teacher="b", kept=True, rank=1, finish="eos"),
    candidate("C", " Count: 2 and 2.", None, state="invalid", invalid_reason="duplicate", duplicate_of="A"),
    candidate("D", " Guess: 7.", 0.25, teacher="b", rank=2),
    candidate("E", " ", None, teacher="b", sample=1, state="invalid", invalid_reason="whitespace"),
    candidate(
        "AA", " So it is 4.", 0.9, "A", winning=True, kept=True, rank=0, finish="think_end", final_answer="It is 4."
    ),
    candidate("AB", " So it is 5.", 0.1, "A", teacher="b", rank=1),
    candidate("AC", " So it is 6.", None, "A", teacher="b", sample=1, state="proposed"),
)
BEAMS = (
    BeamSlot(1, 0, "A", None),
    BeamSlot(1, 1, "B", "eos"),
    BeamSlot(2, 0, "AA", "think_end"),
    BeamSlot(2, 1, "B", "eos"),
)


def grid(of: SearchTree = TREE, beams: tuple[BeamSlot, ...] = BEAMS, reason: str | None = None) -> SearchGrid:
    return grid_of("mine", Search(of, beams, ("a", "b"), reason))


def printed(of: SearchGrid, *, width: int = 100, step: int | None = None, text: bool = False) -> str:
    file = io.StringIO()
    screen = Console(file=file, width=width, markup=False, emoji=False, highlight=False)
    if step is not None:
        print_step(screen, of, of.column(step), in_full=text)
    else:
        print_search(screen, of)
        print_path(screen, of)
    return file.getvalue()


def test_each_step_has_its_beam_its_gains_and_its_losers() -> None:
    first, second = grid().columns
    assert [(cell.candidate.lineage, cell.carried, cell.finish) for cell in first.cells + second.cells] == [
        ("A", False, None),
        ("B", False, "eos"),
        ("AA", False, "think_end"),
        ("B", True, "eos"),
    ]
    assert grid(replace(TREE, base_score=None)).columns[0].cells[0].gain is None
    assert grid(replace(TREE, base_score=0.2)).columns[0].cells[0].gain == pytest.approx(0.3)
    assert second.cells[0].gain == pytest.approx(0.4)
    assert [(one.candidate.lineage, one.reason) for one in first.losers] == [
        ("C", "repeats a/0"),
        ("D", "rank 2"),
        ("E", "whitespace"),
    ]
    assert first.losers[1].behind == pytest.approx(0.05)
    assert [(one.candidate.lineage, one.reason) for one in second.losers] == [("AB", "rank 1"), ("AC", "proposed")]


def test_the_narrowest_loser_is_the_valid_one_of_the_best_score_whatever_its_rank() -> None:
    first, second = grid().columns
    assert first.narrowest is not None
    assert first.narrowest.candidate.lineage == "D"
    assert second.narrowest is not None
    assert second.narrowest.candidate.lineage == "AB"
    better = candidate("F", " Guess: 8.", 0.375, teacher="b", sample=2, rank=3)
    (column, *_) = grid(replace(TREE, candidates=(*TREE.candidates[:5], better, *TREE.candidates[5:]))).columns
    assert column.narrowest is not None
    assert column.narrowest.candidate.lineage == "F"
    assert column.narrowest.behind is None


def test_a_loser_above_the_lowest_score_kept_is_named_and_the_resolution_too() -> None:
    better = candidate("F", " Guess: 8.", 0.375, teacher="b", sample=2, rank=3)
    above = grid(replace(TREE, candidates=(*TREE.candidates[:5], better, *TREE.candidates[5:])))
    said = "narrowest: b 0.375, 0.075 above the lowest score kept (0.300)"
    first, second = (line for line in printed(above, width=200).splitlines() if line.startswith("step "))
    assert first.endswith(said)
    assert second.endswith("narrowest: b 0.100, 0.200 below the lowest score kept (0.300)")
    assert f"{said}, a tie at score_resolution 0.3\n" in printed(replace(above, score_resolution=0.3), width=200)
    assert f"{said}\n" in printed(replace(above, score_resolution=0.1), width=200)
    equal = replace(better, score=0.3)
    of = grid(replace(TREE, candidates=(*TREE.candidates[:5], equal, *TREE.candidates[5:])))
    assert "narrowest: b 0.300, equal to the lowest score kept (0.300)" in printed(of, width=200)


def test_the_message_about_an_unknown_name_repeats_only_its_beginning() -> None:
    assert len(unknown("problem", "x" * 400, ["p1"])) < 200


def test_the_path_is_the_winners_and_empty_while_nothing_has_won() -> None:
    assert [cell.candidate.lineage for cell in grid().path] == ["A", "AA"]
    unfinished = tree(candidate("A", " Count.", 0.5), state="searching", score=None, correct=None)
    of = grid(unfinished, ())
    assert (of.path, of.winner) == ((), None)
    assert "searching" in printed(of)


def test_the_grid_is_printed_with_the_winner_marked_and_every_loser_counted() -> None:
    text = printed(grid())
    assert "*a" in text
    assert "= b" in text
    assert (
        "step 1: 3 lost (1 repeats a/0, 1 lower rank, 1 whitespace); narrowest: b 0.250, 0.050 below the lowest score "
        "kept (0.300)"
    ) in " ".join(text.split())
    assert "So it is 4." in text
    assert "It is 4." in text


def test_a_step_in_work_is_not_lost_and_a_paused_run_says_so() -> None:
    done = candidate("A", " Count: 2 and 2.", 0.5, kept=True, rank=0)
    new = [candidate(f"A{n}", None, None, "A", sample=n, state=state) for n, state in enumerate(("pending", "scoring"))]
    running = grid(tree(done, *new, state="searching", score=None, correct=None), (BeamSlot(1, 0, "A", None),))
    text = printed(replace(running, pause="paused: 7 tokens, of at most 5\x1b"), width=200)
    assert r"searching, at step 2; the run is paused: 7 tokens, of at most 5\x1b" in text
    assert "step 2: in work, 2 candidates: 1 pending, 1 scoring" in text
    assert "lost" not in text
    assert "no winner: there is none" in text


def test_samples_have_no_winner_but_final_answers_and_a_trimmed_run_names_its_source() -> None:
    samples = [
        candidate(
            f"S{n}", " All of it.", None, sample=n, whole=True, state="unscored", final_answer="4", correct=n == 0
        )
        for n in range(3)
    ]
    beams = tuple(BeamSlot(1, n, f"S{n}", "eos") for n in range(3))
    text = printed(replace(grid(tree(*samples, score=None, correct=None), beams), trimmed_from="other"))
    for words in ("1 of 3 samples correct", "3, each a whole trajectory", "samples have none", "is in other"):
        assert words in text


def test_a_narrow_terminal_gets_the_steps_in_blocks() -> None:
    lines = printed(grid(), width=24).splitlines()
    heads = [line for line in lines if line.startswith("slot")]
    assert [head.split() for head in heads] == [["slot", "step", "1"], ["slot", "step", "2"]]


def test_a_step_lists_all_its_candidates_with_their_texts() -> None:
    text = printed(grid(), width=200, step=1)
    for word in ("Count: 2 and 3.", "Guess: 7.", "repeats a/0", "whitespace", "rank 2"):
        assert word in text


def test_a_step_that_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(StoreError, match="has no step 3: its steps are 1 to 2"):
        grid().column(3)
    with pytest.raises(StoreError, match="has no step 1: it has no step yet"):
        grid(tree(), ()).column(1)


def test_a_problem_without_a_step_and_a_failed_one_say_so() -> None:
    assert "no step has been planned yet" in printed(grid(tree(state="queued", score=None, correct=None), ()))
    failed = printed(grid(tree(state="failed", score=None, correct=None), (), "the step was\x1b[2J given up"))
    assert r"the step was\x1b[2J given up" in failed


@pytest.mark.parametrize("hostile", ["\x1b[2J\x1b]0;x\x07", "[red]x[/red]", "\u202egnp.exe", "a\x00b"])
def test_hostile_texts_are_shown_as_text(hostile: str) -> None:
    of = grid(
        tree(
            candidate("A", hostile, 0.5, teacher=hostile, winning=True, kept=True, rank=0, final_answer=hostile),
            key=hostile,
            question=hostile,
            answer=hostile,
        ),
        (BeamSlot(1, 0, "A", None),),
    )
    for text in (printed(of), printed(of, step=1, text=True)):
        assert not set(text) & set("\x1b\x00\x07\u202e")
        if hostile.startswith("[red]"):
            assert hostile in text


def test_the_json_names_every_candidate_once_and_is_json() -> None:
    document = json.loads(json.dumps(grid().to_json()))
    named = [one["lineage"] for step in document["steps"] for one in step["lost"]]
    named += [one["lineage"] for step in document["steps"] for one in step["beam"] if not one["carried"]]
    assert sorted(named) == sorted(one["lineage"] for one in document["candidates"])
    assert document["winning_path"] == ["A", "AA"]
