"""Hosts a language model with vLLM (see `host`). Its texts are decoded and cut by the same code as in every other
engine."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cord_worker.engines import loading
from cord_worker.engines.end_watch import EndWatch
from cord_worker.engines.heads import LanguageHead, require_steps
from cord_worker.engines.protocol import AnswerScore, Generation, Ids, Sampling, Turn
from cord_worker.engines.result_cache import ResultCache
from cord_worker.engines.room_in_context import tokens_allowed
from cord_worker.engines.vllm import arguments as vllm_arguments
from cord_worker.engines.vllm.host import VllmHost
from cord_worker.errors import EngineFaultError, NotFiniteError, TooLongError
from cord_worker.prompting.scoring import mean_probability, predictive_perplexity
from cord_worker.prompting.segmentation import Ended, Ends, TextKind, cut, ends_of
from cord_worker.prompting.trajectory import ANSWER_OPENING

_DIGITS = 6
"""Decimals of a log-probability and digits of a probability; further ones would change from batch to batch."""
_FIRST, _LATER = 0, 1
"""Priorities in the engine's queue: scores come first, because they are short and a whole step waits for them."""
_SCORES_KEPT = 4096
_TRIES = 3
"""Tries of a request that vLLM aborts although its engine continues."""


class VllmEngine(VllmHost, LanguageHead):
    """A model that generates and scores. Implements `protocol.Engine`; see `VllmHost` for how it is constructed."""

    def _prepare(self, folder: Path, tokenizer: Any) -> None:
        self._scores = ResultCache[AnswerScore](_SCORES_KEPT)
        self._loop_detection = vllm_arguments.loop_detection(self._features)
        self._end_tokens = loading.end_tokens_of(folder, tokenizer, self._settings)
        self._closing_tokens = {mark: _single_token(tokenizer, mark) for mark in self._codec.tags.closings}

    @property
    def scoring_mode(self) -> str:
        """Library, version, device, number formats and kind of prefill, such as `vllm-0.32-cpu-float32-cached`."""
        return self._mode if self._features.reads_cache_when_scoring else self._mode.replace("-cached", "-uncached")

    async def propose(self, turn: Turn, steps: Sequence[str], sampling: Sampling) -> Generation:
        """See `protocol.Engine.propose`; `max_tokens` is cut to the room that the context leaves."""
        return await self._generate("step", turn, self._codec.proposal(turn, steps), sampling)

    async def complete(self, turn: Turn, steps: Sequence[str], sampling: Sampling) -> Generation:
        """See `protocol.Engine.complete`; `max_tokens` is cut to the room that the context leaves."""
        return await self._generate("trajectory", turn, self._codec.proposal(turn, steps), sampling)

    async def answer(
        self, turn: Turn, steps: Sequence[str], sampling: Sampling, *, opening: str = ANSWER_OPENING
    ) -> Generation:
        """See `protocol.Engine.answer`; a second `</think>` ends the answer, and the finish reason says so."""
        require_steps(steps)
        return await self._generate("answer", turn, self._codec.answer(turn, steps, opening), sampling)

    async def reply(self, turn: Turn, sampling: Sampling) -> Generation:
        """See `protocol.Engine.reply`; `max_tokens` is cut to the room that the context leaves."""
        return await self._generate("reply", turn, self._codec.reply(turn), sampling)

    @property
    def cache_block_tokens(self) -> int:
        """Tokens per block of the prefix cache, which finds only whole blocks."""
        return int(self._engine.vllm_config.cache_config.block_size)

    async def score(
        self,
        turn: Turn,
        steps: Sequence[str],
        answer: str,
        scoring_template: str,
        *,
        full_stop: bool = False,
        uses_cache: bool = True,
    ) -> AnswerScore:
        """See `protocol.Engine.score`; the sum has 6 decimals, and the score is computed from the rounded sum. The
        mean probability has 6 significant digits.

        The prefix comes from vLLM's cache. If the cache also holds the answer's own tokens, vLLM computes nothing for
        them, so the score is computed again without the cache. A recent score is not computed again: float32 kernels
        differ in the sixth digit with the length of the cached part, and a retry must give the same value. Without
        `uses_cache` everything is computed, as vLLM does by default; this measures the gain of the cache.
        """
        started = time.monotonic()
        pieces = self._codec.candidate(turn, steps)
        closing = self._codec.closing(scoring_template, answer, full_stop=full_stop)
        ids = [token for piece in pieces for token in piece]
        positions = [len(ids) + index for index in closing.answer]
        ids.extend(closing.ids)
        if len(ids) >= self._max_length:
            raise TooLongError(
                f"candidate and closing part take {len(ids)} tokens, but the context holds {self._max_length} and vLLM "
                "needs one more; lower search.thinking_tokens or raise the prover's max_model_len"
            )
        key = (tuple(ids), tuple(positions))
        if uses_cache and (known := self._scores.get(key)) is not None:
            return dataclasses.replace(known, seconds=time.monotonic() - started)
        output = await self._request(ids, self._scoring_parameters(uses_cache=uses_cache), _FIRST)
        cached = int(output.num_cached_tokens or 0)
        if cached > positions[0] - 1:
            output = await self._request(ids, self._scoring_parameters(uses_cache=False), _FIRST)
            cached = 0
        log_probabilities = _log_probabilities(output, ids, positions)
        total = math.fsum(log_probabilities)
        if not math.isfinite(total):
            raise NotFiniteError(
                f"the answer's log-probability is {total} (number format too narrow?); try another dtype"
            )
        total = round(min(total, 0.0), _DIGITS) + 0.0  # no negative zero
        score = AnswerScore(
            score=predictive_perplexity(total, len(positions)),
            mean_probability=float(f"{mean_probability(log_probabilities):.{_DIGITS - 1}e}"),
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

    async def _generate(self, kind: TextKind, turn: Turn, pieces: list[Ids], sampling: Sampling) -> Generation:
        started = time.monotonic()
        ids = [token for piece in pieces for token in piece]
        allowed = tokens_allowed(kind, sampling, prompt=len(ids), context=self._max_length, codec=self._codec)
        ends = ends_of(turn.segmentation, kind, self._codec.tags)
        watch = EndWatch(self._codec, ends, pieces[-1])
        parameters = self._sampling_parameters(sampling, ends, allowed)
        for tries_left in reversed(range(_TRIES)):
            written = _Written(watch if ends.stop_strings is None else None)
            output = await self._request(ids, parameters, _LATER, written.is_over)
            tokens = written.tokens
            try:
                ended = "stop" if written.over else self._ended(output.outputs[0], tokens)
                break
            except _EndedByVllm:
                if not tries_left:
                    raise
        text = watch.text(tokens[:-1] if ended == "eos" else tokens)
        if ended == "length":
            text = text.rstrip("\ufffd")  # half of a character, cut off by the cap
        segment = cut(text, kind, turn.segmentation, ended=ended, tags=self._codec.tags)
        return Generation(
            text=segment.text,
            finish_reason=segment.finish_reason,
            prompt_tokens=len(ids),
            completion_tokens=len(tokens),
            cached_tokens=int(output.num_cached_tokens or 0),
            seconds=time.monotonic() - started,
        )

    async def _request(
        self, ids: list[int], parameters: Any, priority: int, is_over: Callable[[Any], bool] | None = None
    ) -> Any:
        return await self._run("generate", ids, parameters, priority, is_over)

    def _sampling_parameters(self, sampling: Sampling, ends: Ends, max_tokens: int) -> Any:
        """vLLM's SamplingParams. If stop strings cannot express where the text ends, tokens arrive one by one, and
        `_Written` detects the end."""
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
        # An answer may begin with a `</think>` that does not end it.
        marks = () if ends.answer_tags is not None else ends.marks
        closing = {token for mark in marks for token in self._closing_tokens.get(mark, ())}
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
            max_tokens=max_tokens,
            stop_token_ids=sorted(self._end_tokens | closing),
            **ending,
            **self._loop_detection,
        )

    def _ended(self, completion: Any, tokens: list[int]) -> Ended:
        """Interprets vLLM's reasons; `stop_reason` alone is not enough, because it is None at the end of sequence and
        at the cap."""
        if completion.finish_reason == "stop":
            if tokens and tokens[-1] in self._end_tokens and not isinstance(completion.stop_reason, str):
                return "eos"
            return "stop"
        if completion.finish_reason in ("length", "repetition"):
            return "length"
        if self._closed or self._engine.errored:
            raise self._dead()
        raise _EndedByVllm(f"vLLM ended the request with {completion.finish_reason!r} {_TRIES} times")

    def _scoring_parameters(self, *, uses_cache: bool) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        reading = {"skip_reading_prefix_cache": not uses_cache} if self._features.reads_cache_when_scoring else {}
        # Nothing is detokenised: for positions that came from the cache, vLLM returns uninitialised memory.
        return SamplingParams(
            max_tokens=1,
            temperature=0.0,
            prompt_logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            **reading,
        )


class _EndedByVllm(EngineFaultError):
    """vLLM aborted a request (finish reason abort or error) although its engine continues."""


class _Written:
    """Collects the tokens of a request up to the one at which `watch` detects the end."""

    def __init__(self, watch: EndWatch | None) -> None:
        self._watch = watch
        self.tokens: list[int] = []
        self.over = False

    def is_over(self, output: Any) -> bool:
        """True if the text has ended with this output. With a `watch`, an output holds only the new tokens."""
        for token in output.outputs[0].token_ids:  # several, if this loop was slower than the engine
            self.tokens.append(token)
            if self._watch is not None and self._watch.is_over(self.tokens):
                self.over = True
                break
        return self.over


def _single_token(tokenizer: Any, text: str) -> frozenset[int]:
    """The single token with this `text`, or an empty set."""
    vocabulary = tokenizer.get_vocab()
    return frozenset({vocabulary[text]}) if text in vocabulary else frozenset()


def _log_probabilities(output: Any, ids: list[int], positions: list[int]) -> list[float]:
    rows = output.prompt_logprobs
    found = [float(rows[index][ids[index]].logprob) for index in positions] if rows and len(rows) == len(ids) else []
    if len(found) != len(positions):
        raise EngineFaultError(
            f"{len(positions)} answer tokens of {len(ids)} gave {len(rows or ())} rows of log-probabilities; "
            "this is a fault of the engine, report it"
        )
    return found
