"""Engines in separate processes, called directly: the reference against which the service is measured."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cord_worker.bench.engine_host import LINE_BYTES
from cord_worker.config import RunConfig
from cord_worker.errors import EngineError, RequestError
from cord_worker.local import processes

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_EXIT_TIMEOUT_SECONDS = 30.0


class DirectEngine:
    """An engine in its own process (`engine_host`). Any number of requests may wait concurrently."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, log: Path) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._log = log
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listening = asyncio.create_task(self._listen())

    async def ask(self, kind: str, **arguments: Any) -> dict[str, Any]:
        """The result of one request. Raises RequestError if the engine refuses it, EngineError if the engine has
        ended."""
        if self._listening.done():
            raise self._end_error()
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps([number, kind, arguments], default=str).encode() + b"\n")
        found: dict[str, Any] = await answer
        if "error" in found:
            raise RequestError(found["error"])
        return found

    async def close(self) -> None:
        """Ends the process."""
        self._writer.close()
        self._listening.cancel()
        try:
            await asyncio.wait_for(self._process.wait(), _EXIT_TIMEOUT_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _listen(self) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await self._reader.readline():
                number, found = json.loads(line)
                self._waiting.pop(number).set_result(found)
        for answer in self._waiting.values():
            answer.set_exception(self._end_error())

    def _end_error(self) -> EngineError:
        return EngineError(f"the engine's process ended; the end of its log:\n{processes.tail(self._log)}")


@asynccontextmanager
async def direct_engine(
    config: RunConfig, config_path: Path, model: str, log: Path, *, reference: bool = False
) -> AsyncIterator[DirectEngine]:
    """Starts the model's engine, yields it once it is loaded, and ends it afterwards.

    With `reference`, the engine is transformers in float32 without a cache. Raises EngineError if it does not start.
    """
    ours, theirs = socket.socketpair()
    threads = config.models[model].threads
    environment = {**os.environ, **processes.python_environment(), "TOKENIZERS_PARALLELISM": "false"}
    if threads is not None:
        environment |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output, theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "cord_worker.bench.engine_host"),
            *(str(theirs.fileno()), str(config_path.resolve()), model, "1" if reference else "0"),
            env=environment,
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(theirs.fileno(),),
        )
    reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES)
    engine = DirectEngine(process, reader, writer, log)
    try:
        await engine.ask("describe")
        yield engine
    finally:
        await engine.close()
