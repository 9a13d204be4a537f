"""The fuzzed target `replies`: what a model's server sends."""

from __future__ import annotations

import copy
import json
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cord_worker.engines.openai.faults import Means, ServerFault
from cord_worker.engines.openai.prompts import RepeatedPrefill
from cord_worker.engines.openai.replies import (
    Parts,
    Reported,
    all_words,
    document,
    error_in,
    message_in,
    retry_after,
    status_in,
)
from cord_worker.engines.openai.requests import PartsReader, ServerKind, Written, has_own_reasoning, written
from cord_worker.engines.openai.scoring import Rows, echoed_in, next_tokens_in, rows_in
from cord_worker.engines.openai.server import cards_in
from cord_worker.engines.openai.token_counts import plausible
from cord_worker.errors import RequestError
from cord_worker.prompting.integration import read_integration
from cord_worker.prompting.segmentation import Ends, TextKind, cut, ends_of
from cord_worker.prompting.think_tags import USUAL_TAGS
from cord_worker.prompting.trajectory import Segmentation
from cord_worker.prompting.verdict import read_verdict
from cord_worker.search.validity import invalid_reason, storable, text_key
from tests.fuzz.inputs import SEGMENTATIONS, text_of


def replies(data: bytes) -> None:
    """What a model's server sends, from the bytes to the stored result: read, or one fault that says what is wrong.

    The first byte chooses: the text of a reply, a reply's bytes as they are, or a real one with changes.
    """
    if not data or data[0] >= 0x10:
        _read_reply(text_of(data))
        return
    way, body = data[0] & 7, data[1:]
    if data[0] >= 0x08:
        body = _changed_reply(way, body)
    rule = SEGMENTATIONS[len(body) % len(SEGMENTATIONS)]
    kind: TextKind = "step" if len(body) & 1 else "reply"
    if way < 2:
        server: ServerKind = "sglang" if way else "vllm"
        _check_written(rule, kind, lambda: written(document(body), server, ends_of(rule, kind)))
    elif way < 4:
        _check_stream(rule, kind, ends_of(rule, kind), body, repeats=way == 3)
    elif way < 7:
        with _one_fault():
            rows = (next_tokens_in, rows_in, _echoed_in)[way - 4](document(body), PROMPT, POSITIONS)
            assert len(rows.log_probabilities) == len(POSITIONS)
            assert all(type(value) is float and -9999 < value <= 0.01 for value in rows.log_probabilities)
            assert 0 <= rows.cached <= 100_000_000
    else:
        with _one_fault():
            for card in cards_in(document(body)):
                assert card.length is None or 0 < card.length <= 100_000_000
                "".join((card.name, card.owner, card.root)).encode()
        with _one_fault():
            assert has_own_reasoning(document(body)) in (True, False)
        _check_error(error_in(body))
        seconds = retry_after({"retry-after": body.decode("latin-1")})
        assert seconds is None or seconds >= 0


def _read_reply(text: str) -> None:
    """The reply of an integrator or a judge."""
    assert read_verdict(text) in (True, False, None)
    for rule in SEGMENTATIONS:
        for complete in (True, False):
            found = read_integration(text, rule, complete=complete)
            assert found is None or isinstance(found.text, str)
            if found is not None:
                storable(found.text + (found.answer or "")).encode()


@contextmanager
def _one_fault() -> Iterator[None]:
    """Accepts only the errors that are meant for a bad reply, in one line each."""
    try:
        yield
    except Reported as reported:
        _check_error(reported.body)
    except (ServerFault, RequestError) as fault:
        _check_shown(str(fault))


def _echoed_in(answer: dict[str, Any], ids: Sequence[int], positions: Sequence[int]) -> Rows:
    """Rows of an echo, whose named tokens must be those that were sent."""
    rows = echoed_in(answer, ids, positions, lambda token: frozenset({NAMES[token]}))
    tokens = answer["choices"][0]["logprobs"]["tokens"]
    assert all(token == NAMES[sent] for token, sent in zip(tokens, ids, strict=False) if token in NAMES.values())
    return rows


def _check_error(body: object) -> None:
    for status in (status_in(body), 403, 500):
        fault = ServerFault(f"HTTP {status}: {message_in(body)}", status=status, words=all_words(body))
        assert isinstance(fault.means, Means)
        _check_shown(str(fault))


def _check_shown(text: str) -> None:
    assert len(text) < 6_000
    assert text.isprintable() or all(one.isprintable() or unicodedata.category(one) == "Zs" for one in text)
    text.encode()


def _check_written(rule: Segmentation, kind: TextKind, read: Callable[[], Written]) -> None:
    with _one_fault():
        result = read()
        assert result.ended in ("stop", "eos", "length")
        for count in (result.usage.prompt, result.usage.completion, result.usage.cached):
            assert count is None or (type(count) is int and 0 <= count <= 100_000_000)
        usage, _ = plausible(result, "What is 2?", cap=64, prompt_tokens=None, context=None)
        assert usage.completion is None or bool(result.text) <= usage.completion <= 65
        assert usage.prompt is None or 0 < usage.prompt < 5000
        assert usage.cached is None or (usage.prompt is not None and usage.cached <= usage.prompt)
        part = cut(result.text, kind, rule, ended=result.ended)
        kept = storable(part.text)
        assert "\0" not in kept
        kept.encode()
        if kind == "reply":
            _read_reply(part.text)
        elif invalid_reason(part.text, loop_ngram=4, loop_repeats=3, has_markers=rule.has_markers) is None:
            assert kept == part.text
            text_key(part.text)


def _check_stream(rule: Segmentation, kind: TextKind, ends: Ends, body: bytes, *, repeats: bool) -> None:
    """A stream gives the same result in any pieces, with a repeated text or without."""
    whole, pieces = (_outcome(body, step) for step in (len(body) or 1, 1 + len(body) % 7 + len(body) // 64))
    assert whole == pieces
    prefill = RepeatedPrefill.of("<think>\n### Step 1.", USUAL_TAGS) if repeats else None
    _check_written(rule, kind, lambda: _streamed(body, PartsReader(ends, 64, prefill)))


def _outcome(body: bytes, step: int) -> str:
    parts, found = Parts(), list[Any]()
    try:
        for start in range(0, len(body), step):
            found += parts.feed(body[start : start + step])
        found += parts.end()
    except (ServerFault, Reported) as error:
        return repr((found, type(error), str(error)))
    return repr(found)


def _streamed(body: bytes, read: PartsReader) -> Written:
    parts = Parts()
    for part in [*parts.feed(body), *parts.end()]:
        if (result := read.add(part)) is not None:
            return result
    return read.end()


PROMPT = (5, 6, 7, 8)
POSITIONS = (2, 3)
NAMES = dict(zip(PROMPT, "abcd", strict=True))
_USAGE = {"prompt_tokens": 4, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 2}}
_STEP = " We add.\n### Step 2. It is 4."
_STREAM = [
    {"choices": [{"index": 0, "text": text, "finish_reason": None}], "usage": None} for text in (" We", " add", ".")
]
_REAL: tuple[Any, ...] = (
    {"id": "cmpl-1", "object": "text_completion", "model": "m", "usage": _USAGE,
     "choices": [{"index": 0, "text": _STEP, "finish_reason": "stop", "stop_reason": "\n### Step"}]},
    {"choices": [{"index": 0, "message": {"role": "assistant", "content": '{"correctness": "True"}'},
                  "finish_reason": "length", "matched_stop": None}], "usage": _USAGE},
    [*_STREAM, {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}, {"choices": [], "usage": _USAGE}],
    [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]},
     {"choices": [{"index": 0, "delta": {"content": "<think>\n### Step 1. We"}, "finish_reason": None}]},
     {"choices": [{"index": 0, "delta": {"content": "</think>"}, "finish_reason": "stop"}], "usage": _USAGE}],
    {"choices": [{"index": at, "text": "x", "logprobs": {"top_logprobs": [{"token_id:7": -0.5, "token_id:8": -1.5}]}}
                 for at in range(2)], "usage": _USAGE},
    {"choices": [{"text": "x", "prompt_logprobs": [None, *({str(token): {"logprob": -1.0, "rank": 1}}
                                                           for token in PROMPT[1:])]}], "usage": _USAGE},
    {"choices": [{"text": "x", "logprobs": {"tokens": [*"abcdx"], "token_logprobs": [None, -1.0, -0.5, -2.0, -0.1]}}]},
    {"error": {"message": "This model's maximum context length is 4096 tokens", "type": "invalid", "code": 400},
     "object": "list", "data": [{"id": "m", "owned_by": "vllm", "root": "/w/m", "max_model_len": 4096, "meta": {}}]},
)  # fmt: skip
_ODD_IN_REPLIES: tuple[Any, ...] = (
    None, True, 0, -1, 2**31, 2**63, 10**30, 0.5, -0.5, 1e308, math.inf, -math.inf, math.nan, "", "\0", "\ud800",
    "\udc00 two", "stop", "content_filter", "abort", "length", "\x1b[2J\x1b]0;owned\x07", "a\nb\r\n", "\u202egnp",
    "x" * 3000, "</think>", "\n### Step 2.", "rate limit", "loading model", "context length", [], {}, [None], [[]],
    {"message": {}}, {"text": "a"}, ["a", {"b": 1}], {"error": []}, "prompt_tokens", 429, 503, [1] * 20,
)  # fmt: skip
_KEYS_IN_REPLIES = (
    "choices", "text", "message", "delta", "content", "finish_reason", "error", "usage", "reasoning", "logprobs",
    "top_logprobs", "token_logprobs", "prompt_logprobs", "index", "data", "id", "meta", "code", "status", "detail",
)  # fmt: skip


def _changed_reply(which: int, data: bytes) -> bytes:
    """A real reply with a change for every three bytes, as it would be sent; the remaining bytes are inserted."""
    reply = copy.deepcopy(_REAL[which % len(_REAL)])
    changes, _, raw = data.partition(b"\xff\xff")
    for place in range(0, min(len(changes), 45) - 2, 3):
        where, what, value = changes[place : place + 3]
        places = [reply, *_places(reply)]
        target = places[where % len(places)]
        odd = copy.deepcopy(_ODD_IN_REPLIES[value % len(_ODD_IN_REPLIES)])
        if value >= 0xF0:
            for _ in range(4 * (value - 0xEF)):
                odd = [odd]
        if isinstance(target, dict):
            names = (*target, *_KEYS_IN_REPLIES)
            name = names[what % len(names)]
            if value == 0xEF:
                target.pop(name, None)
            else:
                target[name] = odd
        elif what & 1 or not target:
            target.append(odd if what & 2 or not target else copy.deepcopy(target[0]))
        else:
            target[what % len(target)] = odd
    if isinstance(reply, list):
        sent = b"".join(f"data: {json.dumps(part)}\n\n".encode() for part in reply) + b"data: [DONE]\n\n"
    else:
        sent = json.dumps(reply).encode()
    at = raw[0] * len(sent) // 256 if raw else 0
    return sent[:at] + raw[1:] + sent[at:]


def _places(value: Any, levels: int = 8) -> Iterator[Any]:
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            yield item
            if levels:
                yield from _places(item, levels - 1)
