"""A worker holds no more than its engine can take up soon."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress

import pytest

from cord_worker.coordination.holding import Holding
from cord_worker.store.work import LeasedAnswer, LeasedScore

PATIENCE = 30.0


def scores(*ids: int) -> list[LeasedScore]:
    return [LeasedScore(id_, 1, 1, 1, "What is 1 + 1?", None, "2", (" 2",)) for id_ in ids]


def test_what_was_claimed_is_held_until_its_task_ends() -> None:
    holding = Holding(4)
    leases = [*scores(1, 2), LeasedAnswer(7, 1, 1, 1, 1, "What is 1 + 1?", None, (" 2",), 3, "k", "l")]
    holding.add(leases)
    assert (sorted(holding.candidates()), holding.trajectories()) == ([1, 2], [7])
    with suppress(RuntimeError), holding.releasing(leases):
        assert len(holding.candidates()) == 2
        raise RuntimeError
    assert (holding.candidates(), holding.trajectories()) == ([], [])


def test_a_claim_waits_while_twice_the_engines_width_is_held() -> None:
    holding = Holding(2)
    first, second = scores(1, 2, 3), scores(4)
    holding.add(first)
    with holding.claiming():
        holding.add(second)
    entered = threading.Event()

    def claim() -> None:
        with holding.claiming():
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(claim)
        assert not entered.wait(0.2)
        with holding.releasing(second):
            pass
        waiting.result(PATIENCE)
    assert entered.is_set()


def test_claims_at_once_are_reckoned_with_the_size_of_the_last_one() -> None:
    holding = Holding(3)
    with holding.claiming():
        holding.add(scores(1, 2, 3, 4))
    with holding.releasing(scores(1, 2, 3, 4)):
        pass
    entered = threading.Event()

    def claim() -> None:
        with holding.claiming():
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        with holding.claiming(), holding.claiming():  # 4 and 4 are expected, of 6 at most: the second is the last
            waiting = pool.submit(claim)
            assert not entered.wait(0.2)
        waiting.result(PATIENCE)


def test_a_claim_larger_than_the_room_is_let_in_where_nothing_is_held() -> None:
    holding = Holding(1)
    holding.add(scores(*range(100)))
    with holding.releasing(scores(*range(100))):
        pass
    with holding.claiming():
        assert holding.candidates() == []


def test_who_waits_for_room_is_sent_away_when_the_worker_leaves() -> None:
    holding = Holding(1)
    holding.add(scores(1, 2))

    def claim() -> None:
        with holding.claiming():
            raise AssertionError("there was no room")

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(claim)
        holding.close()
        with pytest.raises(CancelledError):
            waiting.result(PATIENCE)
    with pytest.raises(CancelledError), holding.claiming():
        pass
