"""Log-probabilities of prompt tokens from a server, by token id and position.

There are three ways; the best one that the server supports is chosen at start:

- `next_token`: vLLM. One request holds, for each answer token, the prompt that ends before it, and asks for the
  log-probability of that token as the next one, by its id (`logprob_token_ids`). All these prompts read the prefix
  cache, which vLLM ignores for prompt log-probabilities. Only `/inference/v1/generate` can change that per request
  (`skip_reading_prefix_cache`). It needs a switch of `vllm serve`, and its rows of cached tokens are uninitialised
  memory: they may hold NaN, which fails the whole answer. Measured on vLLM 0.32 CPU, SmolLM2-135M, 1,024 of 1,038
  tokens cached, 6 answer tokens: 0.16 s per score against 1.9 s with `prompt_logprobs`, the sums equal to 1e-6.
- `prompt_logprobs`: vLLM's field of `/v1/completions`. Computes the whole prompt for every score.
- `echo`: `echo` with `logprobs`, of OpenAI's first API. Also computes the whole prompt. The values are identified only
  by position, so each echoed token is compared with the one sent. Otherwise a server that puts a start token before the
  prompt and omits the written token would shift all values by one token unnoticed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cord_worker.display_text import shown
from cord_worker.engines.openai.client import OpenAiClient
from cord_worker.engines.openai.faults import ServerFault
from cord_worker.engines.openai.replies import Document
from cord_worker.engines.openai.requests import usage_of
from cord_worker.errors import EngineFaultError, NotFiniteError

ScorePath = Literal["next_token", "prompt_logprobs", "echo"]

_LOWEST = -9999.0
"""vLLM's value for minus infinity."""
_HIGHEST = 0.01
"""Rounding may lift the logarithm of probability 1 above zero; in half precision by less than this."""
_TOGETHER = 16
"""Prompts per request: vLLM bounds how many token ids may be asked for (128 in 0.32)."""


Names = Callable[[int], frozenset[str]]
"""The forms in which a server may write a token."""
_TOKEN_ID = re.compile(r"token_id:(\d{1,9})")
_BYTE_NAME = re.compile(r"<0x[0-9A-F]{2}>|bytes:.*", re.DOTALL)
"""Names of single bytes; every server writes them differently."""


class MisalignedFault(ServerFault):
    """The echoed values cannot be matched to the prompt's tokens."""

    def __init__(self, found: str) -> None:
        super().__init__(
            f"the log-probabilities that it echoes cannot be matched to the prompt's tokens ({found})",
            transient=False,
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """Natural-log probabilities of the tokens asked for, and how many prompt tokens came from the prefix cache."""

    log_probabilities: tuple[float, ...]
    cached: int


async def prompt_rows(
    client: OpenAiClient, path: ScorePath, model: str, ids: Sequence[int], positions: Sequence[int], names: Names
) -> Rows:
    """The rows of the tokens at `positions` of `ids`, in one try; positions ascend and are at least 1.

    Raises ServerFault; NotFiniteError if the server computed no number for one of the tokens.
    """
    if path == "next_token":
        return await _next_tokens(client, model, ids, positions)
    body: Document = {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 1.0, "top_p": 1.0}
    if path == "prompt_logprobs":
        return rows_in(await client.post("/completions", {**body, "prompt_logprobs": 0}), ids, positions)
    answer = await client.post("/completions", {**body, "echo": True, "logprobs": 1})
    return echoed_in(answer, ids, positions, names)


async def _next_tokens(client: OpenAiClient, model: str, ids: Sequence[int], positions: Sequence[int]) -> Rows:
    groups = [positions[start : start + _TOGETHER] for start in range(0, len(positions), _TOGETHER)]
    rows = [await _group(client, model, ids, group) for group in groups]  # one by one: a score takes one slot
    return Rows(tuple(value for row in rows for value in row.log_probabilities), rows[0].cached)


async def _group(client: OpenAiClient, model: str, ids: Sequence[int], positions: Sequence[int]) -> Rows:
    """Rows of a few positions; the server counts cached tokens only of the last prompt."""
    wanted = sorted({ids[position] for position in positions})
    body = {
        "model": model,
        "prompt": [list(ids[:position]) for position in positions],
        "max_tokens": 1,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "logprobs": 1,
        "logprob_token_ids": wanted,
        "return_tokens_as_token_ids": True,
    }
    return next_tokens_in(await client.post("/completions", body), ids, positions)


def next_tokens_in(answer: Document, ids: Sequence[int], positions: Sequence[int]) -> Rows:
    """Rows of an answer to prompts that end before each of `positions`. Raises ServerFault, RequestError."""
    wanted = sorted({ids[position] for position in positions})
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != len(positions):
        raise _absent("not one choice for each prompt")
    by_index = {index: choice for choice in choices if isinstance(index := _index(choice), int)}
    values = []
    for index, position in enumerate(positions):
        logprobs = by_index.get(index, {}).get("logprobs")
        rows = logprobs.get("top_logprobs") if isinstance(logprobs, dict) else None
        row = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
        if any(f"token_id:{token}" not in row for token in wanted):
            raise _absent("other tokens than those asked for")
        values.append(_number(row[f"token_id:{ids[position]}"], position))
    return Rows(tuple(values), usage_of(answer).cached or 0)


def rows_in(answer: Document, ids: Sequence[int], positions: Sequence[int]) -> Rows:
    """Rows of an answer with `prompt_logprobs`. Raises ServerFault, RequestError."""
    return Rows(_rows(_first(answer).get("prompt_logprobs"), ids, positions), usage_of(answer).cached or 0)


def echoed_in(answer: Document, ids: Sequence[int], positions: Sequence[int], names: Names) -> Rows:
    """Rows of an answer with `echo`. Raises ServerFault, RequestError."""
    usage = usage_of(answer)
    rows = _echoed(_first(answer), ids, positions, names)
    if usage.prompt is not None and usage.prompt != len(ids):
        raise MisalignedFault(f"it counts {usage.prompt} tokens in a prompt of {len(ids)} token ids")
    return Rows(rows, usage.cached or 0)


def _rows(rows: Any, ids: Sequence[int], positions: Sequence[int]) -> tuple[float, ...]:
    """Values of vLLM's rows: one mapping of token id to details for each prompt token."""
    if not isinstance(rows, list) or len(rows) != len(ids):
        found = len(rows) if isinstance(rows, list) else "no"
        raise _absent(f"{found} rows for {len(ids)} prompt tokens")
    values = []
    for position in positions:
        row = rows[position]
        entry = row.get(str(ids[position])) if isinstance(row, dict) else None
        if not isinstance(entry, dict):
            raise _absent(f"none for the prompt token at {position}")
        values.append(_number(entry.get("logprob"), position))
    return tuple(values)


def _echoed(choice: Document, ids: Sequence[int], positions: Sequence[int], names: Names) -> tuple[float, ...]:
    """Values of an echo: those of the prompt's tokens, then that of the one token written."""
    logprobs = choice.get("logprobs")
    values = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    if not isinstance(values, list) or len(values) not in {len(ids), len(ids) + 1}:
        found = len(values) if isinstance(values, list) else "no"
        raise _absent(f"{found} values for {len(ids)} prompt tokens and one more")
    tokens = logprobs.get("tokens") if isinstance(logprobs, dict) else None
    _require_aligned(tokens, len(values), ids, names)
    return tuple(_number(values[position], position) for position in positions)


def _require_aligned(tokens: Any, count: int, ids: Sequence[int], names: Names) -> None:
    """Raises MisalignedFault if the echoed tokens are not those of `ids`, or cannot be compared with them.

    A name without information (part of a character, a blank) matches any token. So the other names must fix the
    position: the same names must not fit one place further on or back.
    """
    if not isinstance(tokens, list) or len(tokens) != count:
        raise MisalignedFault("it does not name the tokens")
    for position, (token, sent) in enumerate(zip(tokens, ids, strict=False)):
        if not _may_be(token, sent, names):
            raise MisalignedFault(f"{_told(token)} at {position}, where {_told(min(names(sent), default=''))} was sent")
    if _fits(tokens[1:], ids, names) or _fits(tokens, ids[1:], names):
        raise MisalignedFault("its names of them also fit another position")


def _fits(tokens: Sequence[Any], ids: Sequence[int], names: Names) -> bool:
    return all(_may_be(token, sent, names) for token, sent in zip(tokens, ids, strict=False))


def _may_be(token: Any, sent: int, names: Names) -> bool:
    """True if a server's name of a token may be the name of `sent`."""
    if isinstance(token, int) and not isinstance(token, bool):
        return token == sent
    if not isinstance(token, str):
        return False
    if (by_id := _TOKEN_ID.fullmatch(token)) is not None:
        return int(by_id[1]) == sent
    named = _plain(token)
    forms = {_plain(name) for name in names(sent)}
    is_comparable = named and "" not in forms
    return named in forms if is_comparable else True


def _plain(name: str) -> str:
    """A name without the parts that servers write differently; empty if nothing comparable is left."""
    if "\ufffd" in name or _BYTE_NAME.fullmatch(name):
        return ""
    return name.replace("\u0120", " ").replace("\u2581", " ").replace("\u010a", "\n").strip()


def _first(answer: Document) -> Document:
    choices = answer.get("choices")
    if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict):
        return choices[0]
    raise ServerFault("its answer is malformed (not one choice)")


def _index(choice: object) -> object:
    return choice.get("index") if isinstance(choice, dict) else None


def _number(value: Any, position: int) -> float:
    """The value as a float. JSON has no infinity: servers write null, a name that Python parses, or (vLLM) a huge
    number."""
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if _HIGHEST < number < math.inf:
        raise EngineFaultError(
            f"the server gave {_told(value)} as log-probability of the prompt token at {position}, which is above "
            "zero: its numbers are not log-probabilities; check the server"
        )
    if _LOWEST < number <= _HIGHEST:
        return float(number)
    raise NotFiniteError(
        f"the server computed {_told(value)} as log-probability of the prompt token at {position}: no number, or a "
        "probability of 0 (number format too narrow?); try another dtype of its model"
    )


def _told(value: object) -> str:
    return shown(repr(value), 80)


def _absent(found: str) -> ServerFault:
    return ServerFault(f"it gave no log-probabilities of the prompt ({found})", transient=False)
