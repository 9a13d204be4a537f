"""The protocol of all engines: propose steps, write answers, score answers. Text in, text out.

An engine lives on one asyncio loop for its whole life and batches the requests that wait. Requests carry
text pieces (see `prompting.trajectory`); the engine encodes each piece with its model's own tokenizer and joins
the ids.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from cord_worker.prompting.first_turn import DEFAULT_DATE
from cord_worker.prompting.segmentation import FinishReason
from cord_worker.prompting.trajectory import ANSWER_OPENING, PROMPTED, Segmentation

if TYPE_CHECKING:
    from cord_worker.config import ScoreKind, TeacherConfig

__all__ = ["AnswerScore", "Engine", "FinishReason", "Generation", "Ids", "Sampling", "StepReward", "Turn"]

Ids = tuple[int, ...]
"""Token ids of a text."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The first turn: what the chat template is rendered with, and the run's segmentation.

    `date` is today's date for the template. It is the run's date, so that the prompt is the same on all machines and
    days. The prover also reads the teachers' passage: it scores the answer given the problem, and the passage is part
    of the problem.
    """

    question: str
    system: str | None = None
    passage: str | None = None
    segmentation: Segmentation = PROMPTED
    date: datetime.date = DEFAULT_DATE


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings of one request; temperature 0 is greedy, top_k 0 considers every token.

    `answer_tokens` are kept free in the context after a step or a trajectory: the final answer must fit, too. No field
    has a default, so a setting that `of` forgets is a type error.
    """

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    max_tokens: int
    seed: int
    answer_tokens: int

    @classmethod
    def of(cls, teacher: TeacherConfig, max_tokens: int, seed: int, *, answer_tokens: int) -> Self:
        """The settings of one request of the teacher. `max_tokens` and `answer_tokens` are in its own tokens;
        `answer_tokens` is 0 if the request writes the final answer itself."""
        return cls(
            temperature=teacher.temperature,
            top_p=teacher.top_p,
            top_k=teacher.top_k,
            min_p=teacher.min_p,
            repetition_penalty=teacher.repetition_penalty,
            max_tokens=max_tokens,
            seed=seed,
            answer_tokens=answer_tokens,
        )


@dataclass(frozen=True, slots=True)
class Generation:
    """One generated text. `text` holds neither the boundary nor `</think>` nor anything after them.

    `prompt_tokens` and `completion_tokens` are in the model's own tokens; `cached_tokens` of the prompt came from
    the prefix cache; `seconds` is the time in the engine.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """How well one candidate predicts the answer: `score = exp(log_prob_sum / answer_tokens)`, in [0, 1]
    (docs/what-is-computed.md#2-score).

    `score` is the geometric mean of the probabilities of the `answer_tokens`, and `mean_probability` the arithmetic
    one. `log_prob_sum` is the float64 sum of the natural logarithms; `thinking_tokens` counts the candidate in the
    prover's tokenizer, which is what the thinking budget is measured in.
    """

    score: float
    mean_probability: float
    log_prob_sum: float
    answer_tokens: int
    prompt_tokens: int
    thinking_tokens: int
    cached_tokens: int
    seconds: float

    def by(self, kind: ScoreKind) -> float:
        """The mean that `prover.score` names."""
        return self.mean_probability if kind == "mean_probability" else self.score


@dataclass(frozen=True, slots=True)
class StepReward:
    """A reward model's judgment of a candidate's last step: `score` in [0, 1], computed from the head's `logits`."""

    score: float
    logits: tuple[float, ...]
    prompt_tokens: int
    cached_tokens: int
    seconds: float


class Describe(Protocol):
    """Receives what keeps an engine from its work (a sentence without its subject; None once nothing does), and since
    when, by `time.monotonic`. Must not block."""

    def __call__(self, condition: str | None, *, since: float | None = None) -> None: ...


def describe_to_nobody(condition: str | None, *, since: float | None = None) -> None:
    """A `Describe` that ignores everything."""
    del condition, since


class Engine(Protocol):
    """One hosted model; any number of calls may wait at once. Methods raise one of

    - RequestError: this request is impossible; its class names the cause; no other request is affected;
    - UnavailableError: the engine takes no requests now; wait for `available`, then ask again;
    - any other EngineError: the engine is dead.
    """

    @property
    def scoring_mode(self) -> str | None:
        """Name of the numerical path of scores; stored with every score, one per run. None if the engine gives no
        scores: it cannot be the prover."""
        ...

    @property
    def weights_digest(self) -> str:
        """Hex digest of the loaded files; two workers of one model must agree."""
        ...

    async def available(self) -> None:
        """Returns once the engine takes requests: at once, except after an UnavailableError."""
        ...

    async def propose(self, turn: Turn, steps: Sequence[str], sampling: Sampling) -> Generation:
        """Writes the next step after `steps`; it ends by the turn's segmentation, at `</think>`, EOS or the cap."""
        ...

    async def complete(self, turn: Turn, steps: Sequence[str], sampling: Sampling) -> Generation:
        """Writes the rest of the trajectory after `steps`, boundaries included; ends at `</think>`, EOS or the cap."""
        ...

    async def answer(
        self, turn: Turn, steps: Sequence[str], sampling: Sampling, *, opening: str = ANSWER_OPENING
    ) -> Generation:
        """Writes the final answer after the trajectory and `opening`, the text that closes the thinking; ends at EOS or
        the cap."""
        ...

    async def reply(self, turn: Turn, sampling: Sampling) -> Generation:
        """Replies to the turn without a prefilled thinking; the model's own thinking is not part of the reply. Ends at
        EOS or the cap. For models that judge and integrate."""
        ...

    async def score(
        self, turn: Turn, steps: Sequence[str], answer: str, scoring_template: str, *, full_stop: bool = False
    ) -> AnswerScore:
        """Scores the candidate `steps` by how well it predicts `answer`; without steps, how well the turn alone does,
        with an empty thinking. With `full_stop`, the text after the answer counts as part of it."""
        ...

    async def reward(self, turn: Turn, steps: Sequence[str], separator: str | None) -> StepReward:
        """Judges the last of `steps` with the model's reward head; raises RequestError if it has none. See
        `config.RewardConfig`."""
        ...

    async def close(self) -> None:
        """Ends the engine; waiting requests fail with EngineError."""
        ...
