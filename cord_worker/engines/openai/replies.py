"""Reading what a server sends, within bounds: of bytes, of depth, of the numbers in it. Nothing here waits or connects.

Whatever a server sends becomes a JSON object, a fault that it reports itself (`Reported`), or a `ServerFault` that says
what is wrong with it. A reply that breaks a bound is read no further.

| bound | why this much |
|---|---|
| 1 MiB, twice the request, 512 bytes for each token asked for or scored | whole replies: a token takes 4 to 12 bytes as text, up to 200 with its log-probability; some servers repeat the request |
| 1 MiB, twice the request, 4 KiB for each token asked for | streams: one part a token, most of it what the parts have in common; nothing of it is kept |
| 1 MiB | one part of a stream |
| 64 levels | replies have 5 to 8; the JSON parser stops the thread at 1,000 or so |
| 64 KiB | the body of an error, of which the rest is left out |
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
"""For lists of models: the longest known, of an exchange that serves hundreds, has one."""
_BASE_BYTES = 1024 * 1024
_TOKEN_BYTES = 512
_STREAMED_TOKEN_BYTES = 4096
_PART_BYTES = 1024 * 1024
_MOST_LEVELS = 64
_WORD_CHARACTERS = 500
_MARKS = re.compile(r'"[^"\\]*+(?:\\.?[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
"""Strings, an unfinished one to the end of the text, and brackets. It never looks at a character twice."""
_WORDS = ("code", "type", "status", "message", "msg", "detail")
"""Fields of an error that say what it is."""
_BOM = "\ufeff"


class Reported(Exception):
    """A server reports an error where an answer should be."""

    def __init__(self, body: object) -> None:
        super().__init__("the server reports an error")
        self.body = body


def longest(request: Document, request_bytes: int) -> int:
    """Bytes that the reply to a completion's `request` may take at most."""
    prompt = request.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], list) else 1
    tokens = int(request.get("max_tokens", 0)) * prompts
    if request.get("stream"):
        return _BASE_BYTES + 2 * request_bytes + _STREAMED_TOKEN_BYTES * tokens
    if isinstance(prompt, list) and (request.get("echo") or request.get("prompt_logprobs") is not None):
        tokens += len(prompt)
    return _BASE_BYTES + 2 * request_bytes + _TOKEN_BYTES * tokens


def too_long(limit: int) -> ServerFault:
    """The fault of a reply that is longer than `longest` allows."""
    return ServerFault(f"its answer is longer than {limit} bytes, more than what was asked for can take")


def document(body: bytes) -> Document:
    """The whole reply, a JSON object. Raises ServerFault, Reported."""
    found = _object(_parsed(body))
    if found.get("error") and not found.get("choices"):
        raise Reported(found["error"])
    return found


def error_in(body: bytes) -> object:
    """What an error's body holds: its JSON, or its text as it is; of one that was cut, the text."""
    try:
        return _parsed(body)
    except ServerFault:
        return body.decode("utf-8", "replace").strip()


class Parts:
    """Server-sent events, fed as their bytes come in, of which each holds one JSON object.

    Reads streams as llama.cpp wrote them until 2025 too: its errors stand in lines of their own kind (`error: {…}`).
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._searched = 0
        self._data: list[bytes] = []
        self._size = 0
        self._is_error = False
        self.is_done = False

    def feed(self, data: bytes) -> Iterator[Document]:
        """The parts that are whole with these bytes. Raises ServerFault, Reported."""
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
        """The last part, where the stream ends without the line that ends it. Raises ServerFault, Reported."""
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
        elif line.startswith(b"{") and (error := _reported_in(error_in(line))):  # no stream at all
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


def told(body: object) -> str:
    """The server's own words, from whichever of the usual places it put them in."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            inner = inner.get("message") or inner.get("detail") or json.dumps(inner)
        return str(inner)
    return str(body or "no explanation")


def all_words(body: object) -> str:
    """What the server said of the fault: its code or type may say more than the message. What it repeats of the request
    is left out: a question may hold any word."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            return " ".join(all_words(inner[name]) for name in _WORDS if inner.get(name))
        return all_words(inner)
    if isinstance(body, list):
        return " ".join(map(all_words, body))
    return str(body or "")[:_WORD_CHARACTERS]


def status_in(body: object) -> int | None:
    """The HTTP status that an error within a reply of status 200 names."""
    code = body.get("code") if isinstance(body, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait; it names milliseconds, seconds or a date."""
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
    except ValueError as error:  # no UTF-8, no JSON, or a number of thousands of digits
        raise ServerFault(f"its answer is malformed ({error})") from None


def _require_flat(text: str) -> None:
    if text.count("[") + text.count("{") <= _MOST_LEVELS:
        return
    level = 0
    for mark in _MARKS.finditer(text):
        first = text[mark.start()]
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
