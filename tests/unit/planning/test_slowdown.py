"""What recorded requests tell about batches: the slowdown of a worker is found from its requests."""

from __future__ import annotations

import random

import pytest

from cord_worker.planning.slowdown import Observation, concurrency, fit_slowdown, most_at_once, usual_most


def observation(began: float, ended: float, worker: str = "w", tokens: int = 10) -> Observation:
    return Observation("propose", worker, began, ended, 0, tokens)


def worker_with(slowdown: float, seed: int, *, prompts: bool) -> list[Observation]:
    """200 requests that arrive at random; small steps of time, in which every running request advances alike."""
    chance = random.Random(seed)
    arrivals = sorted(chance.uniform(0, 60) for _ in range(200))
    tokens = [chance.randint(5, 60) for _ in arrivals]
    prompt = [chance.randint(0, 2000) if prompts else 0 for _ in arrivals]
    left = [0.05 + 0.01 * out + 0.0002 * new for out, new in zip(tokens, prompt, strict=True)]
    found: list[Observation] = []
    now, step = 0.0, 0.005
    running: list[int] = []
    waiting = list(range(len(arrivals)))
    while waiting or running:
        while waiting and arrivals[waiting[0]] <= now:
            running.append(waiting.pop(0))
        for one in running:
            left[one] -= step / (1 + slowdown * (len(running) - 1))
            if left[one] <= 0:
                found.append(Observation("propose", "w", arrivals[one], now + step, prompt[one], tokens[one]))
        running = [one for one in running if left[one] > 0]
        now += step
    return found


@pytest.mark.parametrize("prompts", [False, True])
@pytest.mark.parametrize("slowdown", [0.0, 0.1, 0.25])
def test_the_slowdown_of_a_worker_is_found_from_its_requests(slowdown: float, prompts: bool) -> None:
    seen = worker_with(slowdown, 1, prompts=prompts)
    assert fit_slowdown(seen, concurrency(seen)) == pytest.approx(slowdown, abs=0.05)


def test_requests_that_never_overlap_do_not_show_a_slowdown() -> None:
    seen = [observation(number, number + 0.5) for number in range(50)]
    assert fit_slowdown(seen, concurrency(seen)) is None
    assert fit_slowdown(seen[:5], concurrency(seen[:5])) is None


def test_concurrency_is_a_mean_over_the_time_of_the_request_and_counts_its_own_worker_only() -> None:
    seen = [observation(0, 4), observation(0, 2), observation(3, 4), observation(0, 4, "other")]
    assert list(concurrency(seen)) == pytest.approx([(2 + 2 + 1 + 2) / 4, 2.0, 2.0, 1.0])


def test_a_request_without_a_duration_counts_as_alone() -> None:
    assert list(concurrency([observation(1, 1), observation(0, 2)])) == pytest.approx([1.0, 1.0])


def test_short_peaks_do_not_count_as_usual() -> None:
    assert usual_most([]) == 0
    assert usual_most([observation(0, 10), observation(0, 10), observation(4, 4.5)]) == 2
    assert usual_most([observation(0, 10), observation(5, 10, "other")]) == 1


def test_a_worker_that_replaced_another_is_no_second_one() -> None:
    before = [observation(0, 2, "first"), observation(1, 3, "first")]
    assert most_at_once([*before, observation(4, 6, "second")]) == 1
    assert most_at_once([*before, observation(2.5, 6, "second"), observation(5, 7, "third")]) == 2
    assert most_at_once([]) == 0
