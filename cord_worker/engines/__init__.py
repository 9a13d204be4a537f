"""Engines: each hosts one model behind one protocol, `protocol.Engine`."""

from __future__ import annotations

from cord_worker.engines.needed_packages import require_engine
from cord_worker.engines.protocol import Describe, Engine, ignore_condition
from cord_worker.engines.settings import EngineSettings
from cord_worker.errors import EngineLoadError

__all__ = ["Engine", "EngineSettings", "load_engine"]


def load_engine(settings: EngineSettings, describe: Describe | None = None) -> Engine:
    """Loads the model of `settings` with the engine that they name; blocks until loaded. Raises EngineLoadError.

    `describe` receives the engine's condition, now and later. Without it, loading fails at once if a server is not
    ready, instead of waiting for it.

    Call this in a coroutine, on the event loop that will run the engine, because vLLM binds to that loop.
    """
    require_engine(settings.engine)
    if settings.engine == "transformers" and settings.head == "reward":
        from cord_worker.engines.transformers.reward_engine import RewardEngine

        return RewardEngine(settings, describe or ignore_condition)
    if settings.engine == "transformers":
        from cord_worker.engines.transformers.engine import TransformersEngine

        return TransformersEngine(settings, describe or ignore_condition)
    if settings.engine == "vllm" and settings.head == "reward":
        from cord_worker.engines.vllm.reward_engine import VllmRewardEngine

        return VllmRewardEngine(settings)
    if settings.engine == "vllm":
        from cord_worker.engines.vllm.engine import VllmEngine

        return VllmEngine(settings)
    if settings.engine == "openai":
        from cord_worker.engines.openai.engine import OpenAiEngine

        return OpenAiEngine(settings, describe)
    if settings.engine == "instant":
        from cord_worker.engines.instant import InstantEngine

        return InstantEngine()
    raise EngineLoadError(f"there is no engine {settings.engine!r}; use: transformers, vllm, openai, instant")
