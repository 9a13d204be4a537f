"""Score: the prover measures how well it predicts the known answer after a candidate, and once before any step.

`figures_of` serves every prover, whether of a search or of a rescoring.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from cord_worker.config import ProverConfig
from cord_worker.coordination.model_worker.handler import Host
from cord_worker.coordination.model_worker.request_errors import reason_of
from cord_worker.coordination.run_context import RunContext
from cord_worker.engines.protocol import AnswerScore, Engine, Turn
from cord_worker.errors import RequestError
from cord_worker.search.types import InvalidReason
from cord_worker.store.work import score
from cord_worker.store.work.score import LeasedScore, ScoreResult

logger = logging.getLogger(__name__)

_GIVES_NO_SCORES = (
    "is the prover of a run or rescoring, but its server gives no log-probabilities of a prompt: serve it with vLLM, "
    'or host it with engine = "vllm" or "transformers", and start its worker again; or end the run (`cordctl cancel`)'
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a prover found for one candidate: either all figures or an `invalid_reason`. The fields are those of
    `ScoreResult` without its lease and without the base score."""

    invalid_reason: str | None = None
    score: float | None = None
    mean_probability: float | None = None
    log_prob_sum: float | None = None
    answer_tokens: int | None = None
    thinking_tokens: int | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    seconds: float | None = None


class ScoringLease(Protocol):
    """What the leases of a score and a rescore share: a candidate's whole trajectory in `steps`, and its problem."""

    @property
    def candidate_id(self) -> int: ...
    @property
    def question(self) -> str: ...
    @property
    def passage(self) -> str | None: ...
    @property
    def answer(self) -> str: ...
    @property
    def steps(self) -> tuple[str, ...]: ...


async def figures_of(
    engine: Engine, lease: ScoringLease, prover: ProverConfig, system_prompt: str | None, context: RunContext
) -> Figures:
    """Scores the candidate as `prover` says; invalid if the model cannot take the request, or gives no usable
    number."""
    try:
        scored = await _ask(engine, lease, lease.steps, prover, system_prompt, context)
    except RequestError as error:
        logger.warning("candidate %d: %s", lease.candidate_id, error)
        return Figures(invalid_reason=reason_of(error).value)
    value = scored.by(prover.score)
    if not 0.0 < value <= 1.0:
        return Figures(invalid_reason=InvalidReason.UNSCORABLE.value)
    return Figures(
        score=value,
        mean_probability=scored.mean_probability,
        log_prob_sum=scored.log_prob_sum,
        answer_tokens=scored.answer_tokens,
        thinking_tokens=scored.thinking_tokens,
        prompt_tokens=scored.prompt_tokens,
        cached_tokens=scored.cached_tokens,
        seconds=scored.seconds,
    )


class ScoringHandler:
    """What the handlers of scores and rescores share: engines that give scores can do the work."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._useless_since: float | None = None

    @property
    def _mode(self) -> str:
        return self._host.engine.scoring_mode or ""  # without a mode nothing is claimed

    def can_claim(self) -> bool:
        """Whether the engine gives scores. If not, the candidates wait for a worker that can."""
        if self._host.engine.scoring_mode is not None:
            return True
        if self._useless_since is None:
            logger.error("scores are left to others: this server gives none")
            self._useless_since = time.monotonic()
        self._host.describe(_GIVES_NO_SCORES, since=self._useless_since)
        return False


class Score(ScoringHandler):
    """The handler of `kinds.SCORE`."""

    finishes_at_once = True

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.claim = functools.partial(score.claim, worker_id=host.worker_id, model=host.model, scoring_mode=self._mode)
        self.finish = functools.partial(score.finish, worker_id=host.worker_id, scoring_mode=self._mode)

    async def handle(self, lease: LeasedScore, context: RunContext) -> ScoreResult:
        """The candidate's score by the run's prover, with the problem's base score if the lease carries it."""
        return await compute_score(self._host.engine, context, lease)


async def compute_score(engine: Engine, context: RunContext, lease: LeasedScore) -> ScoreResult:
    """The result of the leased piece of work; see `Score.handle`.

    The base score is asked for after the candidate's, so that a lease is one request to the engine at any time. If the
    prover gives no base score, the candidate keeps its score, and a lease of the next step tries again.
    """
    prover, system_prompt = context.config.required_prover, context.config.prover_model.system_prompt
    figures = await figures_of(engine, lease, prover, system_prompt, context)
    result = ScoreResult(candidate_id=lease.candidate_id, attempt=lease.attempt, **asdict(figures))
    if not lease.carries_base:
        return result
    try:
        base = await _ask(engine, lease, (), prover, system_prompt, context)
    except RequestError as error:
        logger.warning("problem %d has no base score: %s", lease.problem_id, error)
        return result
    value = base.by(prover.score)
    if not 0.0 < value <= 1.0:
        logger.warning("problem %d has no base score: the answer has the probability %s", lease.problem_id, value)
        return result
    return replace(
        result,
        base_score=value,
        base_log_prob_sum=base.log_prob_sum,
        base_mean_probability=base.mean_probability,
        base_answer_tokens=base.answer_tokens,
        base_prompt_tokens=base.prompt_tokens,
        base_cached_tokens=base.cached_tokens,
        base_seconds=base.seconds,
    )


async def _ask(
    engine: Engine,
    lease: ScoringLease,
    steps: Sequence[str],
    prover: ProverConfig,
    system_prompt: str | None,
    context: RunContext,
) -> AnswerScore:
    turn = Turn(lease.question, system_prompt, lease.passage, context.segmentation, context.date)
    return await engine.score(turn, steps, lease.answer, prover.scoring_template, full_stop=prover.score_full_stop)
