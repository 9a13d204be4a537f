"""Parses a server's replies within bounds: of bytes, of nesting, of digits. Nothing here waits or connects.

Every reply becomes a JSON object, an error that the server reports itself (`Reported`), or a `ServerFault` that says
what is wrong with it. Parsing stops as soon as a reply breaks a bound.

| bound | reason |
|---|---|
| 1 MiB + twice the request + 512 bytes for each token asked for or scored | whole replies: a token takes 4 to 12 bytes as text, up to 200 with its log-probability; some servers repeat the request |
| 1 MiB + twice the request + 4 KiB for each token asked for | streams: one part per token, mostly repeated fields, which are not kept |
| 1 MiB | one part of a stream |
| 64 levels | replies have 5 to 8; the JSON parser fails at about 1,000 |
| 64 KiB | the body of an error; the rest is not read |
"""  # noqa: E501 - a table

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from cord_worker.engines.openai.faults import ServerFault

Document = dict[str, Any]

ERROR_BYTES = 64 * 1024
LIST_BYTES = 8 * 1024 * 1024
"""Limit for lists of models: the longest known list, of a host with hundreds of models, has 1 MiB."""
_BASE_BYTES = 1024 * 1024
_TOKEN_BYTES = 512
_STREAMED_TOKEN_BYTES = 4096
_PART_BYTES = 1024 * 1024
_MOST_LEVELS = 64
_WORD_CHARACTERS = 500
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.?[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
"""An unfinished string extends to the end of the text. The pattern never reads a character twice."""
_WORDS = ("code", "type", "status", "message", "msg", "detail")
"""Fields of an error that tell its cause."""
_CODES = ("code", "type", "status")
"""Those of `_WORDS` that hold a name instead of a sentence."""
_BOM = "\ufeff"


class Reported(Exception):
    """A server reports an error in place of an answer."""

    def __init__(self, body: object) -> None:
        super().__init__("the server reports an error")
        self.body = body


def reply_limit(request: Document, request_bytes: int) -> int:
    """Maximum number of bytes of the reply to the completion `request`, which has `request_bytes` itself."""
    prompt = request.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], list) else 1
    tokens = int(request.get("max_tokens", 0)) * prompts
    if request.get("stream"):
        return _BASE_BYTES + 2 * request_bytes + _STREAMED_TOKEN_BYTES * tokens
    if isinstance(prompt, list) and (request.get("echo") or request.get("prompt_logprobs") is not None):
        tokens += len(prompt)
    return _BASE_BYTES + 2 * request_bytes + _TOKEN_BYTES * tokens


def too_long(limit: int) -> ServerFault:
    """The fault of a reply that is longer than `limit` bytes."""
    return ServerFault(f"its answer is longer than {limit} bytes, more than what was asked for can take")


def document(body: bytes) -> Document:
    """The whole reply, a JSON object. Raises ServerFault, Reported."""
    found = _object(_parsed(body))
    if found.get("error") and not found.get("choices"):
        raise Reported(found["error"])
    return found


def error_in(body: bytes) -> object:
    """The content of an error's body: its JSON, or its text if it is not JSON or was cut."""
    try:
        return _parsed(body)
    except ServerFault:
        return body.decode("utf-8", "replace").strip()


class Parts:
    """Parser of server-sent events, each of which holds one JSON object; `feed` takes the bytes as they arrive.

    Until 2025, llama.cpp sent errors in lines of another form (`error: {…}`); they are read, too.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._searched = 0
        self._data: list[bytes] = []
        self._size = 0
        self._is_error = False
        self.is_done = False

    def feed(self, data: bytes) -> Iterator[Document]:
        """The parts that these bytes complete. Raises ServerFault, Reported."""
        self._rest += data
        begin = 0
        while not self.is_done and (end := self._rest.find(b"\n", self._searched)) >= 0:
            line = bytes(self._rest[begin:end])
            begin = self._searched = end + 1
            yield from self._line(line.rstrip(b"\r"))
        del self._rest[:begin]
        self._searched = len(self._rest)
        self._require_short(len(self._rest))

    def end(self) -> Iterator[Document]:
        """The last part, if the stream ends without the blank line after it. Raises ServerFault, Reported."""
        line, self._rest = bytes(self._rest), bytearray()
        if not self.is_done:
            yield from self._line(line.rstrip(b"\r"))
        if not self.is_done:
            yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[Document]:
        if not line:
            yield from self._event()
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._size += len(value)
            self._require_short(self._size)
            self._data.append(value)
        elif field == b"event":
            self._is_error = value == b"error"
        elif field == b"error" and value.strip():
            found = error_in(value)
            raise Reported(_reported_in(found) or found)
        elif line.startswith(b"{") and (error := _reported_in(error_in(line))):  # an error in place of a stream
            raise Reported(error)

    def _event(self) -> Iterator[Document]:
        data, is_error = b"\n".join(self._data), self._is_error
        self._data, self._size, self._is_error = [], 0, False
        if not data.strip():
            return
        if data.startswith(b"[DONE]"):
            self.is_done = True
            return
        if is_error:
            found = error_in(data)
            raise Reported(_reported_in(found) or found)
        part = _object(_parsed(data))
        if part.get("error"):
            raise Reported(part["error"])
        yield part

    @staticmethod
    def _require_short(size: int) -> None:
        if size > _PART_BYTES:
            raise ServerFault(f"a part of its answer is longer than {_PART_BYTES} bytes")


def message_in(body: object) -> str:
    """The server's own words, from any of the usual fields."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            inner = inner.get("message") or inner.get("detail") or json.dumps(inner)
        return str(inner)
    return str(body or "no explanation")


def all_words(body: object) -> str:
    """All that the server says about the fault, because its code or type may say more than the message. Fields that may
    repeat the request are left out, because a question may hold any word."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            return " ".join(all_words(inner[name]) for name in _WORDS if inner.get(name))
        return all_words(inner)
    if isinstance(body, list):
        return " ".join(map(all_words, body))
    return str(body or "")[:_WORD_CHARACTERS]


def codes_in(body: object) -> frozenset[str]:
    """The names that the server gives the fault, in lower case: values of `code`, `type` and `status`."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            return frozenset(value.lower() for name in _CODES if isinstance(value := inner.get(name), str))
        return codes_in(inner) if isinstance(inner, list) else frozenset()
    return frozenset().union(*map(codes_in, body)) if isinstance(body, list) else frozenset()


def status_in(body: object) -> int | None:
    """The HTTP status that an error in a reply of status 200 names."""
    code = body.get("code") if isinstance(body, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The pause that the server asks for, in seconds; the header gives milliseconds, seconds or a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, TypeError, OverflowError):
                continue
        if not math.isnan(seconds):
            return max(0.0, seconds)
    return None


def _parsed(body: bytes) -> object:
    try:
        text = body.decode().removeprefix(_BOM)
        _require_flat(text)
        return json.loads(text)
    except ValueError as error:  # it is not UTF-8, not JSON, or holds a number with thousands of digits
        raise ServerFault(f"its answer is malformed ({error})") from None


def _require_flat(text: str) -> None:
    if text.count("[") + text.count("{") <= _MOST_LEVELS:
        return
    level = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        first = text[found.start()]
        if first in "[{":
            level += 1
            if level > _MOST_LEVELS:
                raise ServerFault(f"its answer is malformed (brackets nested more than {_MOST_LEVELS} deep)")
        elif first in "]}":
            level -= 1


def _object(answer: object) -> Document:
    if not isinstance(answer, dict):
        raise ServerFault(f"its answer is malformed (no JSON object, but {str(answer)[:80]!r})")
    return answer


def _reported_in(body: object) -> object:
    if isinstance(body, dict):
        return body.get("error") or (body if "message" in body else None)
    return None
