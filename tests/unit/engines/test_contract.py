"""The contract of engines, for those that run without a GPU: instant, transformers, and an OpenAI server's."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cord_worker.config import OpenAiOptions
from cord_worker.engines.instant import BUSY, NOT_FINITE, InstantEngine, refused_as
from cord_worker.engines.openai.engine import OpenAiEngine
from cord_worker.engines.protocol import FinishReason, Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.transformers.engine import TransformersEngine
from cord_worker.errors import TooLongError
from tests.support.engine_contract import GREEDY, EngineContract, Request, Subject
from tests.support.openai_local_server import Json, LocalServer, Reply, completion, models
from tests.support.settings import engine_settings

pytestmark = pytest.mark.slow

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs coroutines on one loop in its own thread, as a worker does."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def instant(run: Run) -> Subject:
    engine = InstantEngine()

    async def seed_to(reason: FinishReason, steps: tuple[str, ...]) -> Request:
        for seed in range(1000):
            request = Request(Turn("How many?"), steps, dataclasses.replace(GREEDY, seed=seed))
            if (await engine.propose(request.turn, steps, request.sampling)).finish_reason is reason:
                return request
        raise AssertionError(f"no seed leads to {reason}")

    @contextmanager
    def asking(word: str) -> Iterator[Request]:
        yield Request(Turn(f"How many? {word}"))

    return Subject(
        engine,
        run,
        to_marker=run(seed_to(FinishReason.STEP, ())),
        to_think_end=run(seed_to(FinishReason.THINK_END, (" One.",) * 20)),
        too_long=Request(Turn(f"How many? {refused_as(TooLongError)}")),
        poisoned=lambda: asking(NOT_FINITE),
        busy=lambda: asking(BUSY),
    )


@pytest.fixture(scope="module")
def parrot_subject(run: Run, parrot_folder: Path, settings_of: Callable[..., EngineSettings]) -> Iterator[Subject]:
    engine = TransformersEngine(settings_of(parrot_folder, batch_size=4))

    @contextmanager
    def poisoned() -> Iterator[Request]:
        embedding = engine._loaded.model.get_input_embeddings().weight
        token = next(i for i in range(len(embedding)) if engine._codec.decode([i]) == "Q")
        kept = embedding[token].clone()
        embedding.data[token] = float("nan")
        try:
            yield Request(Turn("Q"))
        finally:
            embedding.data[token] = kept

    yield Subject(
        engine,
        run,
        to_marker=Request(Turn("write a step")),
        to_think_end=Request(Turn("close")),
        too_long=Request(Turn("write a step"), (" and so on" * 200,)),
        poisoned=poisoned,
    )
    engine.stop()


@pytest.fixture(scope="module")
def served(run: Run, fast_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    folder = tmp_path_factory.mktemp("tokenizer")
    fast_tokenizer.save_pretrained(folder)
    hole: list[float] = []

    def answer(body: Json) -> Any:
        """Replies as vLLM does: it says which stop string ended the text, and gives log-probabilities of the prompt."""
        if body["max_tokens"] == 2 or "stop" not in body:
            found = completion(" It", "length")(body)
        else:
            closing = body.get("seed") == 5
            found = completion(" Two.", stop_reason="</think>" if closing else "\n### Step")(body)
        if hole:
            rows = found["choices"][0].get("prompt_logprobs") or []
            rows[-3:] = [{token: {"logprob": None} for token in row} for row in rows[-3:]]
        return found

    @contextmanager
    def poisoned() -> Iterator[Request]:
        hole.append(float("nan"))
        try:
            yield Request(Turn("How many?"))
        finally:
            hole.clear()

    @contextmanager
    def busy() -> Iterator[Request]:
        server.script["/v1/completions"].append(Reply({"error": {"message": "slow down"}}, status=429))
        yield Request(Turn("How many?"))

    server = LocalServer({"/v1/models": models("vllm", max_model_len=300), "/v1/completions": answer})
    with server.running():
        options = OpenAiOptions(base_url=server.url, model="served", max_retries=0)
        engine = OpenAiEngine(engine_settings(path=str(folder), engine="openai", batch_size=4, openai=options))
        yield Subject(
            engine,
            run,
            to_marker=Request(Turn("How many?")),
            to_think_end=Request(Turn("How many?"), sampling=dataclasses.replace(GREEDY, seed=5)),
            too_long=Request(Turn("x" * 400)),
            poisoned=poisoned,
            busy=busy,
        )
        run(engine.close())


class TestInstant(EngineContract):
    @pytest.fixture
    def subject(self, instant: Subject) -> Subject:
        return instant


class TestTransformers(EngineContract):
    @pytest.fixture
    def subject(self, parrot_subject: Subject) -> Subject:
        return parrot_subject


class TestServer(EngineContract):
    @pytest.fixture
    def subject(self, served: Subject) -> Subject:
        return served
