"""Asking a server what it is and what it can do, once, at start."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal, TypeVar

from cord_worker.engines.openai_client import Document, OpenAiClient
from cord_worker.engines.openai_faults import ServerFault
from cord_worker.engines.openai_prompts import ChatStyle, chat_fields, chat_messages
from cord_worker.engines.openai_requests import (
    ServerKind,
    ending_fields,
    own_reasoning,
    tells_stops,
    usage_of,
    written_in_parts,
)
from cord_worker.engines.openai_scoring import ScorePath, prompt_rows
from cord_worker.engines.openai_tokenizer import ServerTokenizer
from cord_worker.engines.protocol import Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.errors import EngineError, EngineLoadError, NotFiniteError, RequestError, UnavailableError
from cord_worker.prompting.segmentation import ends_of
from cord_worker.prompting.trajectory import PROMPTED

logger = logging.getLogger(__name__)

T = TypeVar("T")
Api = Literal["ids", "text", "chat"]
_KINDS: dict[str, ServerKind] = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp"}
_ENDS = ends_of(PROMPTED, "step")
_TRIES = 3
"""Of what fails at the engine's probe (`openai_engine._PROBE_RETRIES` beyond the first)."""
_ABSENT = frozenset({400, 404, 405, 410, 415, 422})
"""Answers to a probe that mean at once: this server has no such thing."""
_ABSENT_IF_LASTING = frozenset({403, 500, 501})
"""Answers that mean it when they stay: 500 may pass, and 403 may be about the key."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a server is and how it is used; `score_path` is None where it gives no prompt log-probabilities.

    `base_model` is the name of the weights as the server tells it; `max_model_len` None where it does not say.
    """

    kind: ServerKind
    model: str
    base_model: str
    max_model_len: int | None
    api: Api
    chat_style: ChatStyle
    score_path: ScorePath | None
    counts_streams: bool

    @property
    def identity(self) -> tuple[object, ...]:
        """What may not change while an engine uses the server: what decides what it computes, and how it is asked."""
        return self.kind, self.base_model, self.api, self.chat_style, self.score_path

    def __str__(self) -> str:
        how = {"ids": "completions with token ids", "text": "completions with text", "chat": "chat"}[self.api]
        style = f" ({self.chat_style})" if self.api == "chat" else ""
        return f"{self.kind} server, model {self.model!r}, {how}{style}, scores: {self.score_path or 'none'}"


async def probe(client: OpenAiClient, settings: EngineSettings, tokenizer: ServerTokenizer | None) -> Server:
    """Finds out what the server of `settings.openai` offers.

    Raises EngineLoadError that names the wrong setting, UnavailableError where the server does not answer yet.
    """
    try:
        return await _probed(client, settings, tokenizer)
    except (EngineLoadError, UnavailableError):
        raise
    except EngineError as error:
        raise EngineLoadError(f"model {settings.path!r}: {error}") from None


async def _probed(client: OpenAiClient, settings: EngineSettings, tokenizer: ServerTokenizer | None) -> Server:
    assert settings.openai is not None
    model = settings.openai.model or settings.path
    listed = await _listed(client)
    kind: ServerKind = next((_KINDS[card["owned_by"]] for card in listed if card.get("owned_by") in _KINDS), "other")
    card = next((card for card in listed if card.get("id") == model), None)
    if card is None and tells_stops(kind):
        names = ", ".join(repr(card.get("id")) for card in listed)
        raise EngineLoadError(
            f"the server at {settings.openai.base_url} has no model {model!r}, only {names}; correct openai.model"
        )
    if card is None:
        card = listed[0] if kind == "llamacpp" else {}
    api, style, counts = await _api(client, settings, model, kind, tokenizer)
    return Server(
        kind=kind,
        model=model,
        base_model=PurePath(str(card.get("root") or card.get("id") or model)).name,
        max_model_len=_length(card),
        api=api,
        chat_style=style,
        score_path=await _score_path(client, kind, model, tokenizer) if api == "ids" else None,
        counts_streams=counts,
    )


async def _listed(client: OpenAiClient) -> list[Document]:
    """The server's models; none where it does not list them."""

    async def models() -> Document:
        return await client.get("/models")

    try:
        answer = await _answered(client, models)
    except ServerFault as fault:
        if fault.status == 403:
            raise client.error_of(fault) from None
        return []
    data = answer.get("data")
    return [card for card in data if isinstance(card, dict)] if isinstance(data, list) else []


async def _api(
    client: OpenAiClient, settings: EngineSettings, model: str, kind: ServerKind, tokenizer: ServerTokenizer | None
) -> tuple[Api, ChatStyle, bool]:
    assert settings.openai is not None
    wanted = settings.openai.api
    refusals: list[str] = []
    failures: list[ServerFault] = []

    def refused(fault: ServerFault) -> None:
        if fault.status == 403:
            raise client.error_of(fault) from None
        refusals.append(str(fault))
        if fault.status is not None and fault.status >= 500:
            failures.append(fault)

    if wanted == "completions" and tokenizer is None:
        raise EngineLoadError(
            f'api = "completions" renders prompts here and needs the model\'s tokenizer, but path = {settings.path!r} '
            "names none; give a tokenizer folder or hub id"
        )
    if wanted != "chat" and tokenizer is not None:
        ids = list(tokenizer.codec.candidate(Turn("1 + 1"), ["2"])[0])
        for api, prompt in (("ids", ids), ("text", "1 + 1")):
            body: Document = {"model": model, "prompt": prompt}
            try:
                usage_tokens, counts = await _tried(client, "/completions", body, kind)
            except ServerFault as fault:
                refused(fault)
                continue
            if api == "ids" and usage_tokens not in {None, len(ids)}:
                refusals.append(f"it counts {usage_tokens} tokens in a prompt of {len(ids)} token ids")
                continue
            return ("ids" if api == "ids" else "text"), "none", counts
    if wanted != "completions":
        for style in _styles(kind):
            messages = chat_messages(Turn("1 + 1"), "<think>\n### Step 1.", style)
            body = {"model": model, "messages": messages, **chat_fields(style)}
            try:
                _, counts = await _tried(client, "/chat/completions", body, kind)
            except ServerFault as fault:
                refused(fault)
                continue
            if style == "instruction":
                logger.warning(
                    "model %r: the server does not continue an assistant turn; steps are asked for by "
                    "instruction, which is a best effort",
                    model,
                )
            return "chat", style, counts
    if failures:  # it may serve the model once it is well
        raise client.error_of(failures[-1], _TRIES)
    raise EngineLoadError(
        f"the server at {settings.openai.base_url} serves model {model!r} by no way that is tried with api = "
        f"{wanted!r} ({'; '.join(dict.fromkeys(refusals))}); correct openai.model, openai.base_url (it ends in /v1 as "
        "a rule) or openai.api"
    )


def _styles(kind: ServerKind) -> tuple[ChatStyle, ...]:
    if tells_stops(kind):
        return ("continue",)
    if kind == "llamacpp":
        return ("trailing",)
    return ("prefix", "instruction")


async def _tried(client: OpenAiClient, path: str, body: Document, kind: ServerKind) -> tuple[int | None, bool]:
    """One token from the server as it will be asked later: (prompt tokens counted, whether streams are counted)."""
    body = {**body, "temperature": 1.0, "top_p": 1.0, **ending_fields(kind, _ENDS, 1)}
    if tells_stops(kind):

        async def whole() -> Document:
            return await client.post(path, body)

        answer = await _answered(client, whole)
        if own_reasoning(answer):
            raise ServerFault(
                "it keeps the model's reasoning apart from its text, so that no step can be continued: switch its "
                'reasoning parser off, or use api = "completions"',
                passing=False,
            )
        return usage_of(answer).prompt, True
    for counts in (True, False):
        asked = {**body, "stream_options": {"include_usage": True}} if counts else body

        async def streamed(asked: Document = asked) -> Any:
            return await client.stream(path, asked, lambda parts: written_in_parts(parts, _ENDS))

        try:
            return (await _answered(client, streamed)).usage.prompt, counts
        except ServerFault as fault:
            if not counts or fault.status not in {400, 422}:
                raise
        except RequestError as error:
            raise ServerFault(str(error), passing=False) from None
    raise AssertionError("unreachable")


async def _answered(client: OpenAiClient, attempt: Callable[[], Awaitable[T]]) -> T:
    """Tries through passing faults. Raises ServerFault where the server lacks the thing, EngineError as else."""
    try:
        return await client.tried(attempt)
    except ServerFault as fault:
        if fault.status in _ABSENT | _ABSENT_IF_LASTING or (fault.status is None and not fault.passing):
            raise
        raise client.error_of(fault, _TRIES) from None


async def _score_path(
    client: OpenAiClient, kind: ServerKind, model: str, tokenizer: ServerTokenizer | None
) -> ScorePath | None:
    """The best way to prompt log-probabilities that the server has: tried on a short prompt."""
    assert tokenizer is not None
    ids = [token for piece in tokenizer.codec.candidate(Turn("1 + 1"), [" It is 2."]) for token in piece]
    positions = range(len(ids) - 4, len(ids))  # more ids than a server names that does not know what is asked
    paths: tuple[ScorePath, ...] = ("next_token", "prompt_logprobs") if kind == "vllm" else ("echo",)
    for path in paths:

        async def rows(path: ScorePath = path) -> Any:
            return await prompt_rows(client, path, model, ids, positions)

        try:
            await _answered(client, rows)
            return path
        except (ServerFault, NotFiniteError) as fault:
            logger.debug("model %r: no scores by %s: %s", model, path, fault)
    return None


def _length(card: Document) -> int | None:
    meta = card.get("meta")
    length = card.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
    return length if isinstance(length, int) and length > 0 else None
