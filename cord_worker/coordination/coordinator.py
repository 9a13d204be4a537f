"""The coordinator: decides, admits, verifies. Pure decisions come from `search`; this reads, calls and writes."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa

from cord_worker import metrics
from cord_worker.coordination.context import RunContext, RunContexts
from cord_worker.coordination.deciding import answer_seeds, decide
from cord_worker.coordination.faults import FaultPoint, commit, read
from cord_worker.coordination.messages import Messenger
from cord_worker.errors import ProcessPoolError, StoreError
from cord_worker.local.limits import tell
from cord_worker.search.decision import Expand, Fail, Finish, Retry
from cord_worker.search.types import Expansion, SearchError
from cord_worker.store import decisions
from cord_worker.store.database import Database
from cord_worker.store.models import ProblemState, RunState
from cord_worker.store.sweep import Due, Kind, admit
from cord_worker.verify import AnswerChecker, Verdict, rule_of

logger = logging.getLogger(__name__)


class Coordinator:
    """What the tasks `advance` and `verify` do; safe for use from several threads and processes."""

    def __init__(self, database: Database, messenger: Messenger, checker: AnswerChecker) -> None:
        self._database = database
        self._messenger = messenger
        self._checker = checker
        self._contexts = RunContexts(database)
        self._lock = threading.Lock()
        self._verifying: set[int] = set()
        self._verifiers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="verify")

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

    def verify(self, problem_id: int) -> None:
        """Has the problem's final answers checked beside the decisions, which a slow check must not hold up."""
        with self._lock:
            if problem_id in self._verifying:
                return
            self._verifying.add(problem_id)
        try:
            self._verifiers.submit(self._verify_then_forget, problem_id)
        except RuntimeError:  # shut down meanwhile: another coordinator is asked by the sweeper
            logger.info("problem %s is left to another coordinator: this one is shutting down", problem_id)

    def refuse(self) -> None:
        """Begins no further check; decisions are short and finish."""
        self._verifiers.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Finishes the check that is running; the others are owed, as the tables know."""
        self._verifiers.shutdown(wait=True, cancel_futures=True)

    def _verify_then_forget(self, problem_id: int) -> None:
        try:
            self._verify(problem_id)
        except Exception as error:  # noqa: BLE001 - no caller waits for it; the sweeper asks again
            tell(logger, error, f"problem {problem_id} could not be verified")
        finally:
            with self._lock:
                self._verifying.discard(problem_id)

    def _verify(self, problem_id: int) -> None:
        """Checks the answers, stores the verdicts beside the scores and ends the problem."""
        answers = read(self._database, lambda connection: decisions.read_answers(connection, problem_id))
        if not answers:
            return
        if any(answer.with_judge for answer in answers):
            self._ask_judge(problem_id, answers[0].run_id)
            return
        if all(answer.is_checked for answer in answers):
            commit(
                self._database,
                FaultPoint.END_JUDGED,
                lambda connection: decisions.end_judged(connection, problem_id),
            )
            self.admit()
            return
        verdicts = [self._checked(answer) for answer in answers]
        commit(
            self._database,
            FaultPoint.VERIFY,
            lambda connection: decisions.write_verdicts(connection, problem_id, verdicts),
        )
        if any(verdict.for_judge for verdict in verdicts):
            self._ask_judge(problem_id, answers[0].run_id)
        else:
            self.admit()

    def _ask_judge(self, problem_id: int, run_id: int) -> None:
        """Asks the judge's model for the verdicts that it owes."""
        judge = self._contexts.of_run(run_id).config.judge_model
        if judge is not None:
            self._messenger.post([Due(Kind.VERDICT, problem_id, 0, judge.fingerprint())])

    def _checked(self, answer: decisions.WrittenAnswer) -> decisions.AnswerVerdict:
        if answer.method == "none":
            return decisions.AnswerVerdict(answer.trajectory_id, None, None)
        verify = self._contexts.of_run(answer.run_id).config.verify
        try:
            verdict = self._checker.check(
                answer.text, answer.reference, rule_of(verify, answer.method), answer.question
            )
        except ProcessPoolError as error:
            verdict = Verdict(correct=None, method="failed", detail=str(error))
        metrics.count_verdict(verdict.method, verdict.correct)
        for_judge = verify.undecided == "judge" and verdict.may_be_judged
        return decisions.AnswerVerdict(
            answer.trajectory_id, verdict.correct, json.dumps(verdict.to_json()), for_judge=for_judge
        )

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
