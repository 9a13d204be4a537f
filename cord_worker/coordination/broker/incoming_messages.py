"""Checks and rebuilds messages from the broker before Celery sees them.

Any program that reaches the broker can put anything into it. A message names a task, a problem and a step. The message
is rebuilt from these, its id, its origin and the time at which it was sent. Headers, compression and options of
Celery's protocol that this application does not send thus have no effect. A message that cannot be read is a
BadMessage: it is dropped, counted and logged. Nothing of value is lost with it, because the tables know what is owed.

All functions here are pure and raise only BadMessage.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 65_536
"""A message has about 1,000 bytes."""
_MAX_CHARACTERS = 200
_MAX_ID = 2**63 - 1
_MAX_STEP = 2**31 - 1
_SHOWN_CHARACTERS = 80
_JSON = "application/json"
_UTF8 = "utf-8"

SENT_AT = "cord_sent_at"
"""Header of a message: when it was sent, in seconds since the epoch."""


class BadMessage(Exception):
    """The received message is not one of this application; the text says why, in a few words."""


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """What a message asks for. `id` is the message's own, `sent_at` is in seconds since the epoch, and `origin` names
    the sending process."""

    task: str
    id: str
    problem_id: int
    step: int
    sent_at: float | None
    origin: str | None

    def headers(self) -> dict[str, Any]:
        """Celery's headers (protocol 2) of this message."""
        return {
            "lang": "py",
            "task": self.task,
            "id": self.id,
            "root_id": self.id,
            "parent_id": None,
            "group": None,
            "shadow": None,
            "eta": None,
            "expires": None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": "()",
            "kwargsrepr": repr(self._arguments()),
            "origin": self.origin,
            "ignore_result": True,
            **({} if self.sent_at is None else {SENT_AT: self.sent_at}),
        }

    def body(self) -> bytes:
        """Celery's body (protocol 2) of this message."""
        embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        return json.dumps([[], self._arguments(), embedded]).encode()

    def _arguments(self) -> dict[str, int]:
        return {"problem_id": self.problem_id, "step": self.step}


def read_message(
    headers: object, body: object, content_type: object, content_encoding: object, known: Container[str]
) -> TaskMessage:
    """What a message asks for, which must be one of the `known` tasks. Raises BadMessage."""
    named = _mapping(headers, "its headers")
    if named.get("compression"):
        raise BadMessage("it is compressed")
    if content_type != _JSON:
        raise BadMessage(f"its content type is {excerpt(content_type)}")
    if not isinstance(content_encoding, str) or content_encoding.lower() != _UTF8:
        raise BadMessage(f"its content encoding is {excerpt(content_encoding)}")
    task = _text(named.get("task"), "its task")
    if task not in known:
        raise BadMessage(f"this process has no task {excerpt(task)}")
    arguments = _arguments(body)
    sent_at = named.get(SENT_AT)
    is_time = isinstance(sent_at, int | float) and not isinstance(sent_at, bool) and abs(sent_at) < _MAX_ID
    origin = named.get("origin")
    return TaskMessage(
        task=task,
        id=_text(named.get("id"), "its id"),
        problem_id=_number(arguments.get("problem_id"), "its problem_id", _MAX_ID),
        step=_number(arguments.get("step"), "its step", _MAX_STEP),
        sent_at=float(sent_at) if is_time and math.isfinite(sent_at) else None,  # type: ignore[arg-type]
        origin=origin[:_MAX_CHARACTERS] if isinstance(origin, str) and origin.isprintable() else None,
    )


def read_envelope(item: bytes | str) -> dict[str, Any]:
    """A message of a Redis list in the form that kombu's `Message` takes: every part that kombu reads is there and has
    the right type. Raises BadMessage."""
    envelope = _mapping(_json(item, "it"), "it")
    properties = _mapping(envelope.get("properties"), "its properties")
    delivery = _mapping(properties.get("delivery_info"), "its delivery_info")
    if properties.get("body_encoding") != "base64":
        raise BadMessage(f"its body_encoding is {excerpt(properties.get('body_encoding'))}")
    body = envelope.get("body")
    if not isinstance(body, str):
        raise BadMessage("its body is not text")
    try:
        base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise BadMessage("its body is not base64") from None
    headers = _mapping(envelope.get("headers"), "its headers")
    if headers.get("compression"):
        raise BadMessage("it is compressed")
    priority = properties.get("priority")
    return {
        "body": body,
        "content-type": envelope.get("content-type"),
        "content-encoding": envelope.get("content-encoding"),
        "headers": headers,
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": _text(properties.get("delivery_tag"), "its delivery_tag"),
            "delivery_mode": 2,
            "priority": priority if isinstance(priority, int) and 0 <= priority <= 9 else 0,
            "delivery_info": {
                "exchange": _text(delivery.get("exchange"), "its exchange", empty=True),
                "routing_key": _text(delivery.get("routing_key"), "its routing_key"),
            },
        },
    }


def excerpt(value: object) -> str:
    """The beginning of something received, for the log: printable, on one line."""
    if isinstance(value, bytes):
        value = value[:_MAX_CHARACTERS].decode("utf-8", "replace")
    if isinstance(value, str):
        text = ascii(value[:_MAX_CHARACTERS])
    else:
        text = "nothing" if value is None else f"not text but {type(value).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _arguments(body: object) -> Mapping[str, Any]:
    if not isinstance(body, bytes | str):
        raise BadMessage("its body is not text")
    parts = _json(body, "its body")
    if not isinstance(parts, list) or len(parts) != 3 or parts[0] != []:
        raise BadMessage("its body is not [[], {arguments}, {options}]")
    arguments = _mapping(parts[1], "its arguments")
    if set(arguments) != {"problem_id", "step"}:
        raise BadMessage("its arguments are not problem_id and step")
    return arguments


def _json(text: bytes | str, what: str) -> object:
    if len(text) > MAX_BYTES:
        raise BadMessage(f"{what} has {len(text)} bytes")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadMessage(f"{what} is not JSON") from None


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadMessage(f"{what} is not an object" if what == "it" else f"{what} are not an object")
    return value


def _text(value: object, what: str, *, empty: bool = False) -> str:
    if not isinstance(value, str) or len(value) > _MAX_CHARACTERS or not (value or empty) or not value.isprintable():
        raise BadMessage(f"{what} is {excerpt(value)}")
    return value


def _number(value: object, what: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise BadMessage(f"{what} is not a valid number")
    return value
