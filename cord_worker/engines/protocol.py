"""The protocol of all engines: propose steps, write final answers, score candidates. Text in, text out.

An engine stays on one asyncio loop and batches the requests that wait. It encodes each text piece of a prompt
(`prompting.trajectory`) with its model's tokenizer and joins the ids.
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

    The template gets `date`, the run's date, as today's date, so that the prompt is the same on all machines and days.
    The prover reads the passage, too, because it is part of the problem.
    """

    question: str
    system: str | None = None
    passage: str | None = None
    segmentation: Segmentation = PROMPTED
    date: datetime.date = DEFAULT_DATE


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings of one request; temperature 0 is greedy, top_k 0 considers every token.

    After a step or a trajectory, `answer_tokens` of the context are kept free for the final answer. No field has a
    default, so a setting that `of` forgets is a type error.
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
    """One generated text. `text` ends before the boundary or `</think>` that ended it.

    Tokens are the model's own; `cached_tokens` of the prompt came from the prefix cache. `seconds` is the time in the
    engine.
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

    `score` is the geometric mean of the probabilities of the `answer_tokens`, `mean_probability` their arithmetic mean,
    and `log_prob_sum` the float64 sum of their natural logarithms. All tokens are the prover's: `thinking_tokens` are
    those of the candidate's steps, and the thinking budget is measured in them. For the rest see `Generation`.
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
    """Receives an engine's condition: a sentence, without its subject, on what keeps the engine from its work; None
    once nothing does. `since` is when the condition began, by `time.monotonic`. Must not block."""

    def __call__(self, condition: str | None, *, since: float | None = None) -> None: ...


def ignore_condition(condition: str | None, *, since: float | None = None) -> None:
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
        """How scores are computed numerically; stored with every score, and one per run. None if the engine gives no
        scores, so that its model cannot be the prover."""
        ...

    @property
    def weights_digest(self) -> str:
        """Hex digest of the loaded files; two workers of one model must agree."""
        ...

    async def available(self) -> None:
        """Returns once the engine takes requests: at once, except after an UnavailableError."""
        ...

    async def propose(self, turn: Turn, steps: Sequence[str], sampling: Sampling) -> Generation:
        """Writes the next step after `steps`; ends where the segmentation says, at `</think>`, EOS or the cap."""
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
        """Replies to the turn, for models that judge or integrate. No thinking is prefilled, and the model's own
        thinking is not part of the reply. Ends at EOS or the cap."""
        ...

    async def score(
        self, turn: Turn, steps: Sequence[str], answer: str, scoring_template: str, *, full_stop: bool = False
    ) -> AnswerScore:
        """Scores how well the candidate `steps` predicts `answer`; without steps, how well the turn with an empty
        thinking does. With `full_stop`, the text after the answer in `scoring_template` is scored too."""
        ...

    async def reward(self, turn: Turn, steps: Sequence[str], separator: str | None) -> StepReward:
        """Judges the last of `steps` with the model's reward head; raises RequestError if it has none. See
        `config.RewardConfig`."""
        ...

    async def close(self) -> None:
        """Ends the engine; waiting requests fail with EngineError."""
        ...
