"""What hostile bytes are given to, and what must hold whatever they are. An exception is a finding, unless it is the
error that a user is meant to read.

Each target is a function of bytes; `fuzz.py` drives them by coverage, `test_targets.py` runs them over the corpus of
what was found before and over random bytes.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from kombu.transport.virtual.base import Channel as VirtualChannel
from kombu.transport.virtual.base import Message as VirtualMessage

from cord_worker.config import RunConfig
from cord_worker.coordination.incoming import BadMessage, Work, read_envelope, read_work, shown
from cord_worker.dataset import ProblemRecord, ReadOptions, RejectedRecord, read_problems
from cord_worker.dataset.jsontext import exact_json
from cord_worker.dataset.roles import MAX_KEY
from cord_worker.dataset.solutions import Undecided, final_answer
from cord_worker.dataset.visible import stripped
from cord_worker.errors import ConfigError, DatasetError
from cord_worker.latex import escaped_reply, lost_backslashes, with_backslashes, without_invalid_escapes
from cord_worker.prompting.integration import read_integration
from cord_worker.prompting.segmentation import TextKind, cut, ends_of
from cord_worker.prompting.trajectory import Segmentation, SegmentationRule
from cord_worker.prompting.verdict import read_verdict
from cord_worker.search.validity import invalid_reason, storable

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
    """What an integrator or a judge replies: read, or told to be unreadable."""
    text = _text(data)
    assert read_verdict(text) in (True, False, None)
    for rule in SEGMENTATIONS:
        for complete in (True, False):
            found = read_integration(text, rule, complete=complete)
            assert found is None or isinstance(found.text, str)


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
