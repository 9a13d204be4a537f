"""The coordinator: takes decisions and admits problems. `search` decides; this module reads, calls and writes."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.coordination.coordinator.stepping_back import StepBack
from cord_worker.coordination.decision import answer_seeds, decide
from cord_worker.coordination.fault_points import FaultPoint
from cord_worker.coordination.log_fields import about, note
from cord_worker.coordination.messaging.messenger import Messenger
from cord_worker.coordination.run_context import RunContext, RunContexts
from cord_worker.coordination.transactions import commit, read
from cord_worker.engines.protocol import Describe, ignore_condition
from cord_worker.errors import StoreError
from cord_worker.search.decision import EndSearch, Expand, Fail, Resample
from cord_worker.search.types import Expansion
from cord_worker.store.database import Database
from cord_worker.store.runs.admission import admit
from cord_worker.store.schema.kinds import ANSWER, PROPOSE, VERIFY
from cord_worker.store.schema.tables import ProblemState, RunState
from cord_worker.store.search import decisions, failed_decisions
from cord_worker.store.work.values import Due
from cord_worker.verify import AnswerChecker

logger = logging.getLogger(__name__)

_STEP_BACK_PAUSES, _MAX_STEP_BACK_PAUSES = 5, 300
"""First and longest pause of a coordinator that has stepped back, in units of `pause_seconds`."""
_MAX_RETRIED_TOGETHER = 100
_MAX_CHARACTERS = 300


class Coordinator:
    """Does the work of the task `advance`; safe for use from several threads and processes."""

    def __init__(
        self,
        database: Database,
        messenger: Messenger,
        checker: AnswerChecker,
        worker_id: uuid.UUID,
        *,
        pause_seconds: float,
        describe: Describe = ignore_condition,
    ) -> None:
        """A failed decision is tried again after `pause_seconds`, then after twice that time, and so on; `describe` is
        called when this coordinator steps back, and with None when it takes decisions again."""
        self._database = database
        self._messenger = messenger
        self._checker = checker
        self._worker_id = worker_id
        self._pause_seconds = pause_seconds
        self._describe = describe
        self._step_back = StepBack(_STEP_BACK_PAUSES * pause_seconds, _MAX_STEP_BACK_PAUSES * pause_seconds)
        self._contexts = RunContexts(database)

    def advance(self, problem_id: int) -> None:
        """Takes the problem's decision if one is due; a second message changes nothing.

        A decision that fails is tried again, by another coordinator if there is one (`store.search.failed_decisions`).
        """
        if not self._step_back.may_decide():
            self._pass_on(problem_id)
            return
        try:
            taken = commit(self._database, FaultPoint.ADVANCE, lambda connection: self._advance(connection, problem_id))
        except StoreError:
            self._step_back.note_no_decision()
            raise
        except Exception as error:  # noqa: BLE001 - the run continues: elsewhere, or without this problem
            self._note_failure(problem_id, error)
            return
        if not taken:
            self._step_back.note_no_decision()
            return
        (decision,) = taken
        if self._step_back.note_success(problem_id):
            logger.warning("decisions can be taken here again")
            self._describe(None)
        self._messenger.post(decision.due)
        if decision.frees_a_place:
            self.admit()
        self._warm_up(decision.context)

    def retry_decisions(self) -> None:
        """Takes decisions that failed or were passed on, if it is now this coordinator's turn."""
        if self._step_back.is_waiting():
            return
        most = 1 if self._step_back.has_stepped_back else _MAX_RETRIED_TOGETHER
        for problem_id in read(
            self._database, lambda connection: failed_decisions.decisions_to_try(connection, self._worker_id, most)
        ):
            with about(problem=problem_id):
                self.advance(problem_id)

    def _pass_on(self, problem_id: int) -> None:
        commit(
            self._database,
            FaultPoint.PASS_ON,
            lambda connection: failed_decisions.pass_on(connection, self._worker_id, problem_id),
        )

    def _note_failure(self, problem_id: int, error: Exception) -> None:
        failure = self._step_back.note_failure(problem_id)
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:_MAX_CHARACTERS]
        if failure.counts:
            logger.error("the decision of problem %s failed and is tried again: %s", problem_id, reason, exc_info=error)
        else:
            logger.info("the decision of problem %s failed, as all decisions do here: %s", problem_id, reason)
        is_given_up = commit(
            self._database,
            FaultPoint.FAIL_DECISION,
            lambda connection: failed_decisions.note_failure(
                connection,
                self._worker_id,
                problem_id,
                reason.replace("\0", ""),
                counts=failure.counts,
                pause_seconds=self._pause_seconds,
            ),
        )
        pause = failure.pause
        if pause is not None:
            if failure.begins:
                logger.critical("decisions fail here for every problem; other coordinators take them: %s", reason)
            self._describe(
                f"takes no decisions, because they fail here for every problem ({reason}); it retries one at a time"
            )
            commit(
                self._database,
                FaultPoint.STEP_BACK,
                lambda connection: failed_decisions.step_back(connection, self._worker_id, pause, failure.innocent),
            )
        if is_given_up:
            logger.error(
                "problem %s has failed: its decision failed %d times", problem_id, failed_decisions.MAX_ATTEMPTS
            )
            self.admit()

    def _warm_up(self, context: RunContext) -> None:
        """Starts the processes that check answers, ahead of time. If they cannot be started, the decision stands."""
        try:
            self._checker.warm_up_for(context.config.verify.method)
        except Exception:  # the check of an answer reports it
            logger.debug("the processes that check answers could not be started ahead", exc_info=True)

    def admit(self) -> None:
        """Lets queued problems begin if there is room."""
        self._messenger.post(commit(self._database, FaultPoint.ADMIT, admit))

    def _advance(self, connection: sa.Connection, problem_id: int) -> list[_Taken]:
        """The decision that was taken, in a list; empty if none was due here."""
        problem = decisions.lock_problem(connection, problem_id)
        if (
            problem is None
            or problem.state != ProblemState.SEARCHING
            or problem.run_state != RunState.ACTIVE
            or problem.outstanding > 0
            or (problem.is_tried_again and not failed_decisions.is_turn_of(connection, self._worker_id, problem_id))
        ):
            return []
        context = self._contexts.of_run(problem.run_id, connection)
        note(run=context.name)
        taken = self._decide(connection, context, problem)
        if problem.is_tried_again:
            failed_decisions.forget_failures(connection, problem_id)
        return [taken]

    def _decide(self, connection: sa.Connection, context: RunContext, problem: decisions.ProblemSnapshot) -> _Taken:
        decision = decide(connection, context, problem)
        match decision:
            case Expand():
                decisions.write_expand(connection, problem, decision, context.teacher_ids)
                return _Taken(context, _proposals(context, problem.id, decision.step, decision.expansions))
            case Resample():
                decisions.write_resample(connection, problem, decision, context.teacher_ids)
                return _Taken(context, _proposals(context, problem.id, problem.step, decision.expansions))
            case EndSearch():
                seeds = [
                    answer_seeds(context, problem.key, one.lineage, context.teachers[one.teacher].name)[0]
                    for one in decision.to_answer
                ]
                no_answer_is_due = not decisions.write_end(connection, problem, decision, answer_seeds=seeds)
                if no_answer_is_due:
                    return _Taken(context, [Due(VERIFY, problem.id, problem.step)])
                return _Taken(context, _answers(context, problem, decision))
            case Fail():
                decisions.write_fail(connection, problem, decision)
                return _Taken(context, [], frees_a_place=True)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A decision that was taken: the messages that are due, and whether another problem may begin."""

    context: RunContext
    due: list[Due]
    frees_a_place: bool = False


def _proposals(context: RunContext, problem_id: int, step: int, expansions: Sequence[Expansion]) -> list[Due]:
    """One message for each model, whose worker proposes for all teachers with this model."""
    ordinals = sorted({expansion.teacher for expansion in expansions})
    models = dict.fromkeys(context.teachers[ordinal].model_fingerprint for ordinal in ordinals)
    return [Due(PROPOSE.name, problem_id, step, model) for model in models]


def _answers(context: RunContext, problem: decisions.ProblemSnapshot, decision: EndSearch) -> list[Due]:
    """One message for each model, whose worker writes the final answers of all teachers with this model."""
    models = dict.fromkeys(context.teachers[one.teacher].model_fingerprint for one in decision.to_answer)
    return [Due(ANSWER.name, problem.id, problem.step, model) for model in models]
