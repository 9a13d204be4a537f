"""The simulation of runs, against what can be computed by hand and against bounds that hold for any schedule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.planning.simulation import Pool, Request, Trace, Wave, simulate

ALONE = Pool(workers=1, batch_size=1, slowdown=0.0)


def problem(*waves: list[Request], delay: float = 0.0) -> Trace:
    return tuple(Wave(delay, tuple(wave)) for wave in waves)


def test_the_next_wave_starts_after_the_slowest_request_of_the_one_before() -> None:
    trace = problem([Request(0, 2.0), Request(1, 5.0)], [Request(0, 1.0)])
    found = simulate([trace], [ALONE, ALONE], 1)
    assert found.seconds == pytest.approx(6.0)
    assert found.problem_seconds == pytest.approx(6.0)
    assert found.busy == pytest.approx((0.5, 5 / 6))


def test_delays_are_waited_for_and_an_empty_wave_takes_only_its_delay() -> None:
    trace = problem([Request(0, 1.0)], [], [Request(0, 1.0)], delay=0.5)
    assert simulate([trace], [ALONE], 1).seconds == pytest.approx(3.5)


def test_only_as_many_problems_as_allowed_are_in_flight() -> None:
    traces = [problem([Request(0, 1.0)])] * 6
    free = Pool(workers=1, batch_size=100, slowdown=0.0)
    assert [simulate(traces, [free], most).seconds for most in (1, 2, 3, 6)] == pytest.approx([6.0, 3.0, 2.0, 1.0])


def test_a_worker_handles_as_many_requests_as_its_batch_holds() -> None:
    traces = [problem([Request(0, 1.0)] * 8)]
    batches = [Pool(1, 1, 0.0), Pool(1, 4, 0.0), Pool(2, 1, 0.0), Pool(2, 4, 0.0)]
    assert [simulate(traces, [pool], 1).seconds for pool in batches] == pytest.approx([8.0, 2.0, 4.0, 1.0])


@pytest.mark.parametrize(("slowdown", "seconds"), [(0.0, 1.0), (0.5, 2.5), (1.0, 4.0)])
def test_requests_of_a_batch_slow_each_other_down(slowdown: float, seconds: float) -> None:
    found = simulate([problem([Request(0, 1.0)] * 4)], [Pool(1, 4, slowdown)], 1)
    assert found.seconds == pytest.approx(seconds)


def test_a_request_that_joins_later_slows_the_others_from_then_on() -> None:
    """The first runs alone for 1 s, then both at half speed: the second ends at 3 s, the first at 4 s."""
    first = problem([Request(0, 3.0)])
    second = (Wave(1.0, (Request(0, 1.0),)),)
    found = simulate([first, second], [Pool(1, 2, 1.0)], 2)
    assert found.seconds == pytest.approx(4.0)
    assert found.problem_seconds == pytest.approx((4.0 + 3.0) / 2)


def test_a_model_with_requests_needs_a_worker() -> None:
    with pytest.raises(ValueError, match="no worker"):
        simulate([problem([Request(0, 1.0)])], [Pool(0, 1, 0.0)], 1)


def test_nothing_takes_no_time() -> None:
    assert simulate([], [ALONE], 1).seconds == 0.0


requests = st.builds(Request, st.integers(0, 1), st.floats(0.01, 10.0))
traces = st.lists(
    st.lists(st.builds(Wave, st.floats(0.0, 1.0), st.lists(requests, max_size=4).map(tuple)), max_size=4).map(tuple),
    min_size=1,
    max_size=8,
)
pools = st.builds(Pool, st.integers(1, 3), st.integers(1, 4), st.floats(0.0, 1.0))


@given(traces=traces, first=pools, second=pools, most=st.integers(1, 8))
def test_no_schedule_beats_the_work_or_a_problems_own_length(
    traces: list[Trace], first: Pool, second: Pool, most: int
) -> None:
    found = simulate(traces, [first, second], most)
    for model, pool in enumerate((first, second)):
        work = sum(one.seconds for trace in traces for wave in trace for one in wave.requests if one.model == model)
        assert found.seconds >= work / pool.best_rate - 1e-6
        assert 0.0 <= found.busy[model] <= 1.0 + 1e-9
    longest = max(
        sum(wave.delay + max((one.seconds for one in wave.requests), default=0.0) for wave in trace) for trace in traces
    )
    assert found.seconds >= longest - 1e-6
    alone = sum(
        wave.delay + sum(one.seconds * (first, second)[one.model].slowed(4) for one in wave.requests)
        for trace in traces
        for wave in trace
    )
    assert found.seconds <= alone + 1e-6
