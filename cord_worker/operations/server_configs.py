"""Writes a cord.toml for the models of OpenAI-compatible servers."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

import tomlkit

from cord_worker.config import NAME_PATTERN, OpenAiOptions
from cord_worker.display_text import counted, shown
from cord_worker.engines.openai.discovery import ServedModel, explored, listed_models
from cord_worker.engines.openai.server import ModelCard
from cord_worker.errors import ConfigError, EngineError
from cord_worker.name_suggestions import unknown
from cord_worker.presets import servers_text

_MOST_MODELS = 10
"""Most models that are tried if none is named. Each costs some requests, and hosted APIs list hundreds."""
_MAX_LIST_CHARACTERS = 2000
_MAX_REASON_CHARACTERS = 300
_THINKING_TOKENS, _ANSWER_TOKENS, _STEP_TOKENS = 16_384, 4096, 2048
"""The defaults of [search], the paper's budgets. With a short context, thinking gets a half of it and the answer a
quarter."""

NO_PROVER = (
    "none of these models can score, so the file has no prover yet. A run needs one: a model on a server that gives "
    "log-probabilities of a prompt (vLLM does, and `path` must name the tokenizer), or one that this service hosts; "
    "see [prover] in the file"
)


def config_from_servers(
    servers: Sequence[OpenAiOptions], names: Collection[str], tell: Callable[[str], None]
) -> tuple[str, str | None]:
    """A commented cord.toml with the servers' models as teachers, and the name of the model that is the prover.

    `names` are the models to take; empty: all. `tell` receives a line about each model. The prover is the first model
    that can score. If none can, it is None, and the file has no table [prover].

    Raises EngineError if a server does not answer, refuses the key or has no model that writes, ConfigError if a model
    of `names` is missing or unusable, or if there are too many models to ask all of them.
    """
    chosen = _chosen(servers, names)
    found: list[ServedModel] = []
    for options, card in chosen:
        model = explored(options, card)
        same = next((one for one in found if (one.path, one.name) == (model.path, model.name)), None)
        if same is not None:
            tell(f"{model.name} at {options.base_url}: left out: it is served at {same.options.base_url} too")
            continue
        found.append(model)
        tell(f"{model.name} at {options.base_url}: {_description(model)}")
    unusable = [model for model in found if model.server is None]
    if unusable and (names or len(unusable) == len(found)):
        raise EngineError("\n".join(f"{model.name} at {model.options.base_url}: {model.problem}" for model in unusable))
    usable = dict(_named([model for model in found if model.server is not None]))
    prover = next((name for name, model in usable.items() if model.is_prover), None)
    return _text(usable, unusable, prover), prover


def _chosen(servers: Sequence[OpenAiOptions], names: Collection[str]) -> list[tuple[OpenAiOptions, ModelCard]]:
    listed = [
        (options, card)
        for options, cards in zip(servers, listed_models(servers), strict=True)
        for card in {card.name: card for card in cards}.values()
    ]
    known = list(dict.fromkeys(card.name for _, card in listed))
    for name in names:
        if name not in known:
            raise ConfigError(shown(unknown("model of the servers", name, known), _MAX_LIST_CHARACTERS))
    chosen = [(options, card) for options, card in listed if not names or card.name in names]
    if not names and len(chosen) > _MOST_MODELS:
        raise ConfigError(
            f"the servers have {counted(len(chosen), 'model')}: choose some with --model NAME, which may be repeated. "
            f"There are: {shown(', '.join(known), _MAX_LIST_CHARACTERS)}"
        )
    return chosen


def _description(model: ServedModel) -> str:
    if model.server is None:
        return f"left out: {_reason(model.problem)}"
    if model.is_prover:
        return "can write and score"
    if not model.has_tokenizer:
        return f"can write; cannot score{_without_tokenizer(model)}"
    return "can write; cannot score: the server gives no log-probabilities of a prompt"


def _reason(problem: str | None) -> str:
    return shown(problem or "", _MAX_REASON_CHARACTERS)


def _without_tokenizer(model: ServedModel) -> str:
    if model.tokenizer_problem is not None:
        return f": {_reason(model.tokenizer_problem)}"
    return ": that needs its tokenizer, which `path` does not name yet (a folder or a hub id)"


def _named(models: Sequence[ServedModel]) -> list[tuple[str, ServedModel]]:
    """The models with the names that they get in cord.toml: the last part of the server's name, made unique."""
    taken: set[str] = set()
    named = []
    for model in models:
        plain = re.sub(r"[^a-z0-9_.-]+", "-", model.name.rpartition("/")[2].lower()).strip("-._")[:56] or "model"
        name = next(one for one in (plain, *(f"{plain}-{n}" for n in range(2, 10_000))) if one not in taken)
        assert NAME_PATTERN.fullmatch(name)
        taken.add(name)
        named.append((name, model))
    return named


def _text(models: dict[str, ServedModel], unusable: Sequence[ServedModel], prover: str | None) -> str:
    urls = dict.fromkeys(model.options.base_url for model in (*models.values(), *unusable))
    left_out = "".join(
        f"\n\n# {shown(model.name)} at {model.options.base_url} is left out: {_reason(model.problem)}"
        for model in unusable
    )
    tables = "\n".join(_model_table(name, model) for name, model in models.items())
    teachers = "\n".join(f'[[teachers]]\nname = "{name}"\nmodel = "{name}"\ntemperature = 0.6\n' for name in models)
    return servers_text(
        prover or next(iter(models)),
        urls=", ".join(urls),
        tables=f"{tables.rstrip()}{left_out}",
        teachers=teachers,
        prover=_prover_table(models, prover),
        budgets=_budgets(models),
    )


def _model_table(name: str, model: ServedModel) -> str:
    comments = f"# {shown(str(model.server))}\n"
    if model.server is not None and model.server.chat_style == "instruction":
        comments += (
            "# It does not continue an assistant's text, so an instruction asks for each step. The model may not\n"
            "# follow it exactly.\n"
        )
    if not model.has_tokenizer:
        comments += f"# It cannot score{_without_tokenizer(model)}\n"
    return (
        f"{comments}[models.{_key(name)}]\n"
        f"path = {_quoted(model.path)}\n"
        'engine = "openai"\n'
        "batch_size = 16                # most requests at once\n"
        f"[models.{_key(name)}.openai]\n"
        f"base_url = {_quoted(model.options.base_url)}\n"
        f"model = {_quoted(model.name)}\n"
        f"api_key_env = {_quoted(model.options.api_key_env)}   # the variable that holds the key, not the key\n"
    )


def _prover_table(models: dict[str, ServedModel], prover: str | None) -> str:
    if prover is not None:
        return (
            "# If it is only to score, remove its [[teachers]].\n[prover]\n"
            f"model = {_quoted(prover)}\n#: prover_options.part\n"
        )
    on_vllm = (name for name, model in models.items() if model.server is not None and model.server.kind == "vllm")
    if possible := next(on_vllm, None):
        return f"""\
# {possible} is on vLLM, so it can score once its `path` names its tokenizer: correct `path`, and remove the `#`.
# [prover]
# model = {_quoted(possible)}
"""
    return """\
# None of the models above can score: that needs log-probabilities of a prompt. Name the URL of a server that gives them
# too, such as vLLM, or host a model here: remove the `#` and name its weights.
# [models.prover]
# path = "Qwen/Qwen2.5-7B-Instruct"
# engine = "vllm"              # or transformers
# [prover]
# model = "prover"
"""


def _budgets(models: dict[str, ServedModel]) -> str:
    lengths = [model.server.max_model_len for model in models.values() if model.server is not None]
    shortest = min((length for length in lengths if length is not None), default=None)
    thinking, answer, why = _THINKING_TOKENS, _ANSWER_TOKENS, "the paper's budget"
    if shortest is not None and shortest < 2 * _THINKING_TOKENS:
        thinking, answer = max(8, shortest // 2), min(_ANSWER_TOKENS, max(1, shortest // 4))
        why = f"the shortest context has {shortest}; room is left for the question"
    return (
        f"thinking_tokens = {thinking}        # {why}\n"
        f"answer_tokens = {answer}\n"
        f"step_tokens = {min(_STEP_TOKENS, thinking)}             # a longer step is cut and continues as a new step\n"
    )


def _key(name: str) -> str:
    return name if "." not in name else _quoted(name)


def _quoted(text: str) -> str:
    return tomlkit.string(text).as_string()
