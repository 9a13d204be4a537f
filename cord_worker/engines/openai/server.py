"""Probes what a server is and what it can do."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal, TypeVar

from cord_worker.config import OpenAiOptions
from cord_worker.display_text import shown
from cord_worker.engines.openai.client import OpenAiClient
from cord_worker.engines.openai.faults import Means, ServerFault
from cord_worker.engines.openai.prompts import ChatStyle, RepeatedPrefill, chat_fields, chat_messages
from cord_worker.engines.openai.replies import Document
from cord_worker.engines.openai.requests import (
    ServerKind,
    count_of,
    ending_fields,
    has_own_reasoning,
    tells_stops,
    usage_of,
    written,
    written_in_parts,
)
from cord_worker.engines.openai.scoring import MisalignedFault, ScorePath, prompt_rows
from cord_worker.engines.protocol import Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.tokenizer import ServerTokenizer
from cord_worker.errors import (
    ContentFilterError,
    EngineError,
    EngineLoadError,
    NotFiniteError,
    RequestError,
    TooLongError,
    UnavailableError,
)
from cord_worker.prompting.segmentation import ends_of
from cord_worker.prompting.think_tags import USUAL_TAGS, ThinkTags
from cord_worker.prompting.trajectory import PROMPTED

logger = logging.getLogger(__name__)

T = TypeVar("T")
Api = Literal["ids", "text", "chat"]
_KINDS: dict[str, ServerKind] = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llamacpp"}
_ENDS = ends_of(PROMPTED, "step")
_NO_ENDS = ends_of(PROMPTED, "reply")


@dataclass(frozen=True, slots=True)
class _ProbeText:
    """The texts of a probe: `task` asks for a single token, and `question` comes with the beginning of a thinking
    (`prefill`) that the server must continue."""

    task: str
    question: str
    prefill: str


_TEXTS = (
    _ProbeText("1 + 1", "What is 1 + 1?", "### Step 1. We are asked for the sum of 1 and 1, which is"),
    _ProbeText(
        "Name a colour.", "Which colour has grass?", "### Step 1. We are asked for the colour of grass, which is"
    ),
)
"""If a content filter refuses one, the next is tried, because filters sometimes refuse harmless texts."""
_NAME_CHARACTERS = 1024
_MOST_NAMES = 1000
_PROBED_TOKENS = 32
"""More tokens than the prefill has: a model that repeats it reaches its end."""
_PROBE_RETRIES = 2
_TRIES = 1 + _PROBE_RETRIES
"""Tries of a failing probe."""
_PROBE_SECONDS = 60.0
"""Time limit for a single token; `timeout_seconds` is meant for thousands."""
_ABSENT = frozenset({400, 403, 404, 405, 410, 415, 422, 501})
"""HTTP statuses that mean, as the answer to a probe: this server lacks the feature."""
_NOT_SUPPORTED = re.compile(
    r"not (?:yet )?(?:supported|implemented)|unsupported|does(?: not|n't) support|only no echo", re.I
)
"""Words that mean the same under a status that otherwise means a failure of the server (llama.cpp, at `echo`: 500)."""


@dataclass(frozen=True, slots=True)
class Server:
    """What a server is and how it is used; `score_path` is None if it gives no prompt log-probabilities.

    `base_model` is the name of the weights that the server reports; `max_model_len` is None if it reports none.
    """

    kind: ServerKind
    model: str
    base_model: str
    max_model_len: int | None
    api: Api
    chat_style: ChatStyle
    score_path: ScorePath | None
    counts_streams: bool
    repeats_prefill: bool = False

    @property
    def identity(self) -> tuple[object, ...]:
        """What decides the server's results and how it is asked; it must not change while an engine uses the server."""
        return self.kind, self.base_model, self.api, self.chat_style, self.score_path

    def __str__(self) -> str:
        how = {"ids": "completions with token ids", "text": "completions with text", "chat": "chat"}[self.api]
        repeats = ", repeats what it continues" if self.repeats_prefill else ""
        style = f" ({self.chat_style}{repeats})" if self.api == "chat" else ""
        return f"{self.kind} server, model {self.model!r}, {how}{style}, scores: {self.score_path or 'none'}"


async def server_of(settings: EngineSettings, tokenizer: ServerTokenizer | None) -> Server:
    """What the server of `settings.openai` offers, probed over a separate connection; raises as `probe` does."""
    assert settings.openai is not None
    client = probing_client(settings.openai)
    try:
        return await probe(client, settings, tokenizer)
    finally:
        await client.close()


def probing_client(options: OpenAiOptions) -> OpenAiClient:
    """A client that sends one probe at a time, with fewer retries and a shorter timeout than for work."""
    limits = {
        "max_retries": min(_PROBE_RETRIES, options.max_retries),
        "timeout_seconds": min(_PROBE_SECONDS, options.timeout_seconds),
    }
    return OpenAiClient(options.model_copy(update=limits), slots=1)


async def probe(client: OpenAiClient, settings: EngineSettings, tokenizer: ServerTokenizer | None) -> Server:
    """Finds out what the server of `settings.openai` offers.

    Raises EngineLoadError that names the wrong setting, UnavailableError if the server does not answer yet.
    """
    assert settings.openai is not None
    try:
        return await _server_found(client, settings, tokenizer)
    except (EngineLoadError, UnavailableError):
        raise
    except ContentFilterError as error:
        raise EngineLoadError(
            f"model {settings.path!r}: the content filter of the server refuses the small test texts that are sent "
            f"at start, although they are harmless ({error}); loosen the filter there, or use another server"
        ) from None
    except TooLongError as error:
        raise EngineLoadError(
            f"model {settings.path!r}: the small test text that is sent at start does not fit the server's context "
            f"({error}); start the server with a longer context"
        ) from None
    except NotFiniteError as error:
        raise UnavailableError(str(error)) from None
    except EngineError as error:
        raise EngineLoadError(f"model {settings.path!r}: {error}") from None


async def _ask_unfiltered(ask: Callable[[_ProbeText], Awaitable[T]]) -> T:
    """The result of the first text that no content filter refuses. Raises ContentFilterError if all are refused."""
    for text in _TEXTS[:-1]:
        try:
            return await ask(text)
        except ContentFilterError as error:
            logger.warning("a content filter refuses the text of a probe; trying another text: %s", error)
    return await ask(_TEXTS[-1])


async def _server_found(client: OpenAiClient, settings: EngineSettings, tokenizer: ServerTokenizer | None) -> Server:
    assert settings.openai is not None
    model = settings.openai.model or settings.path
    cards = await models_at(client)
    kind: ServerKind = next((_KINDS[card.owner] for card in cards if card.owner in _KINDS), "other")
    card = next((card for card in cards if card.name == model), None)
    if card is None and tells_stops(kind):
        names = shown(", ".join(repr(card.name) for card in cards), _MOST_NAMES)
        raise EngineLoadError(
            f"the server at {settings.openai.base_url} has no model {model!r}, only {names}; correct openai.model"
        )
    if card is None:
        card = cards[0] if kind == "llamacpp" else ModelCard()
    api, style, counts = await _api(client, settings, model, kind, tokenizer)
    tags = tags_of_model(settings, tokenizer)
    continues = api == "chat" and style != "instruction"
    return Server(
        kind=kind,
        model=model,
        base_model=PurePath(card.root or card.name or model).name,
        max_model_len=card.length,
        api=api,
        chat_style=style,
        score_path=await _score_path(client, kind, model, tokenizer) if api == "ids" else None,
        counts_streams=counts,
        repeats_prefill=continues and await _repeats_prefill(client, model, kind, style, tags),
    )


def tags_of_model(settings: EngineSettings, tokenizer: ServerTokenizer | None) -> ThinkTags:
    """The think tags of the model at the server: those of its tokenizer, if there is one here."""
    return tokenizer.codec.tags if tokenizer is not None else settings.think_tags or USUAL_TAGS


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A server's entry for one of its models: its name, the kind of server, the weights and the context length."""

    name: str = ""
    owner: str = ""
    root: str = ""
    length: int | None = None


def cards_in(answer: Document) -> list[ModelCard]:
    """The models in a server's list; invalid entries are left out, and so are invalid names and lengths in an entry."""
    data = answer.get("data")
    return [_card(card) for card in data if isinstance(card, dict)] if isinstance(data, list) else []


def _card(card: Document) -> ModelCard:
    meta = card.get("meta")
    length = card.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
    return ModelCard(
        name=_name(card.get("id")),
        owner=_name(card.get("owned_by")),
        root=_name(card.get("root")),
        length=count_of(length) or None,
    )


def _name(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= _NAME_CHARACTERS and value.isprintable() else ""


async def models_at(client: OpenAiClient) -> list[ModelCard]:
    """The models that the server lists; empty if it has no list.

    Raises UnavailableError if the server does not answer, EngineError if it refuses the key.
    """

    async def models() -> Document:
        return await client.get("/models")

    try:
        return cards_in(await _ask(client, models))
    except ServerFault as fault:
        if fault.status == 403:
            raise client.error_of(fault) from None
        return []


async def _api(
    client: OpenAiClient, settings: EngineSettings, model: str, kind: ServerKind, tokenizer: ServerTokenizer | None
) -> tuple[Api, ChatStyle, bool]:
    """How the server takes prompts: the API, the chat style, and whether it counts the tokens of streams.

    Raises EngineLoadError if it takes them in none of the ways that `openai.api` allows."""
    assert settings.openai is not None
    wanted = settings.openai.api
    refusals: list[str] = []

    def refused(fault: ServerFault) -> None:
        if fault.status == 403:
            raise client.error_of(fault) from None
        refusals.append(str(fault))

    if wanted == "completions" and tokenizer is None:
        raise EngineLoadError(
            f'api = "completions" renders prompts here and needs the model\'s tokenizer, but path = {settings.path!r} '
            "names none; give a tokenizer folder or hub id"
        )
    if wanted != "chat" and tokenizer is not None:
        codec = tokenizer.codec

        async def by_ids(text: _ProbeText) -> tuple[int, int | None, bool]:
            ids = list(codec.candidate(Turn(text.task), ["2"])[0])
            return len(ids), *await _ask_for_token(client, "/completions", {"model": model, "prompt": ids}, kind)

        async def by_text(text: _ProbeText) -> tuple[int | None, bool]:
            return await _ask_for_token(client, "/completions", {"model": model, "prompt": text.task}, kind)

        try:
            sent, counted, counts = await _ask_unfiltered(by_ids)
            if counted in {None, sent}:
                return "ids", "none", counts
            refusals.append(f"it counts {counted} tokens in a prompt of {sent} token ids")
        except ServerFault as fault:
            refused(fault)
        try:
            return "text", "none", (await _ask_unfiltered(by_text))[1]
        except ServerFault as fault:
            refused(fault)
    if wanted != "completions":
        for style in _styles(kind):
            opening = f"{tags_of_model(settings, tokenizer).opening}### Step 1."

            async def by_chat(
                text: _ProbeText, opening: str = opening, style: ChatStyle = style
            ) -> tuple[int | None, bool]:
                messages = chat_messages(Turn(text.task), opening, style)
                body = {"model": model, "messages": messages, **chat_fields(style)}
                return await _ask_for_token(client, "/chat/completions", body, kind)

            try:
                _, counts = await _ask_unfiltered(by_chat)
                if style == "prefix":
                    await _require_continuing(client, model, tags_of_model(settings, tokenizer))
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
    raise EngineLoadError(
        f"the server at {settings.openai.base_url} serves model {model!r} in none of the ways of api = "
        f"{wanted!r} ({'; '.join(dict.fromkeys(refusals))}); correct openai.model, openai.base_url (it ends in /v1 as "
        "a rule) or openai.api"
    )


async def _continuation(
    client: OpenAiClient, model: str, kind: ServerKind, style: ChatStyle, tags: ThinkTags
) -> tuple[str, str]:
    """The assistant's text that the server was asked to continue, and the text that it wrote."""

    async def of(text: _ProbeText) -> tuple[str, str]:
        opening = f"{tags.opening}{text.prefill}"
        body = {
            "model": model,
            "messages": chat_messages(Turn(text.question), opening, style),
            **chat_fields(style),
            "temperature": 0.0,
            "max_tokens": _PROBED_TOKENS,
        }

        async def asked() -> Any:
            if tells_stops(kind):
                return written(await client.post("/chat/completions", body), kind, _NO_ENDS)
            return await client.stream(
                "/chat/completions", body, lambda parts: written_in_parts(parts, _NO_ENDS, _PROBED_TOKENS)
            )

        return opening, str((await _ask(client, asked)).text)

    return await _ask_unfiltered(of)


async def _repeats_prefill(
    client: OpenAiClient, model: str, kind: ServerKind, style: ChatStyle, tags: ThinkTags
) -> bool:
    """True if the server's answers begin with the text that it is asked to continue.

    Raises EngineLoadError if the server refuses the probe: if it repeats the text without our knowledge, the repeated
    text would be stored.
    """
    try:
        opening, text = await _continuation(client, model, kind, style, tags)
    except ServerFault as fault:
        raise EngineLoadError(
            f"model {model!r}: a test whether the server repeats the assistant's text that it must continue failed "
            f'({fault}); use api = "completions", or another server'
        ) from None
    return RepeatedPrefill.of(opening, tags).is_in(text)


async def _require_continuing(client: OpenAiClient, model: str, tags: ThinkTags) -> None:
    """Raises ServerFault if the server starts a new thinking after an assistant's text that has already begun one."""
    opening, text = await _continuation(client, model, "other", "prefix", tags)
    if text.lstrip().startswith(tags.openings) and not RepeatedPrefill.of(opening, tags).is_in(text):
        raise ServerFault("it does not continue the assistant's text, but starts a new thinking", transient=False)


def _styles(kind: ServerKind) -> tuple[ChatStyle, ...]:
    if tells_stops(kind):
        return ("continue",)
    if kind == "llamacpp":
        return ("trailing",)
    return ("prefix", "instruction")


async def _ask_for_token(client: OpenAiClient, path: str, body: Document, kind: ServerKind) -> tuple[int | None, bool]:
    """Asks for one token in the way the engine will; returns the server's count of the prompt's tokens, and whether it
    counts the tokens of streams."""
    body = {**body, "temperature": 1.0, "top_p": 1.0, **ending_fields(kind, _ENDS, 1)}
    if tells_stops(kind):

        async def whole() -> Document:
            return await client.post(path, body)

        answer = await _ask(client, whole)
        if has_own_reasoning(answer):
            raise ServerFault(
                "it keeps the model's reasoning apart from its text, so that no step can be continued: switch its "
                'reasoning parser off, or use api = "completions"',
                transient=False,
            )
        return usage_of(answer).prompt, True
    for counts in (True, False):
        asked = {**body, "stream_options": {"include_usage": True}} if counts else body

        async def streamed(asked: Document = asked) -> Any:
            return await client.stream(path, asked, lambda parts: written_in_parts(parts, _ENDS, 1))

        try:
            return (await _ask(client, streamed)).usage.prompt, counts
        except ServerFault as fault:
            if not counts or fault.status not in {400, 422}:
                raise
    raise AssertionError("unreachable")


async def _ask(client: OpenAiClient, attempt: Callable[[], Awaitable[T]]) -> T:
    """The result of `attempt`, retried through transient faults.

    Raises ServerFault if the server lacks the feature; UnavailableError if it failed, which says nothing about its
    features; RequestError if it refuses the text of the probe; otherwise EngineError.
    """
    try:
        return await client.try_probe(attempt)
    except ServerFault as fault:
        if fault.refusal is None and _lacks(fault):
            raise
        raise client.error_of(fault, _TRIES) from None
    except (ContentFilterError, TooLongError, NotFiniteError):
        raise
    except RequestError as error:
        raise ServerFault(str(error), transient=False) from None


def _lacks(fault: ServerFault) -> bool:
    """True if a lasting fault is evidence that the server lacks the feature."""
    if fault.means in (Means.BUSY, Means.AWAY):
        return False
    if fault.status is None:
        return not fault.transient
    return fault.status in _ABSENT or (fault.means is Means.BROKEN and bool(_NOT_SUPPORTED.search(str(fault))))


async def _score_path(
    client: OpenAiClient, kind: ServerKind, model: str, tokenizer: ServerTokenizer | None
) -> ScorePath | None:
    """The best way to prompt log-probabilities that the server supports, tried on a short prompt.

    Raises UnavailableError if the server fails, or computes no number: it may support them once it works.
    """
    assert tokenizer is not None
    codec = tokenizer.codec
    paths: tuple[ScorePath, ...] = ("next_token", "prompt_logprobs") if kind == "vllm" else ("echo",)
    for path in paths:

        async def of(text: _ProbeText, path: ScorePath = path) -> Any:
            ids = [token for piece in codec.candidate(Turn(text.task), [" It is 2."]) for token in piece]
            # Several positions, because a server that ignores `logprob_token_ids` names fewer tokens.
            positions = range(len(ids) - 4, len(ids))
            return await _ask(client, lambda: prompt_rows(client, path, model, ids, positions, tokenizer.names))

        try:
            await _ask_unfiltered(of)
            return path
        except ServerFault as fault:
            level = logging.WARNING if isinstance(fault, MisalignedFault) else logging.DEBUG
            logger.log(level, "model %r: no scores by %s: %s", model, path, fault)
        except UnavailableError as error:
            brief = f"it fails at the log-probabilities of a small prompt: {error.brief}"
            raise UnavailableError(
                f"{error} (at the log-probabilities of a small prompt)",
                brief=brief,
                retry_after=error.retry_after,
                is_failing=error.is_failing,
            ) from None
        except NotFiniteError as error:
            raise UnavailableError(f"it fails at the log-probabilities of a small prompt: {error}") from None
    return None
