"""Hosts any kind of model with vLLM: one AsyncLLM, on the event loop on which it was constructed.

Requests carry token ids, encoded by `TextCodec` piece by piece, so that vLLM's prefix cache finds earlier pieces.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Literal

from cord_worker.engines import loading
from cord_worker.engines.needed_packages import require_engine
from cord_worker.engines.refusal_texts import refusal_by_words
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.text_codec import TextCodec
from cord_worker.engines.vllm import arguments as vllm_arguments
from cord_worker.engines.vllm.processes import VllmProcesses
from cord_worker.errors import EngineError, EngineFaultError, EngineLoadError, RequestError

logger = logging.getLogger(__name__)

_SHUTDOWN_SECONDS = 8.0


class VllmHost:
    """The model of `settings`; the constructor loads it, or raises EngineLoadError.

    Construct it on the event loop that will run it, because vLLM binds to that loop.
    """

    def __init__(self, settings: EngineSettings) -> None:
        require_engine("vllm")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise EngineLoadError(
                "the vLLM engine was made outside of an event loop; call load_engine on the loop that will run it"
            ) from None
        vllm_arguments.require_known_dtype(settings)
        self._settings = settings
        self._numbers = itertools.count(1)
        self._closed = False
        self._running: set[asyncio.Task[Any]] = set()
        folder = loading.folder_of(settings)
        self._digest = loading.weights_digest_of(folder, settings.gguf_file)
        if settings.gguf_file is not None:
            from cord_worker.engines.vllm.gguf import unpacked

            folder = unpacked(settings, folder, self._digest)
        vllm_arguments.set_environment(settings)
        self._processes = VllmProcesses()
        try:
            with self._processes.starting():
                self._engine = self._started(folder)
            tokenizer = loading.load_tokenizer(folder, settings)
            self._codec = TextCodec.of(tokenizer, self._settings)
            self._prepare(folder, tokenizer)
        except BaseException:
            self._processes.end()
            raise
        config = self._engine.vllm_config
        self._max_length = int(config.model_config.max_model_len)
        self._mode = _mode_of(config)

    def _check(self, folder: Path) -> None:
        """Checks the model before it is loaded; raises EngineLoadError."""

    def _arguments(self) -> Mapping[str, Any]:
        """Engine arguments for this kind of model, in addition to those for all models."""
        return {}

    def _prepare(self, folder: Path, tokenizer: Any) -> None:
        """Reads what a subclass needs from the loaded model; raises EngineLoadError."""

    def _started(self, folder: Path) -> Any:
        try:
            from vllm.v1.engine.async_llm import AsyncLLM

            self._features = vllm_arguments.features()
            self._check(folder)
            arguments = vllm_arguments.engine_args(self._settings, folder, self._features, self._arguments())
            return AsyncLLM.from_engine_args(arguments)
        except EngineLoadError:
            raise
        except Exception as error:  # vLLM raises whatever its parts raise
            time.sleep(0.2)  # the last output of its processes is still on its way
            cause = self._processes.cause() or f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            raise EngineLoadError(
                f"vLLM could not load model {self._settings.path!r}: {cause}; correct the model's table in cord.toml "
                "(memory: gpu_memory_utilization, kv_cache_gib, max_model_len), or host it with another engine"
            ) from error

    @property
    def weights_digest(self) -> str:
        """64 hex digits over the model's files (`loading.weights_digest_of`); over a GGUF file before it is
        unpacked."""
        return self._digest

    @property
    def max_model_len(self) -> int:
        """Context length in tokens."""
        return self._max_length

    async def close(self) -> None:
        """Ends the engine and all of its processes; waiting requests fail with EngineError."""
        if self._closed:
            return
        self._closed = True
        for task in self._running:
            task.cancel()
        logging.getLogger("vllm").setLevel(logging.CRITICAL)  # it would report every process that ends as a failure
        if (handler := self._engine.output_handler) is not None:
            handler.cancel()
        engine, self._engine = self._engine, None
        ending = asyncio.to_thread(engine.shutdown)
        try:
            await asyncio.wait_for(ending, _SHUTDOWN_SECONDS)
        except Exception as error:  # noqa: BLE001 - the following lines end the processes in any case
            logger.debug("vLLM did not shut down by itself: %r", error)
        await asyncio.to_thread(self._processes.end)

    async def _run(
        self,
        kind: Literal["generate", "encode"],
        ids: list[int],
        parameters: Any,
        priority: int,
        is_over: Callable[[Any], bool] | None = None,
    ) -> Any:
        """The last output of a request of this `kind`; the request is aborted as soon as an output `is_over`."""
        from vllm.inputs import TokensPrompt
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        task = asyncio.current_task()
        if self._closed or task is None:
            raise self._dead()
        self._running.add(task)
        options = {"priority": priority} if self._features.schedules_by_priority else {}
        output = None
        try:
            request = getattr(self._engine, kind)
            number = str(next(self._numbers))
            prompt = TokensPrompt(prompt_token_ids=ids)
            async with aclosing(request(prompt, parameters, number, **options)) as outputs:
                async for produced in outputs:
                    output = produced
                    if is_over is not None and is_over(produced):
                        break
        except asyncio.CancelledError:
            if self._closed:
                raise self._dead() from None
            raise
        except EngineDeadError as error:
            raise self._dead() from error
        except EngineGenerateError as error:
            if self._engine.errored:
                raise self._dead() from error
            raise EngineFaultError(f"vLLM failed this request: {error.__cause__ or error!r}") from error
        except (ValueError, TypeError, OverflowError) as error:
            refusal = refusal_by_words(str(error)) or RequestError
            raise refusal(f"vLLM refuses this request: {error}") from error
        except Exception as error:  # vLLM's own errors, which depend on its version
            if self._engine.errored:
                raise self._dead() from error
            raise EngineFaultError(f"vLLM failed this request: {type(error).__name__}: {error}") from error
        finally:
            self._running.discard(task)
        if output is None:
            raise self._dead() if self._engine.errored else EngineFaultError("vLLM returned nothing for this request")
        return output

    def _dead(self) -> EngineError:
        if self._closed:
            return EngineError(f"the engine of model {self._settings.path!r} was closed")
        cause = self._processes.cause()
        because = f": {cause}" if cause else " (killed, or out of memory: see the kernel's log)"
        return EngineError(f"vLLM's engine of model {self._settings.path!r} died{because}. Start the worker again.")


def _mode_of(config: Any) -> str:
    from vllm.platforms import current_platform

    dtype = str(config.model_config.dtype).removeprefix("torch.")
    parts = ["vllm", vllm_arguments.version(), str(current_platform.device_type), dtype]
    if config.model_config.quantization:
        parts.append(str(config.model_config.quantization))
    if config.cache_config.cache_dtype not in ("auto", dtype):
        parts.append(f"kv_{config.cache_config.cache_dtype}")
    if config.parallel_config.tensor_parallel_size > 1:
        parts.append(f"tp{config.parallel_config.tensor_parallel_size}")
    return "-".join([*parts, "cached"])
