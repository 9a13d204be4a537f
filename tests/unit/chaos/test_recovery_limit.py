"""The limit of a recovery grows with the service's timeout and the load of the machine; late recoveries are found."""

from __future__ import annotations

import pytest

from tests.chaos.recovery import SILENCES, UNDISTURBED_RUNS, Watch, late, longest_recovery


def watched(seconds: float | None, *, struck_for: float | None = None) -> Watch:
    over = None if struck_for is None else 1000.0 + struck_for
    return Watch("Redis killed", 1000.0, {}, 0, seconds=seconds, over=over)


def test_the_limit_grows_with_the_timeout_and_with_the_slowest_undisturbed_run() -> None:
    assert longest_recovery(1.5, [2.0, 4.0]) == SILENCES * 1.5 + UNDISTURBED_RUNS * 4.0
    assert longest_recovery(3.0, [4.0]) - longest_recovery(1.5, [4.0]) == SILENCES * 1.5
    assert longest_recovery(1.5, [40.0]) - longest_recovery(1.5, [4.0]) == UNDISTURBED_RUNS * 36.0


def test_without_an_undisturbed_run_there_is_no_limit() -> None:
    with pytest.raises(ValueError, match="undisturbed run"):
        longest_recovery(1.5, [])


def test_a_recovery_is_late_only_beyond_the_limit() -> None:
    quick, late_one = watched(10.0), watched(10.5)
    assert late([quick, late_one], 10.0) == [late_one]


def test_the_time_of_the_fault_itself_does_not_count() -> None:
    assert watched(30.0, struck_for=25.0).after == 5.0
    assert watched(20.0, struck_for=25.0).after == 0.0
    assert late([watched(30.0, struck_for=25.0)], 10.0) == []
    assert len(late([watched(30.0, struck_for=15.0)], 10.0)) == 1


def test_work_that_has_not_recovered_is_counted_elsewhere() -> None:
    assert watched(None, struck_for=1.0).after is None
    assert late([watched(None)], 10.0) == []
