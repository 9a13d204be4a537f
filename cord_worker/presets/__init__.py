"""The presets that `cordctl init` prints: complete cord.toml files with comments."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Sequence
from importlib.resources import files
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from cord_worker.errors import ConfigError
from cord_worker.name_suggestions import did_you_mean, unknown
from cord_worker.presets.smollm2_weights import find_smollm2

PRESETS = {
    "tiny": "four bundled models of a few hundred thousand parameters: a demonstration on any CPU",
    "smollm2": "SmolLM2-135M-Instruct as three teachers and the prover: real text on a CPU",
    "paper-hetero": "the paper's main setting: R1-Distill-Qwen-32B, QwQ-32B, Phi-4-reasoning-plus",
    "paper-homo": "the paper's homogeneous setting: one model as three teachers at temperatures .5, .6 and .7",
}

_SMOLLM2_FOLDER = 'path = "./SmolLM2-135M-Instruct"'
_INCLUDED = re.compile(r"^#: (\S+)\n", re.MULTILINE)
"""A line of a preset that is replaced by the named file of this folder, which all presets share."""
_ENGINE_TABLES = {"vllm", "openai"}
"""Optional tables of a model: `--set` creates them."""
_OPTIONAL_TABLES = {"binary", "integration", "reward", "verify", "verify.tolerance", "verify.judge"}
"""Other optional tables: `--set` creates them."""
_BARE_WORD = re.compile(r"(?!(?:true|false|inf|nan)$)(?:[A-Za-z]|\.{0,2}/)[A-Za-z0-9_./:-]*")
"""Text that `--set` takes without the quotes of TOML, because quoting it for the shell too is tedious."""


def preset_text(name: str) -> str:
    """The text of one of `PRESETS`; smollm2 names the weights on this machine, if there are any."""
    text = _part(f"{name}.toml")
    text = _with_parts(text, str(tomllib.loads(text)["prover"]["model"]))
    if name == "smollm2" and (weights := find_smollm2()) is not None:
        named = f"path = {_quoted(weights.parent)}\ngguf_file = {_quoted(weights.name)}"
        text = text.replace(_SMOLLM2_FOLDER, named)
    return text


def servers_text(model: str, **values: str) -> str:
    """A cord.toml for models on servers: `values` replace each `{NAME}`, and its optional tables name `model`."""
    text = re.sub(r"\{(\w+)\}", lambda found: values[found[1]].rstrip("\n"), _part("from_servers.part"))
    return _with_parts(text, model)


def _with_parts(text: str, model: str) -> str:
    """`text` with the files that its lines `#: FILE` name in place of these lines; `model` replaces `{model}`."""
    return _INCLUDED.sub(lambda found: _part(found[1]).replace("{model}", model), text)


def _quoted(text: object) -> str:
    return tomlkit.string(str(text)).as_string()


def _part(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def adapted(text: str, *, only_teachers: Sequence[str] = (), values: Sequence[str] = ()) -> str:
    """`text`, a cord.toml, with only these teachers and with `values` (`section.key=TOML value`) set; comments stay.

    Models that neither a teacher nor the prover uses are left out. Raises ConfigError for an unknown teacher or a value
    that is not TOML.
    """
    document = tomlkit.parse(text)
    if only_teachers:
        _keep_teachers(document, only_teachers)
    keys = [_set(document, assignment) for assignment in values]
    for section, _, name in (key.rpartition(".") for key in keys):
        if name == "path" and f"{section}.gguf_file" not in keys:
            # The GGUF file belongs to the path that is replaced.
            document["models"][section.removeprefix("models.")].pop("gguf_file", None)
    return tomlkit.dumps(document)


def _keep_teachers(document: Any, names: Sequence[str]) -> None:
    teachers = document["teachers"]
    known = [str(teacher["name"]) for teacher in teachers]
    for name in names:
        if name not in known:
            raise ConfigError(unknown("teacher", name, known))
    for index in reversed(range(len(known))):
        if known[index] not in names:
            del teachers[index]
    used = {str(teacher["model"]) for teacher in teachers}
    used |= {str(document["prover"]["model"])} if "prover" in document else set()
    for name in [name for name in document["models"] if name not in used]:
        del document["models"][name]


def _keys(section: Any) -> Collection[str]:
    return section if isinstance(section, dict) else ()


def _set(document: Any, assignment: str) -> str:
    """Sets `SECTION.KEY=VALUE` in the document; returns `SECTION.KEY`. Raises ConfigError."""
    key, equals, value = assignment.partition("=")
    *sections, name = key.strip().split(".")
    if not equals or not name or not sections:
        found = next((f"{section}.{name}" for section in document if name in _keys(document[section])), None)
        meant = f": did you mean {found}={value}?" if equals and name and found else ";"
        raise ConfigError(
            f"{assignment!r} is not a setting{meant} Write SECTION.KEY=VALUE, such as search.beam_width=1"
        )
    try:
        parsed = value.strip() if _BARE_WORD.fullmatch(value.strip()) else tomlkit.value(value.strip())
    except TOMLKitError as error:
        raise ConfigError(
            f"{assignment!r}: {value.strip()!r} is not a TOML value ({error}); put text in quotes"
        ) from None
    table = document
    for depth, section in enumerate(sections, start=1):
        makes_engine_table = section in _ENGINE_TABLES and table is not document
        if (makes_engine_table or ".".join(sections[:depth]) in _OPTIONAL_TABLES) and section not in table:
            table[section] = tomlkit.table()
        if section in table and not isinstance(table[section], dict):
            raise ConfigError(f"{assignment!r}: {section!r} is not a table: edit that part of cord.toml by hand")
        if section not in table:
            if near := did_you_mean(section, table):
                raise ConfigError(f"{assignment!r}: no section is called {section!r}:{near}")
            raise ConfigError(f"{assignment!r}: {unknown('section', section, table)}")
        table = table[section]
    # A new key goes before the comments at the table's end, which belong to the next table.
    body = table.value.body
    end = max((number for number, (known, _) in enumerate(body, start=1) if known is not None), default=0)
    comments = body[end:]
    del body[end:]
    table[name] = parsed
    body.extend(comments)
    return ".".join((*sections, name))
