from __future__ import annotations

import itertools
import os
import subprocess
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cord_worker.search.seeds import answer_seed, candidate_seed, judgment_seed, lineage

TEXT = st.text(max_size=12)
COUNT = st.integers(min_value=0, max_value=2**63 - 1)
PINNED_SEED = 4845589758769637747
PINNED_LINEAGE = "a83c1bd2b26b4b525e5cb6247c0eb3f5"
PINNED_ANSWER_SEED = 4600462205753165683
FIELDS = st.tuples(COUNT, TEXT, COUNT, TEXT, TEXT, COUNT, COUNT)


def test_seeds_do_not_collide_on_a_large_grid() -> None:
    grid = itertools.product(
        (0, 1, 2**63 - 1), ("1", "2", "12"), range(1, 21), ("", "ab", "abc"), ("q", "r", "p"), range(8), range(4)
    )
    seeds = [candidate_seed(*fields) for fields in grid]
    assert len(seeds) == 51_840
    assert len(set(seeds)) == len(seeds)


@settings(deadline=None)
@given(FIELDS, FIELDS)
def test_a_seed_changes_with_every_field(fields: tuple[Any, ...], others: tuple[Any, ...]) -> None:
    for index, (field, other) in enumerate(zip(fields, others, strict=True)):
        changed = (*fields[:index], other, *fields[index + 1 :])
        assert (candidate_seed(*changed) == candidate_seed(*fields)) == (field == other)


def test_neighbouring_samples_rounds_and_steps_never_add_up_to_the_same_seed() -> None:
    seeds = {
        candidate_seed(run, "p", step, "", "t", sample, 0)
        for run in range(9)
        for step in range(9)
        for sample in range(9)
    }
    assert len(seeds) == 9**3


def test_text_moved_between_neighbouring_fields_changes_the_seed() -> None:
    assert candidate_seed(0, "p", 1, 'a","b', "c", 0, 0) != candidate_seed(0, "p", 1, "a", 'b","c', 0, 0)
    assert candidate_seed(1, "1", 1, "", "t", 0, 0) != candidate_seed(11, "", 1, "", "t", 0, 0)


@settings(deadline=None)
@given(FIELDS)
def test_seeds_are_non_negative_and_fit_63_bits(fields: tuple[int, str, int, str, str, int, int]) -> None:
    assert 0 <= candidate_seed(*fields) < 2**63
    assert 0 <= answer_seed(fields[0], fields[1], fields[3], fields[4]) < 2**63


def test_seeds_of_another_process_are_the_same() -> None:
    code = (
        "from cord_worker.search.seeds import *; print(candidate_seed(7,'é',2,'ab','t',1,0), lineage('ab',2,0,'t',1))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()[0]
        for hash_seed in ("1", "2")
    }
    assert told == {str(candidate_seed(7, "é", 2, "ab", "t", 1, 0))}


def test_seeds_equal_those_of_stored_runs() -> None:
    assert candidate_seed(0, "p1", 1, "", "qwq", 0, 0) == PINNED_SEED
    assert lineage("", 1, 0, "qwq", 0) == PINNED_LINEAGE
    assert answer_seed(0, "p1", PINNED_LINEAGE, "qwq") == PINNED_ANSWER_SEED


def test_every_draw_of_an_answer_has_its_own_seed() -> None:
    seeds = [answer_seed(0, "p1", PINNED_LINEAGE, "qwq", draw) for draw in range(100)]
    assert seeds[0] == PINNED_ANSWER_SEED
    assert len(set(seeds)) == 100


def test_lineages_of_a_whole_tree_differ() -> None:
    layer, everything = [""], []
    for step in range(1, 5):
        layer = [
            lineage(parent, step, round, teacher, sample)
            for parent in layer
            for round in range(2)
            for teacher in ("a", "b")
            for sample in range(2)
        ]
        everything += layer
    assert len(set(everything)) == len(everything) == 8 + 8**2 + 8**3 + 8**4


def test_an_answer_seed_is_not_a_candidate_seed_of_the_same_fields() -> None:
    candidates = {candidate_seed(0, "p", step, "ab", "t", 0, 0) for step in range(100)}
    assert answer_seed(0, "p", "ab", "t") not in candidates
    assert answer_seed(0, "p", "ab", "t") != answer_seed(0, "p", "ab", "u")


def test_every_judgment_of_every_candidate_has_its_own_seed() -> None:
    seeds = [judgment_seed(0, "p", line, index) for line in ("ab", "cd") for index in range(100)]
    assert len(set(seeds)) == 200
    assert judgment_seed(0, "p", "ab", 0) == seeds[0]
    assert judgment_seed(1, "p", "ab", 0) not in seeds
    assert all(0 <= seed < 2**63 for seed in seeds)
