"""Every family of model through one contract: is it hosted, how, and are its scores those of a plain forward?

The models are small and random. What is compared with is transformers' own model, loaded beside the engine and called
with one text and nothing else.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from cord_worker.bench.family_models import CONTEXT, FAMILIES, Family, tokenizer, write_family
from cord_worker.engines.encoding import TextCodec
from cord_worker.engines.prefix_cache import Ids
from cord_worker.engines.protocol import AnswerScore, Generation, Sampling, Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.transformers_engine import TransformersEngine
from cord_worker.errors import ConfigError, EngineLoadError
from cord_worker.prompting.segmentation import FinishReason

FLOAT32 = 1e-5
"""Largest difference of a log-probability in float32."""
BFLOAT16 = 0.1
"""The same in bfloat16, whose rounding of a logit alone is as wide. Models with experts are not held to it: rounded so,
a router sends a token to another expert."""
_TEMPLATE = "\n</think>\n\nThe final answer is {answer}."
_ANSWER = "204"
_GREEDY = Sampling(
    temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, repetition_penalty=1.0, max_tokens=12, seed=1
)  # fmt: skip
_STEP = " We add the 17 apples of each of the 12 boxes, which gives 204 of them in all."
_TURNS = (
    Turn("How many apples are left?"),
    Turn("12 boxes hold 17 apples each. How many is that?", system="Be brief."),
)
_CANDIDATES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (0, (" It is done.",)),
    (0, (_STEP,)),
    (1, (_STEP, " Then we halve it.")),
    (1, (_STEP, " Then we halve it.", _STEP)),
)
"""Which turn, and the steps: of different lengths, two of them with the same beginning; all longer than a window."""
_LONG: tuple[int, tuple[str, ...]] = (1, (_STEP,) * 5)
_NEAR = 1e-3
"""Two tokens may be chosen one for the other where their log-probabilities are as near as this."""


@dataclass(frozen=True, slots=True)
class FamilyFigures:
    """What became of one family. `difference` is the largest of a score's log-probability, per answer, in float32."""

    name: str
    hosted: bool
    as_meant: bool
    mode: str = ""
    reason: str = ""
    difference: float | None = None
    bfloat16_difference: float | None = None
    texts_equal: bool | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return dataclasses.asdict(self)


def measure_families(
    only: Sequence[str],
    tell: Callable[[FamilyFigures], None],
    begin: Callable[[str, int, int], None] = lambda name, number, of: None,  # noqa: ARG005
) -> list[FamilyFigures]:
    """Builds and tries every family, or those whose names hold one of `only`; `begin` gets the name of each before, and
    that it is number 1, 2 … of how many. Raises ConfigError for an unknown one."""
    chosen = [family for family in FAMILIES if not only or any(part.lower() in family.name.lower() for part in only)]
    unknown = [part for part in only if not any(part.lower() in family.name.lower() for family in FAMILIES)]
    if unknown:
        raise ConfigError(
            f"there is no family {unknown[0]!r}; there are: {', '.join(family.name for family in FAMILIES)}"
        )
    found = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _quiet():
            for number, family in enumerate(chosen, start=1):
                begin(family.name, number, len(chosen))
                found.append(_measured(family))
                tell(found[-1])
    finally:
        torch.set_num_threads(threads)
    return found


def _measured(family: Family) -> FamilyFigures:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cord-f-") as name:
        folder = Path(name)
        write_family(family, folder)
        try:
            figures = _tried(family, folder)
        except EngineLoadError as error:
            reason = " ".join(str(error).replace(str(folder), family.name).split())
            figures = FamilyFigures(family.name, hosted=False, as_meant=family.refused, reason=reason)
    return dataclasses.replace(figures, seconds=round(time.monotonic() - started, 2))


def _tried(family: Family, folder: Path) -> FamilyFigures:
    engine = TransformersEngine(_settings(folder, "float32"))
    try:
        reference = _Reference(folder, torch.float32)
        difference = asyncio.run(_largest_difference(engine, reference))
        equal = asyncio.run(_texts_are_equal(engine, reference))
        mode, reason = engine.mode, engine.reason
    finally:
        engine.stop()
    coarse = TransformersEngine(_settings(folder, "bfloat16"))
    try:
        coarse_difference = asyncio.run(_largest_difference(coarse, _Reference(folder, torch.bfloat16)))
    finally:
        coarse.stop()
    return FamilyFigures(
        name=family.name,
        hosted=True,
        as_meant=not family.refused
        and equal
        and difference <= FLOAT32
        and (family.has_experts or coarse_difference <= BFLOAT16),
        mode=str(mode),
        reason=reason,
        difference=difference,
        bfloat16_difference=coarse_difference,
        texts_equal=equal,
    )


def _settings(folder: Path, dtype: Any) -> EngineSettings:
    return EngineSettings(
        str(folder), dtype=dtype, device="cpu", threads=1, batch_size=4, max_model_len=CONTEXT, gather_seconds=0.2
    )


class _Reference:
    """transformers' own model, given one text at a time."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self._model = model.eval()
        self._tokenizer = tokenizer()
        self.codec = TextCodec(self._tokenizer)

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Of all families."""
        return self._tokenizer

    def log_probability(self, turn: Turn, steps: Sequence[str]) -> float:
        """Of the answer's tokens after the candidate, in sum."""
        pieces = self.codec.candidate(turn, steps)
        closing = self.codec.closing(_TEMPLATE, _ANSWER)
        prompt = [token for piece in pieces for token in piece]
        last = closing.answer[-1]
        logits = self._logits([*prompt, *closing.ids[:last]])
        rows = [len(prompt) + position - 1 for position in closing.answer]
        targets = [closing.ids[position] for position in closing.answer]
        table = torch.log_softmax(logits[rows].double(), -1)
        return math.fsum(table[row, target].item() for row, target in enumerate(targets))

    def continues_with(self, pieces: Sequence[Ids], text: str, tokens: int) -> bool:
        """Whether `text` is `tokens` tokens, each of which was the likeliest, or as likely: where several were, each is
        followed, because half of a character does not tell which was taken."""
        ids = [token for piece in pieces for token in piece]
        ways: list[list[int]] = [[]]
        for _ in range(tokens):
            longer = []
            for written in ways:
                table = torch.log_softmax(self._logits([*ids, *written])[-1].double(), -1)
                near: list[int] = (table >= table.max() - _NEAR).nonzero()[:, 0].tolist()
                longer += [[*written, token] for token in near]
            ways = [way for way in longer if text.startswith(self._text(way).strip())]
        return any(self._text(way).strip() == text.strip() for way in ways)

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False)).rstrip("\ufffd")

    @torch.inference_mode()
    def _logits(self, ids: Sequence[int]) -> torch.Tensor:
        logits: torch.Tensor = self._model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0]
        return logits


async def _largest_difference(engine: TransformersEngine, reference: _Reference) -> float:
    """Scores asked for together, together again (now from the prefix cache), alone, and a long one, against plain."""
    asked = [*_CANDIDATES, _LONG]
    plain = [reference.log_probability(_TURNS[turn], steps) for turn, steps in asked]

    def score(which: int) -> Coroutine[Any, Any, AnswerScore]:
        turn, steps = asked[which]
        return engine.score(_TURNS[turn], steps, _ANSWER, _TEMPLATE)

    everything = range(len(asked))
    together = list(await asyncio.gather(*(score(which) for which in everything)))
    again = list(await asyncio.gather(*(score(which) for which in everything)))
    alone = [await score(which) for which in everything]
    return max(
        abs(found.log_prob_sum - wanted) / found.answer_tokens
        for scores in (together, again, alone)
        for found, wanted in zip(scores, plain, strict=True)
    )


async def _texts_are_equal(engine: TransformersEngine, reference: _Reference) -> bool:
    """Steps proposed together, and final answers, against the likeliest tokens of a plain forward, one by one."""
    codec = reference.codec
    asked: list[tuple[Coroutine[Any, Any, Generation], list[Ids]]] = []
    for turn, steps in _CANDIDATES:
        asked.append((engine.propose(_TURNS[turn], steps, _GREEDY), codec.proposal(_TURNS[turn], steps)))
    turn, steps = _LONG
    asked.append((engine.answer(_TURNS[turn], steps, _GREEDY), codec.answer(_TURNS[turn], steps)))
    found = await asyncio.gather(*(request for request, _ in asked))
    return all(
        generation.finish_reason is not FinishReason.LENGTH
        or reference.continues_with(pieces, generation.text, generation.completion_tokens)
        for generation, (_, pieces) in zip(found, asked, strict=True)
    )


@contextmanager
def _quiet() -> Any:
    """Without the warnings of models that are random and of formats that nobody would use."""
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
