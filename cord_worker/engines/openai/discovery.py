"""Asks servers which models they have and what each can do, for a configuration that is yet to be written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from cord_worker.config import ModelConfig, OpenAiOptions
from cord_worker.engines.openai.server import ModelCard, Server, models_at, probing_client, server_of
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.tokenizer import ServerTokenizer, load_server_tokenizer
from cord_worker.errors import EngineError, EngineLoadError


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a server lists.

    `path` names its tokenizer. If there is none, `path` is the model's name, and `tokenizer_problem` says why a
    tokenizer of that name could not be fetched. If the model writes no text, `server` is None, and `problem` says why.
    """

    options: OpenAiOptions
    path: str
    has_tokenizer: bool = False
    tokenizer_problem: str | None = None
    server: Server | None = None
    problem: str | None = None

    @property
    def name(self) -> str:
        """Its name at the server."""
        return self.options.model or ""

    @property
    def is_prover(self) -> bool:
        """True if it can score, because the server gives log-probabilities of a prompt."""
        return self.server is not None and self.server.score_path is not None


def listed_models(servers: Sequence[OpenAiOptions]) -> list[list[ModelCard]]:
    """The models that each server lists, in its order.

    Raises EngineError if a server does not answer, refuses the key, or lists none.
    """

    async def of_all() -> list[list[ModelCard]]:
        return await asyncio.gather(*map(_listed, servers))

    return asyncio.run(of_all())


def explored(options: OpenAiOptions, card: ModelCard) -> ServedModel:
    """What the model can do at its server; costs a few requests of one token each.

    A model that writes no text, or fails, is returned with its `problem`.
    """
    options = options.model_copy(update={"model": card.name})
    path, tokenizer, problem = _tokenizer_of(card, options)
    try:
        server = asyncio.run(server_of(_settings(path, options), tokenizer))
    except EngineError as error:
        return ServedModel(options, path, tokenizer is not None, problem, problem=str(error))
    return ServedModel(options, path, tokenizer is not None, problem, server)


async def _listed(options: OpenAiOptions) -> list[ModelCard]:
    client = probing_client(options)
    try:
        cards = [card for card in await models_at(client) if card.name]
    finally:
        await client.close()
    if not cards:
        raise EngineError(
            f"the server at {options.base_url} lists no models (GET {options.base_url}/models): check the address, "
            "which ends in /v1 as a rule, and whether the server has loaded a model"
        )
    return cards


def _tokenizer_of(card: ModelCard, options: OpenAiOptions) -> tuple[str, ServerTokenizer | None, str | None]:
    """The path that names the model's tokenizer, the tokenizer, and why one of that name could not be fetched."""
    problem = None
    for path in filter(None, dict.fromkeys((card.root, card.name))):
        try:
            tokenizer = load_server_tokenizer(_settings(path, options))
        except EngineLoadError as error:
            problem = str(error)
            continue
        if tokenizer is not None:
            return path, tokenizer, None
    return card.name, None, problem


def _settings(path: str, options: OpenAiOptions) -> EngineSettings:
    return EngineSettings.of(ModelConfig(path=path, engine="openai", openai=options))
