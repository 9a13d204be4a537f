"""Score: the prover measures how well it predicts the known answer after a candidate."""

from __future__ import annotations

import functools
import logging
import time

from cord_worker.coordination.model_worker.handler import AnyEngineHandler, Host
from cord_worker.coordination.model_worker.request_errors import reason_of
from cord_worker.coordination.run_context import RunContext
from cord_worker.engines.protocol import Turn
from cord_worker.errors import RequestError
from cord_worker.search.types import InvalidReason
from cord_worker.store.work import score
from cord_worker.store.work.score import LeasedScore, ScoreResult

logger = logging.getLogger(__name__)

_GIVES_NO_SCORES = (
    "is the prover of a run, but its server gives no log-probabilities of a prompt: serve it with vLLM, or host it "
    'with engine = "vllm" or "transformers", and start its worker again; or end the run with `cordctl cancel`'
)


class Score(AnyEngineHandler):
    """The handler of `kinds.SCORE`."""

    finishes_at_once = True

    def __init__(self, host: Host) -> None:
        self._host = host
        self._useless_since: float | None = None
        mode = host.engine.scoring_mode or ""  # without a mode nothing is claimed
        self.claim = functools.partial(score.claim, worker_id=host.worker_id, model=host.model, scoring_mode=mode)
        self.finish = functools.partial(score.finish, worker_id=host.worker_id, scoring_mode=mode)

    def can_claim(self) -> bool:
        """Whether the engine gives scores. If not, the candidates wait for a worker that can."""
        if self._host.engine.scoring_mode is not None:
            return True
        if self._useless_since is None:
            logger.error("scores are left to others: this server gives none")
            self._useless_since = time.monotonic()
        self._host.describe(_GIVES_NO_SCORES, since=self._useless_since)
        return False

    async def handle(self, lease: LeasedScore, context: RunContext) -> ScoreResult:
        """The candidate's score; invalid if the model cannot take the request, or gives no usable number."""
        config = context.config
        turn = Turn(
            lease.question, config.prover_model.system_prompt, lease.passage, context.segmentation, context.date
        )
        try:
            scored = await self._host.engine.score(
                turn, lease.steps, lease.answer, config.required_prover.scoring_template
            )
        except RequestError as error:
            logger.warning("candidate %d: %s", lease.candidate_id, error)
            return _unscored(lease, reason_of(error))
        if not 0.0 < scored.score <= 1.0:
            return _unscored(lease, InvalidReason.UNSCORABLE)
        return ScoreResult(
            candidate_id=lease.candidate_id,
            attempt=lease.attempt,
            invalid_reason=None,
            score=scored.score,
            log_prob_sum=scored.log_prob_sum,
            answer_tokens=scored.answer_tokens,
            thinking_tokens=scored.thinking_tokens,
            prompt_tokens=scored.prompt_tokens,
            cached_tokens=scored.cached_tokens,
            seconds=scored.seconds,
        )


def _unscored(lease: LeasedScore, reason: InvalidReason) -> ScoreResult:
    return ScoreResult(
        candidate_id=lease.candidate_id,
        attempt=lease.attempt,
        invalid_reason=reason.value,
        score=None,
        log_prob_sum=None,
        answer_tokens=None,
        thinking_tokens=None,
        prompt_tokens=None,
        cached_tokens=None,
        seconds=None,
    )
