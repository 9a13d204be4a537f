"""Checking final answers by comparison: beside the decisions, which a slow check must not hold up."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cord_worker import metrics
from cord_worker.coordination.context import RunContexts
from cord_worker.coordination.faults import FaultPoint, commit, read
from cord_worker.coordination.messages import Messenger
from cord_worker.errors import ProcessPoolError
from cord_worker.store import decisions
from cord_worker.store.database import Database
from cord_worker.store.sweep import Due, Kind
from cord_worker.verify import AnswerChecker, Verdict, rule_of

logger = logging.getLogger(__name__)


class AnswerChecks:
    """What the task `verify` does; safe for use from several threads. `admit` lets problems begin where one ended."""

    def __init__(
        self, database: Database, messenger: Messenger, checker: AnswerChecker, admit: Callable[[], None]
    ) -> None:
        self._database = database
        self._messenger = messenger
        self._checker = checker
        self._admit = admit
        self._contexts = RunContexts(database)
        self._lock = threading.Lock()
        self._verifying: set[int] = set()
        self._verifiers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="verify")

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
        except Exception:  # no caller waits for it; the sweeper asks again
            logger.exception("problem %s could not be verified", problem_id)
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
            self._admit()
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
            self._admit()

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
