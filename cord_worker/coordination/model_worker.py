"""A worker that hosts one model: leases work, has the engine do it, commits the result, passes the word on.

Nothing holds a transaction open while the model runs. A task is one message: all candidates of a problem's step that
this model's teachers write, or all that wait for their score.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from cord_worker import metrics
from cord_worker.config import TeacherConfig
from cord_worker.coordination.company import Company
from cord_worker.coordination.context import RunContext, RunContexts
from cord_worker.coordination.deciding import answer_draws
from cord_worker.coordination.faults import FaultPoint, commit
from cord_worker.coordination.group_commit import GroupCommitter, Operation
from cord_worker.coordination.holding import Holding, lease_key
from cord_worker.coordination.integrating import integrated
from cord_worker.coordination.judge import judged
from cord_worker.coordination.judgments import judgment_of
from cord_worker.coordination.messages import Messenger
from cord_worker.coordination.refusals import reason_of
from cord_worker.engines.protocol import Describe, Engine, FinishReason, Generation, Sampling, Turn, to_nobody
from cord_worker.errors import ContentFilterError, ProcessPoolError, RequestError, UnavailableError
from cord_worker.local.killable import KillablePool
from cord_worker.search.seeds import answer_seed
from cord_worker.search.types import InvalidReason
from cord_worker.search.validity import invalid_reason, storable, text_key
from cord_worker.store import leases
from cord_worker.store.database import Database
from cord_worker.store.decisions import fail_problem
from cord_worker.store.judgments import JudgmentResult, LeasedJudgment, claim_judgments, finish_judgments
from cord_worker.store.returning import give_back, return_leases
from cord_worker.store.sweep import Due, Kind
from cord_worker.store.verdicts import LeasedVerdict, VerdictResult, claim_verdicts, finish_verdicts
from cord_worker.store.work import (
    AnswerResult,
    Claimed,
    LeasedAnswer,
    LeasedProposal,
    LeasedScore,
    Outcome,
    ProposalResult,
    ScoreResult,
)
from cord_worker.verify import AnswerChecker

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SHORTEST_REST_SECONDS, _LONGEST_REST_SECONDS = 0.5, 30.0
"""Between giving work back and claiming it again; it doubles while nothing comes of it."""
_FORGOTTEN_SECONDS = 2.0
"""Age at which a lease of this worker that no task of it knows is given back: its claim's answer was lost."""


@dataclass(frozen=True, slots=True)
class Way:
    """How long a task's message was under way, in seconds: to this process, and in it until the task ran."""

    transit: float
    start: float


NO_WAY = Way(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Waited:
    """How long a task waited for room in its model, and for its lease, in seconds."""

    room: float
    lease: float


@dataclass(frozen=True, slots=True)
class Done:
    """How many pieces of work a task did, and whether there are some that it may only do in other company."""

    count: int
    held_back: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of work: how it is claimed, what the engine does with each piece of it, and how the results are written.

    `account` counts what a task came to (its kind, results, way, waits and the seconds of writing).
    """

    kind: Kind
    claim: Operation[int, Claimed[Any]]
    piece: Callable[[Any, RunContext], Coroutine[Any, Any, Any]]
    finish: Operation[list[Any], list[Due]]
    account: Callable[[str, Sequence[Any], Way, Waited, float], None]


class ModelWorker:
    """What the tasks `propose`, `score`, `judge`, `answer` and `verdict` do; safe for use from several threads.

    The engine lives on `loop`, which runs in a thread of its own for the life of the process; it works on `width`
    requests at once. `describe` is told where there is work that it cannot do.
    """

    def __init__(
        self,
        database: Database,
        messenger: Messenger,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        worker_id: uuid.UUID,
        model_fingerprint: str,
        *,
        width: int,
        describe: Describe = to_nobody,
    ) -> None:
        self._database = database
        self._describe = describe
        self._parked_since: float | None = None
        self._messenger = messenger
        self._engine = engine
        self._loop = loop
        self._worker_id = worker_id
        self._model = model_fingerprint
        self._contexts = RunContexts(database)
        self._holding = Holding(width)
        self._company = Company()
        self._running: set[asyncio.Future[Any]] = set()
        self._aborted = False
        self._refusing = threading.Event()
        self._is_unavailable = False
        self._waiting: set[Future[None]] = set()
        self._committer = GroupCommitter(database)
        self._checker = AnswerChecker()  # starts its processes with the first judgment
        self._repairers = KillablePool()  # with the first reply to be repaired
        self._proposing = Work(
            Kind.PROPOSE,
            self._claiming(FaultPoint.CLAIM_PROPOSALS, self._run_claim_proposals),
            self._propose_one,
            self._finishing(FaultPoint.FINISH_PROPOSALS, self._run_finish_proposals, single=True),
            _account,
        )
        self._scoring = Work(
            Kind.SCORE,
            self._claiming(FaultPoint.CLAIM_SCORES, self._run_claim_scores),
            self._score_one,
            self._finishing(FaultPoint.FINISH_SCORES, self._run_finish_scores, single=True),
            _account,
        )
        self._judging = Work(
            Kind.JUDGE,
            self._claiming(FaultPoint.CLAIM_JUDGMENTS, self._run_claim_judgments),
            self._judge_one,
            self._finishing(FaultPoint.FINISH_JUDGMENTS, self._run_finish_judgments, single=True),
            _account,
        )
        self._answering = Work(
            Kind.ANSWER,
            self._claiming(FaultPoint.CLAIM_ANSWERS, self._run_claim_answers),
            self._answer_one,
            self._finishing(FaultPoint.FINISH_ANSWERS, self._run_finish_answers),
            _account_answers,
        )
        self._giving_verdicts = Work(
            Kind.VERDICT,
            self._claiming(FaultPoint.CLAIM_VERDICTS, self._run_claim_verdicts),
            self._verdict_one,
            self._finishing(FaultPoint.FINISH_VERDICTS, self._run_finish_verdicts),
            _account_answers,
        )

    def propose(self, problem_id: int, way: Way = NO_WAY) -> int:
        """Proposes every pending candidate of the problem's step that this model's teachers write; returns how many.

        `way` is what their message took to come here; it counts into their overhead and delay.
        """
        return self._in_company(lambda: self._do(self._proposing, problem_id, way))

    def score(self, problem_id: int, way: Way = NO_WAY) -> int:
        """Scores every proposed candidate of the problem's step; returns how many. See `propose`."""
        return self._in_company(lambda: self._do(self._scoring, problem_id, way))

    def judge(self, problem_id: int, way: Way = NO_WAY) -> int:
        """Judges every candidate of the problem's step that waits for it; returns how many. See `propose`."""
        return self._in_company(lambda: self._do(self._judging, problem_id, way))

    def answer(self, problem_id: int) -> int:
        """Writes the problem's final answers that are due from this model; returns how many."""
        return self._in_company(lambda: self._answer(problem_id))

    def verdict(self, problem_id: int) -> int:
        """Judges the problem's final answers as an LLM judge; returns how many."""
        return self._in_company(lambda: self._do(self._giving_verdicts, problem_id))

    def _in_company(self, work: Callable[[], Done]) -> int:
        """Does what may be done beside others; where there is nothing of it, what may only be done alone."""
        with self._company.together():
            done = work()
        if done.count or not done.held_back:
            return done.count
        with self._company.alone():
            return work().count

    def _claim(self, work: Work, problem_id: int) -> tuple[Claimed[Any], Waited]:
        with ExitStack() as stack:
            with metrics.timed(work.kind, "room") as room_time:
                self._wait_for_engine()
                stack.enter_context(self._holding.claiming())
            with metrics.timed(work.kind, "lease") as lease_time:
                claimed = self._committer.submit(work.claim, problem_id)
        return claimed, Waited(room_time.seconds, lease_time.seconds)

    def _do(self, work: Work, problem_id: int, way: Way = NO_WAY) -> Done:
        """Claims the problem's pieces of this work, has the engine do each, and writes the results.

        What the engine cannot do now goes back, to be done by whoever can first: another worker, or this task after a
        rest.
        """
        done, rest = 0, _SHORTEST_REST_SECONDS
        while True:
            claimed, waited = self._claim(work, problem_id)
            if not claimed.leases:
                return Done(done, bool(claimed.held_back))
            with self._holding.releasing(claimed.leases):
                context = self._contexts.of_run(claimed.leases[0].run_id)
                with metrics.timed(work.kind, "engine"):
                    results, undone = self._in_engine(work, claimed.leases, context)
                with metrics.timed(work.kind, "write") as write_time:
                    if results:
                        self._committer.submit(work.finish, results)
                if undone:
                    self._give_back(work, undone)
            if results:
                work.account(work.kind, results, way, waited, write_time.seconds)
                rest = _SHORTEST_REST_SECONDS
            done += len(results)
            if not undone:
                return Done(done)
            self._refusing.wait(rest)
            rest = min(2 * rest, _LONGEST_REST_SECONDS)

    def _answer(self, problem_id: int) -> Done:
        try:
            return self._do(self._answering, problem_id)
        except _AnswerRefused as refused:
            reason = f"the final answer cannot be written: {refused}"
            commit(
                self._database,
                FaultPoint.FAIL_ANSWER,
                lambda connection: self._fail_answers(connection, problem_id, reason),
            )
            return Done(0)

    def _give_back(self, work: Work, undone: Sequence[Any]) -> None:
        keys = [(lease_key(lease), lease.attempt) for lease in undone]
        commit(
            self._database,
            FaultPoint.GIVE_BACK,
            lambda connection: return_leases(connection, self._worker_id, work.kind, keys),
        )

    def _wait_for_engine(self) -> None:
        """Waits until the engine takes requests. Raises CancelledError where this worker is to leave meanwhile."""
        if not self._is_unavailable:
            return
        future = asyncio.run_coroutine_threadsafe(self._engine.available(), self._loop)
        self._waiting.add(future)
        try:
            if self._refusing.is_set():
                future.cancel()
            future.result()
        finally:
            self._waiting.discard(future)
        self._is_unavailable = False

    def leased(self) -> int:
        """Candidates that this process works on."""
        return len(self._holding.candidates())

    @property
    def takes_more(self) -> bool:
        """Whether more work can be begun here: not while some is done alone, or waits for that or for the engine."""
        return not (self._company.is_isolating or self._is_unavailable)

    def refuse(self) -> None:
        """Leases nothing more: tasks that have not leased yet raise CancelledError."""
        self._refusing.set()
        for future in list(self._waiting):
            future.cancel()
        self._company.close()
        self._holding.close()

    def reconcile(self, connection: sa.Connection) -> None:
        """Gives back leases that no task of this process knows: the claim committed, but its answer was lost."""
        give_back(
            connection,
            [self._worker_id],
            forgiven=False,
            known_candidates=self._holding.candidates(),
            known_trajectories=self._holding.trajectories(),
            grace_seconds=_FORGOTTEN_SECONDS,
        )

    def hand_over(self) -> None:
        """Leaves to others all that is held here, with the next heartbeat, and claims nothing before the engine's loop
        moves: a thread of this process stands still. What comes of the work all the same is dropped as late."""
        self._is_unavailable = True
        self._holding.forget()

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

    def _in_engine(self, work: Work, leased: Sequence[Any], context: RunContext) -> tuple[list[Any], list[Any]]:
        """The results, and the leases of what the engine cannot do now."""

        async def piece(lease: Any) -> Any:
            try:
                return await work.piece(lease, context)
            except UnavailableError as error:
                logger.info("%s %d goes back: %s", work.kind, lease_key(lease), error)
                self._is_unavailable = True
                return _UNDONE
            except ProcessPoolError as error:
                logger.error("%s %d goes back: %s", work.kind, lease_key(lease), error)
                return _UNDONE

        async def together() -> list[Any]:
            gathered = asyncio.gather(*(piece(lease) for lease in leased))
            self._running.add(gathered)
            if self._aborted:
                gathered.cancel()
            try:
                return list(await gathered)
            finally:
                self._running.discard(gathered)

        found = self._wait(together())
        results = [result for result in found if result is not _UNDONE]
        return results, [lease for lease, result in zip(leased, found, strict=True) if result is _UNDONE]

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _propose_one(self, lease: LeasedProposal, context: RunContext) -> ProposalResult:
        search, segmentation = context.search, context.segmentation
        row, teacher = context.teacher(lease.teacher_id)
        sampling = sampling_of(teacher, lease.max_tokens, lease.seed, answer_tokens=context.config.search.answer_tokens)
        if lease.sources:
            return await integrated(
                self._engine, self._repairers, context, lease, system_prompt=row.system_prompt, sampling=sampling
            )
        turn = Turn(lease.question, row.system_prompt, lease.passage, segmentation, context.date)
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
                was_cut=generation.finish_reason == FinishReason.LENGTH,
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
            text_key=text_key(generation.text) if context.config.is_scored and reason is None else None,
        )

    async def _score_one(self, lease: LeasedScore, context: RunContext) -> ScoreResult:
        config = context.config
        turn = Turn(
            lease.question, config.prover_model.system_prompt, lease.passage, context.segmentation, context.date
        )
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

    async def _judge_one(self, lease: LeasedJudgment, context: RunContext) -> JudgmentResult:
        return await judgment_of(self._engine, self._checker, context.config, lease)

    async def _verdict_one(self, lease: LeasedVerdict, context: RunContext) -> VerdictResult:
        return await judged(self._engine, context.config, lease)

    async def _answer_one(self, lease: LeasedAnswer, context: RunContext) -> AnswerResult:
        try:
            seed, generation = await self._drawn(lease, context)
        except RequestError as error:
            if context.config.is_scored:
                raise _AnswerRefused(str(error)) from error
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
            seed=seed,
        )

    async def _drawn(self, lease: LeasedAnswer, context: RunContext) -> tuple[int, Generation]:
        """The final answer, and the seed that it was drawn with: the first whose answer no content filter refuses.

        Raises RequestError; where all draws were refused, the last refusal.
        """
        row, teacher = context.teacher(lease.teacher_id)
        turn = Turn(lease.question, row.system_prompt, lease.passage, context.segmentation, context.date)
        draws = answer_draws(context)
        for draw in range(draws):
            seed = lease.seed
            if draw:
                seed = answer_seed(context.config.run.seed, lease.key, lease.lineage, teacher.name, draw)
            sampling = sampling_of(teacher, context.config.search.answer_tokens, seed)
            try:
                return seed, await self._engine.answer(turn, lease.steps, sampling)
            except ContentFilterError as error:
                if draws == 1:
                    raise
                if draw + 1 == draws:
                    raise ContentFilterError(f"{error}; all {draws} draws were refused") from error
                logger.warning("trajectory %d: draw %d of %d: %s", lease.trajectory_id, draw + 1, draws, error)
        raise AssertionError("there is one draw at least")

    def _claiming(
        self, point: FaultPoint, claim: Callable[[sa.Connection, Sequence[int]], Claimed[Any]]
    ) -> Operation[int, Claimed[Any]]:
        """A claim for one problem each; who asks for the same problem as another before it gets nothing."""

        def run(connection: sa.Connection, problem_ids: Sequence[int]) -> list[Claimed[Any]]:
            claimed = claim(connection, problem_ids)
            leases_of: dict[int, list[Any]] = defaultdict(list)
            for lease in claimed.leases:
                leases_of[lease.problem_id].append(lease)
            return [
                Claimed(
                    leases_of.pop(problem_id, []),
                    claimed.held_back.intersection([problem_id]),
                    claimed.complete.intersection([problem_id]),
                )
                for problem_id in problem_ids
            ]

        def hold(claimed: Sequence[Claimed[Any]]) -> None:
            for one in claimed:
                self._holding.add(one.leases)
            complete = frozenset[int]().union(*(one.complete for one in claimed))
            if complete:
                self._messenger.post(Due(Kind.ADVANCE, problem_id, 0) for problem_id in sorted(complete))

        return Operation(point, run, hold, single=True)

    def _finishing(
        self, point: FaultPoint, finish: Callable[[sa.Connection, list[Any]], list[Due]], *, single: bool = False
    ) -> Operation[list[Any], list[Due]]:
        """A finish of a task's results each; the messages that they lead to go out together, once they are durable."""

        def run(connection: sa.Connection, groups: Sequence[list[Any]]) -> list[list[Due]]:
            owed = finish(connection, [item for group in groups for item in group])
            return [owed, *([] for _ in groups[1:])]

        def pass_on(owed: Sequence[list[Due]]) -> None:
            self._messenger.post(due for group in owed for due in group)

        return Operation(point, run, pass_on, single=single)

    def _run_claim_proposals(self, connection: sa.Connection, problem_ids: Sequence[int]) -> Claimed[LeasedProposal]:
        return leases.claim_proposals(
            connection, self._worker_id, problem_ids, model=self._model, alone=self._company.is_alone
        )

    def _run_claim_scores(self, connection: sa.Connection, problem_ids: Sequence[int]) -> Claimed[LeasedScore]:
        mode = self._engine.scoring_mode
        if mode is None:  # the candidates stay as they are, for a worker that can
            logger.error("the scores of %d problems are left to others: this server gives none", len(problem_ids))
            self._parked_since = self._parked_since or time.monotonic()
            self._describe(_GIVES_NO_SCORES, since=self._parked_since)
            return Claimed(())
        return leases.claim_scores(
            connection,
            self._worker_id,
            problem_ids,
            scoring_mode=mode,
            alone=self._company.is_alone,
        )

    def _run_claim_judgments(self, connection: sa.Connection, problem_ids: Sequence[int]) -> Claimed[LeasedJudgment]:
        return claim_judgments(connection, self._worker_id, problem_ids, alone=self._company.is_alone)

    def _run_claim_answers(self, connection: sa.Connection, problem_ids: Sequence[int]) -> Claimed[LeasedAnswer]:
        return leases.claim_answers(
            connection, self._worker_id, problem_ids, model=self._model, alone=self._company.is_alone
        )

    def _run_claim_verdicts(self, connection: sa.Connection, problem_ids: Sequence[int]) -> Claimed[LeasedVerdict]:
        return claim_verdicts(connection, self._worker_id, problem_ids, alone=self._company.is_alone)

    def _run_finish_proposals(self, connection: sa.Connection, results: list[ProposalResult]) -> list[Due]:
        return _owed(leases.finish_proposals(connection, self._worker_id, results), Kind.SCORE)

    def _run_finish_scores(self, connection: sa.Connection, results: list[ScoreResult]) -> list[Due]:
        mode = self._engine.scoring_mode
        assert mode is not None  # or nothing would have been claimed
        return _owed(leases.finish_scores(connection, self._worker_id, results, scoring_mode=mode), Kind.JUDGE)

    def _run_finish_judgments(self, connection: sa.Connection, results: list[JudgmentResult]) -> list[Due]:
        return _owed(finish_judgments(connection, self._worker_id, results), Kind.JUDGE)

    def _run_finish_answers(self, connection: sa.Connection, results: list[AnswerResult]) -> list[Due]:
        outcome = leases.finish_answers(connection, self._worker_id, results)
        return [Due(Kind.VERIFY, problem_id, 0) for problem_id in sorted(outcome.to_advance)]

    def _run_finish_verdicts(self, connection: sa.Connection, results: list[VerdictResult]) -> list[Due]:
        problems = finish_verdicts(connection, self._worker_id, results)
        return [Due(Kind.VERIFY, problem_id, 0) for problem_id in sorted(problems)]

    def _fail_answers(self, connection: sa.Connection, problem_id: int, reason: str) -> None:
        leases.return_answers(connection, self._worker_id, problem_id)
        fail_problem(connection, problem_id, reason)


_GIVES_NO_SCORES = (
    "is the prover of a run, but its server gives no log-probabilities of a prompt: serve it with vLLM, or host it "
    'with engine = "vllm" or "transformers", and start its worker again; or end the run with `cordctl cancel`'
)
_UNDONE = object()
"""In place of the result of a piece of work that the engine cannot do now."""


class _AnswerRefused(Exception):
    """The final answer of a searched trajectory cannot be written, which ends its problem."""


def _account(
    kind: str,
    results: Sequence[ProposalResult] | Sequence[ScoreResult] | Sequence[JudgmentResult],
    way: Way,
    waited: Waited,
    write_seconds: float,
) -> None:
    """Counts what a task came to; all its candidates waited for the whole of it."""
    overhead = way.start + waited.lease + write_seconds
    for result in results:
        metrics.CANDIDATE_OVERHEAD.labels(kind).observe(overhead)
        metrics.CANDIDATE_DELAY.labels(kind).observe(way.transit + waited.room + overhead)
        metrics.CANDIDATES.labels(kind, "invalid" if result.invalid_reason else "valid").inc()
        written = None if isinstance(result, ScoreResult) else result.completion_tokens
        _account_tokens(kind, result.prompt_tokens, result.cached_tokens, written)


def _account_answers(
    kind: str, results: Sequence[AnswerResult] | Sequence[VerdictResult], way: Way, waited: Waited, write_seconds: float
) -> None:
    """Counts the tokens of final answers or verdicts, and what the verdicts say."""
    del way, waited, write_seconds
    for result in results:
        if isinstance(result, VerdictResult):
            metrics.count_verdict("undecided" if result.correct is None else "judge", result.correct)
        cached = result.cached_tokens if isinstance(result, AnswerResult) else 0
        _account_tokens(kind, result.prompt_tokens, cached, result.completion_tokens)


def _account_tokens(kind: str, prompt: int | None, cached: int | None, completion: int | None) -> None:
    for direction, tokens in (("prompt", prompt), ("cached", cached), ("completion", completion)):
        metrics.TOKENS.labels(kind, direction).inc(tokens or 0)


def sampling_of(teacher: TeacherConfig, max_tokens: int, seed: int, *, answer_tokens: int = 0) -> Sampling:
    """The settings of one of the teacher's requests; `max_tokens`, and the `answer_tokens` for which the context is to
    have room afterwards, in its own tokens."""
    return Sampling(
        temperature=teacher.temperature,
        top_p=teacher.top_p,
        top_k=teacher.top_k,
        min_p=teacher.min_p,
        repetition_penalty=teacher.repetition_penalty,
        max_tokens=max_tokens,
        seed=seed,
        answer_tokens=answer_tokens,
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


def _owed(outcome: Outcome, kind: Kind) -> list[Due]:
    """Messages for the decisions that are due now, and for the models (asked for this kind of work) that come next."""
    return [
        *(Due(Kind.ADVANCE, problem_id, 0) for problem_id in sorted(outcome.to_advance)),
        *(
            Due(kind, following.problem_id, following.step, following.model)
            for following in sorted(outcome.to_pass_on, key=lambda following: following.problem_id)
        ),
    ]
