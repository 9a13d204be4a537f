"""Reads cord.toml (its text, and the TOML document in it), and writes documents as TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cord_worker.config.models import BUNDLED_PREFIX
from cord_worker.errors import ConfigError


def read_text(path: Path) -> str:
    """The text of the file. Raises ConfigError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. Write one with: cordctl init --preset tiny > {path}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder: name the cord.toml in it, such as {path / 'cord.toml'}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not text in UTF-8, so not a cord.toml: did you mean another file?") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"{path}: cannot be read: {why}") from error


def read_document(text: str, *, source: str, folder: Path) -> dict[str, Any]:
    """The document in the TOML text, with relative model folders resolved against `folder`.

    Raises ConfigError, which names `source`, if the text is not TOML.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}{_other_kind_of_file(text)}") from error
    models = document.get("models")
    if isinstance(models, dict):
        for model in models.values():
            if isinstance(model, dict) and isinstance(model.get("path"), str):
                model["path"] = _resolved_path(model["path"], folder)
    return document


def toml_text(document: Mapping[str, Any]) -> str:
    """A JSON document as TOML, one line for each key; None is left out, because TOML has no null."""
    return "".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in document.items() if value is not None)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items() if one is not None)
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    # Strings in JSON are valid in TOML, except for the character DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _other_kind_of_file(text: str) -> str:
    """Advice for a text that is obviously not a cord.toml; else empty."""
    begins = text.lstrip("\ufeff \t\r\n")[:1]
    if begins == "{" or (begins == "[" and text.lstrip()[1:2] in {"{", "\n", "\r"}):
        return ". It looks like JSON: is it a dataset? --config takes a cord.toml (cordctl init prints one)"
    return ""


def _resolved_path(path: str, folder: Path) -> str:
    if path.startswith(BUNDLED_PREFIX):
        return path
    candidate = Path(path).expanduser()
    if not candidate.is_absolute() and (path.startswith(("./", "../")) or (folder / candidate).is_dir()):
        candidate = folder / candidate
    return str(candidate.resolve()) if candidate.is_absolute() else path
