"""Hostile replies, byte for byte: bounded in size, depth and time, and counted as the server's fault."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import pytest

from cord_worker.config import OpenAiOptions
from cord_worker.engines.openai.client import OpenAiClient
from cord_worker.engines.openai.faults import Means, ServerFault
from cord_worker.engines.openai.requests import PartsReader, Written, written, written_in_parts
from cord_worker.engines.openai.scoring import Rows, echoed_in, next_tokens_in, rows_in
from cord_worker.engines.openai.server import cards_in
from cord_worker.errors import ContentFilterError, EngineFaultError, NotFiniteError
from cord_worker.prompting.segmentation import ends_of
from cord_worker.prompting.trajectory import PROMPTED

ENDS = ends_of(PROMPTED, "step")
OK = b"HTTP/1.1 200 OK\r\n"
GOOD = {"choices": [{"text": " Two.", "finish_reason": "stop"}]}
Write = Callable[[socket.socket], None]


@contextmanager
def running_server(write: Write) -> Iterator[str]:
    """The URL of a server that reads one request per connection, then calls `write` with it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            asked = b""
            while not asked.endswith(b"}"):  # unread bytes would break the connection
                asked += connection.recv(65536)
            write(connection)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.close()


def send_pieces(*pieces: bytes) -> Write:
    def write(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)

    return write


def send_response(content: bytes, *headers: bytes) -> Write:
    lines = [*headers, b"content-length: %d" % len(content)]
    return send_pieces(OK + b"\r\n".join(lines) + b"\r\n\r\n" + content)


def request_result(write: Write, *, streams: bool = False, seconds: float = 20.0) -> Written:
    """The result of a request for 16 tokens."""

    async def ask(url: str) -> Written:
        client = OpenAiClient(OpenAiOptions(base_url=url, timeout_seconds=seconds), slots=1)
        body: dict[str, Any] = {"prompt": [1, 2, 3], "max_tokens": 16}
        try:
            if streams:
                return await client.stream("/completions", body, lambda parts: written_in_parts(parts, ENDS, 16))
            return written(await client.post("/completions", body), "vllm", ENDS)
        finally:
            await client.close()

    with running_server(write) as url:
        return asyncio.run(ask(url))


def fault_of(write: Write, **how: Any) -> ServerFault:
    with pytest.raises(ServerFault) as caught:
        request_result(write, **how)
    return caught.value


def send_forever(piece: bytes, *, head: bytes, pause: float = 0.0) -> Write:
    def write(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            time.sleep(pause)

    return write


def http_chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
MEGABYTE = b" " * 2**20


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (OK + b"content-length: 2147483648\r\n\r\n", MEGABYTE),
        (CHUNKED, http_chunk(MEGABYTE)),
        (OK + b"\r\n", MEGABYTE),
        (OK + b"\r\n", b": keep-alive\n" * 10_000),
        (OK + b"\r\n", b'data: {"choices": []}\n\n' * 10_000),
        (OK + b"\r\n", b'data: {"choices": [{"text": "xxxxxxxx"}]}\n\n' * 10_000),
    ],
)
def test_an_endless_body_is_read_up_to_its_bound_in_constant_memory(head: bytes, piece: bytes, streams: bool) -> None:
    before = psutil.Process().memory_info().rss
    began = time.process_time()
    found = fault_of(send_forever(piece, head=head), streams=streams)
    assert "longer than" in str(found) or "more than" in str(found)
    assert found.means is Means.BROKEN
    assert time.process_time() - began < 10
    assert psutil.Process().memory_info().rss - before < 64 * 2**20


@pytest.mark.parametrize("head", [b"", OK, OK + b"x-a: b\r\n", CHUNKED, OK + b"content-length: 999999\r\n\r\n"])
def test_slowly_arriving_bytes_share_the_time_limit_of_the_whole_request(head: bytes) -> None:
    found = fault_of(send_forever(b"x", head=head, pause=0.05), seconds=1.0)
    assert "within 1 s" in str(found) or "malformed" in str(found) or "no connection" in str(found)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (send_response(b"[" * 100_000), "nested"),
        (send_response(b'{"a":' * 100_000), "nested"),
        (send_response(b'{"choices": ' + b"1" * 5000 + b"}"), "malformed"),
        (send_response(b""), "malformed"),
        (send_response(b"<html>\x1b[2J</html>", b"content-type: text/html"), "malformed"),
        (send_response(b"\xff\xfe{\x00}\x00"), "malformed"),
        (send_response(gzip.compress(json.dumps(GOOD).encode()), b"content-encoding: gzip"), "compressed"),
        (send_response(b"x", b"content-encoding: br"), "compressed"),
        (send_response(b"x", b"x-huge: " + b"x" * 300_000), "no connection"),
        (send_pieces(OK + b"content-length: 100\r\n\r\n{"), "no connection"),
        (send_pieces(b"nonsense\r\n\r\n"), "no connection"),
        (send_response(b'data: {"choices": []}\n\n', b"content-type: text/event-stream"), "malformed"),
        (send_response(json.dumps({"choices": []}).encode()), "malformed"),
        (send_response(json.dumps({"choices": GOOD["choices"] * 2}).encode()), "malformed"),
    ],
)
def test_an_invalid_answer_is_the_servers_fault_in_one_short_line(write: Write, says: str) -> None:
    found = fault_of(write)
    assert says in str(found)
    assert found.means is Means.BROKEN
    assert str(found).isprintable()
    assert len(str(found)) < 600


@pytest.mark.parametrize("location", [b"file:///etc/passwd", b"http://127.0.0.1:1/x", b"/v1/completions", b"http://[x"])
def test_no_redirect_is_followed(location: bytes) -> None:
    found = fault_of(send_pieces(b"HTTP/1.1 302 Found\r\nlocation: " + location + b"\r\ncontent-length: 0\r\n\r\n"))
    assert found.means in (Means.ACCESS, Means.BROKEN)


def test_an_answer_of_http_1_0_and_one_with_a_wrong_content_type_are_read() -> None:
    content = json.dumps(GOOD).encode()
    assert request_result(send_pieces(b"HTTP/1.0 200 OK\r\n\r\n" + content)).text == " Two."
    assert request_result(send_response(content, b"content-type: image/png; charset=klingon")).text == " Two."
    assert request_result(send_pieces(b"HTTP/1.1 100 Continue\r\n\r\n" * 50 + OK + b"\r\n" + content)).text == " Two."


def test_an_error_with_an_endless_body_is_classified_by_its_status() -> None:
    found = fault_of(send_forever(MEGABYTE, head=b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1e999\r\n\r\n"))
    assert found.means is Means.BUSY


def test_an_error_message_is_shown_short_and_escaped() -> None:
    message = "\x1b[2J\x1b]0;owned\x07\r\n\ud800\0\u202e" + "x" * 50_000
    content = json.dumps({"error": {"message": message}}).encode()
    head = b"HTTP/1.1 500 Oops\r\ncontent-length: %d\r\n\r\n" % len(content)
    found = str(fault_of(send_pieces(head + content)))
    assert found.startswith(r"HTTP 500: \x1b[2J\x1b]0;owned\x07\r\n\ud800\x00\u202exxx")
    assert found.isprintable()
    assert len(found) < 700


@pytest.mark.parametrize("reason", [{"a": 1}, [1], 5, True, 1e400])
def test_an_invalid_finish_reason_is_the_servers_fault(reason: Any) -> None:
    with pytest.raises(ServerFault, match="malformed"):
        written({"choices": [{"text": " x", "finish_reason": reason}]}, "vllm", ENDS)


def test_an_invalid_finish_reason_is_not_hidden_by_a_later_valid_one() -> None:
    parts = PartsReader(ENDS, 16)
    with pytest.raises(ServerFault, match="malformed"):
        parts.add({"choices": [{"text": " two", "finish_reason": {"stop": 1}}]})


@pytest.mark.parametrize(
    "choice", [{"text": 5}, {"text": ["a"]}, {"message": []}, {"message": {"content": {"a": 1}}}, {"delta": "x"}, 5, []]
)
def test_a_choice_without_a_text_is_the_servers_fault(choice: Any) -> None:
    with pytest.raises(ServerFault, match="malformed"):
        written({"choices": [choice]}, "vllm", ENDS)


@pytest.mark.parametrize("place", ["message", "delta"])
def test_a_refusal_in_place_of_a_text_counts_as_filtered(place: str) -> None:
    choice = {place: {"content": None, "refusal": "I will\x1b[2J not."}, "finish_reason": "stop"}
    with pytest.raises(ContentFilterError, match=r"refusal \('I will\\x1b\[2J not\.'\)"):
        written({"choices": [choice]}, "vllm", ENDS)
    said = {place: {"content": " x", "refusal": None}, "finish_reason": "stop"}
    assert written({"choices": [said]}, "vllm", ENDS).text == " x"


@pytest.mark.parametrize("count", [-1, 10**30, 2**40, 0.5, float("nan"), "7", [1], True, None])
def test_an_impossible_token_count_is_none(count: Any) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": count, "prompt_tokens_details": {"cached_tokens": count}}
    found = written({**GOOD, "usage": usage}, "vllm", ENDS).usage
    assert (found.prompt, found.completion, found.cached) == (None, None, None)


@pytest.mark.parametrize(
    "value", [None, "x", [1], True, float("nan"), float("inf"), -float("inf"), -9999.0, -(10**400)]
)
def test_a_log_probability_that_is_not_a_number_fails_only_its_request(value: Any) -> None:
    for answer, read in scores(value):
        with pytest.raises(NotFiniteError):
            read(answer, (5, 6, 7), (2,))


def test_a_log_probability_above_zero_is_the_engines_fault_and_rounding_is_not() -> None:
    for (answer, read), (rounded, _) in zip(scores(10**300), scores(0.001), strict=True):
        with pytest.raises(EngineFaultError, match="above"):
            read(answer, (5, 6, 7), (2,))
        assert read(rounded, (5, 6, 7), (2,)).log_probabilities == (0.001,)


NAMES = {5: "a", 6: "b", 7: "c", 8: "d"}


def rows_of_echo(answer: Any, ids: Any, positions: Any) -> Rows:
    return echoed_in(answer, ids, positions, lambda token: frozenset({NAMES[token]}))


def echo(tokens: Any, values: list[Any], **fields: Any) -> dict[str, Any]:
    return {"choices": [{"logprobs": {"token_logprobs": values, "tokens": tokens}}], **fields}


@pytest.mark.parametrize("tokens", [["a", "b", "c", "d", "x"], ["\u2581a", "\u0120b", " c", "d", "x"]])
def test_an_echo_with_the_tokens_that_were_sent_is_accepted(tokens: list[str]) -> None:
    answer = echo(tokens, [None, -1.0, -2.0, -3.0, -9.0], usage={"prompt_tokens": 4})
    assert rows_of_echo(answer, (5, 6, 7, 8), (2, 3)).log_probabilities == (-2.0, -3.0)
    by_id = echo([f"token_id:{token}" for token in (5, 6, 7, 8)], [None, -1.0, -2.0, -3.0])
    assert rows_of_echo(by_id, (5, 6, 7, 8), (2, 3)).log_probabilities == (-2.0, -3.0)


@pytest.mark.parametrize(
    ("tokens", "fields"),
    [
        (["<s>", "a", "b", "c", "d"], {}),
        (["b", "c", "d", "x", "y"], {}),
        (["token_id:1", *(f"token_id:{token}" for token in (5, 6, 7, 8))], {}),
        (["", "", "", "", ""], {}),
        (["a", "b", "c", "d"], {}),
        (["a", "b", "c", None, "x"], {}),
        (None, {}),
        (["a", "b", "c", "d", "x"], {"usage": {"prompt_tokens": 5}}),
    ],
)
def test_an_echo_that_may_be_shifted_gives_no_score(tokens: Any, fields: dict[str, Any]) -> None:
    answer = echo(tokens, [None, -0.5, -1.0, -2.0, -3.0], **fields)
    with pytest.raises(ServerFault, match="cannot be matched to"):
        rows_of_echo(answer, (5, 6, 7, 8), (2, 3))


def scores(value: Any) -> list[tuple[Any, Any]]:
    top = {"index": 0, "logprobs": {"top_logprobs": [{"token_id:7": value}]}}
    return [
        ({"choices": [{"prompt_logprobs": [None, {}, {"7": {"logprob": value}}]}]}, rows_in),
        ({"choices": [{"logprobs": {"token_logprobs": [None, -1.0, value], "tokens": ["a", "b", "c"]}}]}, rows_of_echo),
        ({"choices": [top]}, next_tokens_in),
    ]


@pytest.mark.parametrize("index", [{}, [], None, "0", 7])
def test_a_choice_without_a_prompt_gives_no_score(index: Any) -> None:
    with pytest.raises(ServerFault, match="no log-probabilities"):
        next_tokens_in({"choices": [{"index": index, "logprobs": {}}]}, (5, 6, 7), (2,))


def test_a_list_of_models_may_hold_anything() -> None:
    odd: list[Any] = [{}, [], None, {"id": ["a"], "owned_by": {}, "root": 5, "meta": [], "max_model_len": True}]
    odd += [{"id": "\ud800", "root": "a\0", "max_model_len": 10**30}, {"id": "x" * 10_000, "meta": {"n_ctx": -1}}]
    cards = cards_in({"data": odd})
    assert len(cards) == 4
    assert {(card.name, card.owner, card.root, card.length) for card in cards} == {("", "", "", None)}
    assert cards_in({"data": {"id": "x"}}) == []
