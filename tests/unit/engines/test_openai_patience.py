"""A fault of the request fails only that request; a fault of the server is waited for."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cord_worker.config import OpenAiOptions
from cord_worker.engines.openai import engine as openai_engine
from cord_worker.engines.openai import pauses as openai_pauses
from cord_worker.engines.openai import retrying as openai_retrying
from cord_worker.engines.openai.engine import OpenAiEngine
from cord_worker.engines.protocol import Generation, Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.tokenizer import load_server_tokenizer
from cord_worker.errors import (
    ContentFilterError,
    EngineFaultError,
    EngineLoadError,
    NotFiniteError,
    RequestError,
    TooLongError,
    UnavailableError,
)
from tests.support.openai_local_server import Json, LocalServer, Reply, chunks, completion, models
from tests.support.settings import engine_settings, sampling

pytestmark = pytest.mark.slow

COMPLETIONS = "/v1/completions"
TURN = Turn("How many?")


@pytest.fixture
def vllm_server() -> Iterator[LocalServer]:
    local = LocalServer({"/v1/models": models("vllm", root="/w/base"), COMPLETIONS: completion(" Two.")})
    with local.running():
        yield local


@pytest.fixture
def llama_server() -> Iterator[LocalServer]:
    local = LocalServer({"/v1/models": models("llamacpp"), COMPLETIONS: lambda _: chunks(" Two", ".")})
    with local.running():
        yield local


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the first pause, and so those that double it."""
    monkeypatch.setattr(openai_pauses, "_FIRST_PAUSE_SECONDS", 0.05)


class ReportedConditions:
    """The conditions that an engine reported."""

    def __init__(self) -> None:
        self.texts: list[str | None] = []
        self.since: list[float | None] = []

    def __call__(self, condition: str | None, *, since: float | None = None) -> None:
        self.texts.append(condition)
        self.since.append(since)


def engine_of(
    server: LocalServer,
    tokenizer_folder: Path,
    told: ReportedConditions | None = None,
    *,
    batch_size: int = 4,
    **options: Any,
) -> OpenAiEngine:
    return OpenAiEngine(settings_of(server, tokenizer_folder, batch_size=batch_size, **options), told)


def settings_of(server: LocalServer, tokenizer_folder: Path, *, batch_size: int = 4, **options: Any) -> EngineSettings:
    fields = {"base_url": server.url, "model": "served", "max_retries": 2, **options}
    return engine_settings(
        path=str(tokenizer_folder), engine="openai", batch_size=batch_size, openai=OpenAiOptions(**fields)
    )


def run_and_close(engine: OpenAiEngine, work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        try:
            await work()
        finally:
            await engine.close()

    asyncio.run(run())


async def propose(engine: OpenAiEngine, seed: int = 1) -> Generation:
    return await engine.propose(TURN, [" One."], sampling(seed=seed))


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


def refusal(status: int, **error: Any) -> Reply:
    return Reply({"error": error}, status=status)


def event(line: str) -> Reply:
    """A valid beginning of a stream, followed by this line."""
    begun = json.dumps(chunks(" Two")[0])
    return Reply(raw=f"data: {begun}\n\n{line}\n\n".encode(), headers={"content-type": "text/event-stream"})


CONTEXT = {
    "code": 400,
    "message": "the request exceeds the available context size",
    "type": "exceed_context_size_error",
}


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (refusal(400, message="This model's maximum context length is 4096 tokens", code=400), TooLongError),
        (refusal(500, message="no", type="exceed_context_size_error"), TooLongError),
        (refusal(413, message="no"), TooLongError),
        (event(f"data: {json.dumps({'error': CONTEXT})}"), TooLongError),
        (event(f"error: {json.dumps(CONTEXT)}"), TooLongError),
        (Reply({"error": CONTEXT}), TooLongError),
        (refusal(400, message="Content Exists Risk", type="invalid_request_error"), ContentFilterError),
        (refusal(400, message="The response was filtered", code="content_filter"), ContentFilterError),
        (refusal(403, message="Your input was flagged", metadata={"reasons": ["violence"]}), ContentFilterError),
        (refusal(451, message="no"), ContentFilterError),
        (refusal(400, message="Out of range float values are not JSON compliant: nan"), NotFiniteError),
        (refusal(422, message="field required"), RequestError),
        (refusal(400, message="stop must hold four strings at most"), RequestError),
    ],
)
def test_a_refused_request_fails_with_its_reason_and_no_other_does(
    llama_server: LocalServer, tokenizer_folder: Path, reply: Reply, error: type[RequestError]
) -> None:
    engine = engine_of(llama_server, tokenizer_folder)
    llama_server.forget()
    llama_server.script[COMPLETIONS].append(reply)

    async def work() -> None:
        with pytest.raises(RequestError) as caught:
            await propose(engine)
        assert type(caught.value) is error
        prompt = llama_server.bodies(COMPLETIONS)[0]["prompt"]
        assert [body["prompt"] for body in llama_server.bodies(COMPLETIONS)].count(prompt) == 1  # not tried again
        assert (await propose(engine)).text == " Two."

    run_and_close(engine, work)


AMBIGUOUS = [
    (refusal(500, message="The content filter service is down"), ContentFilterError),
    (refusal(500, message="safety checker timed out"), ContentFilterError),
    (refusal(500, message="Context size has been exceeded."), TooLongError),
    (refusal(500, message="Out of range float values are not JSON compliant: nan"), NotFiniteError),
    (event(f"data: {json.dumps({'error': {'message': 'the prompt is too long'}})}"), TooLongError),
    (refusal(502, message="upstream response headers too large"), EngineFaultError),
    (refusal(504, message="content filter timed out"), EngineFaultError),
    (refusal(400, message="Model is overloaded, try again later"), EngineFaultError),
]
"""Replies whose words may mean a transient fault; and the error of a request that always gets one."""

CONFIRMED = (ContentFilterError, NotFiniteError, TooLongError)


@pytest.mark.parametrize("reply", [reply for reply, _ in AMBIGUOUS])
def test_a_transient_fault_ends_no_request_whatever_its_words(
    llama_server: LocalServer, tokenizer_folder: Path, reply: Reply
) -> None:
    engine = engine_of(llama_server, tokenizer_folder)
    llama_server.script[COMPLETIONS].append(reply)

    async def work() -> None:
        assert (await propose(engine)).text == " Two."

    run_and_close(engine, work)


@pytest.mark.parametrize("reply", [reply for reply, error in AMBIGUOUS if error in {ContentFilterError, TooLongError}])
def test_a_server_that_refuses_every_request_in_words_of_a_failure_is_waited_for(
    llama_server: LocalServer, tokenizer_folder: Path, reply: Reply
) -> None:
    engine = engine_of(llama_server, tokenizer_folder)
    llama_server.answers[COMPLETIONS] = lambda _: reply

    async def work() -> None:
        with pytest.raises(UnavailableError):
            await propose(engine)

    run_and_close(engine, work)


@pytest.mark.parametrize(("reply", "error"), AMBIGUOUS)
def test_a_request_that_always_gets_a_fault_with_such_words_fails_and_no_other_does(
    llama_server: LocalServer, tokenizer_folder: Path, reply: Reply, error: type[RequestError]
) -> None:
    engine = engine_of(llama_server, tokenizer_folder, max_retries=20 if error in CONFIRMED else 1)
    llama_server.answers[COMPLETIONS] = lambda body: reply if body.get("seed") == 7 else chunks(" Two", ".")
    llama_server.forget()

    async def with_retries() -> None:
        while True:
            try:
                await propose(engine, 7)
            except UnavailableError:
                await engine.available()

    async def work() -> None:
        async with asyncio.timeout(20):
            with pytest.raises(RequestError) as caught:
                await with_retries()
        assert type(caught.value) is error
        if error in CONFIRMED:  # twice, and once more when the server was found to work
            assert [body.get("seed") for body in llama_server.bodies(COMPLETIONS)].count(7) == 3
        await engine.available()
        assert (await propose(engine)).text == " Two."

    run_and_close(engine, work)


@pytest.mark.parametrize("value", ["null", "-Infinity", "NaN", "Infinity", "-9999.0"])
@pytest.mark.parametrize("kind", ["echo", "prompt_logprobs", "next_token"])
def test_one_answer_token_without_a_number_fails_only_its_candidate(
    tokenizer_folder: Path, kind: str, value: str
) -> None:
    poisoned = False

    def answer(body: Json) -> Any:
        found: Any = -0.5
        if poisoned and (body.get("echo") or "prompt_logprobs" in body or "logprob_token_ids" in body):
            found = "HOLE"
        prompt = body["prompt"]
        if body.get("echo"):
            choice: Json = {"text": "", "logprobs": {"token_logprobs": [None, *[-0.5] * (len(prompt) - 1), -0.5]}}
            choice["logprobs"]["token_logprobs"][-2] = found
            choice["logprobs"]["tokens"] = [f"token_id:{token}" for token in (*prompt, 0)]
            choices = [choice]
        elif body.get("prompt_logprobs") is not None:
            rows: list[Any] = [None, *({str(token): {"logprob": -0.5}} for token in prompt[1:])]
            rows[-1] = {str(prompt[-1]): {"logprob": found}}
            choices = [{"text": " Two.", "finish_reason": "stop", "prompt_logprobs": rows}]
        elif "logprob_token_ids" in body and kind == "next_token":
            row = {f"token_id:{token}": found for token in body["logprob_token_ids"]}
            choices = [{"index": i, "text": "", "logprobs": {"top_logprobs": [row]}} for i in range(len(prompt))]
        else:
            return completion(" Two.")(body) if kind != "echo" else chunks(" Two.")
        return Reply(raw=json.dumps({"choices": choices}).replace('"HOLE"', value).encode())

    owner = "llamacpp" if kind == "echo" else "vllm"
    with LocalServer({"/v1/models": models(owner), COMPLETIONS: answer}).running() as server:
        engine = engine_of(server, tokenizer_folder)
        assert engine.scoring_mode == f"openai-{owner}-{kind}"

        async def scored(answer: str) -> None:
            await engine.score(TURN, [" One."], answer, "{answer}")

        async def work() -> None:
            nonlocal poisoned
            poisoned = True
            with pytest.raises(NotFiniteError, match="no number"):
                await scored("204")
            poisoned = False
            await scored("204")

        run_and_close(engine, work)


def test_only_the_request_at_which_the_server_fails_is_failed(vllm_server: LocalServer, tokenizer_folder: Path) -> None:
    engine = engine_of(vllm_server, tokenizer_folder)

    def answer(body: Json) -> Any:
        return Reply({"error": {"message": "oops"}}, status=500) if body.get("seed") == 7 else completion(" Two.")(body)

    vllm_server.answers[COMPLETIONS] = answer

    async def work() -> None:
        failed, *fine = await asyncio.gather(*(propose(engine, seed) for seed in (7, 8, 9)), return_exceptions=True)
        assert type(failed) is EngineFaultError
        assert "failed 4 times, last: HTTP 500: oops" in str(failed)
        assert [generation.text for generation in fine if isinstance(generation, Generation)] == [" Two."] * 2

    run_and_close(engine, work)


def test_an_unreachable_server_is_waited_for_and_reported(vllm_server: LocalServer, tokenizer_folder: Path) -> None:
    told = ReportedConditions()
    with ExitStack() as stack:
        server = LocalServer(vllm_server.answers)
        first = ExitStack()
        first.enter_context(server.running())
        engine = engine_of(server, tokenizer_folder, told)

        async def work() -> None:
            before = time.monotonic()
            first.close()
            with pytest.raises(UnavailableError, match="no connection"):
                await propose(engine)
            assert told.texts[-1] is not None
            assert told.texts[-1].startswith(f"waits for {server.url}: no connection (")
            waiting = asyncio.create_task(engine.available())
            with pytest.raises(UnavailableError, match="is waited for"):  # at once: an absent server gets no request
                await propose(engine)
            assert not waiting.done()
            stack.enter_context(server.running())
            async with asyncio.timeout(20):
                await waiting
            assert told.texts[-1:] == [None]
            assert {since for since in told.since[:-1] if since is not None and since >= before} != set()
            assert (await propose(engine)).text == " Two."

        run_and_close(engine, work)


def test_a_server_that_returns_with_another_identity_is_still_waited_for(
    vllm_server: LocalServer, tokenizer_folder: Path
) -> None:
    told = ReportedConditions()
    engine = engine_of(vllm_server, tokenizer_folder, told)
    vllm_server.answers["/v1/models"] = models("vllm", root="/w/other")
    vllm_server.script[COMPLETIONS].append(refusal(503, message="Loading model"))

    async def work() -> None:
        with pytest.raises(UnavailableError, match="Loading model"):
            await propose(engine)
        await wait_until(lambda: "no longer what it was" in str(told.texts[-1]))
        assert "'base'" in str(told.texts[-1])
        assert "'other'" in str(told.texts[-1])
        vllm_server.answers["/v1/models"] = models("vllm", root="/w/base")
        async with asyncio.timeout(20):
            await engine.available()
        assert (await propose(engine)).text == " Two."

    run_and_close(engine, work)


def test_a_server_that_returns_with_nonsense_is_still_waited_for(
    vllm_server: LocalServer, tokenizer_folder: Path
) -> None:
    told = ReportedConditions()
    engine = engine_of(vllm_server, tokenizer_folder, told)
    good = vllm_server.answers["/v1/models"]
    vllm_server.answers["/v1/models"] = lambda _: {"data": [{"id": "served", "owned_by": ["nobody"]}]}
    vllm_server.script[COMPLETIONS].append(refusal(503, message="Loading model"))

    async def work() -> None:
        with pytest.raises(UnavailableError, match="Loading model"):
            await propose(engine)
        await wait_until(lambda: "no stream" in str(told.texts[-1]))
        vllm_server.answers["/v1/models"] = good
        async with asyncio.timeout(20):
            await engine.available()

    run_and_close(engine, work)


@pytest.mark.parametrize("path", ["/v1/models", COMPLETIONS])
@pytest.mark.parametrize(
    "reply", [refusal(503, message="Loading model"), refusal(429, message="slow down"), refusal(502, message="bad")]
)
def test_a_server_that_is_not_ready_at_start_is_waited_for(
    vllm_server: LocalServer, tokenizer_folder: Path, path: str, reply: Reply
) -> None:
    told = ReportedConditions()
    vllm_server.script[path].extend([reply] * 4)
    engine = engine_of(vllm_server, tokenizer_folder, told)
    assert told.texts[0] == f"waits for {vllm_server.url}: HTTP {reply.status}: {reply.body['error']['message']}"
    assert len(set(told.since)) == 1
    assert engine.scoring_mode == "openai-vllm-prompt_logprobs"
    asyncio.run(engine.close())


def test_a_wrong_key_or_model_is_not_waited_for_at_start(vllm_server: LocalServer, tokenizer_folder: Path) -> None:
    with pytest.raises(EngineLoadError, match="no model 'absent', only 'served'"):
        engine_of(vllm_server, tokenizer_folder, ReportedConditions(), model="absent")
    vllm_server.answers["/v1/models"] = lambda _: refusal(401, message="bad key")
    with pytest.raises(EngineLoadError, match="refuses access"):
        engine_of(vllm_server, tokenizer_folder, ReportedConditions())


def test_a_server_that_revokes_the_key_during_a_run_is_waited_for(
    vllm_server: LocalServer, tokenizer_folder: Path
) -> None:
    told = ReportedConditions()
    engine = engine_of(vllm_server, tokenizer_folder, told)
    good = dict(vllm_server.answers)
    vllm_server.answers |= dict.fromkeys(good, lambda _: refusal(401, message="key expired"))

    async def work() -> None:
        with pytest.raises(UnavailableError, match=r"openai\.api_key_env"):
            await propose(engine)
        assert "key expired" in str(told.texts[-1])
        vllm_server.answers |= good
        async with asyncio.timeout(20):
            await engine.available()
        assert (await propose(engine)).text == " Two."

    run_and_close(engine, work)


@pytest.mark.parametrize("overload", ["429", "529", "finish reason"])
def test_an_overloaded_server_gets_fewer_concurrent_requests_and_later_more(
    vllm_server: LocalServer, tokenizer_folder: Path, overload: str
) -> None:
    told = ReportedConditions()
    engine = engine_of(vllm_server, tokenizer_folder, told, batch_size=8, max_retries=20)
    takes = 2

    def answer(body: Json) -> Any:
        if vllm_server.at_once > takes:
            if overload == "finish reason":
                return completion("", "insufficient_system_resource")(body)
            return refusal(int(overload), message="slow down")
        time.sleep(0.02)
        return completion(" Two.")(body)

    vllm_server.answers[COMPLETIONS] = answer

    async def work() -> None:
        nonlocal takes
        await asyncio.gather(*(propose(engine, seed) for seed in range(24)))
        assert any("slowed down" in str(text) for text in told.texts)
        takes = 8
        await asyncio.gather(*(propose(engine, seed) for seed in range(100, 160)))
        assert told.texts[-1] is None  # all eight requests again

    run_and_close(engine, work)


def test_an_unused_server_is_not_reported_as_slowing_down(
    vllm_server: LocalServer, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_retrying, "_QUIET_SECONDS", 0.2)
    told = ReportedConditions()
    engine = engine_of(vllm_server, tokenizer_folder, told, batch_size=8)
    vllm_server.script[COMPLETIONS].append(refusal(429, message="slow down"))

    async def work() -> None:
        await propose(engine)
        assert "is slowed down by" in str(told.texts[-1])
        await wait_until(lambda: told.texts[-1] is None)
        await propose(engine)  # it still gets fewer concurrent requests, and that is reported again
        assert "is slowed down by" in str(told.texts[-1])

    run_and_close(engine, work)


def test_the_slowdown_shows_the_latest_fault_while_it_lasts_and_none_of_another_condition(
    vllm_server: LocalServer, tokenizer_folder: Path
) -> None:
    told = ReportedConditions()
    engine = engine_of(vllm_server, tokenizer_folder, told, batch_size=8)

    async def work() -> None:
        vllm_server.script[COMPLETIONS].append(refusal(429, message="slow down"))
        await propose(engine)
        vllm_server.script[COMPLETIONS].append(refusal(500, message="oops"))
        await propose(engine)
        assert "requests at once, last: HTTP 500: oops" in str(told.texts[-2])
        assert str(told.texts[-1]).endswith("requests at once, last: HTTP 429: slow down")
        vllm_server.script[COMPLETIONS].append(refusal(503, message="Loading model"))
        with pytest.raises(UnavailableError):
            await propose(engine)
        assert "Loading model" in str(told.texts[-1])
        await engine.available()
        assert str(told.texts[-1]).endswith("requests at once, last: HTTP 429: slow down")

    run_and_close(engine, work)


WRONG_RETRY_AFTER = ["99999999", "1e400", "Fri, 01 Jan 2999 00:00:00 GMT"]


@pytest.mark.parametrize("header", WRONG_RETRY_AFTER)
def test_a_wrong_retry_after_does_not_keep_a_server_away_at_start(
    vllm_server: LocalServer, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    monkeypatch.setattr(openai_pauses, "_LONGEST_ASKED_SECONDS", 0.3)
    settings = settings_of(vllm_server, tokenizer_folder)
    vllm_server.script[COMPLETIONS].extend(
        [Reply({"error": {"message": "slow down"}}, 429, {"retry-after": header})] * 2
    )

    async def work() -> None:
        async with asyncio.timeout(20):
            found = await openai_engine._probe_patiently(
                settings, load_server_tokenizer(settings), ReportedConditions()
            )
        assert found.kind == "vllm"

    asyncio.run(work())


@pytest.mark.parametrize("header", WRONG_RETRY_AFTER)
def test_a_wrong_retry_after_does_not_keep_a_server_away(
    vllm_server: LocalServer, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch, header: str
) -> None:
    monkeypatch.setattr(openai_pauses, "_LONGEST_ASKED_SECONDS", 0.3)
    slow_down = Reply({"error": {"message": "slow down"}}, 429, {"retry-after": header})
    engine = engine_of(vllm_server, tokenizer_folder, ReportedConditions())

    async def work() -> None:
        vllm_server.script[COMPLETIONS].extend([slow_down] * 2)  # the second one at the look
        with pytest.raises(UnavailableError, match="slow down"):
            await propose(engine)
        async with asyncio.timeout(20):
            await engine.available()
        assert not vllm_server.script[COMPLETIONS]
        assert (await propose(engine)).text == " Two."

    run_and_close(engine, work)


@pytest.mark.parametrize("at_start", [True, False])
def test_a_look_at_the_server_that_hangs_does_not_hold_up_the_next_one(
    vllm_server: LocalServer, tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch, at_start: bool
) -> None:
    monkeypatch.setattr(openai_pauses, "_LONGEST_PAUSE_SECONDS", 0.3)
    release = threading.Event()
    hangs = Reply({}, hold=release)
    if at_start:
        vllm_server.script["/v1/models"].append(hangs)
    try:
        engine = engine_of(vllm_server, tokenizer_folder, ReportedConditions())

        async def work() -> None:
            if not at_start:
                vllm_server.script[COMPLETIONS].append(refusal(503, message="Loading model"))
                vllm_server.script["/v1/models"].append(hangs)
                with pytest.raises(UnavailableError):
                    await propose(engine)
                async with asyncio.timeout(10):
                    await engine.available()
            assert (await propose(engine)).text == " Two."

        run_and_close(engine, work)
        assert not vllm_server.script["/v1/models"]
        assert vllm_server.at_once == 1  # the look still hangs
    finally:
        release.set()


def test_no_request_is_sent_before_the_time_that_the_server_names(
    vllm_server: LocalServer, tokenizer_folder: Path
) -> None:
    engine = engine_of(vllm_server, tokenizer_folder)
    vllm_server.forget()
    vllm_server.script[COMPLETIONS].append(Reply({"error": {"message": "slow down"}}, 429, {"retry-after": "1"}))

    async def work() -> None:
        first = asyncio.create_task(propose(engine))
        await wait_until(lambda: engine._client._retrying._concurrency.is_lowered)
        await asyncio.gather(first, *(propose(engine, seed) for seed in (2, 3)))

    run_and_close(engine, work)
    refused, *later = [asked.at for asked in vllm_server.asked if asked.path == COMPLETIONS]
    assert len(later) == 3
    assert min(later) >= refused + 1


def test_a_request_that_crashes_the_server_each_time_fails_and_no_other(
    vllm_server: LocalServer, tokenizer_folder: Path
) -> None:
    """The server drops every connection at this request, and is absent for a while."""
    engine = engine_of(vllm_server, tokenizer_folder, batch_size=8)
    down = [0]

    def models_or_not(body: Json) -> Any:
        if down[0] > 0:
            down[0] -= 1
            return refusal(503, message="Loading model")
        return models("vllm", root="/w/base")(body)

    def answer(body: Json) -> Any:
        if down[0] > 0:
            return refusal(503, message="Loading model")
        if body.get("seed") == 7:
            down[0] = 1
            vllm_server.hang_up()
            return Reply({}, drop_after=0)
        time.sleep(0.05)
        return completion(" Two.")(body)

    vllm_server.answers |= {"/v1/models": models_or_not, COMPLETIONS: answer}

    async def with_retries(seed: int) -> Generation | EngineFaultError:
        while True:
            try:
                return await propose(engine, seed)
            except UnavailableError:
                await engine.available()
            except EngineFaultError as error:
                return error

    async def work() -> None:
        felling, *innocent = await asyncio.gather(*(with_retries(seed) for seed in (7, *range(20, 32))))
        assert isinstance(felling, EngineFaultError)
        assert all(isinstance(one, Generation) for one in innocent)

    run_and_close(engine, work)


def test_a_single_text_that_comes_as_reasoning_fails_and_no_other(
    llama_server: LocalServer, tokenizer_folder: Path
) -> None:
    engine = engine_of(llama_server, tokenizer_folder)
    llama_server.script[COMPLETIONS].append(
        Reply([{"choices": [{"index": 0, "delta": {"reasoning_content": "Hm."}, "finish_reason": None}]}])
    )

    async def work() -> None:
        with pytest.raises(EngineFaultError, match="reasoning apart"):
            await propose(engine)
        assert (await propose(engine)).text == " Two."

    run_and_close(engine, work)
