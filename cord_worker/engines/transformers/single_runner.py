"""Runs forwards of one model, one text at a time, exactly as the model itself computes them.

This suits models whose state cannot be cut at a token (state spaces, convolutions), whose layers keep more than keys
and values, or whose positions depend on the whole length. Nothing is shared or padded, and the model gets only tokens.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from cord_worker.engines.protocol import Ids
from cord_worker.engines.transformers.model_runner import ScoreTask
from cord_worker.engines.transformers.output_head import OutputHead, log_probabilities
from cord_worker.engines.transformers.rotary import LengthDependence

_STATES = ("past_key_values", "cache_params")
"""Names under which models return their state and accept it again."""


@dataclass(frozen=True, slots=True)
class WholePrompt:
    """A prompt that is not computed yet."""

    ids: Ids
    cached: int = 0


@dataclass(slots=True)
class _Text:
    """The tokens of a slot, and the model's state after the first `computed` of them."""

    ids: list[int] = field(default_factory=list)
    state: dict[str, Any] | None = None
    computed: int = 0
    regime: int = 0


class TextSlots:
    """One text per slot; the counterpart of `kv_slots.KvSlots`."""

    def __init__(self) -> None:
        self.texts: dict[int, _Text] = {}

    def reserve(self, length: int) -> None:
        """Does nothing: a text grows by itself."""

    def move(self, source: int, target: int, length: int) -> None:
        """Copies a slot's first `length` tokens to another slot."""
        text = self.texts[source]
        if len(text.ids) != length:
            raise ValueError(f"slot {source} holds {len(text.ids)} tokens, not {length}")
        self.texts[target] = copy.deepcopy(text)

    def clear(self, row: int) -> None:
        """Empties a slot."""
        self.texts.pop(row, None)


class SingleRunner:
    """One loaded model. All methods must be called from the same thread.

    With `keeps_state` a text continues from the state that the model returned; without it, the whole text is computed
    again at every token.
    """

    def __init__(self, model: Any, head: OutputHead, device: torch.device, *, keeps_state: bool) -> None:
        self._model = model
        self._head = head
        self._device = device
        self._keeps_state = keeps_state
        self._lengths = LengthDependence(model)
        # Positions are passed, because some models would count from 0 at every token (Bamba, MiniMax).
        self._numbers_positions = "position_ids" in inspect.signature(model.forward).parameters

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self._device

    @property
    def vocabulary(self) -> int:
        """Columns of the logits."""
        return self._head.vocabulary

    def slots(self, rows: int, length: int) -> TextSlots:  # noqa: ARG002
        """Empty slots for decoding."""
        return TextSlots()

    def prefixes(self, prompts: Sequence[Sequence[Ids]]) -> list[WholePrompt]:
        """The prompts, each in one piece."""
        return [WholePrompt(tuple(token for piece in prompt for token in piece)) for prompt in prompts]

    def fill(self, slots: TextSlots, row: int, prompt: WholePrompt, /) -> int:
        """Begins a slot with a prompt; returns the position after it."""
        slots.texts[row] = _Text(list(prompt.ids))
        return len(prompt.ids)

    def trim(self) -> None:
        """Does nothing: there is no prefix cache."""

    def forget(self) -> None:
        """Does nothing: there is no prefix cache."""

    @torch.inference_mode()
    def decode(self, slots: TextSlots, tokens: torch.Tensor, positions: torch.Tensor, longest: int) -> torch.Tensor:
        """Logits [rows, vocabulary] after one more token per row."""
        del longest
        found = []
        for row, (token, position) in enumerate(zip(tokens.tolist(), positions.tolist(), strict=True)):
            text = slots.texts[row]
            if len(text.ids) != position:
                raise ValueError(f"slot {row} holds {len(text.ids)} tokens, not {position}")
            text.ids.append(token)
            found.append(self._continue(text))
        return torch.stack(found)

    @torch.inference_mode()
    def score(self, tasks: Sequence[ScoreTask]) -> list[tuple[list[float], int]]:
        """Natural-log probabilities of each task's answer tokens, in float64, and the number of cached tokens, 0."""
        return [(self._scored(task), 0) for task in tasks]

    def _scored(self, task: ScoreTask) -> list[float]:
        prompt = [token for piece in task.pieces for token in piece]
        columns = [len(prompt) + position - 1 for position in task.answer]
        targets = torch.tensor([task.closing[position] for position in task.answer], device=self._device)
        logits, _ = self._forward([*prompt, *task.closing[: task.answer[-1]]], columns)
        return log_probabilities(logits, targets)

    def _continue(self, text: _Text) -> torch.Tensor:
        """The logits after a text, computed from its state if that is still valid."""
        regime = self._lengths.regime(len(text.ids))
        if text.state is None or text.regime != regime:
            text.state, text.computed = None, 0
        new = text.ids[text.computed :]
        logits, state = self._forward(new, [len(new) - 1], text, keeps=self._keeps_state)
        if self._keeps_state:
            text.state, text.computed, text.regime = state, len(text.ids), regime
        return logits[0]

    def _forward(
        self, ids: Sequence[int], columns: Sequence[int], after: _Text | None = None, *, keeps: bool = False
    ) -> tuple[torch.Tensor, dict[str, Any] | None]:
        """Logits [columns, vocabulary] after the tokens at `columns`, computed from the state of the text `after`; also
        the new state, if it is kept."""
        self._lengths.forget()
        start, state = (0, None) if after is None else (after.computed, after.state)
        given: dict[str, Any] = {"use_cache": keeps, **(state or {})}
        if self._numbers_positions:
            given["position_ids"] = torch.arange(start, start + len(ids), device=self._device)[None]
        chosen = torch.tensor(columns, device=self._device)
        tokens = torch.tensor([list(ids)], device=self._device)
        with self._head.only(torch.zeros_like(chosen), chosen):
            output = self._model(input_ids=tokens, **given)
        kept = {name: value for name in _STATES if keeps and (value := getattr(output, name, None)) is not None}
        return output.logits[:, 0], kept or None
