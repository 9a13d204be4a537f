"""Hashes of n-grams of many token lists at once.

Tokens are numbers: 1, 2, … for tokens of the benchmark, 0 for every other one, so that no n-gram with a 0 can match. A
hash is a polynomial over pseudo-random 64-bit numbers. `index` compares runs that it finds token by token; n-grams for
`containment` are compared by hash alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Weights = npt.NDArray[np.float64]

_BASE = np.uint64(0x9E3779B97F4A7C15)


def random_values(count: int) -> Hashes:
    """The value of each token number below `count`; the same in every process."""
    return np.random.default_rng(20_250_518).integers(1, 2**64 - 1, size=count, dtype=np.uint64)


def joined(lists: Sequence[Sequence[int]]) -> tuple[Ids, Ids]:
    """All lists in one array with a 0 after each, and the place at which each begins."""
    lengths = np.fromiter((len(one) + 1 for one in lists), np.int64, len(lists))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.zeros(int(starts[-1]), np.int64)
    for start, one in zip(starts, lists, strict=False):
        flat[start : start + len(one)] = one
    return flat, starts[:-1]


def windows(flat: Ids, values: Hashes, sizes: Sequence[int]) -> Iterator[tuple[int, Ids, Hashes]]:
    """For each size, ascending: the places at which an n-gram without a 0 begins, and its hash."""
    known = _known_runs(flat)
    hashes = values[flat]
    last = 1
    for size in sorted(set(sizes)):
        for length in range(last, size):  # a hash of `length` tokens grows by the next token
            hashes = hashes[: len(flat) - length] * _BASE + values[flat[length:]]
        last = size
        if size > len(flat):
            return
        places = np.flatnonzero(known[: len(hashes)] >= size)
        yield size, places, hashes[places]


def _known_runs(flat: Ids) -> Ids:
    """For each place, the number of consecutive known tokens that begin there."""
    count = len(flat)
    ends = np.where(flat == 0, np.arange(count), count)
    next_zero = np.minimum.accumulate(ends[::-1])[::-1]
    return next_zero - np.arange(count)


class HashTable:
    """Finds which hashes are among its keys, and where. Memory: 16 bytes a key, plus a filter of at most 32 MiB."""

    def __init__(self, keys: Hashes) -> None:
        """`keys` need not be sorted or distinct."""
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]
        bits = min(25, max(10, len(keys).bit_length() + 4))
        self._mask = np.uint64((1 << bits) - 1)
        self._maybe = np.zeros(1 << bits, bool)
        self._maybe[self._keys & self._mask] = True

    def find(self, hashes: Hashes) -> tuple[Ids, Ids]:
        """All pairs (index into `hashes`, index into the keys) of equal ones."""
        possible = np.flatnonzero(self._maybe[hashes & self._mask])
        wanted = hashes[possible]
        first = np.searchsorted(self._keys, wanted, "left")
        last = np.searchsorted(self._keys, wanted, "right")
        counts = last - first
        total = int(counts.sum())
        if not total:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        offsets = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(possible, counts), self._order[np.repeat(first, counts) + offsets]
