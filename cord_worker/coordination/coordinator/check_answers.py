"""Checks final answers by comparison: leased work of the coordinators. It has its own thread, so that a slow check does
not delay decisions.

If a check gives no result, its cause decides what follows (`local.killable`):

| what happened | what follows |
|---|---|
| the comparison took too long, or raised | undecided: the fault of the answer itself |
| its process ended, other processes work | retried, here and by others; after `run.max_attempts` undecided |
| no process starts, or all are killed | returned, forgiven; this coordinator pauses its checks and says so |
| its coordinator is lost | taken back by the sweeper; the attempt counts |

`cordctl recheck` checks again what stayed undecided.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from cord_worker import metrics
from cord_worker.coordination.fault_points import FaultPoint, claim_point, finish_point
from cord_worker.coordination.log_fields import about, note
from cord_worker.coordination.messaging.messenger import Messenger
from cord_worker.coordination.run_context import RunContexts
from cord_worker.coordination.stuck_threads import working
from cord_worker.coordination.transactions import commit, read
from cord_worker.engines.protocol import Describe
from cord_worker.errors import ProcessPoolError
from cord_worker.local.killable import ProcessEnded
from cord_worker.store.database import Database
from cord_worker.store.schema.kinds import CHECK_ANSWER, JUDGE_ANSWER
from cord_worker.store.work import check_answer
from cord_worker.store.work.check_answer import (
    FinishedCheck,
    LeasedCheck,
    end_verified,
    read_owed_checks,
)
from cord_worker.store.work.returning import return_all, return_leases
from cord_worker.store.work.values import Claimed, Due
from cord_worker.verify import AnswerChecker, CheckResult, rule_of
from cord_worker.verify.checker import result_of_given_up_check

logger = logging.getLogger(__name__)

_MAX_FAILED_CLAIMS = 2
"""After this many claims with a check to retry, a problem's checks are left to another coordinator."""
_MIN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 1.0, 5.0
_UNKNOWN_LEASE_SECONDS = 2.0
"""A lease that this process does not know is returned at this age; a younger one may belong to a claim under way."""
_CLOSE_SECONDS = 10.0


class AnswerChecks:
    """Does the work of the task `verify` in its own thread; safe for use from several threads.

    `describe` is called when this process cannot check answers. `admit` is called when a problem has ended, so that
    others can begin.
    """

    def __init__(
        self,
        database: Database,
        messenger: Messenger,
        checker: AnswerChecker,
        worker_id: uuid.UUID,
        *,
        describe: Describe,
        admit: Callable[[], None],
    ) -> None:
        self._database = database
        self._messenger = messenger
        self._checker = checker
        self._worker_id = worker_id
        self._describe = describe
        self._admit = admit
        self._contexts = RunContexts(database)
        self._changed = threading.Condition()
        self._requested: dict[int, None] = {}
        self._postponed: dict[int, None] = {}
        """Problems with answers that cannot be checked here at present."""
        self._held: frozenset[int] = frozenset()
        self._broken_since: float | None = None
        self._pause = 0.0
        self._paused_until = 0.0
        self._is_refusing = False
        self._thread = threading.Thread(target=self._work, name="checks", daemon=True)
        self._thread.start()

    def verify(self, problem_id: int) -> None:
        """Asks for the problem's final answers to be verified soon; a second message changes nothing."""
        with self._changed:
            if self._is_refusing:  # the sweeper asks another coordinator
                logger.info("problem %s is left to another coordinator: this one is shutting down", problem_id)
                return
            self._requested[problem_id] = None
            self._changed.notify()

    def refuse(self) -> None:
        """Makes this process start no further check."""
        with self._changed:
            self._is_refusing = True
            self._requested.clear()
            self._changed.notify()

    def abort(self) -> None:
        """Cancels the check that is running; its lease is returned."""
        self.refuse()
        self._checker.close()

    def close(self) -> None:
        """Waits for the check that is running, at most 10 s; the tables owe the others."""
        self.refuse()
        self._thread.join(_CLOSE_SECONDS)

    def reconcile(self, connection: sa.Connection) -> None:
        """Returns leases that this process does not know: the claim was committed, but its reply was lost."""
        return_all(
            connection,
            [self._worker_id],
            forgiven=False,
            known={"trajectories": self._held},
            grace_seconds=_UNKNOWN_LEASE_SECONDS,
        )

    def _work(self) -> None:
        while self._wait_for_work():
            problem_id = self._next()
            if problem_id is None:
                self._test_recovery()
                continue
            with about(problem=problem_id):
                try:
                    self._verify(problem_id)
                except Exception:  # no caller waits for it; the sweeper asks again
                    logger.exception("problem %s could not be verified", problem_id)

    def _wait_for_work(self) -> bool:
        """Waits for something to do; False if this process starts no more checks."""
        with self._changed:
            while not (self._is_refusing or self._requested):
                pause = None if self._broken_since is None else self._paused_until - time.monotonic()
                if pause is not None and pause <= 0:
                    break
                self._changed.wait(pause)
            return not self._is_refusing

    def _next(self) -> int | None:
        """The problem that was asked for first; None when it is time to test whether answers can be checked again."""
        with self._changed:
            if self._broken_since is not None and time.monotonic() >= self._paused_until:
                return None
            problem_id = next(iter(self._requested), None)
            if problem_id is not None:
                del self._requested[problem_id]
            return problem_id

    def _verify(self, problem_id: int) -> None:
        """Does what is due: checks the answers, asks the judge, or ends the problem."""
        owed = read(self._database, lambda connection: read_owed_checks(connection, problem_id))
        if owed is not None and owed.unchecked:
            if self._broken_since is not None:
                self._postponed[problem_id] = None
                return
            try:
                self._check(problem_id)
            except ProcessPoolError as error:
                self._postponed[problem_id] = None
                self._pause_checks(error)
                return
            owed = read(self._database, lambda connection: read_owed_checks(connection, problem_id))
        if owed is None or owed.unchecked or owed.checking:
            return
        if owed.with_judge:
            self._ask_judge(problem_id, owed.run_id)
        elif commit(self._database, FaultPoint.END_VERIFIED, lambda connection: end_verified(connection, [problem_id])):
            self._admit()

    def _check(self, problem_id: int) -> None:
        """Claims the problem's answers and checks each: first all that may be shared, then the exclusive ones.

        Raises ProcessPoolError if nothing can be checked here.
        """
        exclusive, failed_claims = False, 0
        while failed_claims < _MAX_FAILED_CLAIMS:
            claimed = self._claim(problem_id, exclusive=exclusive)
            if not claimed.leases:
                if exclusive or not claimed.held_back:
                    return
                exclusive = True
                continue
            self._held = frozenset(lease.trajectory_id for lease in claimed.leases)
            try:
                failed_claims += self._check_all(claimed.leases)
            finally:
                self._held = frozenset()

    def _claim(self, problem_id: int, *, exclusive: bool) -> Claimed:
        return commit(
            self._database,
            claim_point(CHECK_ANSWER),
            lambda connection: check_answer.claim(
                connection, [problem_id], worker_id=self._worker_id, exclusive=exclusive
            ),
            single=True,
        )

    def _check_all(self, leases: Sequence[LeasedCheck]) -> bool:
        """Checks the leases in order; True if one of them was returned for another attempt."""
        failed = False
        for index, lease in enumerate(leases):
            try:
                result = self._run_check(lease)
            except ProcessPoolError:
                self._return(leases[index:], forgiven=True)
                raise
            if result is None:
                self._return([lease], forgiven=False)
                failed = True
            elif self._finish(lease, result):
                self._admit()
        return failed

    def _run_check(self, lease: LeasedCheck) -> CheckResult | None:
        """The result; None if the check is to be tried again. Raises ProcessPoolError if nothing can be checked."""
        context = self._contexts.of_run(lease.run_id)
        note(run=context.name)
        config = context.config
        rule = rule_of(config.verify, lease.method)
        try:
            with working("a check of an answer"):
                return self._checker.attempt(lease.text, lease.reference, rule, lease.question)
        except ProcessEnded as error:
            logger.warning("answer %d, attempt %d: %s", lease.trajectory_id, lease.attempt, error)
            if lease.attempt < max(2, config.run.max_attempts):
                return None
            return result_of_given_up_check(lease.attempt, str(error))

    def _finish(self, lease: LeasedCheck, result: CheckResult) -> list[int]:
        """Writes the result; returns the problem's key in a list if this was its last check, else an empty list."""
        verify = self._contexts.of_run(lease.run_id).config.verify
        finished = FinishedCheck(
            lease.trajectory_id,
            lease.attempt,
            result.correct,
            json.dumps(result.to_json()),
            for_judge=verify.undecided == "judge" and result.may_be_judged,
        )
        metrics.count_checked_answer(result.method, result.correct)
        return commit(
            self._database,
            finish_point(CHECK_ANSWER),
            # In a tuple, because `commit` takes an empty list to mean that nothing was changed.
            lambda connection: (check_answer.finish(connection, [finished], worker_id=self._worker_id),),
        )[0]

    def _return(self, leases: Sequence[LeasedCheck], *, forgiven: bool) -> None:
        keys = [(lease.trajectory_id, lease.attempt) for lease in leases]
        commit(
            self._database,
            FaultPoint.RETURN_CHECKS,
            lambda connection: return_leases(connection, self._worker_id, CHECK_ANSWER, keys, forgiven=forgiven),
        )

    def _ask_judge(self, problem_id: int, run_id: int) -> None:
        """Asks the judge's model for the verdicts that are owed."""
        judge = self._contexts.of_run(run_id).config.judge_model
        if judge is not None:
            self._messenger.post([Due(JUDGE_ANSWER.name, problem_id, 0, judge.fingerprint())])

    def _pause_checks(self, error: ProcessPoolError) -> None:
        """Checks nothing for a pause, which doubles each time; other coordinators check in the meantime."""
        if self._is_refusing:
            return
        now = time.monotonic()
        if self._broken_since is None:
            self._broken_since, self._pause = now, _MIN_PAUSE_SECONDS
            logger.error("answers cannot be checked here at present: %s", error)
        else:
            self._pause = min(2 * self._pause, _MAX_PAUSE_SECONDS)
        self._paused_until = now + self._pause
        self._describe(f"cannot check answers: {error}", since=self._broken_since)

    def _test_recovery(self) -> None:
        """Tests whether answers can be checked again."""
        try:
            self._checker.probe()
        except ProcessPoolError as error:
            self._pause_checks(error)
            return
        self._broken_since = None
        self._describe(None)
        logger.info("answers can be checked here again")
        with self._changed:
            self._requested |= self._postponed
            self._postponed.clear()
