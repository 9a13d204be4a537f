"""Log-probabilities of prompt tokens from a server, by token id and position.

Three ways, the best that a server has is chosen at start:

- `generate`: vLLM's own `/inference/v1/generate` (`vllm serve --enable-scale-out --enable-prompt-tokens-details`),
  the only one of its endpoints that lets a request read the prefix cache while it asks for prompt log-probabilities
  (`skip_reading_prefix_cache`). Rows of cached tokens hold no values, so the answer counts only where the cache ended
  before the answer's first row; else the score is asked for again without the cache.
- `prompt_logprobs`: vLLM's field of `/v1/completions`. Computes the whole prompt for every score.
- `echo`: `echo` with `logprobs`, of OpenAI's first API. The whole prompt as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cord_worker.engines.openai_client import Document, OpenAiClient, ServerFault
from cord_worker.engines.openai_requests import usage_of

ScorePath = Literal["generate", "prompt_logprobs", "echo"]

_GENERATE = "/inference/v1/generate"


@dataclass(frozen=True, slots=True)
class Rows:
    """Natural-log probabilities of the tokens asked for, and how many prompt tokens came from the prefix cache."""

    log_probabilities: tuple[float, ...]
    cached: int


async def prompt_rows(
    client: OpenAiClient, path: ScorePath, model: str, ids: Sequence[int], positions: Sequence[int]
) -> Rows:
    """Rows of the tokens `ids[position]`, one try; positions rise and are at least 1. Raises ServerFault."""
    if path == "generate":
        return await _generated(client, model, ids, positions)
    body: Document = {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 1.0, "top_p": 1.0}
    if path == "prompt_logprobs":
        answer = await client.post("/completions", {**body, "prompt_logprobs": 0})
        return Rows(_rows(_first(answer).get("prompt_logprobs"), ids, positions), usage_of(answer).cached or 0)
    answer = await client.post("/completions", {**body, "echo": True, "logprobs": 1})
    return Rows(_echoed(_first(answer), ids, positions), usage_of(answer).cached or 0)


async def _generated(client: OpenAiClient, model: str, ids: Sequence[int], positions: Sequence[int]) -> Rows:
    try:
        answer = await _generate(client, model, ids, skip_cache=False)
        cached = usage_of(answer).cached
        if cached is not None and cached < positions[0]:
            return Rows(_rows(answer.get("prompt_logprobs"), ids, positions), cached)
    except ServerFault as fault:
        # rows of cached tokens are memory as it was found: NaN in it cannot be written as JSON, which vLLM 0.32
        # reports as a bad request (a request that is bad indeed fails again below)
        if fault.status not in {400, 500}:
            raise
    answer = await _generate(client, model, ids, skip_cache=True)
    return Rows(_rows(answer.get("prompt_logprobs"), ids, positions), 0)


async def _generate(client: OpenAiClient, model: str, ids: Sequence[int], *, skip_cache: bool) -> Document:
    sampling = {
        "max_tokens": 1,
        "temperature": 1.0,
        "prompt_logprobs": 0,
        "detokenize": False,
        "skip_reading_prefix_cache": skip_cache,
    }
    return await client.post(
        client.root + _GENERATE, {"model": model, "token_ids": list(ids), "sampling_params": sampling}
    )


def _rows(rows: Any, ids: Sequence[int], positions: Sequence[int]) -> tuple[float, ...]:
    """Values of vLLM's rows: one mapping of token id to details for each prompt token."""
    if not isinstance(rows, list) or len(rows) != len(ids):
        found = len(rows) if isinstance(rows, list) else "no"
        raise _absent(f"{found} rows for {len(ids)} prompt tokens")
    values = []
    for position in positions:
        row = rows[position]
        entry = row.get(str(ids[position])) if isinstance(row, dict) else None
        values.append(_number(entry.get("logprob") if isinstance(entry, dict) else None, position))
    return tuple(values)


def _echoed(choice: Document, ids: Sequence[int], positions: Sequence[int]) -> tuple[float, ...]:
    """Values of an echo: those of the prompt's tokens, then that of the one token written."""
    logprobs = choice.get("logprobs")
    values = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    if not isinstance(values, list) or len(values) not in {len(ids), len(ids) + 1}:
        found = len(values) if isinstance(values, list) else "no"
        raise _absent(f"{found} values for {len(ids)} prompt tokens and one more")
    return tuple(_number(values[position], position) for position in positions)


def _first(answer: Document) -> Document:
    choices = answer.get("choices")
    if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict):
        return choices[0]
    raise ServerFault("its answer is malformed (not one choice)")


def _number(value: Any, position: int) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise _absent(f"none for the prompt token at {position}")


def _absent(found: str) -> ServerFault:
    return ServerFault(f"it gave no log-probabilities of the prompt ({found})", passing=False)
