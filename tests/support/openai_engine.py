"""The OpenAI-compatible engine with servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from cord_worker.config import OpenAiOptions
from cord_worker.engines.openai.engine import OpenAiEngine
from cord_worker.engines.protocol import Generation, Sampling, Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.prompting.trajectory import Segmentation
from tests.support.openai_local_server import Json, LocalServer, Reply, chunks, completion, models
from tests.support.settings import engine_settings, sampling

T = TypeVar("T")
SAMPLING = sampling(seed=2**62 + 12345)
TURN = Turn("How many?")
LINE_BREAK = Segmentation.of("line_break", ())
PHRASES = Segmentation.of("phrases", ["wait"])
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


def settings(server: LocalServer, path: Path | str, **options: Any) -> EngineSettings:
    """Settings of an engine for this server, with these `options` of [models.NAME.openai]."""
    fields = {"base_url": server.url, "model": "served", "max_retries": 2, "timeout_seconds": 30.0, **options}
    return engine_settings(path=str(path), engine="openai", batch_size=4, openai=OpenAiOptions(**fields))


def run_and_close(engine: OpenAiEngine, work: Callable[[OpenAiEngine], Awaitable[T]]) -> T:
    """The result of `work` on a new event loop; the engine is closed afterwards."""

    async def run() -> T:
        try:
            return await work(engine)
        finally:
            await engine.close()

    return asyncio.run(run())


def propose_once(server: LocalServer, path: Path | str, sampling: Sampling = SAMPLING, **options: Any) -> Generation:
    """One proposal of a new engine; `server` has then recorded only the request for it, not the probes before."""
    engine = OpenAiEngine(settings(server, path, **options))
    server.forget()
    return run_and_close(engine, lambda engine: engine.propose(TURN, [" One."], sampling))


def vllm_server(text: str = " Two.", reason: str | None = "stop", **fields: Any) -> LocalServer:
    """A server like vLLM that answers every completion with `text`, in one piece."""
    answer = completion(text, reason, **{"stop_reason": None, **fields})
    return LocalServer({"/v1/models": models("vllm", max_model_len=300, root="/w/base"), COMPLETIONS: answer})


def streaming_server(owner: str, *texts: str, **options: Any) -> LocalServer:
    """A server of the software `owner` that streams `texts` as the parts of every completion."""
    return LocalServer({"/v1/models": models(owner), COMPLETIONS: lambda _: chunks(*texts, **options)})


def chat_server(*texts: str, refuses_prefix: bool = False) -> LocalServer:
    """A server of unknown software that streams `texts` as every chat reply.

    With `refuses_prefix` it refuses messages that end with the assistant's.
    """

    def answer(body: Json) -> Any:
        if refuses_prefix and body["messages"][-1]["role"] == "assistant":
            return Reply({"error": {"message": "last message must be from the user"}}, status=400)
        return chunks(*texts, chat=True)

    return LocalServer({"/v1/models": models("somebody"), CHAT: answer})
