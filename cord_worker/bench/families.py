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
from cord_worker.config import ModelConfig
from cord_worker.engines.protocol import Generation, Ids, Sampling, Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.text_codec import TextCodec
from cord_worker.engines.transformers.engine import TransformersEngine
from cord_worker.errors import ConfigError, EngineLoadError
from cord_worker.prompting.segmentation import Ended, FinishReason, TextKind, cut
from cord_worker.prompting.trajectory import PROMPTED

FLOORS = {torch.float32: 1e-5, torch.bfloat16: 0.1}
"""How far the log-probability of one answer token may lie from a plain forward, by format, whatever the model: about
the rounding of a logit alone."""
ROUNDINGS = 2.0
"""Beside the floor, it may lie this many times as far as the model's own noise: the engine and the plain forward each
round for themselves."""
FLOAT32_LIMIT = 1e-3
"""Noise excuses no more than this in float32: wrong masks and positions show there."""
_NUDGED = 16
"""Forwards from which the noise is taken. Of a model with experts some send a token to another expert, and most do
not: a few would often miss it."""
_TEMPLATE = "\n</think>\n\nThe final answer is {answer}."
_ANSWER = "204"
_GREEDY = Sampling(
    temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, repetition_penalty=1.0, max_tokens=12, seed=1, answer_tokens=0
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
    """What became of one family.

    `difference` is the largest of any single answer token's log-probability from a plain forward, `noise` the largest
    that one unit in the last place of the embeddings makes to the plain forward itself; both in float32, and in
    bfloat16. `texts_equal` is None where no text was compared.
    """

    name: str
    hosted: bool
    as_meant: bool
    mode: str = ""
    reason: str = ""
    difference: float | None = None
    noise: float | None = None
    bfloat16_difference: float | None = None
    bfloat16_noise: float | None = None
    texts_equal: bool | None = None
    texts_compared: int = 0
    tokens_compared: int = 0
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
        exact = asyncio.run(_compared(engine, reference))
        texts = asyncio.run(_compared_texts(engine, reference))
        mode, reason = engine.mode, engine.reason
    finally:
        engine.stop()
    coarse_engine = TransformersEngine(_settings(folder, "bfloat16"))
    try:
        coarse = asyncio.run(_compared(coarse_engine, _Reference(folder, torch.bfloat16)))
    finally:
        coarse_engine.stop()
    return FamilyFigures(
        name=family.name,
        hosted=True,
        as_meant=not family.refused
        and texts.equal is True
        and exact.is_within(torch.float32)
        and exact.difference <= FLOAT32_LIMIT
        and coarse.is_within(torch.bfloat16),
        mode=str(mode),
        reason=reason,
        difference=exact.difference,
        noise=exact.noise,
        bfloat16_difference=coarse.difference,
        bfloat16_noise=coarse.noise,
        texts_equal=texts.equal,
        texts_compared=texts.count,
        tokens_compared=texts.tokens,
    )


@dataclass(frozen=True, slots=True)
class Compared:
    """How far answer tokens' log-probabilities lie from a plain forward's at most, and the model's noise."""

    difference: float
    noise: float

    def is_within(self, dtype: torch.dtype) -> bool:
        """Whether rounding explains the difference. False for what is no number."""
        return self.difference <= FLOORS[dtype] + ROUNDINGS * self.noise


@dataclass(frozen=True, slots=True)
class ComparedTexts:
    """How many generated texts, of how many tokens, were followed by a plain forward; `differing` of them differ."""

    count: int
    tokens: int
    differing: int

    @property
    def equal(self) -> bool | None:
        """None where nothing was compared."""
        return None if self.tokens == 0 else self.differing == 0


def _settings(folder: Path, dtype: Any) -> EngineSettings:
    return EngineSettings.of(
        ModelConfig(
            path=str(folder),
            dtype=dtype,
            device="cpu",
            threads=1,
            batch_size=4,
            max_model_len=CONTEXT,
            gather_seconds=0.2,
        )
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

    def log_probabilities(self, turn: Turn, steps: Sequence[str]) -> list[float]:
        """Of the answer's tokens after the candidate, one by one."""
        (found,) = self._answers(turn, steps, rows=1)
        return found

    def noise(self, turn: Turn, steps: Sequence[str]) -> float:
        """How far they change at most where each number of the embeddings is moved by its last place, up, down or not.

        This is what roundings on another way do to this model: where a router's choice is a near tie, they send a token
        to another expert.
        """
        generator = torch.Generator().manual_seed(0)

        def nudge(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            ways = torch.randint(-1, 2, output.shape, generator=generator)
            return output * (1 + ways * torch.finfo(output.dtype).eps).to(output.dtype)

        plain = self.log_probabilities(turn, steps)
        hook = self._model.get_input_embeddings().register_forward_hook(nudge)
        try:
            nudged = self._answers(turn, steps, rows=_NUDGED)
        finally:
            hook.remove()
        return max(_distance(found, plain) for found in nudged)

    def continues_with(self, pieces: Sequence[Ids], generation: Generation, kind: TextKind) -> bool:
        """Whether the generation is what the likeliest tokens read as, end included; where several were as likely, each
        is followed, because half of a character does not tell which was taken."""
        ids = [token for piece in pieces for token in piece]
        wanted = generation.text.strip()
        ways: list[list[int]] = [[]]
        for _ in range(generation.completion_tokens):
            longer = []
            for written in ways:
                table = torch.log_softmax(self._logits([[*ids, *written]])[0, -1].double(), -1)
                near: list[int] = (table >= table.max() - _NEAR).nonzero()[:, 0].tolist()
                longer += [[*written, token] for token in near]
            ways = [way for way in longer if _one_begins_the_other(wanted, self._text(way).strip())]
        return any(self._cut(way, generation.finish_reason, kind) == generation.text for way in ways)

    def _cut(self, ids: Sequence[int], reason: FinishReason, kind: TextKind) -> str | None:
        """The text of generated tokens where an engine is to end it; None where it ends for another reason."""
        ended: Ended = "stop"
        if ids[-1] == self._tokenizer.eos_token_id:
            ended = "eos"
        elif reason is FinishReason.LENGTH:
            ended = "length"
        text = self.codec.decode(ids[:-1] if ended == "eos" else ids)
        segment = cut(text if ended == "stop" else text.rstrip("\ufffd"), kind, PROMPTED, ended=ended)
        return segment.text if segment.finish_reason is reason else None

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False)).rstrip("\ufffd")

    def _answers(self, turn: Turn, steps: Sequence[str], *, rows: int) -> list[list[float]]:
        """Log-probabilities of the answer's tokens in each of `rows` equal texts, which nothing pads."""
        pieces = self.codec.candidate(turn, steps)
        closing = self.codec.closing(_TEMPLATE, _ANSWER)
        prompt = [token for piece in pieces for token in piece]
        columns = [len(prompt) + position - 1 for position in closing.answer]
        targets = torch.tensor([closing.ids[position] for position in closing.answer])
        logits = self._logits([[*prompt, *closing.ids[: closing.answer[-1]]]] * rows)[:, columns]
        table = torch.log_softmax(logits.double(), -1)
        found: list[list[float]] = table.gather(-1, targets.expand(rows, -1)[..., None])[..., 0].tolist()
        return found

    @torch.inference_mode()
    def _logits(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        logits: torch.Tensor = self._model(input_ids=torch.tensor(texts), use_cache=False).logits
        return logits


def _distance(found: Sequence[float], wanted: Sequence[float]) -> float:
    """The largest difference of two values of one token; infinite where one is no number."""
    differences = [abs(one - other) for one, other in zip(found, wanted, strict=True)]
    return max(value if math.isfinite(value) else math.inf for value in differences)


def _one_begins_the_other(text: str, other: str) -> bool:
    return text.startswith(other) or other.startswith(text)


async def _compared(engine: TransformersEngine, reference: _Reference) -> Compared:
    """Scores asked for together, together again (now from the prefix cache), alone, and a long one, against plain."""
    asked = [(_TURNS[turn], steps) for turn, steps in (*_CANDIDATES, _LONG)]
    plain = [reference.log_probabilities(*each) for each in asked]

    def score(turn: Turn, steps: Sequence[str]) -> Coroutine[Any, Any, list[float]]:
        return engine.log_probabilities(turn, steps, _ANSWER, _TEMPLATE)

    together = list(await asyncio.gather(*(score(*each) for each in asked)))
    again = list(await asyncio.gather(*(score(*each) for each in asked)))
    alone = [await score(*each) for each in asked]
    return Compared(
        difference=max(
            _distance(found, wanted)
            for scores in (together, again, alone)
            for found, wanted in zip(scores, plain, strict=True)
        ),
        noise=max(reference.noise(*each) for each in asked),
    )


async def _compared_texts(engine: TransformersEngine, reference: _Reference) -> ComparedTexts:
    """Steps proposed together, and a final answer, against the likeliest tokens of a plain forward, one by one."""
    codec = reference.codec
    asked: list[tuple[Coroutine[Any, Any, Generation], list[Ids], TextKind]] = []
    for turn, steps in _CANDIDATES:
        asked.append((engine.propose(_TURNS[turn], steps, _GREEDY), codec.proposal(_TURNS[turn], steps), "step"))
    turn, steps = _LONG
    asked.append((engine.answer(_TURNS[turn], steps, _GREEDY), codec.answer(_TURNS[turn], steps), "answer"))
    found = await asyncio.gather(*(request for request, _, _ in asked))
    differing = sum(
        not reference.continues_with(pieces, generation, kind)
        for generation, (_, pieces, kind) in zip(found, asked, strict=True)
    )
    return ComparedTexts(len(found), sum(generation.completion_tokens for generation in found), differing)


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
