"""The coordinator: decides and admits. Pure decisions come from `search`; this reads, calls and writes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import sqlalchemy as sa

from cord_worker.coordination.context import RunContext, RunContexts
from cord_worker.coordination.deciding import answer_seeds, decide
from cord_worker.coordination.faults import FaultPoint, commit
from cord_worker.coordination.messages import Messenger
from cord_worker.errors import StoreError
from cord_worker.search.decision import Expand, Fail, Finish, Retry
from cord_worker.search.types import Expansion, SearchError
from cord_worker.store import decisions
from cord_worker.store.database import Database
from cord_worker.store.models import ProblemState, RunState
from cord_worker.store.sweep import Due, Kind, admit
from cord_worker.verify import AnswerChecker

logger = logging.getLogger(__name__)


class Coordinator:
    """What the task `advance` does; safe for use from several threads and processes."""

    def __init__(self, database: Database, messenger: Messenger, checker: AnswerChecker) -> None:
        self._database = database
        self._messenger = messenger
        self._checker = checker
        self._contexts = RunContexts(database)

    def advance(self, problem_id: int) -> None:
        """Takes the decision that is due for the problem, if one is; a second message changes nothing."""
        try:
            due, freed = commit(
                self._database, FaultPoint.ADVANCE, lambda connection: self._advance(connection, problem_id)
            )
        except StoreError:
            raise
        except Exception as error:  # a defect must end this problem, not occupy the run for ever
            logger.exception("problem %s could not be decided", problem_id)
            reason = f"the decision failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
            commit(
                self._database,
                FaultPoint.FAIL_DECISION,
                lambda connection: decisions.fail_problem(connection, problem_id, reason),
            )
            due, freed = [], True
        self._messenger.post(due)
        if freed:
            self.admit()

    def admit(self) -> None:
        """Lets queued problems begin where there is room."""
        self._messenger.post(commit(self._database, FaultPoint.ADMIT, admit))

    def _advance(self, connection: sa.Connection, problem_id: int) -> tuple[list[Due], bool]:
        problem = decisions.lock_problem(connection, problem_id)
        if (
            problem is None
            or problem.state != ProblemState.SEARCHING
            or problem.run_state != RunState.ACTIVE
            or problem.outstanding > 0
        ):
            return [], False
        context = self._contexts.of_run(problem.run_id, connection)
        if context.config.verify.method not in ("judge", "none"):
            self._checker.warm_up()
        try:
            decision = decide(connection, context, problem)
        except SearchError as error:
            logger.error("problem %s (%s): %s", problem.id, problem.key, error)
            decisions.fail_problem(connection, problem.id, str(error))
            return [], True
        match decision:
            case Expand():
                decisions.write_expand(connection, problem, decision, context.teacher_ids)
                return _proposals(context, problem.id, decision.step, decision.expansions), False
            case Retry():
                decisions.write_retry(connection, problem, decision, context.teacher_ids)
                return _proposals(context, problem.id, problem.step, decision.expansions), False
            case Finish():
                written_already = not decisions.write_finish(
                    connection, problem, decision, answer_seeds=answer_seeds(context, problem.key, decision)
                )
                if written_already:
                    return [Due(Kind.VERIFY, problem.id, problem.step)], False
                return _answers(context, problem, decision), False
            case Fail():
                decisions.write_fail(connection, problem, decision)
                return [], True


def _proposals(context: RunContext, problem_id: int, step: int, expansions: Sequence[Expansion]) -> list[Due]:
    """One message a model: its worker proposes for all of its teachers."""
    ordinals = sorted({expansion.teacher for expansion in expansions})
    models = dict.fromkeys(context.teachers[ordinal].model_fingerprint for ordinal in ordinals)
    return [Due(Kind.PROPOSE, problem_id, step, model) for model in models]


def _answers(context: RunContext, problem: decisions.ProblemSnapshot, decision: Finish) -> list[Due]:
    """One message a model: its worker writes all the answers of the problem that are its own."""
    models = dict.fromkeys(context.teachers[one.teacher].model_fingerprint for one in decision.answered)
    return [Due(Kind.ANSWER, problem.id, problem.step, model) for model in models]
