"""Rescore: another prover scores a stored candidate, in the same way as the search's own prover."""

from __future__ import annotations

import functools
from dataclasses import asdict

from cord_worker.coordination.model_worker.handler import Host
from cord_worker.coordination.model_worker.score import ScoringHandler, figures_of
from cord_worker.coordination.run_context import RunContext
from cord_worker.store.runs.rescorings import prover_of
from cord_worker.store.work import rescore
from cord_worker.store.work.rescore import LeasedRescore, RescoreResult


class Rescore(ScoringHandler):
    """The handler of `kinds.RESCORE`."""

    finishes_at_once = True

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.claim = functools.partial(
            rescore.claim, worker_id=host.worker_id, model=host.model, scoring_mode=self._mode
        )
        self.finish = functools.partial(rescore.finish, worker_id=host.worker_id, scoring_mode=self._mode)

    async def handle(self, lease: LeasedRescore, context: RunContext) -> RescoreResult:
        """The candidate's score by the rescoring's prover."""
        figures = await figures_of(self._host.engine, lease, prover_of(lease.prover), lease.system_prompt, context)
        return RescoreResult(rescore_id=lease.rescore_id, attempt=lease.attempt, **asdict(figures))
