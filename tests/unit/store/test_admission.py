"""Admission: the higher priority first, equal runs evenly, and no run is held up by one that cannot continue."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cord_worker.store.runs.admission import Contender, admissions

BIG = Contender(1, 0, 16, in_flight=0, queued=16, models=frozenset({1, 2}), has_all_workers=True)
SMALL = Contender(2, 0, 16, in_flight=0, queued=3, models=frozenset({2}), has_all_workers=True)


def test_a_run_alone_fills_its_places() -> None:
    assert admissions([BIG]) == {1: 16}
    assert admissions([replace(BIG, in_flight=15)]) == {1: 1}
    assert admissions([replace(BIG, in_flight=16)]) == {}


def test_equal_runs_divide_the_places_and_one_gets_the_places_that_the_other_does_not_need() -> None:
    assert admissions([BIG, replace(SMALL, queued=16)]) == {1: 8, 2: 8}
    assert admissions([BIG, SMALL]) == {1: 13, 2: 3}


def test_a_small_run_begins_at_once_while_a_big_one_holds_every_place() -> None:
    assert admissions([replace(BIG, in_flight=16), SMALL]) == {2: 3}
    assert admissions([replace(BIG, in_flight=16), replace(SMALL, queued=16)]) == {2: 8}


def test_a_run_above_its_share_begins_nothing_until_the_other_has_its_own() -> None:
    assert admissions([replace(BIG, in_flight=12), replace(SMALL, in_flight=4, queued=16)]) == {2: 4}


def test_the_higher_priority_goes_first_and_the_others_get_the_rest() -> None:
    assert admissions([BIG, replace(SMALL, priority=1)]) == {1: 13, 2: 3}
    assert admissions([BIG, replace(SMALL, priority=1, queued=16)]) == {2: 16}
    assert admissions([replace(BIG, in_flight=16), replace(SMALL, priority=1, queued=16)]) == {2: 16}


def test_runs_without_a_common_model_do_not_affect_each_other() -> None:
    other = replace(SMALL, models=frozenset({3}), queued=16, priority=5)
    assert admissions([BIG, other]) == {1: 16, 2: 16}


def test_a_run_that_cannot_continue_takes_nothing_from_others() -> None:
    stuck = replace(BIG, in_flight=16, priority=9, has_all_workers=False)
    assert admissions([stuck, replace(SMALL, queued=16)]) == {2: 16}


contenders = st.lists(
    st.builds(
        Contender,
        run_id=st.integers(1, 10_000),
        priority=st.integers(-1, 1),
        max_active=st.integers(1, 12),
        in_flight=st.integers(0, 14),
        queued=st.integers(0, 12),
        models=st.frozensets(st.integers(1, 3), min_size=1),
        has_all_workers=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda run: run.run_id,
)


@given(contenders)
def test_no_run_gets_more_problems_than_are_queued_or_than_it_has_places(runs: list[Contender]) -> None:
    chosen = admissions(runs)
    for run in runs:
        number = chosen.get(run.run_id, 0)
        assert number <= run.queued
        assert number == 0 or run.in_flight + number <= run.max_active


@given(contenders)
def test_a_problem_begins_if_nothing_is_in_flight(runs: list[Contender]) -> None:
    idle = [replace(run, in_flight=0) for run in runs]
    assert bool(admissions(idle)) == any(run.queued for run in idle)
