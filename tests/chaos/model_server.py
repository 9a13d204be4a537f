"""A hosted model for the chaos suite: a server with OpenAI's chat API whose texts depend on the request only, and that
misbehaves for a while when it is told to.

`python -m tests.chaos.model_server PORT`; 0 takes a free port, which is printed.

Everything is written to the socket directly: a server library would refuse to send these replies.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from tests.chaos.fleet import REPOSITORY

_WORDS = ("add", "the", "number", "of", "apples", "to", "what", "is", "left", "then", "twice", "half", "carry", "one")
_SECONDS = float(os.environ.get("CORD_INSTANT_SECONDS", "0"))
_MEGABYTE = b"x" * 2**20
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
Body = dict[str, Any]
Writing = AsyncIterator[bytes]


class ModelServer:
    """The server's process, always at the same port; ends with the block."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """The value of `base_url`."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Starts the server at the port that it had before; returns when it serves."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.model_server", str(self._port)],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "CORD_INSTANT_SECONDS": str(self._seconds),
                "PYTHONPATH": str(REPOSITORY),
            },
        )
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def kill(self) -> None:
        """SIGKILL; connections that are open break."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()

    def misbehave(self, how: str, seconds: float) -> int:
        """Answers every request as `_MISBEHAVIOURS` says for this time; returns how many requests were hit."""
        before = self._told(f"misbehave {how} {seconds}")
        time.sleep(seconds)
        return self._told("count") - before

    def _told(self, what: str) -> int:
        with urllib.request.urlopen(f"{self.url}/control/{what.replace(' ', '/')}", timeout=10) as answer:
            return int(answer.read())


def texts(body: Body) -> list[str]:
    """The reply in parts: steps until the thinking ends, or the final answer after its end."""
    said = [message["content"] for message in body["messages"]]
    chance = random.Random(hashlib.blake2b(json.dumps([said, body.get("seed")]).encode(), digest_size=16).digest())
    if "</think>" in said[-1]:
        return ["The", " final", " answer", " is", f" {chance.randint(0, 99)}."]
    number, parts = len(re.findall(r"### Step \d+", said[-1])), []
    while True:
        parts += [f" {word}" for word in chance.choices(_WORDS, k=chance.randint(6, 20))]
        parts.append(f" {chance.randint(0, 999)}.")
        if number >= 6 or chance.random() < number / 8:
            return [*parts, "\n</think>"]
        number += 1
        parts.append(f"\n### Step {number}.")


def chunks(body: Body) -> list[bytes]:
    """The stream of the reply, cut at the requested number of tokens."""
    parts, most = texts(body), int(body["max_tokens"])
    reason = "length" if len(parts) > most else "stop"
    choices: list[Body] = [{"index": 0, "delta": {"content": part}} for part in parts[:most]]
    return [
        *(_event({"choices": [choice]}) for choice in choices),
        _event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}),
        b"data: [DONE]\n\n",
    ]


def _event(part: Body) -> bytes:
    return b"data: " + json.dumps(part).encode() + b"\n\n"


async def _error(status: str, body: bytes = b"") -> Writing:
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
    yield head + body


async def _internal(_: Body) -> Writing:
    async for piece in _error("500 Internal Server Error"):
        yield piece


async def _limited(_: Body) -> Writing:
    async for piece in _error("429 Too Many Requests", b'{"error": {"message": "slow down"}}'):
        yield piece


async def _page(_: Body) -> Writing:
    yield b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html>\x1b[2Jbad gateway</html>"


async def _absurd(body: Body) -> Writing:
    yield _HEAD
    yield random.choice(
        [
            _event({"choices": [{"delta": {"content": 5}}]}),
            _event({"choices": [{"delta": {"content": " two"}, "finish_reason": {"stop": ["stop"]}}]}),
            _event({"choices": [{"delta": ["a"]}, {"delta": {"content": "b"}}], "usage": -1}),
            _event({"choices": {"delta": 10**300}, "data": [[]], "usage": {"prompt_tokens": [10**30]}}),
            _event({"choices": [{"delta": {"content": "\ud800"}}], "error": {"message": "\ud800\x1b[2J\0"}}),
        ]
    )
    yield chunks(body)[-2] if body else b""


async def _endless(_: Body) -> Writing:
    yield _HEAD
    while True:
        yield b": " + _MEGABYTE + b"\n" + 10_000 * b'data: {"choices": [{"delta": {"content": ""}}]}\n\n'


async def _huge(_: Body) -> Writing:
    yield _HEAD + b'data: {"choices": [{"delta": {"content": "'
    for piece in itertools.repeat(_MEGABYTE, 100):
        yield piece
    yield b'"}}]}\n\n'


async def _deep(_: Body) -> Writing:
    yield _HEAD + b"data: " + 100_000 * b"[" + b"\n\n"


async def _broken_off(body: Body) -> Writing:
    yield _HEAD + (chunks(body)[0][:-3] if body else b"{")


_MISBEHAVIOURS: dict[str, Callable[[Body], Writing]] = {
    "500": _internal,
    "429": _limited,
    "page": _page,
    "absurd": _absurd,
    "endless": _endless,
    "huge": _huge,
    "deep": _deep,
    "broken-off": _broken_off,
}
"""Its replies: none is an answer, so that the request is repeated, except `pieces`, which is a slow answer."""


class _Server:
    def __init__(self) -> None:
        self._how, self._until, self._hit = "", 0.0, 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while (line := await reader.readline()).strip():
                headers = {}
                while header := (await reader.readline()).strip():
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                content = await reader.readexactly(int(headers.get("content-length", 0)))
                async for piece in self._reply(line.split()[1].decode(), json.loads(content) if content else {}):
                    writer.write(piece)
                    await writer.drain()
                break
        writer.close()

    async def _reply(self, path: str, body: Body) -> Writing:
        if "/control/" in path:
            _, _, order = path.partition("/control/")
            if order.startswith("misbehave"):
                _, self._how, seconds = order.split("/")
                self._until = time.monotonic() + float(seconds)
            yield _json(self._hit)
        elif time.monotonic() < self._until:
            self._hit += 1
            if self._how == "pieces":
                async for piece in self._well(path, body):
                    for start in range(0, len(piece), 3):
                        yield piece[start : start + 3]
                        await asyncio.sleep(0)
            else:
                async for piece in _MISBEHAVIOURS[self._how](body):
                    yield piece
        else:
            async for piece in self._well(path, body):
                yield piece

    async def _well(self, path: str, body: Body) -> Writing:
        if path.endswith("/models"):
            yield _json({"object": "list", "data": [{"id": "gamma", "object": "model", "owned_by": "chaos"}]})
        elif path.endswith("/chat/completions"):
            await asyncio.sleep(_SECONDS)
            yield _HEAD
            for part in chunks(body):
                yield part
        else:
            async for piece in _error("404 Not Found"):
                yield piece


def _json(document: object) -> bytes:
    content = json.dumps(document).encode()
    return f"HTTP/1.1 200 OK\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n".encode() + content


async def _serve(port: int) -> None:
    server = await asyncio.start_server(_Server().connected, "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
