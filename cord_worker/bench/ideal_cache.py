"""Computes how many prompt tokens an ideal prefix cache could have served.

The ideal cache never evicts, uses the engine's block size, and can reuse a text as soon as its request has begun. It
can reuse only whole blocks. It also keeps the generated tokens, after their prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheRequest:
    """One request with its `prompt` (token ids).

    `servable` is the number of the prompt's leading tokens that may come from a cache: all except the last one; for a
    score, only the tokens before the one that predicts the answer's first token. `generated` are the tokens that follow
    the prompt. `cached` is the number of cached tokens that the engine reported, None if it reported none. `kind` is
    propose, score or answer. Requests of the warm-up are not `counted`: they only fill the cache.
    """

    kind: str
    prompt: Sequence[int]
    servable: int
    generated: Sequence[int] = ()
    cached: int | None = None
    counted: bool = True


@dataclass(frozen=True, slots=True)
class CacheUse:
    """Prompt tokens that came from the cache, and those that an ideal cache could have served, over the same
    requests."""

    requests: int
    prompt_tokens: int
    cached: int
    ideal: int

    @property
    def ratio(self) -> float | None:
        """`cached / ideal`; None if nothing could have been served."""
        return self.cached / self.ideal if self.ideal else None


def cache_use(requests: Iterable[CacheRequest], block_tokens: int) -> dict[str, CacheUse]:
    """The cache use by kind. `requests` are in the order of their starts. Requests that are not counted, or for which
    the engine reported no cached tokens, only fill the cache."""
    known: set[int] = set()
    found: dict[str, CacheUse] = {}
    for request in requests:
        ideal = block_tokens * _known_blocks(known, request.prompt, request.servable // block_tokens, block_tokens)
        if request.counted and request.cached is not None:
            before = found.get(request.kind, CacheUse(0, 0, 0, 0))
            found[request.kind] = CacheUse(
                before.requests + 1,
                before.prompt_tokens + len(request.prompt),
                before.cached + request.cached,
                before.ideal + ideal,
            )
        known.update(_blocks((*request.prompt, *request.generated), block_tokens))
    return found


def _known_blocks(known: set[int], ids: Sequence[int], most: int, block_tokens: int) -> int:
    count = 0
    for block in _blocks(ids, block_tokens):
        if count == most or block not in known:
            break
        count += 1
    return count


def _blocks(ids: Sequence[int], block_tokens: int) -> Iterable[int]:
    """For each whole block, a hash of it and of all blocks before it."""
    chain = 0
    for start in range(0, len(ids) - block_tokens + 1, block_tokens):
        chain = hash((chain, tuple(ids[start : start + block_tokens])))
        yield chain
