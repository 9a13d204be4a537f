"""A worker holds no more work than its engine can start soon."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress

import pytest

from cord_worker.coordination.model_worker.held_leases import HeldLeases
from cord_worker.store.schema.kinds import ANSWER, SCORE
from cord_worker.store.work.answer import LeasedAnswer
from cord_worker.store.work.score import LeasedScore
from cord_worker.store.work.values import Claimed

PATIENCE = 30.0


def scores(*ids: int) -> list[LeasedScore]:
    return [LeasedScore(id_, 1, 1, 1, "What is 1 + 1?", None, "2", (" 2",)) for id_ in ids]


def test_claimed_work_is_held_until_its_task_ends() -> None:
    held = HeldLeases(4)
    leases = scores(1, 2)
    answers = [LeasedAnswer(7, 1, 1, 1, 1, "What is 1 + 1?", None, (" 2",), 3, "k", "l")]
    held.add(SCORE, Claimed.of(leases))
    held.add(ANSWER, Claimed.of(answers))
    assert held.by_table() == {"candidates": [1, 2], "trajectories": [7]}
    with suppress(RuntimeError), held.forgetting(SCORE, leases):
        assert held.candidate_count() == 2
        raise RuntimeError
    assert (held.candidate_count(), held.by_table()) == (0, {"trajectories": [7]})
    with held.forgetting(ANSWER, answers):
        pass
    assert held.by_table() == {}


def test_a_claim_waits_while_twice_the_engines_width_is_held() -> None:
    held = HeldLeases(2)
    first, second = scores(1, 2, 3), scores(4)
    held.add(SCORE, Claimed.of(first))
    with held.claiming():
        held.add(SCORE, Claimed.of(second))
    entered = threading.Event()

    def claim() -> None:
        with held.claiming():
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(claim)
        assert not entered.wait(0.2)
        with held.forgetting(SCORE, second):
            pass
        waiting.result(PATIENCE)
    assert entered.is_set()


def test_a_claim_in_progress_counts_as_many_leases_as_the_last_claim_had() -> None:
    held = HeldLeases(3)
    with held.claiming():
        held.add(SCORE, Claimed.of(scores(1, 2, 3, 4)))
    with held.forgetting(SCORE, scores(1, 2, 3, 4)):
        pass
    entered = threading.Event()

    def claim() -> None:
        with held.claiming():
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        # There is room while fewer than 6 leases are held. A claim counts as 4: a second is admitted, a third waits.
        with held.claiming(), held.claiming():
            waiting = pool.submit(claim)
            assert not entered.wait(0.2)
        waiting.result(PATIENCE)


def test_a_claim_is_admitted_if_nothing_is_held_however_large_it_may_be() -> None:
    held = HeldLeases(1)
    held.add(SCORE, Claimed.of(scores(*range(100))))
    with held.forgetting(SCORE, scores(*range(100))):
        pass
    with held.claiming():
        assert held.by_table() == {}


def test_a_claim_that_waits_for_room_is_refused_when_the_worker_leaves() -> None:
    held = HeldLeases(1)
    held.add(SCORE, Claimed.of(scores(1, 2)))

    def claim() -> None:
        with held.claiming():
            raise AssertionError("there was no room")

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(claim)
        held.close()
        with pytest.raises(CancelledError):
            waiting.result(PATIENCE)
    with pytest.raises(CancelledError), held.claiming():
        pass
