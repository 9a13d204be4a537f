"""Finds out by trial how to compute a loaded model, before the worker takes work.

The model's own forward of a single text is correct by definition. Each way to compute the model is compared with it on
two short texts, by the log-probabilities of scores (computed together, padded, and again from the prefix cache) and of
tokens that are decoded one by one. During the trial attention windows are narrowed, so that the texts exceed them. The
first way that agrees is used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from cord_worker.engines.protocol import Ids
from cord_worker.engines.transformers.compute_thread import Runner
from cord_worker.engines.transformers.kv_slots import KvShape
from cord_worker.engines.transformers.load_model import LoadedModel
from cord_worker.engines.transformers.masks import Masks, UnknownLayers, narrowed
from cord_worker.engines.transformers.model_runner import ModelRunner, ScoreTask
from cord_worker.engines.transformers.output_head import OutputHead, log_probabilities
from cord_worker.engines.transformers.rotary import LengthDependence
from cord_worker.engines.transformers.single_runner import SingleRunner
from cord_worker.errors import EngineLoadError

log = logging.getLogger(__name__)

_LENGTHS = (40, 27)
"""Tokens of the trial texts."""
_LEAST_LENGTH = 8
_WIDTH = 7
"""Width of attention windows during the trial, in tokens."""
_DECODED = 3
_TEXT = (
    "We add the 17 apples of each box, which gives 204. Then we halve it: 408 / 2 = 204, so half of them stay, and the "
    "others are sold for three dollars each. Let me check whether this is right."
)
_AGREEMENT = {8: 1e-6, 4: 1e-4, 2: 0.1, 1: 0.2}
"""Bytes of a number → difference between the log-probabilities of two ways (`_distance`) that is always allowed."""
_DECODING = 10.0
"""Factor on the allowed difference for decoded tokens: state space models read a text and continue it by different
code."""
_NOISE = 4.0
"""Factor on the model's own noise, which is the difference between a text alone and the same text as the beginning of a
longer one."""
_CAUSAL = {8: 1e-3, 4: 1e-2, 2: 0.5, 1: 1.0}
"""Bytes of a number → largest allowed noise; with more, the model reads tokens that come later."""


class Mode(StrEnum):
    """How a model is computed; users read the value."""

    CACHED = "in batches, with a prefix cache"
    SINGLE = "one text at a time, without a prefix cache"
    RECOMPUTED = "one text at a time, computed again at every token"


@dataclass(frozen=True, slots=True)
class Hosted:
    """A model's runner; `reason` says why a faster one is not used, and is empty for the fastest."""

    runner: Runner
    mode: Mode
    reason: str = ""

    @property
    def scoring(self) -> str:
        """How scores are computed, as a part of the scoring mode."""
        return "cached" if self.mode is Mode.CACHED else "plain"


class _Unsuitable(Exception):
    """This way of computing does not suit the model; the message says why."""


def host(loaded: LoadedModel, prefix_cache_bytes: int, path: str) -> Hosted:
    """The fastest runner whose results equal those of the model's plain forward. Raises EngineLoadError."""
    with narrowed(loaded.model, _WIDTH):
        trial = _Trial(loaded, path)
        hosted = _first_that_agrees(loaded, trial, prefix_cache_bytes, path)
    hosted.runner.forget()
    if hosted.reason:
        log.warning("model %s is computed %s: %s", path, hosted.mode, hosted.reason)
    return hosted


def _first_that_agrees(loaded: LoadedModel, trial: _Trial, prefix_cache_bytes: int, path: str) -> Hosted:
    model, head = loaded.model, trial.head

    def cached() -> Runner:
        limit = LengthDependence(model).limit
        if limit is not None and limit < loaded.max_length:
            raise _Unsuitable(
                f"its rotary angles change beyond {limit} tokens (max_model_len = {limit} allows batches)"
            )
        masks, shape = Masks(model), kv_shape(model, loaded.device)
        return ModelRunner(model, head, shape, masks, loaded.max_length, prefix_cache_bytes)

    def single(*, keeps_state: bool) -> Callable[[], Runner]:
        return lambda: SingleRunner(model, head, loaded.device, keeps_state=keeps_state)

    ways = {Mode.CACHED: cached, Mode.SINGLE: single(keeps_state=True), Mode.RECOMPUTED: single(keeps_state=False)}
    reasons: list[str] = []
    for mode, make in ways.items():
        try:
            runner = make()
            difference = trial.difference(runner)
            if isinstance(runner, ModelRunner) and runner.numbers_by_cache:
                # The trial cannot tell, because positions may matter only in longer texts: Llama 4 scales by the
                # position from 8,192 on.
                raise _Unsuitable("it takes positions from its cache, which rows of different lengths share")
        except (UnknownLayers, _Unsuitable) as error:
            reasons.append(str(error))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # the model's own code can raise any error
            reasons.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        else:
            if difference <= trial.tolerance:
                return Hosted(runner, mode, "; ".join(reasons))
            reasons.append(f"{mode}, its log-probabilities are off by {difference:.2g}")
    raise EngineLoadError(
        f"model {path!r} cannot be computed as its own plain forward does it ({'; '.join(reasons)}); "
        "host it with another engine"
    )


class _Trial:
    """Two texts and their log-probabilities by a plain forward, with which runners are compared. The constructor raises
    EngineLoadError if the model gives none, or if it reads tokens that come later."""

    def __init__(self, loaded: LoadedModel, path: str) -> None:
        self._model, self._device = loaded.model, loaded.device
        self.head = OutputHead(loaded.model)
        self._exact = loaded.model.dtype.itemsize > 2
        self._texts = _texts(loaded, self.head.vocabulary, path)
        try:
            self._plain = [self._forward(ids) for ids in self._texts]
            parts = [self._forward(ids[: len(ids) - 4]) for ids in self._texts]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the model's own code can raise any error
            raise EngineLoadError(
                f"model {path!r} does not compute a plain text ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:300]}); host it with another engine"
            ) from error
        if not all(torch.isfinite(torch.tensor(values)).all() for values in self._plain):
            raise EngineLoadError(
                f"model {path!r} gives probabilities that are not numbers (number format too narrow, or weights that "
                "are not its own?); try another dtype"
            )
        noise = self._distance(parts, [plain[: len(part)] for plain, part in zip(self._plain, parts, strict=True)])
        bytes_ = loaded.model.dtype.itemsize
        if not noise <= _CAUSAL[bytes_]:
            raise EngineLoadError(
                f"model {path!r} reads what comes after a token (log-probabilities change by {noise:.2g} with the text "
                "that follows), as encoders do: it can be neither teacher nor prover"
            )
        self.tolerance = max(_AGREEMENT[bytes_], _NOISE * noise)

    def difference(self, runner: Runner) -> float:
        """Difference between the runner's log-probabilities and those of the plain forward. Raises any error of the
        model."""
        tasks, wanted = [], []
        for ids, plain in zip(self._texts, self._plain, strict=True):
            third = len(ids) // 3
            closing = ids[2 * third :]
            tasks.append(ScoreTask((ids[:third], ids[third : 2 * third]), closing, tuple(range(len(closing)))))
            wanted.append(plain[2 * third - 1 :])
        together = [values for values, _ in runner.score(tasks)]
        again = [values for values, _ in runner.score(tasks[:1])]
        decoded = self._decoding_difference(runner) / _DECODING
        return max(self._distance(together, wanted), self._distance(again, wanted[:1]), decoded)

    def _decoding_difference(self, runner: Runner) -> float:
        """Like `difference`, for the last `_DECODED` tokens of the texts, decoded one by one."""
        prompts = [[ids[:4], ids[4 : -_DECODED - 1]] for ids in self._texts]
        slots = runner.slots(len(prompts), 1)
        slots.reserve(max(map(len, self._texts)) + 1)
        positions = [runner.fill(slots, row, prefix) for row, prefix in enumerate(runner.prefixes(prompts))]
        found: list[list[float]] = [[] for _ in prompts]
        for offset in range(_DECODED):
            tokens = [ids[position + offset] for ids, position in zip(self._texts, positions, strict=True)]
            here = torch.tensor([position + offset for position in positions], device=self._device)
            longest = max(positions) + offset + 1
            logits = runner.decode(slots, torch.tensor(tokens, device=self._device), here, longest)
            targets = [ids[position + offset + 1] for ids, position in zip(self._texts, positions, strict=True)]
            for row, value in enumerate(log_probabilities(logits, torch.tensor(targets, device=self._device))):
                found[row].append(value)
        return self._distance(found, [plain[-_DECODED:] for plain in self._plain])

    @torch.inference_mode()
    def _forward(self, ids: Ids) -> list[float]:
        """Natural-log probabilities of all tokens except the first."""
        tokens = torch.tensor([ids], device=self._device)
        logits = self._model(input_ids=tokens, use_cache=False).logits[0, :-1]
        return log_probabilities(logits, tokens[0, 1:])

    def _distance(self, one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> float:
        """Largest difference; for narrow formats the mean difference, because they round each value."""
        pairs = zip(one, other, strict=True)
        differences = [abs(a - b) for values, others in pairs for a, b in zip(values, others, strict=True)]
        if any(value != value for value in differences):
            return float("nan")
        return max(differences) if self._exact else sum(differences) / len(differences)


def _texts(loaded: LoadedModel, vocabulary: int, path: str) -> list[Ids]:
    """Two texts of different lengths, as token ids. Raises EngineLoadError if the context is too short."""
    ids = [token for token in loaded.tokenizer.encode(_TEXT, add_special_tokens=False) if token < vocabulary]
    if len(set(ids)) < _LEAST_LENGTH:
        ids = list(range(0, vocabulary, max(1, vocabulary // _LENGTHS[0])))
    if loaded.max_length < _LEAST_LENGTH:
        raise EngineLoadError(f"model {path!r} has a context of {loaded.max_length} tokens, which holds no prompt")
    ids = ids * (1 + 2 * max(_LENGTHS) // len(ids))
    long, short = (min(length, loaded.max_length - less) for length, less in zip(_LENGTHS, (0, 1), strict=True))
    return [tuple(ids[:long]), tuple(ids[5 : 5 + short])]


def kv_shape(model: Any, device: torch.device) -> KvShape:
    """Sizes of a token's keys and values, measured by a forward. Raises `_Unsuitable` if a layer keeps anything else,
    or if the layers' sizes differ."""
    cache: Any = DynamicCache()
    with torch.inference_mode():
        model(
            input_ids=torch.zeros(1, 2, dtype=torch.long, device=device),
            past_key_values=cache,
            use_cache=True,
        )
    shapes = {
        (layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3], layer.keys.dtype) for layer in cache.layers
    }
    if len(cache.layers) != model.config.get_text_config().num_hidden_layers:
        raise _Unsuitable("not all of its layers keep keys and values")
    if len(shapes) != 1:
        raise _Unsuitable("its layers keep keys and values of different sizes")
    heads, key_dim, value_dim, dtype = shapes.pop()
    return KvShape(len(cache.layers), heads, key_dim, value_dim, dtype, device)
