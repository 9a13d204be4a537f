"""The fuzzed target `messages`: reads whatever a queue of the broker may hold."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

from kombu.transport.virtual.base import Channel as VirtualChannel
from kombu.transport.virtual.base import Message as VirtualMessage

from cord_worker.coordination.broker.incoming_messages import (
    BadMessage,
    TaskMessage,
    excerpt,
    read_envelope,
    read_message,
)
from tests.fuzz.inputs import ODD, tables_in, text_of


def messages(data: bytes) -> None:
    """Reads a message from a queue of the broker. Either it is refused with a BadMessage, or it is the same after being
    written and read once more. In both cases what is logged of it is short and printable.

    The first byte says what the rest is: a whole message, its body, its headers, or changes to a message of ours."""
    try:
        work = _received(data)
    except BadMessage as error:
        logged = str(error)
    else:
        headers, body = work.headers(), work.body()
        assert read_message(headers, body, "application/json", "utf-8", _TASKS) == work
        json.dumps(headers, allow_nan=False).encode()
        logged = excerpt(body)
    assert logged.isprintable()
    assert len(logged) < 300


def _received(data: bytes) -> TaskMessage:
    kind, rest = (data[0] % 4, data[1:]) if data else (0, b"")
    if kind == 1:
        return read_message(_HEADERS, rest, "application/json", "utf-8", _TASKS)
    if kind == 2:
        return read_message(_json_or_text(rest), _BODY, "application/json", "utf-8", _TASKS)
    envelope = read_envelope(rest if kind == 0 else json.dumps(_changed_message(rest)).encode())
    message = VirtualMessage(envelope, channel=_NO_CHANNEL)
    assert not message.errors
    assert isinstance(message.delivery_tag, str)
    return read_message(message.headers, message.body, message.content_type, message.content_encoding, _TASKS)


class _NoChannel:
    """The part of a channel that a message uses."""

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
_KEYS = (
    "task", "id", "eta", "compression", "body", "headers", "properties", "delivery_info", "delivery_tag", "exchange",
    "routing_key", "priority", "body_encoding", "content-type", "content-encoding", "cord_sent_at", "__type__",
)  # fmt: skip


def _json_or_text(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return text_of(data)


def _changed_message(data: bytes) -> dict[str, Any]:
    """A message of ours with up to four changes, one for every three of the first twelve bytes. If there are more
    bytes, they become its body."""
    message = copy.deepcopy(_MESSAGE)
    changes = data[:12]
    for start in range(0, len(changes) - 2, 3):
        which_table, which_key, value = changes[start : start + 3]
        tables = [message, *tables_in(message)]
        table = tables[which_table % len(tables)]
        key = _KEYS[which_key % len(_KEYS)]
        if value >= 250:
            table.pop(key, None)
        else:
            table[key] = copy.deepcopy(ODD[value % len(ODD)])
    if len(data) > 12:
        message["body"] = base64.b64encode(data[12:]).decode()
    return message
