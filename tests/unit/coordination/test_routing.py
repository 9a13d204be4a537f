"""The replica to which a problem's work is sent."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.coordination.messaging.routing import preferred_shard

SHARDS = st.sets(st.integers(0, 63), min_size=1, max_size=12).map(lambda found: tuple(sorted(found)))


@given(st.integers(1, 2**40), SHARDS)
def test_a_problem_always_goes_to_one_of_the_living_replicas(problem_id: int, shards: tuple[int, ...]) -> None:
    assert preferred_shard(problem_id, shards) in shards
    assert preferred_shard(problem_id, shards) == preferred_shard(problem_id, shards[::-1])


@given(st.integers(1, 2**40), SHARDS, st.data())
def test_a_replica_that_leaves_moves_only_its_own_problems(
    problem_id: int, shards: tuple[int, ...], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(shards))
    before = preferred_shard(problem_id, shards)
    after = preferred_shard(problem_id, tuple(shard for shard in shards if shard != gone))
    assert before == gone or after == before


@pytest.mark.parametrize("replicas", [2, 3, 4, 8])
def test_the_problems_spread_over_the_replicas(replicas: int) -> None:
    shares = Counter(preferred_shard(problem_id, tuple(range(replicas))) for problem_id in range(1, 4001))
    assert min(shares.values()) > 0.8 * 4000 / replicas


def test_without_a_living_replica_work_waits_in_shard_zero() -> None:
    assert preferred_shard(7, ()) == 0
