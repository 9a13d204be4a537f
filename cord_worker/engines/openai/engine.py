"""An engine backed by an OpenAI-compatible server; the model can be a teacher and, if the server allows, the prover.

A hosted teacher in cord.toml, its key in the environment variable DEEPSEEK_API_KEY:

    [models.r1]
    engine = "openai"
    path = "deepseek-ai/DeepSeek-R1"             # the tokenizer: prompts are rendered and tokens counted with it
    batch_size = 32                              # requests at once
    [models.r1.openai]
    base_url = "https://api.example.com/v1"
    model = "deepseek-r1"                        # the model's name at the server
    api_key_env = "DEEPSEEK_API_KEY"

A prover on `vllm serve` (`--enable-prompt-tokens-details` makes it report the tokens from its prefix cache):

    [models.qwq]
    engine = "openai"
    path = "Qwen/QwQ-32B"
    [models.qwq.openai]
    base_url = "http://gpu-node:8000/v1"
    model = "Qwen/QwQ-32B"

If the server accepts token ids (vLLM, SGLang, llama.cpp), prompts are sent as the ids of `text_codec.TextCodec`. Then
a step has the same ids in every prompt, so that the server's prefix cache finds it, and control tokens in text from
outside have no effect.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace

from cord_worker.engines.heads import LanguageHead, require_steps
from cord_worker.engines.openai.client import Document, OpenAiClient
from cord_worker.engines.openai.pauses import checks
from cord_worker.engines.openai.prompts import (
    RepeatedPrefill,
    chat_fields,
    chat_messages,
    turn_messages,
    without_marker,
)
from cord_worker.engines.openai.requests import (
    Written,
    ending_fields,
    is_ended_here,
    sampling_fields,
    written,
    written_in_parts,
)
from cord_worker.engines.openai.scoring import Rows, prompt_rows
from cord_worker.engines.openai.server import Server, server_of, tags_of_model
from cord_worker.engines.openai.token_counts import estimated, plausible
from cord_worker.engines.protocol import AnswerScore, Describe, Generation, Sampling, Turn, ignore_condition
from cord_worker.engines.room_in_context import tokens_allowed
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.tokenizer import ServerTokenizer, load_server_tokenizer
from cord_worker.errors import (
    EngineError,
    EngineFaultError,
    EngineLoadError,
    TooLongError,
    UnavailableError,
)
from cord_worker.prompting.scoring import mean_probability, predictive_perplexity
from cord_worker.prompting.segmentation import TextKind, cut, ends_of
from cord_worker.prompting.think_tags import USUAL_TAGS
from cord_worker.prompting.trajectory import ANSWER_OPENING, proposal_pieces, scoring_pieces

logger = logging.getLogger(__name__)

_DIGITS = 9
"""Significant digits of scores, and decimals of log-probability sums, as in the transformers engine."""
_LONGEST_FAILING_SECONDS = 900.0
"""Longest wait for a server that is reachable but always fails. The wait for one that is unreachable or loads its model
has no limit."""


@dataclass(frozen=True, slots=True)
class TokenTotals:
    """Token totals of this process, in the model's tokens; `retries` counts tries beyond the first."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    retries: int = 0


class OpenAiEngine(LanguageHead):
    """The model that `settings.openai` names; the constructor probes its server, or raises EngineLoadError.

    Implements `protocol.Engine`. At most `settings.batch_size` requests run concurrently, fewer while the server
    accepts fewer. The engine waits for a server that is unreachable or loads its model: at start only if `describe` is
    given, later always. A server that returns with another identity (another model, for example) counts as unreachable.
    """

    def __init__(self, settings: EngineSettings, describe: Describe | None = None) -> None:
        if settings.openai is None:
            raise EngineLoadError(f'model {settings.path!r}: engine = "openai" needs a table [models.NAME.openai]')
        self._settings = settings
        self._tokenizer = load_server_tokenizer(settings)
        self._tags = tags_of_model(settings, self._tokenizer)
        # in a thread with its own loop, because the engine's loop belongs to another thread or runs already
        with ThreadPoolExecutor(1) as thread:
            probing = _probe_patiently(settings, self._tokenizer, describe)
            self._server: Server = thread.submit(asyncio.run, probing).result()
        self._max_model_len = _max_model_len(settings, self._server)
        self._client = OpenAiClient(
            settings.openai, slots=settings.batch_size, check=self._check, describe=describe or ignore_condition
        )
        self._totals = TokenTotals()
        self._has_warned_of_counts = False
        logger.info("%s: %s", settings.openai.base_url, self._server)

    @property
    def scoring_mode(self) -> str | None:
        """Kind of server and how it gives scores, such as `openai-vllm-next_token`; None if it gives none."""
        path = self._server.score_path
        return None if path is None else f"openai-{self._server.kind}-{path}"

    @property
    def weights_digest(self) -> str:
        """64 hex digits over the model's name at the server and the tokenizer's files; the weights cannot be read."""
        tokenizer = self._tokenizer.digest if self._tokenizer else ""
        return hashlib.sha256(f"{self._server.base_model}\0{tokenizer}".encode()).hexdigest()

    @property
    def max_model_len(self) -> int | None:
        """Context length in tokens; None if neither the server nor cord.toml gives it."""
        return self._max_model_len

    @property
    def totals(self) -> TokenTotals:
        """Tokens of all requests so far."""
        return replace(self._totals, retries=self._client.retries)

    async def available(self) -> None:
        """See `protocol.Engine.available`."""
        await self._client.available()

    async def propose(self, turn: Turn, steps: Sequence[str], sampling: Sampling) -> Generation:
        """See `protocol.Engine.propose`; `max_tokens` is cut to what the context leaves, if its length is known."""
        return await self._generate("step", turn, steps, sampling)

    async def complete(self, turn: Turn, steps: Sequence[str], sampling: Sampling) -> Generation:
        """See `protocol.Engine.complete`; `max_tokens` is cut as in `propose`."""
        return await self._generate("trajectory", turn, steps, sampling)

    async def answer(
        self, turn: Turn, steps: Sequence[str], sampling: Sampling, *, opening: str = ANSWER_OPENING
    ) -> Generation:
        """See `protocol.Engine.answer`; a second `</think>` ends the answer, and the finish reason says so."""
        require_steps(steps)
        return await self._generate("answer", turn, steps, sampling, opening)

    async def reply(self, turn: Turn, sampling: Sampling) -> Generation:
        """See `protocol.Engine.reply`; `max_tokens` is cut as in `propose`."""
        return await self._generate("reply", turn, (), sampling)

    async def score(
        self, turn: Turn, steps: Sequence[str], answer: str, scoring_template: str, *, full_stop: bool = False
    ) -> AnswerScore:
        """See `protocol.Engine.score`; raises EngineLoadError if the server gives no prompt log-probabilities."""
        started = time.monotonic()
        tokenizer, path = self._tokenizer, self._server.score_path
        if tokenizer is None or path is None:
            raise EngineLoadError(
                f"model {self._settings.path!r}: this server gives no prompt log-probabilities ({self._server}): it "
                'cannot be the prover; use vLLM (`vllm serve`), or host the prover here with engine = "vllm" or '
                '"transformers"'
            )
        pieces = tokenizer.codec.candidate(turn, steps)
        closing = tokenizer.codec.closing(scoring_template, answer, full_stop=full_stop)
        ids = [token for piece in (*pieces, closing.ids) for token in piece]
        if self._max_model_len is not None and len(ids) + 1 > self._max_model_len:
            raise TooLongError(
                f"candidate and closing part take {len(ids)} tokens, but the context holds {self._max_model_len} and "
                "the server wants to write one; lower search.thinking_tokens or raise the server's context length"
            )
        before = len(ids) - len(closing.ids)
        positions = [before + index for index in closing.answer]

        async def rows() -> Rows:
            return await prompt_rows(self._client, path, self._server.model, ids, positions, tokenizer.names)

        result = await self._client.with_retries(rows, lambda: _key("score", ids, positions))
        if len(result.log_probabilities) != len(closing.answer):
            raise EngineFaultError(
                f"{len(closing.answer)} answer tokens gave {len(result.log_probabilities)} log-probabilities; "
                "this is a fault of the engine, report it"
            )
        total = math.fsum(result.log_probabilities)
        total = round(_significant(min(total, 0.0)), _DIGITS) + 0.0  # no negative zero
        cached = result.cached
        if cached > len(ids):
            self._warn_of_counts([f"{cached} cached tokens of {len(ids)} in the prompt"])
            cached = 0
        self._count(len(ids), 1, cached)
        return AnswerScore(
            score=_significant(predictive_perplexity(total, len(closing.answer))),
            mean_probability=_significant(mean_probability(result.log_probabilities)),
            log_prob_sum=total,
            answer_tokens=len(closing.answer),
            prompt_tokens=len(ids),
            thinking_tokens=sum(map(len, pieces[1:])),
            cached_tokens=cached,
            seconds=time.monotonic() - started,
        )

    async def close(self) -> None:
        """Closes the connections."""
        logger.info("%s: %s", self._server.model, self.totals)
        await self._client.close()

    async def _generate(
        self, kind: TextKind, turn: Turn, steps: Sequence[str], sampling: Sampling, opening: str = ANSWER_OPENING
    ) -> Generation:
        started = time.monotonic()
        prompt, prompt_tokens, sent = self._prompt(kind, turn, steps, opening)
        prefill = self._prefill(kind, prompt)
        server, ends = self._server, ends_of(turn.segmentation, kind, self._tags)
        room = self._allowed(kind, sampling, prompt_tokens)
        body = {
            "model": server.model,
            **prompt,
            **sampling_fields(server.kind, sampling),
            **ending_fields(server.kind, ends, room),
        }
        path = "/chat/completions" if server.api == "chat" else "/completions"
        streams = prefill is not None or is_ended_here(server.kind, ends)
        if streams:
            body.pop("stop", None)  # a repeated prefill may contain a stop string
        if streams and server.counts_streams:
            body["stream_options"] = {"include_usage": True}

        async def attempt() -> Written:
            if not streams:
                return written(await self._client.post(path, body), server.kind, ends)
            return await self._client.stream(path, body, lambda parts: written_in_parts(parts, ends, room, prefill))

        result = await self._client.with_retries(attempt, lambda: _key(path, body))
        text = result.text
        if kind in ("step", "trajectory") and server.api == "chat" and turn.segmentation.has_markers:
            text = without_marker(text, server.chat_style)
        if result.ended == "length":
            text = text.rstrip("\ufffd")  # half of a character, cut off by the cap
        segment = cut(text, kind, turn.segmentation, ended=result.ended, tags=self._tags)
        usage, wrong = plausible(result, sent, cap=room, prompt_tokens=prompt_tokens, context=self._max_model_len)
        self._warn_of_counts(wrong)
        generation = Generation(
            text=segment.text,
            finish_reason=segment.finish_reason,
            prompt_tokens=_first_known(prompt_tokens, usage.prompt, self._tokens(sent), estimated(len(sent))),
            completion_tokens=_first_known(
                usage.completion,
                self._tokens(result.text),
                min(result.parts or estimated(len(result.text)), room),
            ),
            cached_tokens=usage.cached or 0,
            seconds=time.monotonic() - started,
        )
        self._count(generation.prompt_tokens, generation.completion_tokens, generation.cached_tokens)
        return generation

    def _prompt(
        self, kind: TextKind, turn: Turn, steps: Sequence[str], answer_opening: str
    ) -> tuple[Document, int | None, str]:
        """The request's prompt fields, its number of tokens (None if unknown) and its text (empty for token ids)."""
        server, tokenizer = self._server, self._tokenizer
        if kind == "reply":
            return self._reply_prompt(turn)
        pieces_of = scoring_pieces if kind == "answer" else proposal_pieces
        texts, closing = pieces_of(steps, turn.segmentation), answer_opening if kind == "answer" else ""
        if server.api == "chat" or tokenizer is None:
            tags = USUAL_TAGS if server.chat_style == "instruction" else self._tags
            opening = tags.opening + "".join(texts) + tags.own(closing)
            messages = chat_messages(turn, opening, server.chat_style)
            return {"messages": messages, **chat_fields(server.chat_style)}, None, _text_of(messages)
        if server.api == "text":
            text = tokenizer.prompt_text(turn, texts, closing)
            return {"prompt": text}, tokenizer.count(text), text
        codec = tokenizer.codec
        pieces = codec.answer(turn, steps, answer_opening) if kind == "answer" else codec.proposal(turn, steps)
        ids = [token for piece in pieces for token in piece]
        return {"prompt": ids}, len(ids), ""

    def _prefill(self, kind: TextKind, prompt: Document) -> RepeatedPrefill | None:
        """The assistant's text in the prompt if the server repeats it, otherwise None."""
        if kind == "reply" or not self._server.repeats_prefill:
            return None
        return RepeatedPrefill.of(prompt["messages"][-1]["content"], self._tags)

    def _reply_prompt(self, turn: Turn) -> tuple[Document, int | None, str]:
        server, tokenizer = self._server, self._tokenizer
        if server.api == "chat" or tokenizer is None:
            messages = turn_messages(turn)
            return {"messages": messages}, None, _text_of(messages)
        if server.api == "text":
            text = tokenizer.prompt_text(turn, (), thinking=False)
            return {"prompt": text}, tokenizer.count(text), text
        ids = [token for piece in tokenizer.codec.reply(turn) for token in piece]
        return {"prompt": ids}, len(ids), ""

    def _allowed(self, kind: TextKind, sampling: Sampling, prompt_tokens: int | None) -> int:
        codec = None if self._tokenizer is None else self._tokenizer.codec
        context = None if prompt_tokens is None else self._max_model_len
        return tokens_allowed(kind, sampling, prompt=prompt_tokens or 0, context=context, codec=codec)

    async def _check(self) -> None:
        """Raises EngineError if the server's identity changed, or if it no longer does what it did at start."""
        found = await server_of(self._settings, self._tokenizer)
        if found.identity != self._server.identity:
            raise EngineError(
                f"the server at {self._server_url} is no longer what it was: it was a {self._server}, with the weights "
                f"{self._server.base_model!r}, and is a {found}, with {found.base_model!r}; restore it, or start the "
                "worker again"
            )
        self._max_model_len = _max_model_len(self._settings, found)

    @property
    def _server_url(self) -> str:
        assert self._settings.openai is not None
        return self._settings.openai.base_url

    def _tokens(self, text: str) -> int | None:
        return None if self._tokenizer is None else self._tokenizer.count(text)

    def _warn_of_counts(self, wrong: Sequence[str]) -> None:
        """Logs the `wrong` counts of the server, only the first time."""
        if wrong and not self._has_warned_of_counts:
            self._has_warned_of_counts = True
            logger.warning(
                "%s counts tokens wrong (%s): such counts are not stored, but counted here or estimated",
                self._server_url,
                "; ".join(wrong),
            )

    def _count(self, prompt: int, completion: int, cached: int) -> None:
        totals = self._totals
        self._totals = TokenTotals(
            requests=totals.requests + 1,
            prompt_tokens=totals.prompt_tokens + prompt,
            completion_tokens=totals.completion_tokens + completion,
            cached_tokens=totals.cached_tokens + cached,
        )


async def _probe_patiently(
    settings: EngineSettings, tokenizer: ServerTokenizer | None, describe: Describe | None
) -> Server:
    """Probes the server; waits for an unreachable one if there is a `describe`.

    Raises EngineLoadError, including when the server is reachable but fails at everything for too long.
    """
    assert settings.openai is not None
    since = time.monotonic()
    failing_since: float | None = None
    level = logging.WARNING

    async def probe_once() -> Server | UnavailableError:
        try:
            return await server_of(settings, tokenizer)
        except UnavailableError as error:
            return error

    def asked(found: Server | UnavailableError) -> float | None:
        return found.retry_after if isinstance(found, UnavailableError) else None

    async with aclosing(checks(probe_once, asked)) as all_found:
        async for found in all_found:
            if not isinstance(found, UnavailableError):
                return found
            if describe is None:
                raise EngineLoadError(f"model {settings.path!r}: {found}")
            failing_since = (failing_since or time.monotonic()) if found.is_failing else None
            if failing_since is not None and time.monotonic() - failing_since >= _LONGEST_FAILING_SECONDS:
                raise EngineLoadError(
                    f"model {settings.path!r}: the server at {settings.openai.base_url} is reachable, but failed at "
                    f"the first test texts for {_LONGEST_FAILING_SECONDS:.0f} s, last: {found.brief}; look at its "
                    "log, set openai.api if only one way of asking fails, and start the worker again"
                )
            logger.log(level, "the server is waited for: %s", found)
            level = logging.INFO
            describe(f"waits for {settings.openai.base_url}: {found.brief}", since=since)
    raise AssertionError("unreachable")


def _max_model_len(settings: EngineSettings, server: Server) -> int | None:
    asked, offered = settings.max_model_len, server.max_model_len
    if asked is not None and offered is not None and asked > offered:
        raise EngineLoadError(
            f"max_model_len = {asked} is more than the {offered} tokens that the server of model "
            f"{settings.path!r} holds; lower it, or start the server with more"
        )
    return asked or offered


def _text_of(messages: Sequence[Document]) -> str:
    return "".join(message["content"] for message in messages)


def _first_known(*counts: int | None) -> int:
    return next((count for count in counts if count is not None), 0)


def _key(*request: object) -> str:
    """Names a request; equal requests have equal names."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _significant(value: float) -> float:
    return float(f"{value:.{_DIGITS - 1}e}")
