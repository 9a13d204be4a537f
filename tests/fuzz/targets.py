"""What hostile bytes are given to, and what must hold whatever they are. An exception is a finding, unless it is the
error that a user is meant to read.

Each target is a function of bytes; `python -m tests.fuzz` drives them by coverage, `test_targets.py` runs them over the
corpus of what was found before and over random bytes.
"""

from __future__ import annotations

import base64
import copy
import gzip
import json
import math
import os
import random
import shutil
import tempfile
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from kombu.transport.virtual.base import Channel as VirtualChannel
from kombu.transport.virtual.base import Message as VirtualMessage

from cord_worker.config import RunConfig
from cord_worker.coordination.broker.incoming_messages import BadMessage, Work, read_envelope, read_work, shown
from cord_worker.dataset import ProblemRecord, ReadOptions, RejectedRecord, read_problems
from cord_worker.dataset.jsontext import exact_json
from cord_worker.dataset.roles import MAX_KEY
from cord_worker.dataset.solutions import Undecided, final_answer
from cord_worker.dataset.visible import stripped
from cord_worker.engines.openai.faults import Means, ServerFault
from cord_worker.engines.openai.prompts import RepeatedPrefill
from cord_worker.engines.openai.replies import (
    Parts,
    Reported,
    all_words,
    document,
    error_in,
    retry_after,
    status_in,
    told,
)
from cord_worker.engines.openai.requests import PartsRead, ServerKind, Written, own_reasoning, written
from cord_worker.engines.openai.scoring import Rows, echoed_in, next_tokens_in, rows_in
from cord_worker.engines.openai.server import cards_in
from cord_worker.engines.openai_counts import plausible
from cord_worker.errors import ConfigError, DatasetError, RequestError
from cord_worker.latex import escaped_reply, lost_backslashes, with_backslashes, without_invalid_escapes
from cord_worker.prompting.integration import read_integration
from cord_worker.prompting.segmentation import Ends, TextKind, cut, ends_of
from cord_worker.prompting.think_tags import USUAL_TAGS
from cord_worker.prompting.trajectory import Segmentation, SegmentationRule
from cord_worker.prompting.verdict import read_verdict
from cord_worker.search.validity import invalid_reason, storable, text_key

KINDS = (".jsonl", ".json", ".csv", ".jsonl.gz", ".parquet", ".tsv", ".jsonl.zst")
ONE_SHARD = "data/train-00000-of-00001.jsonl"
SEGMENTATIONS = tuple(Segmentation.of(rule, ("wait", "let me check", "等等")) for rule in SegmentationRule)
_SHARED_MEMORY = Path("/dev/shm")


def dataset(data: bytes) -> None:
    """A dataset file of any kind: problems and refusals, or one DatasetError; the same when read again, and the same
    under the hub's layout."""
    if not data:
        return
    suffix = KINDS[data[0] % len(KINDS)]
    content = gzip.compress(data[1:], 0) if suffix == ".jsonl.gz" and data[0] & 0x80 else data[1:]
    with _folder() as folder:
        path = folder / f"problems{suffix}"
        path.write_bytes(content)
        first, second = _read(path), _read(path)
        repaired = _read(path, ReadOptions(repair_latex=True, answer_as_is=bool(data[0] & 0x40)))
        if suffix == ".jsonl":
            shard = folder / "hub" / ONE_SHARD
            shard.parent.mkdir(parents=True)
            path.rename(shard)
            assert isinstance(_read(folder / "hub"), list) == isinstance(first, list)
    assert first == second
    assert isinstance(repaired, list) or isinstance(first, str)  # a file of damaged rows alone is none without repair
    for record in first if isinstance(first, list) else ():
        if isinstance(record, RejectedRecord):
            assert record.reason
            continue
        exact_json(record.metadata).encode()
        for text in (record.question, record.answer, record.passage, record.key):
            if text is not None:
                assert text.strip() == text != ""
                assert "\0" not in text
                text.encode()
        assert len(record.key) <= MAX_KEY
        json.dumps(record.metadata, allow_nan=False, ensure_ascii=False).encode()


def latex(data: bytes) -> None:
    """A text that may have lost backslashes, alone and inside JSON; and as a worked solution."""
    text = _text(data)
    for damaged in (True, False):
        (spots,) = lost_backslashes([text], damaged=damaged)
        assert all(spot.command for spot in spots)
        mended = with_backslashes(text, spots)
        assert len(mended) == len(text) + len(spots)
    valid = json.dumps({"step": text})
    assert isinstance(json.loads(escaped_reply(valid)), dict)
    without_invalid_escapes(text)
    plain = stripped(text)
    assert plain == stripped(plain) == plain.strip()
    with suppress(Undecided):
        found = final_answer(text)
        assert found is None or found == found.strip() != ""


def segmentation(data: bytes) -> None:
    """A model's text: cut at its end, the same end while it streams in, judged valid or not."""
    text = _text(data)
    assert storable(text).encode().find(b"\0") < 0
    for rule in SEGMENTATIONS:
        for kind in get_args(TextKind):
            result = cut(text, kind, rule, ended="eos")
            ends = ends_of(rule, kind)
            assert ends.find(result.text) is None, (rule, kind)
            if kind == "reply":
                continue
            assert result.text in text
            whole = ends.find(text)
            at = len(text) if whole is None else whole.position
            # Where an end is not yet, where it is just seen, and all the places between.
            for length in range(max(0, at - 3), min(len(text), at + ends.longest) + 1):
                seen = ends.find(text[:length])
                if seen is not None:
                    assert seen == whole, (rule, kind, length)
                    window = text[:length].encode("utf-8", "replace")[-ends.longest :].decode("utf-8", "ignore")
                    assert ends.glimpsed(window), (rule, kind, length)
                    break
            if kind == "step":
                invalid_reason(result.text, loop_ngram=4, loop_repeats=3, has_markers=rule.has_markers)


def replies(data: bytes) -> None:
    """What a model's server sends, from the bytes to what is stored: read, or one fault that says what is wrong.

    The first byte chooses: the text of a reply, a reply's bytes as they are, or a real one with changes.
    """
    if not data or data[0] >= 0x10:
        _read_reply(_text(data))
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
            assert own_reasoning(document(body)) in (True, False)
        _check_error(error_in(body))
        seconds = retry_after({"retry-after": body.decode("latin-1")})
        assert seconds is None or seconds >= 0


def config(data: bytes) -> None:
    """cord.toml, as raw text or as a preset with changes: a configuration that can be stored, or one ConfigError."""
    if data[:1] and data[0] < 0x40:
        with suppress(ConfigError):
            RunConfig.parse(_text(data[1:]), source="cord.toml", folder=Path("/nowhere"))
        return
    try:
        parsed = RunConfig.from_stored(_changed_preset(data))
    except ConfigError:
        return
    stored = json.loads(json.dumps(parsed.model_dump(mode="json"), allow_nan=False))
    assert RunConfig.from_stored(stored).fingerprint() == parsed.fingerprint()


def messages(data: bytes) -> None:
    """What lies in a queue of the broker: work that is written anew and read back the same, or one BadMessage.

    The first byte says what the rest is: a whole message, its body, its headers, or a message of ours with changes."""
    try:
        work = _received(data)
    except BadMessage as error:
        reason = str(error)
    else:
        headers, body = work.headers(), work.body()
        assert read_work(headers, body, "application/json", "utf-8", _TASKS) == work
        json.dumps(headers, allow_nan=False).encode()
        reason = shown(body)
    assert reason.isprintable()
    assert len(reason) < 300


def _received(data: bytes) -> Work:
    kind, rest = (data[0] % 4, data[1:]) if data else (0, b"")
    if kind == 1:
        return read_work(_HEADERS, rest, "application/json", "utf-8", _TASKS)
    if kind == 2:
        return read_work(_json_or_text(rest), _BODY, "application/json", "utf-8", _TASKS)
    envelope = read_envelope(rest if kind == 0 else json.dumps(_changed_message(rest)).encode())
    message = VirtualMessage(envelope, channel=_NO_CHANNEL)
    assert not message.errors
    assert isinstance(message.delivery_tag, str)
    return read_work(message.headers, message.body, message.content_type, message.content_encoding, _TASKS)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    function.__name__: function for function in (dataset, latex, segmentation, replies, config, messages)
}


class _NoChannel:
    """All of a channel that a message asks for."""

    no_ack_consumers = None
    decode_body = staticmethod(lambda body, encoding: VirtualChannel.decode_body(VirtualChannel, body, encoding))


_NO_CHANNEL = _NoChannel()
_TASKS = frozenset({"cord.advance", "cord.propose"})
_HEADERS = {"task": "cord.advance", "id": "7f1c", "cord_sent_at": 1.5, "origin": "here"}
_BODY = b'[[], {"problem_id": 1, "step": 2}, {"callbacks": null}]'
_MESSAGE: dict[str, Any] = {
    "body": base64.b64encode(_BODY).decode(),
    "content-type": "application/json",
    "content-encoding": "utf-8",
    "headers": {**_HEADERS, "eta": None, "expires": None, "timelimit": [None, None]},
    "properties": {
        "body_encoding": "base64",
        "delivery_tag": "a",
        "priority": 3,
        "delivery_info": {"exchange": "", "routing_key": "coordinator"},
    },
}
_WORDS = (
    "task", "id", "eta", "compression", "body", "headers", "properties", "delivery_info", "delivery_tag", "exchange",
    "routing_key", "priority", "body_encoding", "content-type", "content-encoding", "cord_sent_at", "__type__",
)  # fmt: skip


def _json_or_text(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return _text(data)


def _changed_message(data: bytes) -> dict[str, Any]:
    """A message of ours with one change for every three bytes; what is left is its body's."""
    message = copy.deepcopy(_MESSAGE)
    changes = data[:12]
    for place in range(0, len(changes) - 2, 3):
        where, what, value = changes[place : place + 3]
        tables = [message, *_tables(message)]
        table = tables[where % len(tables)]
        odd = copy.deepcopy(_ODD[value % len(_ODD)])
        if value >= 250:
            table.pop(_WORDS[what % len(_WORDS)], None)
        else:
            table[_WORDS[what % len(_WORDS)]] = odd
    if len(data) > 12:
        message["body"] = base64.b64encode(data[12:]).decode()
    return message


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape" if data[:1] == b"\xff" else "replace")


def _read(path: Path, options: ReadOptions = ReadOptions()) -> list[ProblemRecord | RejectedRecord] | str:  # noqa: B008
    try:
        return list(read_problems(path, options=options))
    except DatasetError as error:
        return str(error)


@contextmanager
def _folder() -> Iterator[Path]:
    in_memory = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="cord-fuzz-", dir=in_memory))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read_reply(text: str) -> None:
    """What an integrator or a judge replies."""
    assert read_verdict(text) in (True, False, None)
    for rule in SEGMENTATIONS:
        for complete in (True, False):
            found = read_integration(text, rule, complete=complete)
            assert found is None or isinstance(found.text, str)
            if found is not None:
                storable(found.text + (found.answer or "")).encode()


@contextmanager
def _one_fault() -> Iterator[None]:
    """Where a reply may be what it should not be: the errors that are meant, which say so on one line."""
    try:
        yield
    except Reported as reported:
        _check_error(reported.body)
    except (ServerFault, RequestError) as fault:
        _check_shown(str(fault))


def _echoed_in(answer: dict[str, Any], ids: Sequence[int], positions: Sequence[int]) -> Rows:
    """Rows of an echo, whose tokens are those that were sent wherever they are named."""
    rows = echoed_in(answer, ids, positions, lambda token: frozenset({NAMES[token]}))
    tokens = answer["choices"][0]["logprobs"]["tokens"]
    assert all(token == NAMES[sent] for token, sent in zip(tokens, ids, strict=False) if token in NAMES.values())
    return rows


def _check_error(body: object) -> None:
    for status in (status_in(body), 403, 500):
        fault = ServerFault(f"HTTP {status}: {told(body)}", status=status, words=all_words(body))
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
    """A stream comes to the same in whatever pieces it comes, with a text that it repeats or without."""
    whole, pieces = (_outcome(body, step) for step in (len(body) or 1, 1 + len(body) % 7 + len(body) // 64))
    assert whole == pieces
    prefill = RepeatedPrefill.of("<think>\n### Step 1.", USUAL_TAGS) if repeats else None
    _check_written(rule, kind, lambda: _streamed(body, PartsRead(ends, 64, prefill)))


def _outcome(body: bytes, step: int) -> str:
    parts, found = Parts(), []
    try:
        for start in range(0, len(body), step):
            found += parts.feed(body[start : start + step])
        found += parts.end()
    except (ServerFault, Reported) as error:
        return repr((found, type(error), str(error)))
    return repr(found)


def _streamed(body: bytes, read: PartsRead) -> Written:
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
    """A real reply with a change for every three bytes, as it would be sent; what follows is put in as bytes."""
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


_PRESETS = tuple(
    tomllib.loads((files("cord_worker") / "presets" / f"{name}.toml").read_text(encoding="utf-8"))
    for name in ("tiny", "smollm2", "paper-hetero")
)
_ODD: tuple[Any, ...] = (
    0, 1, -1, 2**63, 10**400, 0.0, -0.5, 1e308, math.inf, math.nan, True, False, "", " ", "\0", "\ud800", "a" * 70_000,
    "../..", "cord", "greedy",
    "curation", "mcts", "sample", "integration", "reward_model", "binary_judgment", "random",
    "line_break", "phrases", "judge", "numeric", "choice", "vllm", "openai", "instant", "reward", [], ["wait"],
    [1, None],
    {}, {"model": "prover"}, {"base_url": "http://x"}, {"relative": 0.1}, None,
)  # fmt: skip
_KEYS = (
    "pipeline", "segmentation", "selection", "beam_width", "trajectories", "phrases", "finished", "method", "judge",
    "tolerance", "engine", "head", "openai", "vllm", "workers", "seed", "max_attempts", "dtype", "temperature", "x",
)  # fmt: skip
_TABLES = ("verify", "reward", "integration", "binary", "search", "run", "prover", "x")


def _changed_preset(data: bytes) -> dict[str, Any]:
    """A preset with one change for every three bytes after the first."""
    document: dict[str, Any] = json.loads(json.dumps(_PRESETS[data[0] % len(_PRESETS)] if data else {}))
    for place in range(1, min(len(data), 60) - 2, 3):
        where, what, value = data[place : place + 3]
        rng = random.Random(where)
        tables = [document, *(table for table in _tables(document))]
        table = rng.choice(tables)
        names = (*table, *_KEYS, *_TABLES) if table is document else (*table, *_KEYS)
        name = names[what % len(names)]
        odd = copy.deepcopy(_ODD[value % len(_ODD)])
        if odd is None and value & 1:
            table.pop(name, None)
        else:
            table[name] = odd
    return document


def _tables(value: Any) -> Iterator[dict[str, Any]]:
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield item
        yield from _tables(item)
