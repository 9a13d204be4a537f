"""A coordinator steps back only if its decisions fail whatever the problem is."""

from __future__ import annotations

from cord_worker.coordination.coordinator.stepping_back import DecisionFailure, StepBack


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def step_back(clock: Clock | None = None) -> StepBack:
    return StepBack(5.0, 20.0, clock or Clock())


def fail(subject: StepBack, *problems: int) -> list[DecisionFailure]:
    found = []
    for problem in problems:
        assert subject.may_decide()
        found.append(subject.note_failure(problem))
    return found


def test_three_different_problems_in_a_row_are_the_coordinators_fault() -> None:
    subject = step_back()
    first, second, third = fail(subject, 1, 2, 3)
    assert first.counts
    assert second.counts
    assert third == DecisionFailure(counts=False, pause=5.0, begins=True, innocent=(1, 2, 3))
    assert subject.has_stepped_back
    assert not subject.may_decide()


def test_one_problem_that_fails_again_and_again_is_its_own_fault() -> None:
    subject = step_back()
    assert all(failure.counts for failure in fail(subject, *[1] * 20, *[2] * 20))
    assert subject.may_decide()


def test_a_decision_between_failures_shows_that_the_coordinator_is_sound() -> None:
    subject = step_back()
    for problem in range(0, 40, 3):
        fail(subject, problem, problem + 1)
        assert subject.may_decide()
        assert not subject.note_success(problem + 2)
    assert not subject.has_stepped_back


def test_problems_that_failed_before_are_no_evidence_against_the_coordinator() -> None:
    subject = step_back()
    fail(subject, 1)
    subject.note_success(0)
    fail(subject, 2)
    subject.note_success(0)
    assert all(failure.counts for failure in fail(subject, 1, 2, 3, 1, 2, 3))


def test_after_its_pause_it_tries_one_problem_and_then_pauses_twice_as_long() -> None:
    clock = Clock()
    subject = step_back(clock)
    fail(subject, 1, 2, 3)
    for pause in (5.0, 10.0, 20.0, 20.0):
        clock.now += pause - 0.1
        assert subject.is_waiting()
        assert not subject.may_decide()
        clock.now += 0.2
        assert not subject.is_waiting()
        assert subject.may_decide()
        assert not subject.may_decide(), "one problem at a time"
        again = subject.note_failure(4)
        assert not again.counts
        assert not again.begins


def test_a_successful_decision_ends_the_stepping_back() -> None:
    clock = Clock()
    subject = step_back(clock)
    fail(subject, 1, 2, 3)
    clock.now += 6
    assert subject.may_decide()
    assert subject.note_success(1)
    assert not subject.note_success(2)
    assert fail(subject, 5)[0].counts


def test_a_try_without_a_result_is_repeated() -> None:
    clock = Clock()
    subject = step_back(clock)
    fail(subject, 1, 2, 3)
    clock.now += 6
    assert subject.may_decide()
    subject.note_no_decision()
    assert subject.may_decide()


def test_decisions_begun_before_the_coordinator_stepped_back_do_not_count() -> None:
    subject = step_back()
    fail(subject, 1, 2, 3)
    assert subject.note_failure(4) == DecisionFailure(counts=False)


def test_a_clock_that_is_set_back_does_not_keep_it_from_trying() -> None:
    clock = Clock()
    subject = step_back(clock)
    fail(subject, 1, 2, 3)
    clock.now -= 1e9
    assert subject.may_decide()
