"""What is asked of a server and how its answers are read: the fields in which servers differ, in one place.

| server | told apart by | prompt | which stop string ended the text |
|---|---|---|---|
| vLLM | `owned_by: vllm` | token ids | `stop_reason` |
| SGLang | `owned_by: sglang` | token ids | `matched_stop` |
| llama.cpp | `owned_by: llamacpp` | token ids | not told: the text is streamed without stop strings, and we end it |
| any other | | as probed: ids or text | as llama.cpp |

Where stop strings cannot say what ends a text, it is streamed from every server.

Neutral sampling settings are sent too where a server knows them: left out, vLLM and SGLang put in what the model's
generation_config.json says, and llama.cpp its own (top_k 40, min_p 0.05).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

from cord_worker.engines.openai_client import Document
from cord_worker.engines.openai_faults import ServerFault
from cord_worker.engines.protocol import Sampling
from cord_worker.engines.refusal_texts import means_filtered
from cord_worker.errors import ContentFilterError, EngineError, EngineFaultError
from cord_worker.prompting.segmentation import Ended, Ends

ServerKind = Literal["vllm", "sglang", "llamacpp", "other"]

_SEEDS = 2**31 - 1
"""Seeds fit 31 bits where the server's type is not known: llama.cpp keeps 32 and takes the highest for "random"."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request as the server counts them; None where it does not say."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A text as the server gave it, with its end mark where one ended it; `parts` counts the pieces of a stream."""

    text: str
    ended: Ended
    usage: Usage
    parts: int = 0


def tells_stops(kind: ServerKind) -> bool:
    """Whether the server says which stop string ended a text."""
    return kind in {"vllm", "sglang"}


def is_ended_here(kind: ServerKind, ends: Ends) -> bool:
    """Whether a text of the server is streamed, and ended by us at the first of `ends`."""
    return not tells_stops(kind) or ends.stop_strings is None


def sampling_fields(kind: ServerKind, sampling: Sampling) -> Document:
    """Fields of the request body. Raises EngineError for settings that a server of this kind is not known to take."""
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
    """Where the text has to end. Without `skip_special_tokens` a `</think>` that is a special token is not seen."""
    fields: Document = {"max_tokens": max_tokens}
    if tells_stops(kind):
        fields |= {"skip_special_tokens": False}
        if ends.stop_strings:
            fields["stop"] = ends.stop_strings
    return fields


def written(answer: Document, kind: ServerKind, ends: Ends) -> Written:
    """Reads a whole answer of a server that tells its stops. Raises ServerFault, RequestError."""
    choice = _choice(answer)
    text, ended = _text(choice), _ended(choice.get("finish_reason"))
    stop = choice.get("stop_reason" if kind == "vllm" else "matched_stop")
    if ended == "eos" and isinstance(stop, str) and stop in ends.marks:
        return Written(text + stop, "stop", usage_of(answer))
    return Written(text, ended, usage_of(answer))


async def written_in_parts(parts: AsyncIterator[Document], ends: Ends) -> Written:
    """Reads a stream up to the first of `ends`, or to its own end. Raises ServerFault, RequestError."""
    text, count, reason, usage = "", 0, None, Usage()
    async for part in parts:
        if part.get("usage"):
            usage = usage_of(part)
        if not part.get("choices"):
            continue
        choice = _choice(part)
        new = _text(choice)
        text += new
        count += bool(new)
        reason = choice.get("finish_reason") or reason
        if new and ends.find(text, max(0, len(text) - len(new) - ends.longest)):
            return Written(text, "stop", usage, count)
    return Written(text, _ended(reason), usage, count)


def usage_of(answer: Document) -> Usage:
    """The token counts; cached tokens stand in different places."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else usage.get("prompt_cache_hit_tokens")
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached))


def own_reasoning(answer: Document) -> bool:
    """Whether a chat answer came with reasoning apart from its text: then its thinking is not ours to continue."""
    choice = _choice(answer)
    message = choice.get("message") or choice.get("delta") or {}
    return any(message.get(name) for name in ("reasoning_content", "reasoning"))


def _choice(answer: Document) -> Document:
    choices = answer.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0]
    raise ServerFault("its answer is malformed (no `choices`)")


def _text(choice: Document) -> str:
    """Text of a completion, a chat message or a part of either."""
    if isinstance(choice.get("text"), str):
        return str(choice["text"])
    message = choice.get("message", choice.get("delta"))
    if not isinstance(message, dict):
        raise ServerFault("its answer is malformed (a choice without text)")
    content = message.get("content")
    if not content and any(message.get(name) for name in ("reasoning_content", "reasoning")):
        raise ServerFault(
            "it keeps the model's reasoning apart from its text, so that no step can be continued: switch its "
            'reasoning parser or its own thinking off, or use api = "completions"',
            passing=False,
        )
    return content if isinstance(content, str) else ""


def _ended(reason: Any) -> Ended:
    if reason in {"stop", "eos", "eos_token", "end_turn", "stop_sequence"}:
        return "eos"
    if reason in {"length", "max_tokens"}:
        return "length"
    if reason in {None, "abort", "error", "insufficient_system_resource"}:
        raise ServerFault(f"it gave the text up (finish reason {reason!r})", words=str(reason))
    told = repr(str(reason)[:80])
    if means_filtered(str(reason)):
        raise ContentFilterError(f"the server's content filter ended the text (finish reason {told})")
    raise EngineFaultError(f"the server ended the text for a reason that is not known here: {told}")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
