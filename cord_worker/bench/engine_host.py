"""One engine in its own process, without Celery, Redis and PostgreSQL: requests in, results out, as JSON lines.

    python -m cord_worker.bench.engine_host FD CONFIG MODEL REFERENCE

serves the socket FD until its other end closes. A request is `[number, kind, arguments]`, its answer `[number, result]`
or `[number, {"error": …}]`. With REFERENCE 1 the model is hosted by transformers in float32, without a prefix cache.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import socket
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from cord_worker.config import RunConfig
from cord_worker.engines import Engine, EngineSettings, load_engine
from cord_worker.engines.protocol import AnswerScore, Sampling, Turn
from cord_worker.errors import CordError
from cord_worker.prompting.trajectory import Segmentation

LINE_BYTES = 2**26
_BLOCK_TOKENS = {"transformers": 1}
"""Tokens per block of the prefix cache, by engine, if the engine does not report it; the default is 16."""


class EngineHost:
    """Executes requests on one engine. A second engine, without a cache, is loaded when a request first needs it."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._engine: Any = load_engine(settings)
        self._uncached: Engine | None = None

    async def answer(self, kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The result of one request. Raises CordError if the engine refuses it."""
        started = time.perf_counter()
        result: Any
        match kind:
            case "describe":
                return {
                    "block_tokens": getattr(
                        self._engine, "cache_block_tokens", _BLOCK_TOKENS.get(self._settings.engine, 16)
                    ),
                    "max_model_len": getattr(self._engine, "max_model_len", None),
                    "scoring_mode": self._engine.scoring_mode,
                }
            case "propose":
                result = await self._engine.propose(_turn(arguments), arguments["steps"], _sampling(arguments))
            case "answer":
                result = await self._engine.answer(_turn(arguments), arguments["steps"], _sampling(arguments))
            case "score":
                result = await _score(self._engine, arguments)
            case "score_uncached":
                result = await self._score_uncached(arguments)
            case _:
                raise ValueError(kind)
        return {**dataclasses.asdict(result), "wall_seconds": time.perf_counter() - started}

    async def _score_uncached(self, arguments: dict[str, Any]) -> Any:
        if hasattr(self._engine, "cache_block_tokens"):
            return await _score(self._engine, arguments, uses_cache=False)
        if self._uncached is None:
            self._uncached = load_engine(dataclasses.replace(self._settings, prefix_cache_bytes=0))
        return await _score(self._uncached, arguments)

    async def close(self) -> None:
        """Ends the engine."""
        await self._engine.close()
        if self._uncached is not None:
            await self._uncached.close()


def _turn(arguments: dict[str, Any]) -> Turn:
    fields = arguments["turn"]
    day = datetime.date.fromisoformat(fields["date"])
    return Turn(**{**fields, "segmentation": Segmentation.of(**fields["segmentation"]), "date": day})


def _sampling(arguments: dict[str, Any]) -> Sampling:
    return Sampling(**arguments["sampling"])


def _score(engine: Any, arguments: dict[str, Any], **options: bool) -> Awaitable[AnswerScore]:
    turn, steps, answer, template = _turn(arguments), arguments["steps"], arguments["answer"], arguments["template"]
    scored: Awaitable[AnswerScore] = engine.score(
        turn, steps, answer, template, full_stop=arguments.get("full_stop", False), **options
    )
    return scored


async def _serve(file: int, settings: EngineSettings) -> None:
    host = EngineHost(settings)
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=file), limit=LINE_BYTES)
    working: set[asyncio.Task[None]] = set()

    async def respond(line: bytes) -> None:
        number, kind, arguments = json.loads(line)
        try:
            result = await host.answer(kind, arguments)
        except CordError as error:
            result = {"error": str(error)}
        writer.write(json.dumps([number, result]).encode() + b"\n")
        await writer.drain()

    while line := await reader.readline():
        task = asyncio.create_task(respond(line))
        working.add(task)
        task.add_done_callback(working.discard)
    for task in working:
        task.cancel()
    await host.close()


def main() -> None:
    """Loads the engine and serves the socket until its other end closes."""
    file, config, model, reference = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "1"
    settings = EngineSettings.of(RunConfig.load(config).models[model])
    if reference:
        settings = dataclasses.replace(
            settings, engine="transformers", dtype="float32", vllm=None, openai=None, prefix_cache_bytes=0
        )
    asyncio.run(_serve(file, settings))


if __name__ == "__main__":
    main()
