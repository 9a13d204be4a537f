"""Hosts a process reward model with vLLM: a sequence or token classifier, or one of vLLM's own process reward models.

vLLM pools instead of generating. A classifier's head is read at the last token, with the prefix from the cache. A
model that vLLM knows as a process reward model gives a row per separator, and the last row is used.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from cord_worker.engines.heads import PROCESS_REWARD_MODEL, RewardHead, probability, require_labels, require_steps
from cord_worker.engines.protocol import StepReward, Turn
from cord_worker.engines.result_cache import ResultCache
from cord_worker.engines.vllm import arguments as vllm_arguments
from cord_worker.engines.vllm.host import VllmHost
from cord_worker.errors import EngineError, EngineLoadError, TooLongError

_DIGITS = 6
"""Decimals of a logit and of a judgment; further ones would change from batch to batch."""
_JUDGMENTS_KEPT = 4096
_AT_THE_END, _AT_EVERY_TOKEN = "classify", "token_classify"


class VllmRewardEngine(VllmHost, RewardHead):
    """A model that judges steps. Implements `protocol.Engine`; see `VllmHost` for how it is constructed."""

    def _prepare(self, folder: Path, tokenizer: Any) -> None:
        del folder, tokenizer
        self._judgments = ResultCache[StepReward](_JUDGMENTS_KEPT)
        self._offers_task = False

    def _check(self, folder: Path) -> None:
        config = AutoConfig.from_pretrained(folder, **self._settings.loading_options())
        self._task = _task_of(config, self._settings.path)
        if not self._features.reads_heads:
            raise EngineLoadError(
                f"vLLM {vllm_arguments.version()} gives no logits of a reward head; install a newer one, or host "
                f'model {self._settings.path!r} with engine = "transformers"'
            )

    @property
    def scoring_mode(self) -> str:
        """Library, version, device and number formats, such as `vllm-0.32-cpu-float32-reward`."""
        return self._mode.replace("-cached", "-reward")

    async def reward(self, turn: Turn, steps: Sequence[str], separator: str | None) -> StepReward:
        """See `protocol.Engine.reward`; 6 decimals. A recent judgment is not computed again, so that a retry gives the
        same value."""
        started = time.monotonic()
        require_steps(steps)
        if self._closed:
            raise self._dead()
        await self._require_task()
        ids = self._codec.judged_candidate(turn, steps, separator)
        if len(ids) > self._max_length:
            raise TooLongError(
                f"the candidate takes {len(ids)} tokens, but the reward model's context holds {self._max_length}; "
                "lower search.thinking_tokens or raise its max_model_len"
            )
        if (known := self._judgments.get((ids,))) is not None:
            return dataclasses.replace(known, seconds=time.monotonic() - started)
        output = await self._run("encode", list(ids), self._parameters(ids[-1]), 0)
        rows = output.outputs.data
        logits = [float(value) for value in (rows if rows.dim() == 1 else rows[-1]).tolist()]
        require_labels(len(logits), self._settings.path)
        found = StepReward(
            score=round(probability(logits), _DIGITS),
            logits=tuple(round(value, _DIGITS) for value in logits),
            prompt_tokens=len(ids),
            cached_tokens=int(output.num_cached_tokens or 0),
            seconds=time.monotonic() - started,
        )
        self._judgments.put((ids,), found)
        return found

    def _arguments(self) -> dict[str, Any]:
        if self._task == _AT_THE_END:
            return {"runner": "pooling"}
        # Rows of every token require the whole prompt in one piece; vLLM then batches as many tokens as a prompt may
        # have.
        whole = {"enable_prefix_caching": False, "enable_chunked_prefill": False, "max_num_batched_tokens": None}
        return {"runner": "pooling", **whole}

    def _parameters(self, last: int) -> Any:
        """`last` is the token whose row is wanted; vLLM uses Qwen's `<extra_0>` unless another token is given."""
        from vllm import PoolingParams

        at = {} if self._task == _AT_THE_END else {"step_tag_id": last}
        return PoolingParams(task=self._task, use_activation=False, **at)

    async def _require_task(self) -> None:
        """Raises EngineError if vLLM lacks the task; vLLM names its tasks only when it runs."""
        if self._offers_task:
            return
        offered = await self._engine.get_supported_tasks()
        if self._task not in offered:
            raise EngineError(
                f"vLLM offers {', '.join(sorted(offered))} for the reward model {self._settings.path!r}, which needs "
                f'{self._task}; host it with engine = "transformers"'
            )
        self._offers_task = True


def _task_of(config: Any, path: str) -> str:
    names = list(getattr(config, "architectures", None) or [])
    if PROCESS_REWARD_MODEL in names:
        return _AT_EVERY_TOKEN  # vLLM itself gives it two labels
    if any(name.endswith(("ForSequenceClassification", "ForTokenClassification")) for name in names):
        require_labels(config.num_labels, path)
        return _AT_THE_END
    raise EngineLoadError(
        f'model {path!r} has no reward head ({", ".join(names) or "no architecture named"}): head = "reward" needs a '
        f"model for sequence or token classification, or a {PROCESS_REWARD_MODEL}"
    )
