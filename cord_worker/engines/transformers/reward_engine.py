"""Hosts a process reward model with transformers: a sequence or token classifier with one or two labels.

Each forward holds one candidate, without padding and without a cache, so that a judgment never depends on other
requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoModelForTokenClassification

from cord_worker.engines import loading
from cord_worker.engines.config_json_checks import require_packages
from cord_worker.engines.context_length import max_length_of
from cord_worker.engines.heads import PROCESS_REWARD_MODEL, RewardHead, probability, require_labels, require_steps
from cord_worker.engines.protocol import Describe, StepReward, Turn, ignore_condition
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.text_codec import TextCodec
from cord_worker.engines.transformers.float64 import keep_float64
from cord_worker.engines.transformers.load_model import on_device, read_weights
from cord_worker.engines.transformers.load_progress import report_progress
from cord_worker.errors import EngineError, EngineLoadError, TooLongError

_DIGITS = 9
"""Decimals of a logit and of a judgment."""


class RewardEngine(RewardHead):
    """The reward model of `settings`; the constructor loads it, or raises EngineLoadError. Implements
    `protocol.Engine`."""

    def __init__(self, settings: EngineSettings, describe: Describe = ignore_condition) -> None:
        self._settings = settings
        self._describe = describe
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cord-engine")
        self._closed = False
        self._thread.submit(self._load).result()

    def _load(self) -> None:
        settings = self._settings
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        folder = loading.folder_of(settings, self._describe)
        self._codec = TextCodec.of(loading.load_tokenizer(folder, settings), settings)
        self.weights_digest = loading.weights_digest_of(folder)
        try:
            config = AutoConfig.from_pretrained(folder, **settings.loading_options())
            require_packages(config, settings.path)
            kind = _kind_of(config, settings.path)
            with report_progress(self._describe, folder, (".safetensors",)):
                model: Any = read_weights(kind, folder, settings)
        except EngineLoadError:
            raise
        except Exception as error:  # transformers, safetensors and remote code raise whatever they like
            raise EngineLoadError(
                f"reward model {settings.path!r} could not be loaded: {type(error).__name__}: {error}"
            ) from error
        self._model = on_device(model, loading.device_of(settings.device), settings.path)
        if self._model.dtype == torch.float64:
            keep_float64(self._model)
        self.max_model_len = max_length_of(settings, self._model.config.get_text_config())

    @property
    def scoring_mode(self) -> str:
        """Library and number format, such as `transformers-float64-reward`."""
        return f"transformers-{str(self._model.dtype).removeprefix('torch.')}-reward"

    async def reward(self, turn: Turn, steps: Sequence[str], separator: str | None) -> StepReward:
        """See `protocol.Engine.reward`; judgment and logits have 9 decimals."""
        started = time.monotonic()
        require_steps(steps)
        if self._closed:
            raise EngineError("the engine is closed; start another one")
        ids = self._codec.judged_candidate(turn, steps, separator)
        if len(ids) > self.max_model_len:
            raise TooLongError(
                f"the candidate takes {len(ids)} tokens, but the reward model's context holds {self.max_model_len}; "
                "lower search.thinking_tokens or raise its max_model_len"
            )
        values = await asyncio.wrap_future(self._thread.submit(self._forward, ids))
        return StepReward(
            score=round(probability(values), _DIGITS),
            logits=tuple(round(value, _DIGITS) for value in values),
            prompt_tokens=len(ids),
            cached_tokens=0,
            seconds=time.monotonic() - started,
        )

    async def close(self) -> None:
        """Ends the compute thread; waiting requests are cancelled."""
        self._closed = True
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    @torch.inference_mode()
    def _forward(self, ids: Sequence[int]) -> list[float]:
        tokens = torch.tensor([ids], device=self._model.device)
        try:
            logits = self._model(input_ids=tokens, use_cache=False).logits[0]
        except Exception as error:  # after a failed kernel no further result is reliable
            raise EngineError(f"the reward model died: {type(error).__name__}: {error}; restart the worker") from error
        last = logits[-1] if logits.dim() == 2 else logits
        return [float(value) for value in last.double().tolist()]


def _kind_of(config: Any, path: str) -> Any:
    names = list(getattr(config, "architectures", None) or [])
    kinds = {
        "ForSequenceClassification": AutoModelForSequenceClassification,
        "ForTokenClassification": AutoModelForTokenClassification,
    }
    kind = next((kind for end, kind in kinds.items() if any(name.endswith(end) for name in names)), None)
    if PROCESS_REWARD_MODEL in names:
        raise EngineLoadError(
            f"model {path!r} is a {PROCESS_REWARD_MODEL}, whose head transformers does not know: host it with "
            'engine = "vllm"'
        )
    if kind is None:
        raise EngineLoadError(
            f'model {path!r} has no reward head ({", ".join(names) or "no architecture named"}): head = "reward" needs '
            "a model for sequence or token classification"
        )
    require_labels(config.num_labels, path)
    return kind
