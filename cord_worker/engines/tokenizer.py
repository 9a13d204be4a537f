"""The tokenizer of a model whose weights this process does not load: a server hosts them, or only tokens are counted.

Only the tokenizer's files are read. With `gguf_file` the whole GGUF file is read, because it holds the tokenizer too.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cord_worker.engines.needed_packages import require_tokenizers
from cord_worker.engines.protocol import Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.text_codec import TextCodec
from cord_worker.errors import EngineLoadError, RequestError

_TOKENIZER_FILES = (
    "tokenizer*",
    "*.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
)


class ServerTokenizer:
    """Encodes prompts (`codec`), counts tokens, and writes prompts as text for servers that take no token ids.
    `tokenizer` is the one of transformers."""

    def __init__(self, tokenizer: Any, files: Iterable[Path], settings: EngineSettings) -> None:
        self.codec = TextCodec.of(tokenizer, settings)
        self.tokenizer = tokenizer
        self._files = sorted(files)
        control = [text for text in tokenizer.get_added_vocab() if re.search(r"[<>|\[\]]", text)]
        control += [text for text in tokenizer.all_special_tokens if text not in control]
        self._control = re.compile("|".join(map(re.escape, control))) if control else None

    @functools.cached_property
    def digest(self) -> str:
        """64 hex digits over the names and contents of the tokenizer's files."""
        digest = hashlib.sha256()
        for path in self._files:
            digest.update(f"{path.name}\0".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def count(self, text: str) -> int:
        """Tokens of `text`."""
        text = text.encode("utf-8", "replace").decode()  # tokenizers reject a lone surrogate
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def names(self, token: int) -> frozenset[str]:
        """The forms in which servers write one token: its text, and its entry in the vocabulary."""
        piece = self.tokenizer.convert_ids_to_tokens(token)
        texts = {self.tokenizer.decode([token], clean_up_tokenization_spaces=False)}
        if isinstance(piece, str):
            texts |= {piece, self.tokenizer.convert_tokens_to_string([piece])}
        return frozenset(texts)

    def prompt_text(self, turn: Turn, pieces: Sequence[str], closing: str = "", *, thinking: bool = True) -> str:
        """The first turn, `pieces` and `closing` as one text, without the start token, which servers add themselves.
        Without `thinking`, the turn asks for a plain reply.

        In plain text the server cannot tell our control tokens from those in text from outside. Raises RequestError if
        the content of the turn, or `pieces`, holds one; those in `closing` are ours.
        """
        first = self.codec.first_turn(turn, thinking=thinking)
        contents = [piece.text for piece in first.pieces if piece.is_content]
        for text in (*contents, *pieces):
            found = self._control.search(text) if self._control else None
            if found:
                raise RequestError(
                    f"the text holds the control token {found.group()!r}, which this server would obey, because it "
                    "takes prompts as text only; remove it, or use a server that takes token ids (vLLM, SGLang, "
                    "llama.cpp)"
                )
        return first.text.removeprefix(self.tokenizer.bos_token or "") + "".join(pieces) + self.codec.tags.own(closing)


def load_server_tokenizer(settings: EngineSettings) -> ServerTokenizer | None:
    """The tokenizer that `settings.path` names; None if it names neither a folder nor a tokenizer at the hub.

    Raises EngineLoadError if its files cannot be fetched or used, if a folder or a GGUF file does not exist, or if the
    package that reads tokenizers is not installed.
    """
    folder = _folder(settings)
    if folder is None:
        return None
    require_tokenizers()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **settings.loading_options())
    except Exception as error:  # transformers and remote code raise whatever they like
        raise EngineLoadError(
            f"the tokenizer in {settings.path!r} could not be loaded: {type(error).__name__}: "
            f"{' '.join(str(error).split())}"
        ) from error
    files = {path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()}
    if settings.gguf_file is not None:
        files.add(folder / settings.gguf_file)
    return ServerTokenizer(tokenizer, files, settings)


def _folder(settings: EngineSettings) -> Path | None:
    local = Path(settings.path)
    if local.is_dir():
        _require_gguf(local, settings)
        return local
    if local.is_absolute() or settings.path.startswith((".", "~")):
        raise EngineLoadError(f"tokenizer folder {settings.path!r} does not exist; correct the model's path")
    if settings.path.count("/") != 1:
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    patterns = [*_TOKENIZER_FILES, "config.json", "*.py"]
    if settings.gguf_file is not None:
        patterns.append(settings.gguf_file)
    try:
        folder = Path(snapshot_download(settings.path, revision=settings.revision, allow_patterns=patterns))
    except RepositoryNotFoundError:
        return None
    except Exception as error:  # the hub client raises its own, requests' and OS errors
        raise EngineLoadError(
            f"the tokenizer of {settings.path!r} is in no local folder and could not be fetched from the hub "
            f"({type(error).__name__}: {error}); check the name and the network, download it first, or name the "
            "server's model in openai.model and give a path without '/' to do without a tokenizer (chat only)"
        ) from error
    _require_gguf(folder, settings)
    return folder if settings.gguf_file is not None or any(folder.glob("tokenizer*")) else None


def _require_gguf(folder: Path, settings: EngineSettings) -> None:
    if settings.gguf_file is not None and not (folder / settings.gguf_file).is_file():
        raise EngineLoadError(f"there is no file {settings.gguf_file!r} in {settings.path!r}; correct gguf_file")
