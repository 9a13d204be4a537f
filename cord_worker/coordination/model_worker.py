"""A worker that hosts one model: leases work, has the engine do it, commits the result, passes the word on.

Nothing holds a transaction open while the model runs. A task is one message: all candidates of one teacher in a
problem's step, or all candidates of a step that wait for their score.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from cord_worker import metrics
from cord_worker.config import TeacherConfig
from cord_worker.coordination.company import Company
from cord_worker.coordination.context import RunContext, RunContexts
from cord_worker.coordination.faults import FaultPoint, commit
from cord_worker.coordination.group_commit import GroupCommitter, Operation
from cord_worker.coordination.integrating import integrated
from cord_worker.coordination.judge import judged
from cord_worker.coordination.judgments import judgment_of
from cord_worker.coordination.messages import Messenger
from cord_worker.coordination.refusals import reason_of
from cord_worker.engines.protocol import Engine, FinishReason, Sampling, Turn
from cord_worker.errors import RequestError
from cord_worker.local.killable import KillablePool
from cord_worker.search.types import InvalidReason
from cord_worker.search.validity import invalid_reason, storable
from cord_worker.store import leases, workers
from cord_worker.store.database import Database
from cord_worker.store.decisions import fail_problem
from cord_worker.store.isolation import Asked, waits_alone
from cord_worker.store.judgments import (
    JudgmentResult,
    LeasedJudgment,
    claim_judgments,
    finish_judgments,
    judges_of,
)
from cord_worker.store.sweep import Due, Kind
from cord_worker.store.verdicts import LeasedVerdict, VerdictResult, claim_verdicts, finish_verdicts
from cord_worker.store.work import (
    AnswerResult,
    LeasedAnswer,
    LeasedProposal,
    LeasedScore,
    ProposalResult,
    ProposalUnit,
    ScoreResult,
)
from cord_worker.verify import AnswerChecker

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FORGOTTEN_SECONDS = 2.0
"""Age at which a lease of this worker that no task of it knows is given back: its claim's answer was lost."""


@dataclass(frozen=True, slots=True)
class Way:
    """How long a task's message was under way, in seconds: to this process, and in it until the task ran."""

    transit: float
    start: float


NO_WAY = Way(0.0, 0.0)


class ModelWorker:
    """What the tasks `propose`, `score`, `judge`, `answer` and `verdict` do; safe for use from several threads.

    The engine lives on `loop`, which runs in a thread of its own for the life of the process.
    """

    def __init__(
        self,
        database: Database,
        messenger: Messenger,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        worker_id: uuid.UUID,
        model_fingerprint: str,
    ) -> None:
        self._database = database
        self._messenger = messenger
        self._engine = engine
        self._loop = loop
        self._worker_id = worker_id
        self._model = model_fingerprint
        self._contexts = RunContexts(database)
        self._held = _Held()
        self._company = Company()
        self._running: set[asyncio.Future[Any]] = set()
        self._aborted = False
        self._committer = GroupCommitter(database)
        self._waits_alone = Operation(FaultPoint.LOOK_FOR_LONE_WORK, waits_alone)
        self._claim_proposals = Operation(FaultPoint.CLAIM_PROPOSALS, self._run_claim_proposals, self._hold_candidates)
        self._finish_proposals = Operation(FaultPoint.FINISH_PROPOSALS, self._run_finish_proposals, self._pass_on)
        self._claim_scores = Operation(FaultPoint.CLAIM_SCORES, self._run_claim_scores, self._hold_candidates)
        self._finish_scores = Operation(FaultPoint.FINISH_SCORES, self._run_finish_scores, self._pass_on)
        self._checker = AnswerChecker()  # starts its processes with the first judgment
        self._repairers = KillablePool()  # with the first reply to be repaired
        self._claim_judgments = Operation(FaultPoint.CLAIM_JUDGMENTS, self._run_claim_judgments, self._hold_candidates)
        self._finish_judgments = Operation(FaultPoint.FINISH_JUDGMENTS, self._run_finish_judgments, self._pass_on)
        self._claim_answers = Operation(FaultPoint.CLAIM_ANSWERS, self._run_claim_answers, self._hold_trajectories)
        self._finish_answers = Operation(FaultPoint.FINISH_ANSWERS, self._run_finish_answers, self._pass_on)
        self._claim_verdicts = Operation(FaultPoint.CLAIM_VERDICTS, self._run_claim_verdicts, self._hold_trajectories)
        self._finish_verdicts = Operation(FaultPoint.FINISH_VERDICTS, self._run_finish_verdicts, self._pass_on)

    def propose(self, problem_id: int, teacher_id: int, way: Way = NO_WAY) -> int:
        """Proposes every pending candidate of the teacher in the problem's step; returns how many.

        `way` is what their message took to come here; it counts into their overhead and delay.
        """
        return self._in_company(
            Asked(Kind.PROPOSE, problem_id, teacher_id), lambda: self._propose(problem_id, teacher_id, way)
        )

    def score(self, problem_id: int, way: Way = NO_WAY) -> int:
        """Scores every proposed candidate of the problem's step; returns how many. See `propose`."""
        return self._in_company(Asked(Kind.SCORE, problem_id), lambda: self._score(problem_id, way))

    def judge(self, problem_id: int, way: Way = NO_WAY) -> int:
        """Judges every candidate of the problem's step that waits for it; returns how many. See `propose`."""
        return self._in_company(Asked(Kind.JUDGE, problem_id), lambda: self._judge(problem_id, way))

    def answer(self, problem_id: int) -> int:
        """Writes the problem's final answers that are due from this model; returns how many."""
        return self._in_company(Asked(Kind.ANSWER, problem_id), lambda: self._answer(problem_id))

    def verdict(self, problem_id: int) -> int:
        """Judges the problem's final answers as an LLM judge; returns how many."""
        return self._in_company(Asked(Kind.VERDICT, problem_id), lambda: self._verdict(problem_id))

    def _in_company(self, asked: Asked, work: Callable[[], int]) -> int:
        """Does what may be done beside others; where there is nothing of it, what may only be done alone."""
        with self._company.together():
            done = work()
        if done or not self._committer.submit(self._waits_alone, asked):
            return done
        with self._company.alone():
            return work()

    def _propose(self, problem_id: int, teacher_id: int, way: Way) -> int:
        with metrics.timed("propose", "lease") as lease_time:
            claimed = self._committer.submit(self._claim_proposals, ProposalUnit(problem_id, teacher_id))
        if not claimed:
            return 0
        with self._held.candidates(lease.candidate_id for lease in claimed):
            context = self._contexts.of_teacher(teacher_id)
            row, teacher = context.teacher(teacher_id)
            with metrics.timed("propose", "engine"):
                results = self._in_engine(
                    self._propose_one(lease, context, teacher, row.system_prompt) for lease in claimed
                )
            with metrics.timed("propose", "write") as write_time:
                self._committer.submit(self._finish_proposals, results)
        _account("propose", results, way, lease_time.seconds + write_time.seconds)
        return len(claimed)

    def _score(self, problem_id: int, way: Way) -> int:
        with metrics.timed("score", "lease") as lease_time:
            claimed = self._committer.submit(self._claim_scores, problem_id)
        if not claimed:
            return 0
        with self._held.candidates(lease.candidate_id for lease in claimed):
            context = self._contexts.of_run(claimed[0].run_id)
            with metrics.timed("score", "engine"):
                results = self._in_engine(self._score_one(lease, context) for lease in claimed)
            with metrics.timed("score", "write") as write_time:
                self._committer.submit(self._finish_scores, results)
        _account("score", results, way, lease_time.seconds + write_time.seconds)
        return len(claimed)

    def _judge(self, problem_id: int, way: Way) -> int:
        with metrics.timed("judge", "lease") as lease_time:
            claimed = self._committer.submit(self._claim_judgments, problem_id)
        if not claimed:
            return 0
        with self._held.candidates(lease.candidate_id for lease in claimed):
            config = self._contexts.of_run(claimed[0].run_id).config
            with metrics.timed("judge", "engine"):
                results = self._in_engine(judgment_of(self._engine, self._checker, config, lease) for lease in claimed)
            with metrics.timed("judge", "write") as write_time:
                self._committer.submit(self._finish_judgments, results)
        _account("judge", results, way, lease_time.seconds + write_time.seconds)
        return len(claimed)

    def _answer(self, problem_id: int) -> int:
        claimed = self._committer.submit(self._claim_answers, problem_id)
        if not claimed:
            return 0
        with self._held.trajectories(lease.trajectory_id for lease in claimed):
            try:
                results = self._in_engine(self._answer_one(lease) for lease in claimed)
            except RequestError as error:
                reason = f"the final answer cannot be written: {error}"
                commit(
                    self._database,
                    FaultPoint.FAIL_ANSWER,
                    lambda connection: self._fail_answers(connection, problem_id, claimed, reason),
                )
                return 0
            self._committer.submit(self._finish_answers, results)
        return len(claimed)

    def _verdict(self, problem_id: int) -> int:
        claimed = self._committer.submit(self._claim_verdicts, problem_id)
        if not claimed:
            return 0
        with self._held.trajectories(lease.trajectory_id for lease in claimed):
            config = self._contexts.of_run(claimed[0].run_id).config
            results = self._in_engine(judged(self._engine, config, lease) for lease in claimed)
            self._committer.submit(self._finish_verdicts, results)
        return len(claimed)

    def leased(self) -> int:
        """Candidates that this process works on."""
        return len(self._held.snapshot()[0])

    @property
    def is_isolating(self) -> bool:
        """Whether work is done alone here, or waits for it."""
        return self._company.is_isolating

    def refuse(self) -> None:
        """Leases nothing more: tasks that have not leased yet raise CancelledError."""
        self._company.close()

    def reconcile(self, connection: sa.Connection) -> None:
        """Gives back leases that no task of this process knows: the claim committed, but its answer was lost."""
        candidates, trajectories = self._held.snapshot()
        workers.give_back(
            connection,
            [self._worker_id],
            forgiven=False,
            known_candidates=candidates,
            known_trajectories=trajectories,
            grace_seconds=_FORGOTTEN_SECONDS,
        )

    def abort(self) -> None:
        """Cancels what the engine is doing; the tasks raise CancelledError and their leases are given back."""

        def cancel() -> None:
            self._aborted = True
            for future in self._running:
                future.cancel()

        self._loop.call_soon_threadsafe(cancel)

    def close(self) -> None:
        """Commits what is finished."""
        self._committer.close()
        self._checker.close()
        self._repairers.close()

    def _in_engine(self, work: Any) -> list[Any]:
        async def together() -> list[Any]:
            gathered = asyncio.gather(*work)
            self._running.add(gathered)
            if self._aborted:
                gathered.cancel()
            try:
                return list(await gathered)
            finally:
                self._running.discard(gathered)

        return self._wait(together())

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _propose_one(
        self,
        lease: LeasedProposal,
        context: RunContext,
        teacher: TeacherConfig,
        system_prompt: str | None,
    ) -> ProposalResult:
        search, segmentation = context.search, context.segmentation
        sampling = sampling_of(teacher, lease.max_tokens, lease.seed)
        if lease.sources:
            return await integrated(
                self._engine, self._repairers, context, lease, system_prompt=system_prompt, sampling=sampling
            )
        turn = Turn(lease.question, system_prompt, lease.passage, segmentation)
        try:
            write = self._engine.complete if lease.whole else self._engine.propose
            generation = await write(turn, lease.steps, sampling)
        except RequestError as error:
            logger.warning("candidate %d: %s", lease.candidate_id, error)
            return ProposalResult(
                candidate_id=lease.candidate_id,
                attempt=lease.attempt,
                text="",
                finish_reason=None,
                invalid_reason=reason_of(error).value,
                prompt_tokens=None,
                completion_tokens=None,
                cached_tokens=None,
                seconds=None,
            )
        closes = generation.finish_reason in (FinishReason.THINK_END, FinishReason.EOS)
        reason: InvalidReason | None = None
        if context.config.is_scored:
            # Where nothing is chosen nothing is refused: a sample that loops or says nothing is a result as well.
            reason = invalid_reason(
                generation.text,
                loop_ngram=search.loop_ngram,
                loop_repeats=search.loop_repeats,
                has_markers=segmentation.has_markers,
                # A marker promises a step; a blank line or the end of a sentence does not.
                may_be_empty=closes and not segmentation.has_markers and any(step.strip() for step in lease.steps),
            )
        return ProposalResult(
            candidate_id=lease.candidate_id,
            attempt=lease.attempt,
            text=storable(generation.text),
            finish_reason=generation.finish_reason.value,
            invalid_reason=None if reason is None else reason.value,
            prompt_tokens=generation.prompt_tokens,
            completion_tokens=generation.completion_tokens,
            cached_tokens=generation.cached_tokens,
            seconds=generation.seconds,
        )

    async def _score_one(self, lease: LeasedScore, context: RunContext) -> ScoreResult:
        config = context.config
        turn = Turn(lease.question, config.prover_model.system_prompt, lease.passage, context.segmentation)
        try:
            scored = await self._engine.score(turn, lease.steps, lease.answer, config.scorer.scoring_template)
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

    async def _answer_one(self, lease: LeasedAnswer) -> AnswerResult:
        context = self._contexts.of_teacher(lease.teacher_id)
        row, teacher = context.teacher(lease.teacher_id)
        turn = Turn(lease.question, row.system_prompt, lease.passage, context.segmentation)
        sampling = sampling_of(teacher, context.config.search.answer_tokens, lease.seed)
        try:
            generation = await self._engine.answer(turn, lease.steps, sampling)
        except RequestError as error:
            if context.config.is_scored:
                raise
            logger.warning("trajectory %d: %s", lease.trajectory_id, error)
            return AnswerResult(
                trajectory_id=lease.trajectory_id,
                attempt=lease.attempt,
                text="",
                finish_reason=reason_of(error).value,
                prompt_tokens=0,
                completion_tokens=0,
                cached_tokens=0,
                seconds=0.0,
            )
        return AnswerResult(
            trajectory_id=lease.trajectory_id,
            attempt=lease.attempt,
            text=storable(generation.text),
            finish_reason=generation.finish_reason.value,
            prompt_tokens=generation.prompt_tokens,
            completion_tokens=generation.completion_tokens,
            cached_tokens=generation.cached_tokens,
            seconds=generation.seconds,
        )

    def _run_claim_proposals(
        self, connection: sa.Connection, units: Sequence[ProposalUnit]
    ) -> list[list[LeasedProposal]]:
        claimed: dict[ProposalUnit, list[LeasedProposal]] = defaultdict(list)
        for lease in leases.claim_proposals(
            connection, self._worker_id, sorted(set(units), key=_unit_order), alone=self._company.is_alone
        ):
            claimed[ProposalUnit(lease.problem_id, lease.teacher_id)].append(lease)
        return [claimed.pop(unit, []) for unit in units]

    def _run_claim_scores(self, connection: sa.Connection, problem_ids: Sequence[int]) -> list[list[LeasedScore]]:
        claimed: dict[int, list[LeasedScore]] = defaultdict(list)
        for lease in leases.claim_scores(
            connection,
            self._worker_id,
            problem_ids,
            scoring_mode=self._engine.scoring_mode,
            alone=self._company.is_alone,
        ):
            claimed[lease.problem_id].append(lease)
        return [claimed.pop(problem_id, []) for problem_id in problem_ids]

    def _run_claim_judgments(self, connection: sa.Connection, problem_ids: Sequence[int]) -> list[list[LeasedJudgment]]:
        claimed: dict[int, list[LeasedJudgment]] = defaultdict(list)
        for lease in claim_judgments(connection, self._worker_id, problem_ids, alone=self._company.is_alone):
            claimed[lease.problem_id].append(lease)
        return [claimed.pop(problem_id, []) for problem_id in problem_ids]

    def _run_claim_answers(self, connection: sa.Connection, problem_ids: Sequence[int]) -> list[list[LeasedAnswer]]:
        claimed: dict[int, list[LeasedAnswer]] = defaultdict(list)
        for lease in leases.claim_answers(
            connection, self._worker_id, problem_ids, model=self._model, alone=self._company.is_alone
        ):
            claimed[lease.problem_id].append(lease)
        return [claimed.pop(problem_id, []) for problem_id in problem_ids]

    def _run_finish_proposals(
        self, connection: sa.Connection, groups: Sequence[list[ProposalResult]]
    ) -> list[list[Due]]:
        outcome = leases.finish_proposals(connection, self._worker_id, [item for group in groups for item in group])
        owed = [Due(Kind.ADVANCE, problem_id, 0) for problem_id in sorted(outcome.to_advance)]
        owed += [
            Due(Kind.SCORE, of.problem_id, of.step, model=of.prover_model)
            for of in sorted(outcome.to_score, key=lambda of: of.problem_id)
        ]
        return _first(owed, len(groups))

    def _run_finish_scores(self, connection: sa.Connection, groups: Sequence[list[ScoreResult]]) -> list[list[Due]]:
        outcome = leases.finish_scores(
            connection,
            self._worker_id,
            [item for group in groups for item in group],
            scoring_mode=self._engine.scoring_mode,
        )
        owed = [Due(Kind.ADVANCE, problem_id, 0) for problem_id in sorted(outcome.to_advance)]
        owed += [
            Due(Kind.JUDGE, row.problem_id, row.step, model=row.model)
            for row in judges_of(connection, sorted(outcome.to_judge))
        ]
        return _first(owed, len(groups))

    def _run_finish_judgments(
        self, connection: sa.Connection, groups: Sequence[list[JudgmentResult]]
    ) -> list[list[Due]]:
        outcome = finish_judgments(connection, self._worker_id, [item for group in groups for item in group])
        return _first([Due(Kind.ADVANCE, problem_id, 0) for problem_id in sorted(outcome.to_advance)], len(groups))

    def _fail_answers(
        self, connection: sa.Connection, problem_id: int, claimed: Sequence[LeasedAnswer], reason: str
    ) -> None:
        leases.return_answers(connection, self._worker_id, [lease.trajectory_id for lease in claimed])
        fail_problem(connection, problem_id, reason)

    def _run_finish_answers(self, connection: sa.Connection, groups: Sequence[list[AnswerResult]]) -> list[list[Due]]:
        outcome = leases.finish_answers(connection, self._worker_id, [item for group in groups for item in group])
        return _first([Due(Kind.VERIFY, problem_id, 0) for problem_id in sorted(outcome.to_advance)], len(groups))

    def _run_claim_verdicts(self, connection: sa.Connection, problem_ids: Sequence[int]) -> list[list[LeasedVerdict]]:
        claimed: dict[int, list[LeasedVerdict]] = defaultdict(list)
        for lease in claim_verdicts(connection, self._worker_id, problem_ids, alone=self._company.is_alone):
            claimed[lease.problem_id].append(lease)
        return [claimed.pop(problem_id, []) for problem_id in problem_ids]

    def _run_finish_verdicts(self, connection: sa.Connection, groups: Sequence[list[VerdictResult]]) -> list[list[Due]]:
        problems = finish_verdicts(connection, self._worker_id, [item for group in groups for item in group])
        return _first([Due(Kind.VERIFY, problem_id, 0) for problem_id in sorted(problems)], len(groups))

    def _hold_candidates(self, claimed: Sequence[Sequence[LeasedProposal | LeasedScore | LeasedJudgment]]) -> None:
        self._held.add_candidates(lease.candidate_id for leased in claimed for lease in leased)

    def _hold_trajectories(self, claimed: Sequence[Sequence[LeasedAnswer | LeasedVerdict]]) -> None:
        self._held.add_trajectories(lease.trajectory_id for leased in claimed for lease in leased)

    def _pass_on(self, owed: Sequence[list[Due]]) -> None:
        self._messenger.post(due for group in owed for due in group)


class _Held:
    """Keys of the rows whose lease a task of this process holds: from the commit of the claim to the task's end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._candidates: set[int] = set()
        self._trajectories: set[int] = set()

    def add_candidates(self, ids: Iterable[int]) -> None:
        with self._lock:
            self._candidates.update(ids)

    def add_trajectories(self, ids: Iterable[int]) -> None:
        with self._lock:
            self._trajectories.update(ids)

    def candidates(self, ids: Any) -> _Holding:
        return _Holding(self._lock, self._candidates, frozenset(ids))

    def trajectories(self, ids: Any) -> _Holding:
        return _Holding(self._lock, self._trajectories, frozenset(ids))

    def snapshot(self) -> tuple[list[int], list[int]]:
        with self._lock:
            return list(self._candidates), list(self._trajectories)


class _Holding:
    def __init__(self, lock: threading.Lock, held: set[int], ids: frozenset[int]) -> None:
        self._lock = lock
        self._held = held
        self._ids = ids

    def __enter__(self) -> None:
        with self._lock:
            self._held |= self._ids

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._held -= self._ids


def _account(
    kind: str,
    results: Sequence[ProposalResult] | Sequence[ScoreResult] | Sequence[JudgmentResult],
    way: Way,
    database_seconds: float,
) -> None:
    """Counts what a task came to; all its candidates waited for the whole of it."""
    overhead, delay = metrics.CANDIDATE_OVERHEAD.labels(kind), metrics.CANDIDATE_DELAY.labels(kind)
    for result in results:
        overhead.observe(way.start + database_seconds)
        delay.observe(way.transit + way.start + database_seconds)
        metrics.CANDIDATES.labels(kind, "invalid" if result.invalid_reason else "valid").inc()
        metrics.TOKENS.labels(kind, "prompt").inc(result.prompt_tokens or 0)
        metrics.TOKENS.labels(kind, "cached").inc(result.cached_tokens or 0)
        if not isinstance(result, ScoreResult):
            metrics.TOKENS.labels(kind, "completion").inc(result.completion_tokens or 0)


def sampling_of(teacher: TeacherConfig, max_tokens: int, seed: int) -> Sampling:
    """The settings of one of the teacher's requests; `max_tokens` in its own tokens."""
    return Sampling(
        temperature=teacher.temperature,
        top_p=teacher.top_p,
        top_k=teacher.top_k,
        min_p=teacher.min_p,
        repetition_penalty=teacher.repetition_penalty,
        max_tokens=max_tokens,
        seed=seed,
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


def _unit_order(unit: ProposalUnit) -> tuple[int, int]:
    return unit.problem_id, unit.teacher_id


def _first(owed: list[Due], groups: int) -> list[list[Due]]:
    """A group's messages are sent together; the first item carries them all."""
    return [owed, *([] for _ in range(groups - 1))]
