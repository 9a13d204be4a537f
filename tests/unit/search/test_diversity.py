"""A penalty makes a beam hold different steps by different teachers."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.search.beam import select
from cord_worker.search.diversity import shingles, similarity
from cord_worker.search.types import Candidate, SeedScope
from tests.support.settings import small_search

SCOPE = SeedScope(run_seed=0, problem_key="one")
SETTINGS = small_search(beam_width=2, samples_per_teacher=2, max_steps=9, thinking_tokens=100, step_tokens=20)


def proposed(id: int, teacher: int, sample: int, text: str, score: float) -> Candidate:
    return Candidate(
        id=id,
        parent_id=None,
        step=1,
        round=0,
        teacher=teacher,
        sample=sample,
        lineage=f"{teacher} {sample}",
        text=text,
        finish_reason="step",
        score=score,
        thinking_tokens=5,
        invalid_reason=None,
        parent_rank=0,
        depth=1,
    )


POOL = [
    proposed(1, 0, 0, "We add the apples of both boxes.", 0.9),
    proposed(2, 0, 1, "We add the apples in both boxes.", 0.8),
    proposed(3, 1, 0, "We add the apples of both boxes!", 0.7),
    proposed(4, 0, 2, "First, how many are sold?", 0.6),
]


@pytest.mark.parametrize(
    ("penalties", "beam"),
    [
        ({}, [1, 2]),
        ({"diversity_teacher": 0.05}, [1, 2]),
        ({"diversity_teacher": 0.2}, [1, 3]),
        ({"diversity_text": 0.5}, [1, 4]),
        ({"diversity_teacher": 0.2, "diversity_text": 0.1}, [1, 3]),
    ],
)
def test_a_penalty_decides_which_trajectories_are_in_the_beam_but_not_the_first(
    penalties: dict[str, float], beam: list[int]
) -> None:
    selection = select(POOL, [], dataclasses.replace(SETTINGS, **penalties), SCOPE)  # type: ignore[arg-type]
    assert [member.candidate_id for member in selection.beam] == beam
    assert selection.ranking == (1, 2, 3, 4)


def test_a_beam_that_takes_all_candidates_is_in_the_order_of_merit() -> None:
    penalised = dataclasses.replace(SETTINGS, beam_width=9, diversity_teacher=1.0, diversity_text=1.0)
    assert [member.candidate_id for member in select(POOL, [], penalised, SCOPE).beam] == [1, 2, 3, 4]


@given(one=st.text(max_size=30), other=st.text(max_size=30))
def test_similarity_is_symmetric_and_one_for_texts_that_differ_in_case_and_spaces_only(one: str, other: str) -> None:
    found = similarity(shingles(one), shingles(other))
    assert 0.0 <= found <= 1.0
    assert found == similarity(shingles(other), shingles(one))
    assert similarity(shingles(one), shingles(f"  {one} ")) == 1.0
