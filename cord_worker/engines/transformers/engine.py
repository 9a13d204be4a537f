"""Hosts one model with transformers: any number of requests at once, computed in one thread.

With dtype float64, results do not depend on the other requests in a batch (see `float64`). With narrower formats the
last digits may vary with the batch and, rarely, change a sampled token.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence

import torch

from cord_worker.engines.heads import LanguageHead, require_steps
from cord_worker.engines.protocol import AnswerScore, Describe, Generation, Ids, Sampling, Turn, ignore_condition
from cord_worker.engines.room_in_context import tokens_allowed
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.text_codec import EncodedClosing, TextCodec
from cord_worker.engines.transformers.compute_thread import ComputeThread, GenerationJob, Runner, ScoreJob, ScoreResult
from cord_worker.engines.transformers.hosting import Hosted, Mode, host
from cord_worker.engines.transformers.load_model import LoadedModel, load_model
from cord_worker.engines.transformers.model_runner import ScoreTask
from cord_worker.engines.transformers.sampler import RowSampling
from cord_worker.errors import EngineFaultError, NotFiniteError, TooLongError
from cord_worker.prompting.scoring import mean_probability, predictive_perplexity
from cord_worker.prompting.segmentation import TextKind
from cord_worker.prompting.trajectory import ANSWER_OPENING

_DIGITS = 9
"""Significant digits of scores, and also the decimals of their log-probability sums: scores that are equal except for
numerical noise are stored as equal bytes.

The other requests in a batch change a sum by about 1e-15. A sum near 0 (probability 1) is so small that rounding to
significant digits alone would keep this noise.
"""


class TransformersEngine(LanguageHead):
    """The model of `settings`; the constructor loads it, or raises EngineLoadError. Implements `protocol.Engine`."""

    def __init__(self, settings: EngineSettings, describe: Describe = ignore_condition) -> None:
        self._settings = settings
        self._describe = describe
        self._loaded: LoadedModel
        self._hosted: Hosted
        self._thread = ComputeThread(self._load, settings.batch_size, settings.gather_seconds)
        self._codec = self._thread.start()

    def _load(self) -> tuple[Runner, TextCodec, frozenset[int]]:
        settings = self._settings
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        loaded = self._loaded = load_model(settings, self._describe)
        codec = TextCodec.of(loaded.tokenizer, settings)
        self._describe("compares its model's results in a batch with those of a text alone")
        hosted = self._hosted = host(loaded, settings.prefix_cache_bytes, settings.path)
        return hosted.runner, codec, loaded.end_tokens

    @property
    def mode(self) -> Mode:
        """How the model is computed, as determined when it was loaded."""
        return self._hosted.mode

    @property
    def reason(self) -> str:
        """Why the model is not computed in a faster mode; empty in the fastest mode."""
        return self._hosted.reason

    @property
    def scoring_mode(self) -> str:
        """Library, number format and kind of prefill: `transformers-float64-cached`, or `-plain`, see `hosting`."""
        return f"transformers-{self._loaded.numerics}-{self._hosted.scoring}"

    @property
    def weights_digest(self) -> str:
        """64 hex digits over the model's files; of large weight files, over the first and last MiB."""
        return self._loaded.weights_digest

    @property
    def max_model_len(self) -> int:
        """Context length in tokens."""
        return self._loaded.max_length

    async def propose(self, turn: Turn, steps: Sequence[str], sampling: Sampling) -> Generation:
        """See `protocol.Engine.propose`; `max_tokens` is cut to the room that the context leaves."""
        pieces = self._codec.proposal(turn, steps)
        return await self._generate(self._generation_job("step", turn, pieces, sampling))

    async def complete(self, turn: Turn, steps: Sequence[str], sampling: Sampling) -> Generation:
        """See `protocol.Engine.complete`; `max_tokens` is cut to the room that the context leaves."""
        pieces = self._codec.proposal(turn, steps)
        return await self._generate(self._generation_job("trajectory", turn, pieces, sampling))

    async def answer(
        self, turn: Turn, steps: Sequence[str], sampling: Sampling, *, opening: str = ANSWER_OPENING
    ) -> Generation:
        """See `protocol.Engine.answer`; a second `</think>` ends the answer, and the finish reason says so."""
        require_steps(steps)
        pieces = self._codec.answer(turn, steps, opening)
        return await self._generate(self._generation_job("answer", turn, pieces, sampling))

    async def reply(self, turn: Turn, sampling: Sampling) -> Generation:
        """See `protocol.Engine.reply`; `max_tokens` is cut to the room that the context leaves."""
        return await self._generate(self._generation_job("reply", turn, self._codec.reply(turn), sampling))

    async def score(
        self, turn: Turn, steps: Sequence[str], answer: str, scoring_template: str, *, full_stop: bool = False
    ) -> AnswerScore:
        """See `protocol.Engine.score`; sum, score and mean probability have 9 significant digits, and the score is
        computed from the rounded sum."""
        started = time.monotonic()
        pieces, closing = self._scored_parts(turn, steps, answer, scoring_template, full_stop=full_stop)
        result = await self._answer_result(pieces, closing)
        total = math.fsum(result.log_probabilities)
        if not math.isfinite(total):
            raise NotFiniteError(
                f"the answer's log-probability is {total} (number format too narrow?); try another dtype"
            )
        total = round(_significant(min(total, 0.0)), _DIGITS) + 0.0  # no negative zero
        return AnswerScore(
            score=_significant(predictive_perplexity(total, len(closing.answer))),
            mean_probability=_significant(mean_probability(result.log_probabilities)),
            log_prob_sum=total,
            answer_tokens=len(closing.answer),
            prompt_tokens=sum(map(len, pieces)) + len(closing.ids),
            thinking_tokens=sum(map(len, pieces[1:])),
            cached_tokens=result.cached,
            seconds=time.monotonic() - started,
        )

    async def log_probabilities(
        self, turn: Turn, steps: Sequence[str], answer: str, scoring_template: str, *, full_stop: bool = False
    ) -> list[float]:
        """Natural-log probability of each scored token, unrounded; `score` sums them."""
        pieces, closing = self._scored_parts(turn, steps, answer, scoring_template, full_stop=full_stop)
        return (await self._answer_result(pieces, closing)).log_probabilities

    async def close(self) -> None:
        """Ends the compute thread; waiting requests fail with EngineError."""
        await asyncio.to_thread(self.stop)

    def stop(self) -> None:
        """Like `close`, for callers without an event loop."""
        self._thread.stop()

    def _scored_parts(
        self, turn: Turn, steps: Sequence[str], answer: str, scoring_template: str, *, full_stop: bool
    ) -> tuple[list[Ids], EncodedClosing]:
        """The candidate's pieces and the closing part (scoring template with the known answer). Raises TooLongError if
        they do not fit into the context."""
        pieces = self._codec.candidate(turn, steps)
        closing = self._codec.closing(scoring_template, answer, full_stop=full_stop)
        prompt_tokens = sum(map(len, pieces)) + len(closing.ids)
        if prompt_tokens > self.max_model_len:
            raise TooLongError(
                f"candidate and closing part take {prompt_tokens} tokens, but the context holds {self.max_model_len}; "
                "lower search.thinking_tokens or raise the prover's max_model_len"
            )
        return pieces, closing

    async def _answer_result(self, pieces: Sequence[Ids], closing: EncodedClosing) -> ScoreResult:
        job = ScoreJob(ScoreTask(tuple(pieces), closing.ids, closing.answer))
        self._thread.submit_score(job)
        result = await asyncio.wrap_future(job.future)
        if len(result.log_probabilities) != len(closing.answer):
            raise EngineFaultError(
                f"{len(closing.answer)} answer tokens gave {len(result.log_probabilities)} log-probabilities; "
                "this is a fault of the engine, report it"
            )
        return result

    async def _generate(self, job: GenerationJob) -> Generation:
        self._thread.submit_generation(job)
        return await asyncio.wrap_future(job.future)

    def _generation_job(self, kind: TextKind, turn: Turn, pieces: list[Ids], sampling: Sampling) -> GenerationJob:
        length = sum(map(len, pieces))
        allowed = tokens_allowed(kind, sampling, prompt=length, context=self.max_model_len, codec=self._codec)
        return GenerationJob(
            kind=kind,
            segmentation=turn.segmentation,
            pieces=pieces,
            sampling=RowSampling(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                min_p=sampling.min_p,
                repetition_penalty=sampling.repetition_penalty,
                seed=sampling.seed,
            ),
            max_tokens=allowed,
        )


def _significant(value: float) -> float:
    return float(f"{value:.{_DIGITS - 1}e}")
