"""A server's faults are retried, fail one request, or end the engine; the key never appears in a message."""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from cord_worker.config import OpenAiOptions
from cord_worker.engines.openai.engine import OpenAiEngine
from cord_worker.engines.protocol import FinishReason, Generation, Turn
from cord_worker.errors import (
    ContentFilterError,
    EngineError,
    EngineFaultError,
    EngineLoadError,
    RequestError,
    TooLongError,
    UnavailableError,
)
from tests.support.openai_local_server import LocalServer, Reply, chunks, completion, models
from tests.support.settings import engine_settings, sampling

pytestmark = pytest.mark.slow

KEY = "sk-very-secret-0123456789"
SAMPLING = sampling()
COMPLETIONS = "/v1/completions"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    monkeypatch.setenv("CORD_TEST_KEY", KEY)
    local = LocalServer({"/v1/models": models("vllm"), COMPLETIONS: completion(" Two.")})
    with local.running():
        yield local


def engine_of(server: LocalServer, tokenizer_folder: Path, **options: Any) -> OpenAiEngine:
    fields = {"base_url": server.url, "model": "served", "api_key_env": "CORD_TEST_KEY", "max_retries": 2, **options}
    return OpenAiEngine(
        engine_settings(path=str(tokenizer_folder), engine="openai", batch_size=2, openai=OpenAiOptions(**fields))
    )


def propose_once(engine: OpenAiEngine) -> Generation:
    """One proposal on a new event loop; the engine is closed afterwards."""

    async def work() -> Generation:
        try:
            return await engine.propose(Turn("How many?"), [" One."], SAMPLING)
        finally:
            await engine.close()

    return asyncio.run(work())


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_a_request_with_a_transient_fault_is_retried(server: LocalServer, tokenizer_folder: Path, status: int) -> None:
    engine = engine_of(server, tokenizer_folder)
    server.forget()
    server.script[COMPLETIONS].append(Reply({"error": {"message": "later"}}, status=status))
    assert propose_once(engine).finish_reason is FinishReason.EOS
    assert len(server.asked) == 2
    assert engine.totals.retries == 1


def test_the_pause_is_as_long_as_the_server_asks(server: LocalServer, tokenizer_folder: Path) -> None:
    engine = engine_of(server, tokenizer_folder)
    server.forget()
    server.script[COMPLETIONS].append(Reply({}, status=429, headers={"retry-after": "1.5"}))
    propose_once(engine)
    first, second = server.asked
    assert second.at - first.at >= 1.5  # the engine's own first pause is at most half a second


def test_a_pause_may_be_a_date_and_for_a_pause_of_hours_leases_are_returned(
    server: LocalServer, tokenizer_folder: Path
) -> None:
    engine = engine_of(server, tokenizer_folder)
    server.forget()
    date = format_datetime(datetime.now(UTC) + timedelta(hours=3), usegmt=True)
    server.script[COMPLETIONS].append(Reply({}, status=429, headers={"retry-after": date}))
    with pytest.raises(UnavailableError, match="failed 1 time, last: HTTP 429") as caught:
        propose_once(engine)
    assert 10_790 < (caught.value.retry_after or 0) <= 10_800
    assert len(server.asked) == 1


def test_a_request_whose_connection_is_lost_in_the_body_is_retried(server: LocalServer, tokenizer_folder: Path) -> None:
    engine = engine_of(server, tokenizer_folder)
    server.forget()
    server.script[COMPLETIONS].append(Reply({"choices": ["x" * 100]}, drop_after=20))
    propose_once(engine)
    assert len(server.asked) == 2


def test_a_stream_that_breaks_off_is_requested_again(tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORD_TEST_KEY", KEY)
    local = LocalServer({"/v1/models": models("llamacpp"), COMPLETIONS: lambda _: chunks(" Two", ".")})
    with local.running() as server:
        engine = engine_of(server, tokenizer_folder)
        server.forget()
        server.script[COMPLETIONS] += [
            Reply(chunks(" Nothing", " of", " this"), drop_after=80),
            Reply(chunks(" Nor this", reason=None)),
        ]
        assert propose_once(engine).text == " Two."
        assert len(server.asked) == 3


@pytest.mark.parametrize(
    "reply",
    [
        Reply(raw=b'{"choices": [{"text": "Tw'),
        Reply(raw=b"<html>bad gateway</html>", headers={"content-type": "text/html"}),
        Reply({"choices": []}),
        Reply({"choices": [{"index": 0}]}),
        Reply([1, 2], raw=b"[1, 2]", headers={"content-type": "application/json"}),
        Reply({"choices": [{"text": " x", "finish_reason": "abort"}]}),
    ],
)
def test_an_answer_that_cannot_be_read_is_asked_for_again(
    server: LocalServer, tokenizer_folder: Path, reply: Reply
) -> None:
    engine = engine_of(server, tokenizer_folder)
    server.forget()
    server.script[COMPLETIONS].append(reply)
    assert propose_once(engine).text == " Two."
    assert len(server.asked) == 2


def test_a_fault_at_every_request_is_the_servers_and_says_what_to_do(
    server: LocalServer, tokenizer_folder: Path
) -> None:
    engine = engine_of(server, tokenizer_folder, max_retries=1)
    server.forget()
    server.answers[COMPLETIONS] = lambda _: Reply({"error": {"message": "out of memory"}}, status=500)
    told = r"failed 2 times, last: HTTP 500: out of memory; check openai\.base_url"
    with pytest.raises(UnavailableError, match=told):
        propose_once(engine)
    first, second, *probes = [body["prompt"] for body in server.bodies(COMPLETIONS)]
    assert first == second
    assert first not in probes


def test_a_request_that_takes_too_long_is_given_up(server: LocalServer, tokenizer_folder: Path) -> None:
    engine = engine_of(server, tokenizer_folder, timeout_seconds=2.5, max_retries=0)
    release = threading.Event()
    server.script[COMPLETIONS].append(Reply({}, hold=release))
    try:
        with pytest.raises(EngineError, match=r"no answer within 2\.5 s \(openai\.timeout_seconds\)"):
            propose_once(engine)
    finally:
        release.set()


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_fails_and_no_other(server: LocalServer, tokenizer_folder: Path, status: int) -> None:
    engine = engine_of(server, tokenizer_folder)
    server.forget()
    server.script[COMPLETIONS].append(Reply({"error": {"message": "context too long"}}, status=status))
    with pytest.raises(TooLongError, match="context too long"):
        propose_once(engine)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("reason", "error"),
    [("content_filter", ContentFilterError), ("SAFETY", ContentFilterError), ("tool_calls", EngineFaultError)],
)
def test_an_unknown_finish_reason_fails_only_its_request(
    server: LocalServer, tokenizer_folder: Path, reason: str, error: type[RequestError]
) -> None:
    engine = engine_of(server, tokenizer_folder)
    server.answers[COMPLETIONS] = completion(" x", reason)
    with pytest.raises(error, match=f"'{reason}'"):
        propose_once(engine)


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "CORD_TEST_KEY"), (403, "CORD_TEST_KEY"), (402, "payment"), (404, r"openai\.model"), (307, "redirects")],
)
def test_a_server_that_denies_access_is_waited_for_with_advice_on_what_to_do(
    server: LocalServer, tokenizer_folder: Path, status: int, says: str
) -> None:
    engine = engine_of(server, tokenizer_folder)
    server.forget()
    headers = {"location": "/v1/elsewhere"} if status == 307 else {}
    server.script[COMPLETIONS].append(Reply({"error": {"message": "no"}}, status=status, headers=headers))
    with pytest.raises(UnavailableError, match=says):
        propose_once(engine)
    assert len(server.asked) == 1


def test_without_waiting_an_absent_server_is_an_error_at_start_that_names_the_address(
    server: LocalServer, tokenizer_folder: Path
) -> None:
    with pytest.raises(EngineLoadError, match=r"http://127\.0\.0\.1:1/v1.*openai\.base_url"):
        engine_of(server, tokenizer_folder, base_url="http://127.0.0.1:1/v1", max_retries=0)


def test_a_wrong_key_is_an_error_at_start_that_names_its_variable(server: LocalServer, tokenizer_folder: Path) -> None:
    server.answers["/v1/models"] = lambda _: Reply({"error": {"message": f"bad key {KEY}"}}, status=401)
    with pytest.raises(EngineLoadError, match=r"CORD_TEST_KEY.*does not accept"):
        engine_of(server, tokenizer_folder)
    with pytest.raises(EngineLoadError, match=r"CORD_UNSET.*is not set"):
        engine_of(server, tokenizer_folder, api_key_env="CORD_UNSET")


def test_a_wrong_model_is_an_error_at_start_that_names_the_existing_ones(
    server: LocalServer, tokenizer_folder: Path
) -> None:
    with pytest.raises(EngineLoadError, match=r"no model 'absent', only 'served'; correct openai\.model"):
        engine_of(server, tokenizer_folder, model="absent")


def test_a_wrong_address_is_an_error_at_start_that_names_the_setting(
    server: LocalServer, tokenizer_folder: Path
) -> None:
    with pytest.raises(EngineLoadError, match=r"no route /wrong/chat/completions.*openai\.base_url"):
        engine_of(server, tokenizer_folder, base_url=server.url.replace("/v1", "/wrong"))


def test_raw_prompts_without_a_tokenizer_are_refused_at_start(server: LocalServer) -> None:
    with pytest.raises(EngineLoadError, match="tokenizer"):
        engine_of(server, Path("served"), api="completions")


def test_a_context_longer_than_the_servers_is_refused_at_start(server: LocalServer, tokenizer_folder: Path) -> None:
    server.answers["/v1/models"] = models("vllm", max_model_len=128)
    options = OpenAiOptions(base_url=server.url, model="served")
    with pytest.raises(EngineLoadError, match="max_model_len = 4096 is more than the 128"):
        OpenAiEngine(engine_settings(path=str(tokenizer_folder), engine="openai", max_model_len=4096, openai=options))


def test_the_key_goes_to_the_server_and_nowhere_else(
    server: LocalServer, tokenizer_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []
    with caplog.at_level(logging.DEBUG):
        engine = engine_of(server, tokenizer_folder, max_retries=1)
        assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}
        said += [repr(engine), repr(engine._client), repr(vars(engine))]

        for status in (400, 401, 500, 404):
            told = Reply({"error": {"message": f"no use for the key {KEY}"}}, status=status)
            server.script[COMPLETIONS] += [told, told]
            try:
                propose_once(with_new_client(engine))
            except EngineError as error:
                said.append("".join(traceback.format_exception(error)))
            server.script[COMPLETIONS].clear()
    assert len(said) == 7
    assert not [text for text in (*said, caplog.text) if KEY in text]


def with_new_client(engine: OpenAiEngine) -> OpenAiEngine:
    """The engine with a new client, because each `asyncio.run` has its own loop."""
    from cord_worker.engines.openai.client import OpenAiClient

    settings = engine._settings
    assert settings.openai is not None
    engine._client = OpenAiClient(settings.openai, slots=1)
    return engine


def test_a_key_with_a_line_break_is_refused_without_being_shown(
    server: LocalServer, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORD_TEST_KEY", f"{KEY}\nx")
    with pytest.raises(EngineLoadError, match="CORD_TEST_KEY") as caught:
        engine_of(server, tokenizer_folder)
    assert KEY not in str(caught.value)
