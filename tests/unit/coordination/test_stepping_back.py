"""A coordinator steps back when its decisions fail whatever the problem is, and only then."""

from __future__ import annotations

from cord_worker.coordination.coordinator.stepping_back import Failure, StepBack


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def step_back(clock: Clock | None = None) -> StepBack:
    return StepBack(5.0, 20.0, clock or Clock())


def fail(subject: StepBack, *problems: int) -> list[Failure]:
    found = []
    for problem in problems:
        assert subject.begin()
        found.append(subject.failed(problem))
    return found


def test_three_different_problems_in_a_row_are_the_coordinators_fault() -> None:
    subject = step_back()
    first, second, third = fail(subject, 1, 2, 3)
    assert first.counts
    assert second.counts
    assert third == Failure(counts=False, pause=5.0, begins=True, innocent=(1, 2, 3))
    assert subject.is_back
    assert not subject.begin()


def test_one_problem_that_fails_again_and_again_is_its_own_fault() -> None:
    subject = step_back()
    assert all(failure.counts for failure in fail(subject, *[1] * 20, *[2] * 20))
    assert subject.begin()


def test_a_decision_between_says_that_the_coordinator_is_sound() -> None:
    subject = step_back()
    for problem in range(0, 40, 3):
        fail(subject, problem, problem + 1)
        assert subject.begin()
        assert not subject.taken(problem + 2)
    assert not subject.is_back


def test_problems_that_failed_before_say_nothing_new() -> None:
    subject = step_back()
    fail(subject, 1)
    subject.taken(0)
    fail(subject, 2)
    subject.taken(0)
    assert all(failure.counts for failure in fail(subject, 1, 2, 3, 1, 2, 3))


def test_after_its_pause_it_tries_itself_on_one_problem_and_rests_twice_as_long() -> None:
    clock = Clock()
    subject = step_back(clock)
    fail(subject, 1, 2, 3)
    for pause in (5.0, 10.0, 20.0, 20.0):
        clock.now += pause - 0.1
        assert subject.is_waiting()
        assert not subject.begin()
        clock.now += 0.2
        assert not subject.is_waiting()
        assert subject.begin()
        assert not subject.begin(), "one problem at a time"
        again = subject.failed(4)
        assert not again.counts
        assert not again.begins


def test_a_decision_that_succeeds_has_it_work_as_before() -> None:
    clock = Clock()
    subject = step_back(clock)
    fail(subject, 1, 2, 3)
    clock.now += 6
    assert subject.begin()
    assert subject.taken(1)
    assert not subject.taken(2)
    assert fail(subject, 5)[0].counts


def test_a_try_that_came_to_nothing_is_made_again() -> None:
    clock = Clock()
    subject = step_back(clock)
    fail(subject, 1, 2, 3)
    clock.now += 6
    assert subject.begin()
    subject.left()
    assert subject.begin()


def test_what_was_begun_before_the_coordinator_stepped_back_does_not_count() -> None:
    subject = step_back()
    fail(subject, 1, 2, 3)
    assert subject.failed(4) == Failure(counts=False)


def test_a_clock_that_is_set_back_does_not_keep_it_from_trying() -> None:
    clock = Clock()
    subject = step_back(clock)
    fail(subject, 1, 2, 3)
    clock.now -= 1e9
    assert subject.begin()
