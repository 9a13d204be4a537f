"""Which messages are read and which are refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from cord_worker.coordination.broker.incoming_messages import (
    MAX_BYTES,
    SENT_AT,
    BadMessage,
    read_envelope,
    read_message,
)

HEADERS = {"task": "cord.advance", "id": "7f", SENT_AT: 12.5, "eta": "never", "origin": "me@here"}
BODY = [[], {"problem_id": 7, "step": 2}, {"callbacks": ["x"]}]
ENVELOPE: dict[str, Any] = {
    "body": base64.b64encode(json.dumps(BODY).encode()).decode(),
    "content-type": "application/json",
    "content-encoding": "utf-8",
    "headers": HEADERS,
    "properties": {
        "body_encoding": "base64",
        "delivery_tag": "tag",
        "priority": 3,
        "reply_to": "somebody",
        "delivery_info": {"exchange": "", "routing_key": "coordinator"},
    },
}


def read(body: object = BODY, headers: object = HEADERS, content_type: object = "application/json") -> Any:
    return read_message(headers, json.dumps(body).encode(), content_type, "utf-8", {"cord.advance"})


def test_work_is_read_and_rewritten_without_foreign_fields() -> None:
    work = read()
    assert (work.task, work.id, work.problem_id, work.step, work.sent_at) == ("cord.advance", "7f", 7, 2, 12.5)
    assert work.headers()["eta"] is None
    assert json.loads(work.body())[2]["callbacks"] is None
    envelope = read_envelope(json.dumps(ENVELOPE))
    assert "reply_to" not in envelope["properties"]
    assert envelope["properties"]["priority"] == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"body": [[1], {}, {}]}, r"its body is not \[\[\], {arguments}, {options}\]"),
        ({"body": [[], {"problem_id": 1}, {}]}, "its arguments are not problem_id and step"),
        ({"body": [[], {"problem_id": True, "step": 1}, {}]}, "its problem_id is not a valid number"),
        ({"body": [[], {"problem_id": 2**63, "step": 1}, {}]}, "its problem_id is not a valid number"),
        ({"body": "x" * MAX_BYTES}, "its body has 65538 bytes"),
        ({"headers": []}, "its headers are not an object"),
        ({"headers": {**HEADERS, "task": "cord.other"}}, "this process has no task 'cord.other'"),
        ({"headers": {**HEADERS, "id": "\ud800"}}, r"its id is '\\ud800'"),
        ({"headers": {**HEADERS, "compression": "zlib"}}, "it is compressed"),
        ({"content_type": "application/x-python-serialize"}, "its content type is 'application/x-python-serialize'"),
    ],
)
def test_a_message_that_is_no_work_is_refused_with_its_reason(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(BadMessage, match=f"^{told}$"):
        read(**arguments)


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (b"no json", "it is not JSON"),
        (b"[" * 60_000, "it is not JSON"),
        (b"\xff", "it is not JSON"),
        (b"1", "it is not an object"),
        (b"{}", "its properties are not an object"),
        (json.dumps({**ENVELOPE, "body": "?"}).encode(), "its body is not base64"),
        (json.dumps({**ENVELOPE, "properties": {"delivery_info": {}}}).encode(), "its body_encoding is nothing"),
    ],
)
def test_bytes_that_are_no_message_are_refused_with_the_reason(item: bytes, told: str) -> None:
    with pytest.raises(BadMessage, match=f"^{told}$"):
        read_envelope(item)
