from __future__ import annotations

import pytest
import torch

from cord_worker.engines.transformers.kv_slots import Segment
from cord_worker.engines.transformers.prefix_cache import PrefixCache

pytestmark = pytest.mark.slow

ONE_TOKEN = 2 * 2 * 3 * 4 * 8
"""Bytes of one token's keys and values in `segment`."""


def segment(tokens: int) -> Segment:
    zeros = torch.zeros(2, 3, tokens, 4, dtype=torch.float64)
    return Segment(zeros, zeros.clone())


def test_the_longest_known_prefix_is_found() -> None:
    cache = PrefixCache(10**6)
    root = cache.add(None, (1, 2), segment(2))
    child = cache.add(root, (3,), segment(1))
    assert cache.match([(1, 2), (3,), (4,)]) == [root, child]
    assert cache.match([(1, 2), (4,)]) == [root]
    assert cache.match([(1,), (2,)]) == []


def test_adding_a_known_piece_returns_the_known_node() -> None:
    cache = PrefixCache(10**6)
    assert cache.add(None, (1,), segment(1)) is cache.add(None, (1,), segment(1))
    assert cache.nbytes == ONE_TOKEN


def test_the_least_recently_used_leaf_goes_first_and_the_bound_holds() -> None:
    cache = PrefixCache(3 * ONE_TOKEN)
    root = cache.add(None, (0,), segment(1))
    for token in (1, 2, 3):
        cache.add(root, (token,), segment(1))
    cache.match([(0,), (1,)])
    cache.trim()
    assert [len(cache.match([(0,), (token,)])) for token in (1, 2, 3)] == [2, 1, 2]
    assert cache.nbytes == 3 * ONE_TOKEN


def test_a_deep_chain_is_dropped_from_its_end() -> None:
    cache = PrefixCache(2 * ONE_TOKEN)
    parent = None
    for token in range(6):
        parent = cache.add(parent, (token,), segment(1))
    cache.trim()
    assert len(cache.match([(token,) for token in range(6)])) == 2


def test_a_cache_of_zero_bytes_keeps_nothing() -> None:
    cache = PrefixCache(0)
    cache.add(cache.add(None, (1,), segment(1)), (2,), segment(1))
    cache.trim()
    assert cache.nbytes == 0
    assert cache.match([(1,)]) == []
