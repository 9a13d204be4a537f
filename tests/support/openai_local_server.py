"""A small server on loopback with OpenAI's HTTP API, and with answers and faults chosen by the test.

It records its requests, so that tests see what goes over the wire. Scripted replies come first, one per request to
their path; then the server answers by `answers`.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """One reply; `drop_after` closes the connection after so many bytes of the body, `hold` waits for the event."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    drop_after: int | None = None
    hold: threading.Event | None = None


@dataclass(frozen=True)
class Asked:
    """A received request; `at` in seconds of the monotonic clock."""

    path: str
    body: Json
    headers: dict[str, str]
    at: float


class LocalServer:
    """`answers` maps a path to what answers it: called with the request's body, gives a body, chunks or a Reply."""

    def __init__(self, answers: dict[str, Callable[[Json], Any]]) -> None:
        self.answers = answers
        self.script: dict[str, deque[Reply]] = defaultdict(deque)
        self.asked: list[Asked] = []
        self.at_once = 0
        self.most_at_once = 0
        self.lock = threading.Lock()
        self.port = 0
        self.connections: set[socket.socket] = set()

    @property
    def url(self) -> str:
        """The value of `base_url`."""
        return f"http://127.0.0.1:{self.port}/v1"

    def bodies(self, path: str) -> list[Json]:
        """Bodies of the requests to `path`, oldest first."""
        return [asked.body for asked in self.asked if asked.path == path]

    def forget(self) -> None:
        """Forgets the requests so far."""
        self.asked.clear()
        self.most_at_once = 0

    @contextmanager
    def running(self) -> Iterator[LocalServer]:
        """Serves in threads until the end of the block; a second time at the same address. Connections end with it."""
        outer = self

        class Handler(_Handler):
            server_state = outer

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
            self.hang_up()

    def hang_up(self) -> None:
        """Ends every connection."""
        with self.lock:
            connections, self.connections = self.connections, set()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: LocalServer

    def log_message(self, *_: object) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        with self.server_state.lock:
            self.server_state.connections.add(self.connection)

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _serve(self, body: Json) -> None:
        state = self.server_state
        with state.lock:
            state.asked.append(
                Asked(self.path, body, {k.lower(): v for k, v in self.headers.items()}, time.monotonic())
            )
            state.at_once += 1
            state.most_at_once = max(state.most_at_once, state.at_once)
            scripted = state.script[self.path].popleft() if state.script[self.path] else None
        try:
            reply = scripted or self._answer(body)
            if reply.hold is not None:
                reply.hold.wait(30)
        finally:
            # Before the reply is sent: whoever has received it no longer counts.
            with state.lock:
                state.at_once -= 1
        with suppress(BrokenPipeError, ConnectionResetError):
            self._reply(reply)

    def _answer(self, body: Json) -> Reply:
        answer = self.server_state.answers.get(self.path)
        if answer is None:
            return Reply({"error": {"message": f"no route {self.path}"}}, status=404)
        reply = answer(body)
        if isinstance(reply, list) and not body.get("stream"):
            whole = "".join(part["choices"][0].get("text", "") for part in reply if part["choices"])
            return Reply({"choices": [{"index": 0, "text": whole, "finish_reason": "stop"}]})
        return reply if isinstance(reply, Reply) else Reply(reply)

    def _reply(self, reply: Reply) -> None:
        if isinstance(reply.body, list):
            lines = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in reply.body]
            payload, kind = b"".join([*lines, b"data: [DONE]\n\n"]), "text/event-stream"
        else:
            payload, kind = json.dumps(reply.body).encode(), "application/json"
        payload = payload if reply.raw is None else reply.raw
        self.send_response(reply.status)
        for name, value in {"content-type": kind, **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload if reply.drop_after is None else payload[: reply.drop_after])
        self.wfile.flush()
        if reply.drop_after is not None:
            self.close_connection = True


def models(owner: str, **fields: Any) -> Callable[[Json], Json]:
    """Answers /v1/models with one model, `served`."""
    card = {"id": "served", "object": "model", "owned_by": owner, **fields}
    return lambda _: {"object": "list", "data": [card]}


def completion(text: str, reason: str | None = "stop", **fields: Any) -> Callable[[Json], Json]:
    """Answers a request for a whole completion; counts the prompt's tokens if it is given as ids."""

    def answer(body: Json) -> Json:
        prompt = body.get("prompt", "")
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": min(3, body.get("max_tokens") or 3),
            "prompt_tokens_details": {"cached_tokens": 2},
        }
        choice = {"index": 0, "text": text, "finish_reason": reason, **fields}
        if body.get("prompt_logprobs") is not None:
            choice["prompt_logprobs"] = [None, *({str(token): {"logprob": -token / 1000}} for token in prompt[1:])]
        return {"choices": [choice], "usage": usage if isinstance(prompt, list) else None}

    return answer


def chunks(*texts: str, reason: str | None = "stop", chat: bool = False, usage: Json | None = None) -> list[Json]:
    """A stream of `texts`, the reason in the last one, the usage after it."""

    def choice(text: str, reason: str | None) -> Json:
        return {"index": 0, "finish_reason": reason, **({"delta": {"content": text}} if chat else {"text": text})}

    parts: list[Json] = [{"choices": [choice(text, None)]} for text in texts]
    parts.append({"choices": [choice("", reason)]})
    return [*parts, *([{"choices": [], "usage": usage}] if usage else [])]
