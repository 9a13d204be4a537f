"""A bounded cache of an engine's results."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class ResultCache(Generic[T]):
    """Keeps up to `capacity` results and drops the least recently used ones; keys are stored as 16-byte digests."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._results: OrderedDict[bytes, T] = OrderedDict()

    def get(self, key: Sequence[Sequence[int]]) -> T | None:
        """The result of `key`, or None."""
        digest = _digest(key)
        if (result := self._results.get(digest)) is not None:
            self._results.move_to_end(digest)
        return result

    def put(self, key: Sequence[Sequence[int]], result: T) -> None:
        """Stores `result` under `key`."""
        self._results[_digest(key)] = result
        if len(self._results) > self._capacity:
            self._results.popitem(last=False)


def _digest(key: Sequence[Sequence[int]]) -> bytes:
    return hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
