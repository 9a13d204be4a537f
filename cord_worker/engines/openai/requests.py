"""The fields of requests and answers that differ from server to server.

| server | recognised by | prompt | which stop string ended the text |
|---|---|---|---|
| vLLM | `owned_by: vllm` | token ids | `stop_reason` |
| SGLang | `owned_by: sglang` | token ids | `matched_stop` |
| llama.cpp | `owned_by: llamacpp` | token ids | not told: no stop strings are sent; this process ends the stream |
| any other | | as probed: ids or text | as llama.cpp |

If stop strings cannot express where a text ends, every server streams it.

Sampling settings are sent even if they are neutral. Otherwise vLLM and SGLang would apply the model's
generation_config.json, and llama.cpp its own defaults (top_k 40, min_p 0.05). Other servers get only temperature, top_p
and the seed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

from cord_worker.display_text import shown
from cord_worker.engines.openai.faults import ServerFault
from cord_worker.engines.openai.prompts import RepeatedPrefill
from cord_worker.engines.openai.replies import Document
from cord_worker.engines.protocol import Sampling
from cord_worker.engines.refusal_texts import means_filtered
from cord_worker.errors import ContentFilterError, EngineError, EngineFaultError
from cord_worker.prompting.segmentation import Ended, Ends

ServerKind = Literal["vllm", "sglang", "llamacpp", "other"]

_SEEDS = 2**31 - 1
"""Number of different seeds for servers other than vLLM: llama.cpp keeps 32 bits and takes the highest value as
"random"."""
_MOST_TOKENS = 100_000_000
"""A higher count is ignored: no context is so long, and the tables could not store more."""
_BASE_CHARACTERS = 4096
TOKEN_CHARACTERS = 256
"""Maximum number of characters of a token; the longest known tokens, runs of spaces, have half as many."""
_BASE_PARTS = 4096
_TOKEN_PARTS = 16
"""Maximum number of parts per token: a server sends a part per token or, to look smooth, per character."""
_EOS = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence"})
_LENGTH = frozenset({"length", "max_tokens"})
_GIVEN_UP = frozenset({"abort", "error", "insufficient_system_resource"})


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one request, from the server; None for a count that it does not report."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A text as the server gave it, with the mark that ended it, if any; `parts` counts the pieces of a stream."""

    text: str
    ended: Ended
    usage: Usage
    parts: int = 0


def tells_stops(kind: ServerKind) -> bool:
    """True if the server reports which stop string ended a text."""
    return kind in {"vllm", "sglang"}


def is_ended_here(kind: ServerKind, ends: Ends) -> bool:
    """True if the text is streamed and this process ends it, at the first of `ends`."""
    return not tells_stops(kind) or ends.stop_strings is None


def sampling_fields(kind: ServerKind, sampling: Sampling) -> Document:
    """Sampling fields of the request body. Raises EngineError for settings unknown to a server of this kind."""
    fields: Document = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed if kind == "vllm" else sampling.seed % _SEEDS,
    }
    if kind == "vllm":
        fields |= {"top_k": sampling.top_k, "repetition_penalty": sampling.repetition_penalty}
    elif kind == "sglang":
        fields |= {"top_k": sampling.top_k or -1, "repetition_penalty": sampling.repetition_penalty}
    elif kind == "llamacpp":
        fields |= {"top_k": sampling.top_k, "repeat_penalty": sampling.repetition_penalty, "repeat_last_n": -1}
    else:
        neutral = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
        unknown = [name for name, value in neutral.items() if getattr(sampling, name) != value]
        if unknown:
            raise EngineError(
                f"the teacher sets {', '.join(unknown)}, which this server is not known to take (vLLM, SGLang and "
                "llama.cpp do); remove it from the teacher"
            )
        return fields
    return {**fields, "min_p": sampling.min_p}


def ending_fields(kind: ServerKind, ends: Ends, max_tokens: int) -> Document:
    """Fields that say where the text ends. Without `skip_special_tokens`, a `</think>` that is a special token would be
    invisible."""
    fields: Document = {"max_tokens": max_tokens}
    if tells_stops(kind):
        fields |= {"skip_special_tokens": False}
        if ends.stop_strings:
            fields["stop"] = ends.stop_strings
    return fields


def written(answer: Document, kind: ServerKind, ends: Ends) -> Written:
    """Parses a whole answer of a server that reports its stops. Raises ServerFault, RequestError."""
    choice = _choice(answer)
    text, ended = _text(choice), _ended(_reason(choice))
    stop = choice.get("stop_reason" if kind == "vllm" else "matched_stop")
    if ended == "eos" and isinstance(stop, str) and stop in ends.marks:
        return Written(text + stop, "stop", usage_of(answer))
    return Written(text, ended, usage_of(answer))


class PartsReader:
    """Collects the parts of a stream up to the first of `ends`, or to the end of the stream, and removes a repeated
    `prefill`. `max_tokens` is the cap of the request."""

    def __init__(self, ends: Ends, max_tokens: int, prefill: RepeatedPrefill | None = None) -> None:
        self._ends = ends
        self._prefill = prefill
        repeated = max(map(len, prefill.forms), default=0) if prefill is not None else 0
        self._most_characters = _BASE_CHARACTERS + 2 * repeated + TOKEN_CHARACTERS * max_tokens
        self._most_parts = _BASE_PARTS + repeated + _TOKEN_PARTS * max_tokens
        self._raw = self._text = ""
        self._seen = self._count = 0
        self._reason: str | None = None
        self._usage = Usage()

    def add(self, part: Document) -> Written | None:
        """The text, if this part ends it; otherwise None. Raises ServerFault, RequestError."""
        self._seen += 1
        if self._seen > self._most_parts:
            raise ServerFault(f"it sent more than {self._most_parts} parts, more than the requested tokens can take")
        if part.get("usage"):
            self._usage = usage_of(part)
        if not part.get("choices"):
            return None
        choice = _choice(part)
        new = _text(choice)
        self._raw += new
        self._count += bool(new)
        if len(self._raw) > self._most_characters:
            raise ServerFault(
                f"its text is longer than {self._most_characters} characters, more than the requested tokens can take"
            )
        self._reason = _reason(choice) or self._reason
        self._text = self._raw if self._prefill is None else self._prefill.text_after(self._raw) or ""
        if new and self._ends.find(self._text, max(0, len(self._text) - len(new) - self._ends.longest)):
            return Written(self._text, "stop", self._usage, self._count)
        return None

    def end(self) -> Written:
        """The text of a stream that has ended. Raises ServerFault, RequestError."""
        if not self._seen:
            raise ServerFault("its answer is malformed (no stream, though one was asked for)")
        if self._prefill is not None and self._prefill.text_after(self._raw) is None:
            raise ServerFault("its answer ends before it has repeated the text that it is to continue")
        return Written(self._text, _ended(self._reason), self._usage, self._count)


async def written_in_parts(
    parts: AsyncIterator[Document], ends: Ends, max_tokens: int, prefill: RepeatedPrefill | None = None
) -> Written:
    """Reads a stream as `PartsReader` does. Raises ServerFault, RequestError."""
    read = PartsReader(ends, max_tokens, prefill)
    async for part in parts:
        if (result := read.add(part)) is not None:
            return result
    return read.end()


def usage_of(answer: Document) -> Usage:
    """The token counts; servers report cached tokens in different fields."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else usage.get("prompt_cache_hit_tokens")
    return Usage(count_of(usage.get("prompt_tokens")), count_of(usage.get("completion_tokens")), count_of(cached))


def has_own_reasoning(answer: Document) -> bool:
    """True if a chat answer holds reasoning apart from its text, so that its thinking cannot be continued."""
    return _reasons_apart(_message(_choice(answer)))


def _choice(answer: Document) -> Document:
    choices = answer.get("choices")
    if isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict):
        return choices[0]
    found = f"{len(choices)} `choices`" if isinstance(choices, list) and len(choices) != 1 else "no `choices`"
    raise ServerFault(f"its answer is malformed ({found})")


def _message(choice: Document) -> Document:
    message = choice.get("message") or choice.get("delta")
    return message if isinstance(message, dict) else {}


def _reasons_apart(message: Document) -> bool:
    return any(message.get(name) for name in ("reasoning_content", "reasoning"))


def _text(choice: Document) -> str:
    """Text of a completion, of a chat message, or of a part of either. Raises ServerFault, ContentFilterError."""
    if isinstance(text := choice.get("text"), str):
        return text
    message = choice.get("message", choice.get("delta"))
    if text is not None or not isinstance(message, dict):
        raise ServerFault("its answer is malformed (a choice without text)")
    content = message.get("content")
    refusal = message.get("refusal")
    if not content and isinstance(refusal, str) and refusal.strip():
        raise ContentFilterError(f"the server marks the reply as a refusal ('{shown(refusal, 80)}')")
    if not content and _reasons_apart(message):
        raise ServerFault(
            "it keeps the model's reasoning apart from its text, so that no step can be continued: switch its "
            'reasoning parser or its own thinking off, or use api = "completions"',
            transient=False,
        )
    if content is not None and not isinstance(content, str):
        raise ServerFault(f"its answer is malformed (a text that is {_kind(content)})")
    return content or ""


def _reason(choice: Document) -> str | None:
    """The finish reason. Its type is checked in every part, because the reason of a later part replaces it."""
    reason = choice.get("finish_reason")
    if reason is not None and not isinstance(reason, str):
        raise ServerFault(f"its answer is malformed (a finish reason that is {_kind(reason)})")
    return reason


def _ended(reason: str | None) -> Ended:
    if reason in _EOS:
        return "eos"
    if reason in _LENGTH:
        return "length"
    if reason is None or reason in _GIVEN_UP:
        raise ServerFault(f"it aborted the text (finish reason {reason!r})", words=str(reason))
    told = f"'{shown(reason, 80)}'"
    if means_filtered(reason):
        raise ContentFilterError(f"the server's content filter ended the text (finish reason {told})")
    raise EngineFaultError(f"the server ended the text for an unknown reason: {told}")


def _kind(value: object) -> str:
    names = {bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "no text")


def count_of(value: Any) -> int | None:
    """A number of tokens; None if the value cannot be one."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS
    return value if is_count else None
