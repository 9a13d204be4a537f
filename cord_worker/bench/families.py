"""`cordctl bench families`: whether and how the models of every family are hosted, and whether their scores are right.

The models are small and random. Scores are compared with those of a plain forward: transformers' own model, loaded in
addition to the engine and called with a single text.
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
"""The difference of one answer token's log-probability from a plain forward that is always allowed, by number format.
It is about the rounding of one logit."""
ROUNDINGS = 2.0
"""In addition to that floor, the difference may be this many times the model's own noise, because the engine and the
plain forward round independently."""
FLOAT32_LIMIT = 1e-3
"""The largest difference allowed in float32, whatever the noise. A larger one shows a wrong mask or position."""
_NUDGED = 16
"""The forwards from which the noise is computed. In a model with experts, only some of them send a token to another
expert, and fewer forwards would often miss that."""
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
"""The turn and the steps of each text: different lengths, two with the same beginning, all longer than a window."""
_LONG: tuple[int, tuple[str, ...]] = (1, (_STEP,) * 5)
_NEAR = 1e-3
"""Two tokens count as equally likely if their log-probabilities differ by at most this."""


@dataclass(frozen=True, slots=True)
class FamilyFigures:
    """The result for one family.

    `difference` is the largest difference of one answer token's log-probability from a plain forward. `noise` is the
    largest change of the plain forward itself when the embeddings change by one unit in the last place. Both are given
    in float32 and in bfloat16. `as_meant`: the family is hosted with right scores and texts, or refused if it must be.
    `texts_equal` is None if no text was compared.
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
        """A JSON object for scripts; keys are stable."""
        return dataclasses.asdict(self)


def measure_families(
    only: Sequence[str],
    tell: Callable[[FamilyFigures], None],
    begin: Callable[[str, int, int], None] = lambda name, number, of: None,  # noqa: ARG005
) -> list[FamilyFigures]:
    """Builds and tests every family, or those whose names contain one of `only`. Before each family, `begin` is called
    with its name, its number from 1 and the number of families; after it, `tell` with its figures. Raises ConfigError
    if no name contains one of `only`."""
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
        with _without_warnings():
            for number, family in enumerate(chosen, start=1):
                begin(family.name, number, len(chosen))
                found.append(_measure_family(family))
                tell(found[-1])
    finally:
        torch.set_num_threads(threads)
    return found


def _measure_family(family: Family) -> FamilyFigures:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cord-f-") as name:
        folder = Path(name)
        write_family(family, folder)
        try:
            figures = _compare_family(family, folder)
        except EngineLoadError as error:
            reason = " ".join(str(error).replace(str(folder), family.name).split())
            figures = FamilyFigures(family.name, hosted=False, as_meant=family.refused, reason=reason)
    return dataclasses.replace(figures, seconds=round(time.monotonic() - started, 2))


def _compare_family(family: Family, folder: Path) -> FamilyFigures:
    engine = TransformersEngine(_settings(folder, "float32"))
    try:
        reference = _Reference(folder, torch.float32)
        exact = asyncio.run(_compare_scores(engine, reference))
        texts = asyncio.run(_compare_texts(engine, reference))
        mode, reason = engine.mode, engine.reason
    finally:
        engine.stop()
    coarse_engine = TransformersEngine(_settings(folder, "bfloat16"))
    try:
        coarse = asyncio.run(_compare_scores(coarse_engine, _Reference(folder, torch.bfloat16)))
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
class ScoreComparison:
    """Largest difference of an answer token's log-probability from a plain forward, and the model's `noise`."""

    difference: float
    noise: float

    def is_within(self, dtype: torch.dtype) -> bool:
        """True if rounding explains the difference; False if it is NaN or infinite."""
        return self.difference <= FLOORS[dtype] + ROUNDINGS * self.noise


@dataclass(frozen=True, slots=True)
class TextComparison:
    """`count` generated texts, with `tokens` tokens in all, were compared with a plain forward; `differing` texts
    differ."""

    count: int
    tokens: int
    differing: int

    @property
    def equal(self) -> bool | None:
        """True if no text differs; None if nothing was compared."""
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
    """transformers' own model, called with one text at a time."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self._model = model.eval()
        self._tokenizer = tokenizer()
        self.codec = TextCodec(self._tokenizer)

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of all families."""
        return self._tokenizer

    def log_probabilities(self, turn: Turn, steps: Sequence[str]) -> list[float]:
        """The log-probability of each token of the answer after the candidate."""
        (found,) = self._answers(turn, steps, rows=1)
        return found

    def noise(self, turn: Turn, steps: Sequence[str]) -> float:
        """The largest change of `log_probabilities` if each number of the embeddings changes by at most one unit in the
        last place.

        This shows how much different rounding changes the model's results. If two experts are nearly equal for a token,
        for example, rounding decides which one gets it.
        """
        generator = torch.Generator().manual_seed(0)

        def nudge(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            signs = torch.randint(-1, 2, output.shape, generator=generator)
            return output * (1 + signs * torch.finfo(output.dtype).eps).to(output.dtype)

        plain = self.log_probabilities(turn, steps)
        hook = self._model.get_input_embeddings().register_forward_hook(nudge)
        try:
            nudged = self._answers(turn, steps, rows=_NUDGED)
        finally:
            hook.remove()
        return max(_distance(found, plain) for found in nudged)

    def continues_with(self, pieces: Sequence[Ids], generation: Generation, kind: TextKind) -> bool:
        """True if the generation is the text of the likeliest tokens and ends where they do. If several tokens are
        equally likely, each is followed, because the text of a part of a character does not show which one was
        chosen."""
        ids = [token for piece in pieces for token in piece]
        wanted = generation.text.strip()
        paths: list[list[int]] = [[]]
        for _ in range(generation.completion_tokens):
            longer = []
            for path in paths:
                table = torch.log_softmax(self._logits([[*ids, *path]])[0, -1].double(), -1)
                near: list[int] = (table >= table.max() - _NEAR).nonzero()[:, 0].tolist()
                longer += [[*path, token] for token in near]
            paths = [path for path in longer if _one_is_prefix_of_other(wanted, self._text(path).strip())]
        return any(self._cut(path, generation.finish_reason, kind) == generation.text for path in paths)

    def _cut(self, ids: Sequence[int], reason: FinishReason, kind: TextKind) -> str | None:
        """The text of generated tokens up to where an engine must end it; None if it ends for another reason."""
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
        """Log-probabilities of the answer's tokens in each of `rows` equal texts, without padding."""
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
    """The largest difference between the two values of a token; infinite if a value is NaN or infinite."""
    differences = [abs(one - other) for one, other in zip(found, wanted, strict=True)]
    return max(value if math.isfinite(value) else math.inf for value in differences)


def _one_is_prefix_of_other(text: str, other: str) -> bool:
    return text.startswith(other) or other.startswith(text)


async def _compare_scores(engine: TransformersEngine, reference: _Reference) -> ScoreComparison:
    """Compares scores with the reference's. The requests are sent concurrently, then again concurrently (now from the
    prefix cache), then one by one."""
    asked = [(_TURNS[turn], steps) for turn, steps in (*_CANDIDATES, _LONG)]
    plain = [reference.log_probabilities(*each) for each in asked]

    def score(turn: Turn, steps: Sequence[str]) -> Coroutine[Any, Any, list[float]]:
        return engine.log_probabilities(turn, steps, _ANSWER, _TEMPLATE)

    together = list(await asyncio.gather(*(score(*each) for each in asked)))
    again = list(await asyncio.gather(*(score(*each) for each in asked)))
    alone = [await score(*each) for each in asked]
    return ScoreComparison(
        difference=max(
            _distance(found, wanted)
            for scores in (together, again, alone)
            for found, wanted in zip(scores, plain, strict=True)
        ),
        noise=max(reference.noise(*each) for each in asked),
    )


async def _compare_texts(engine: TransformersEngine, reference: _Reference) -> TextComparison:
    """Compares steps and a final answer, all generated concurrently, with the reference's likeliest tokens."""
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
    return TextComparison(len(found), sum(generation.completion_tokens for generation in found), differing)


@contextmanager
def _without_warnings() -> Any:
    """Suppresses warnings about random models and unusual formats."""
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
