"""The compute thread: decides which requests are computed together, and when they join and leave.

Generations form a continuous batch: a row leaves at the token that ends it, and waiting requests take the free slots.
Every few decoding steps the thread computes the waiting scores and then lets waiting requests join. By then there may
be several, which share a forward. Any error in the thread ends the engine, because after a failed kernel no further
result is reliable.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch

from cord_worker.engines.end_watch import EndWatch
from cord_worker.engines.protocol import Generation, Ids
from cord_worker.engines.text_codec import TextCodec
from cord_worker.engines.transformers.model_runner import ScoreTask
from cord_worker.engines.transformers.sampler import BatchSampler, RowSampling
from cord_worker.errors import EngineError, NotFiniteError
from cord_worker.prompting.segmentation import Ended, TextKind, cut, ends_of
from cord_worker.prompting.trajectory import Segmentation

log = logging.getLogger(__name__)

_JOIN_EVERY = 4
"""Number of decoding steps after which the thread looks for waiting requests again."""
_JOIN_SECONDS = 0.25
"""Longest time a request waits for others before it joins a running batch. If as many wait as the batch has rows, they
join at once, because a decoding step of a small model takes nearly the same time for any number of rows."""

T = TypeVar("T")


class Prompt(Protocol):
    """A prompt that a runner has prepared; `cached` is the number of its tokens that were not computed for it."""

    @property
    def cached(self) -> int: ...


class Runner(Protocol):
    """Computes for the thread: `ModelRunner` or `SingleRunner`. Slots and prompts are of the runner's own types."""

    @property
    def device(self) -> torch.device: ...

    @property
    def vocabulary(self) -> int: ...

    def slots(self, rows: int, length: int) -> Any: ...

    def prefixes(self, prompts: Sequence[Sequence[Ids]]) -> Sequence[Prompt]: ...

    def fill(self, slots: Any, row: int, prefix: Any, /) -> int: ...

    def decode(self, slots: Any, tokens: torch.Tensor, positions: torch.Tensor, longest: int) -> torch.Tensor: ...

    def score(self, tasks: Sequence[ScoreTask]) -> list[tuple[list[float], int]]: ...

    def trim(self) -> None: ...

    def forget(self) -> None: ...


@dataclass(slots=True, eq=False)
class GenerationJob:
    """A request for text; `pieces` are the prompt, at least two tokens in all."""

    kind: TextKind
    segmentation: Segmentation
    pieces: list[Ids]
    sampling: RowSampling
    max_tokens: int
    future: Future[Generation] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt."""
        return sum(map(len, self.pieces))

    @property
    def task(self) -> tuple[object, ...]:
        """Everything but the sampling: jobs with equal tasks can share a row."""
        return self.kind, self.segmentation, tuple(self.pieces), self.max_tokens


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """Log-probabilities of the answer's tokens; `cached` is the number of prompt tokens from the prefix cache."""

    log_probabilities: list[float]
    cached: int


@dataclass(slots=True, eq=False)
class ScoreJob:
    """A request for the log-probabilities of an answer."""

    task: ScoreTask
    future: Future[ScoreResult] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True, eq=False)
class _Member:
    """A request in a row; `cached` tokens of its prompt came from the prefix cache."""

    job: GenerationJob
    cached: int


@dataclass(slots=True, eq=False)
class _Row:
    """A slot with the text that its members share; members part at the first token that they choose differently."""

    members: list[_Member]
    watch: EndWatch
    next_token: int
    position: int
    generated: list[int] = field(default_factory=list)

    @property
    def job(self) -> GenerationJob:
        """The job of any member: they are equal except for the sampling."""
        return self.members[0].job

    def branch(self, members: list[_Member]) -> _Row:
        """The same text for some of the members."""
        return _Row(members, self.watch, self.next_token, self.position, self.generated.copy())


class ComputeThread:
    """Runs jobs until stopped; `submit_*` may be called from any thread.

    A batch begins when it is full or its oldest request has waited `gather_seconds`. Samples of one prompt that arrive
    together share a row as long as their texts are equal.
    """

    def __init__(
        self,
        load: Callable[[], tuple[Runner, TextCodec, frozenset[int]]],
        batch_size: int,
        gather_seconds: float = 0.0,
    ) -> None:
        self._load = load
        self._batch_size = batch_size
        self._gather_seconds = gather_seconds
        self._wake = threading.Condition()
        self._generations: deque[GenerationJob] = deque()
        self._scores: deque[ScoreJob] = deque()
        self._failure: EngineError | None = None
        self._closing = False
        self._rows: list[_Row] = []
        self._tokens = self._positions = torch.empty(0, dtype=torch.long)
        self._seen: torch.Tensor | None = None
        """[rows, vocabulary], bool: the tokens to which the repetition penalty applies; None if no row needs it."""
        self._owners: torch.Tensor | None = None
        """The row of each member; None if every row has one member."""
        self._sampler: BatchSampler
        self._loaded: Future[TextCodec] = Future()
        self._thread = threading.Thread(target=self._run, name="cord-engine", daemon=True)

    def start(self) -> TextCodec:
        """Loads the model in the thread and waits for it. Raises EngineLoadError."""
        self._thread.start()
        return self._loaded.result()

    def submit_generation(self, job: GenerationJob) -> None:
        """Queues `job`. Raises EngineError if the engine is dead or closed."""
        with self._wake:
            self._require_open()
            self._generations.append(job)
            self._wake.notify()

    def submit_score(self, job: ScoreJob) -> None:
        """Queues `job`. Raises EngineError if the engine is dead or closed."""
        with self._wake:
            self._require_open()
            self._scores.append(job)
            self._wake.notify()

    def stop(self) -> None:
        """Ends the thread after the current forward; waiting requests fail with EngineError."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _require_open(self) -> None:
        if self._failure is not None:
            raise EngineError(str(self._failure))
        if self._closing:
            raise EngineError("the engine is closed; start another one")

    def _run(self) -> None:
        try:
            self._runner, self._codec, self._end_tokens = self._load()
        except BaseException as error:  # noqa: BLE001  # the caller of `start` gets every error
            self._loaded.set_exception(error)
            return
        self._slots = self._runner.slots(self._batch_size, 1)
        self._loaded.set_result(self._codec)
        try:
            while self._wait():
                self._score_waiting()
                self._admit_waiting()
                for _ in range(_JOIN_EVERY):
                    if not self._rows:
                        break
                    self._decode()
                self._runner.trim()
        except Exception as error:  # a failed kernel leaves the device in an unknown state, so nothing is retried
            log.exception("the engine died")
            self._end(EngineError(f"the engine died: {type(error).__name__}: {error}; restart the worker"))
        else:
            self._end(EngineError("the engine was closed while this request waited; send it again"))

    def _wait(self) -> bool:
        """Waits until there is something to compute; False if the engine is closed."""
        with self._wake:
            while not (self._closing or self._rows):
                seconds = min(self._seconds_to_wait(self._generations), self._seconds_to_wait(self._scores))
                if seconds <= 0:
                    break
                self._wake.wait(None if math.isinf(seconds) else seconds)
            return not self._closing

    def _seconds_to_wait(self, waiting: deque[GenerationJob] | deque[ScoreJob]) -> float:
        """Seconds until the waiting jobs may begin; infinite if none waits."""
        if not waiting:
            return math.inf
        if len(waiting) >= self._batch_size:
            return 0.0
        return waiting[0].submitted + self._gather_seconds - time.monotonic()

    def _end(self, failure: EngineError) -> None:
        with self._wake:
            self._failure = failure
            running = [member.job for row in self._rows for member in row.members]
            for generation in (*running, *self._generations):
                _fail(generation.future, failure)
            for score in self._scores:
                _fail(score.future, failure)
            self._rows, self._generations, self._scores = [], deque(), deque()

    def _score_waiting(self) -> None:
        with self._wake:
            if self._seconds_to_wait(self._scores) > 0:
                return
            jobs = [job for job in self._scores if not job.future.cancelled()]
            same: dict[ScoreTask, list[ScoreJob]] = {}
            for job in jobs:
                if job.task in same or len(same) < self._batch_size:
                    same.setdefault(job.task, []).append(job)
            taken = {id(job) for group in same.values() for job in group}
            self._scores = deque(job for job in jobs if id(job) not in taken)
        if not same:
            return
        try:
            results = self._runner.score(list(same))
        except BaseException:
            with self._wake:  # so that `_end` finds them
                self._scores.extendleft(job for group in same.values() for job in group)
            raise
        for group, (log_probabilities, cached) in zip(same.values(), results, strict=True):
            for job in group:
                _fulfil(job.future, ScoreResult(log_probabilities, cached))

    def _admit_waiting(self) -> None:
        self._drop_cancelled()
        with self._wake:
            free = self._batch_size - self._running_requests() if self._may_join() else 0
            jobs: list[GenerationJob] = []
            while self._generations and len(jobs) < free:
                job = self._generations.popleft()
                if not job.future.cancelled():
                    jobs.append(job)
        if not jobs:
            return
        try:
            prefixes = self._runner.prefixes([_all_but_last_token(job.pieces) for job in jobs])
            same: dict[tuple[object, ...], _Row] = {}
            for job, prefix in zip(jobs, prefixes, strict=True):
                member = _Member(job, prefix.cached)
                row = same.get(task := job.task)
                if row is None:
                    same[task] = self._join(member, prefix)
                else:
                    row.members.append(member)
        except BaseException:
            with self._wake:
                self._generations.extendleft(jobs)
            raise
        self._rows_changed()

    def _running_requests(self) -> int:
        return sum(len(row.members) for row in self._rows)

    def _drop_cancelled(self) -> None:
        running = self._running_requests()
        for row in self._rows:
            row.members = [member for member in row.members if not member.job.future.cancelled()]
        if self._running_requests() != running:
            self._keep([row for row in self._rows if row.members])

    def _may_join(self) -> bool:
        """True if waiting requests may begin or join now; see `_JOIN_SECONDS`."""
        waiting, running = self._generations, self._running_requests()
        if not running:
            return self._seconds_to_wait(waiting) <= 0
        if not waiting or len(waiting) >= running:
            return True
        return time.monotonic() - waiting[0].submitted >= max(_JOIN_SECONDS, self._gather_seconds)

    def _join(self, member: _Member, prefix: Prompt) -> _Row:
        job, index = member.job, len(self._rows)
        self._slots.reserve(job.prompt_length + 64)
        position = self._runner.fill(self._slots, index, prefix)
        watch = EndWatch(self._codec, ends_of(job.segmentation, job.kind, self._codec.tags), job.pieces[-1])
        row = _Row([member], watch, job.pieces[-1][-1], position)
        self._rows.append(row)
        return row

    def _decode(self) -> None:
        rows = self._rows
        longest = max(row.position for row in rows) + 1
        self._slots.reserve(longest)
        logits = self._runner.decode(self._slots, self._tokens, self._positions, longest)
        broken = torch.isnan(logits).any(-1).tolist()
        tokens = self._choose(logits)
        remaining: list[_Row] = []
        branches: list[_Row] = []
        start = 0
        for index, row in enumerate(rows):
            row.position += 1
            end = start + len(row.members)
            if broken[index]:
                self._slots.clear(index)
                message = "the model computed NaN for this request (number format too narrow?); try another dtype"
                for member in row.members:
                    _fail(member.job.future, NotFiniteError(message))
            else:
                for branch, token in _branches_of(row, tokens[start:end]):
                    if branch is not row:
                        self._slots.move(index, len(rows) + len(branches), row.position)
                        branches.append(branch)
                    branch.next_token = token
                    if (ended := self._ended(branch, token)) is None:
                        remaining.append(branch)
                    else:
                        for member in branch.members:
                            _fulfil(member.job.future, self._generation(branch, member, ended))
            start = end
        if branches or len(remaining) != len(rows):
            self._rows = [*rows, *branches]
            self._keep(remaining)
            return
        self._tokens = torch.tensor([row.next_token for row in rows], device=self._runner.device)
        self._positions = self._positions + 1
        if self._seen is not None:
            self._seen.scatter_(1, self._tokens[:, None], True)

    def _choose(self, logits: torch.Tensor) -> list[int]:
        """The next token of every row's members, row by row."""
        seen, owners = self._seen, self._owners
        if owners is not None:
            logits = logits[owners]
            seen = None if seen is None else seen[owners]
        lengths = [len(row.generated) for row in self._rows for _ in row.members]
        chosen: list[int] = self._sampler.choose(logits, lengths, seen).tolist()
        return chosen

    def _ended(self, row: _Row, token: int) -> Ended | None:
        row.generated.append(token)
        if token in self._end_tokens:
            return "eos"
        if row.watch.is_over(row.generated):
            return "stop"
        return "length" if len(row.generated) >= row.job.max_tokens else None

    def _generation(self, row: _Row, member: _Member, ended: Ended) -> Generation:
        job = member.job
        text = row.watch.text(row.generated[:-1] if ended == "eos" else row.generated)
        if ended != "stop":
            text = text.rstrip("\ufffd")  # half of a character, cut off by the cap
        segment = cut(text, job.kind, job.segmentation, ended=ended, tags=self._codec.tags)
        return Generation(
            text=segment.text,
            finish_reason=segment.finish_reason,
            prompt_tokens=job.prompt_length,
            completion_tokens=len(row.generated),
            cached_tokens=member.cached,
            seconds=time.monotonic() - job.submitted,
        )

    def _keep(self, remaining: Sequence[_Row]) -> None:
        """Drops all rows except `remaining`; the last rows move to the freed slots."""
        slot_of = {id(row): slot for slot, row in enumerate(self._rows)}
        kept: list[_Row | None] = [None] * len(remaining)
        moving = []
        for row in remaining:
            slot = slot_of[id(row)]
            if slot < len(remaining):
                kept[slot] = row
            else:
                moving.append(row)
        for target, occupant in enumerate(kept):
            if occupant is None:
                row = moving.pop()
                self._slots.move(slot_of[id(row)], target, row.position)
                kept[target] = row
        self._rows = [row for row in kept if row is not None]
        self._rows_changed()

    def _rows_changed(self) -> None:
        rows, device = self._rows, self._runner.device
        if not rows:
            return
        self._tokens = torch.tensor([row.next_token for row in rows], device=device)
        self._positions = torch.tensor([row.position for row in rows], device=device)
        owners = [index for index, row in enumerate(rows) for _ in row.members]
        self._owners = torch.tensor(owners, device=device) if len(owners) > len(rows) else None
        self._sampler = BatchSampler([member.job.sampling for row in rows for member in row.members], device)
        self._seen = None
        if self._sampler.needs_seen:
            self._seen = torch.zeros(len(rows), self._runner.vocabulary, dtype=torch.bool, device=device)
            for index, row in enumerate(rows):
                tokens = {token for piece in row.job.pieces for token in piece} | set(row.generated)
                self._seen[index, torch.tensor(sorted(tokens), device=device)] = True


def _branches_of(row: _Row, tokens: Sequence[int]) -> list[tuple[_Row, int]]:
    """The row and its new branches, each with the token that all its members have chosen."""
    members: dict[int, list[_Member]] = defaultdict(list)
    for member, token in zip(row.members, tokens, strict=True):
        members[token].append(member)
    (first, staying), *others = members.items()
    branches = [(row.branch(parting), token) for token, parting in others]
    row.members = staying
    return [(row, first), *branches]


def _all_but_last_token(pieces: Sequence[Ids]) -> list[Ids]:
    """The prompt without its last token, which is decoded together with the other rows' tokens."""
    return [piece for piece in (*pieces[:-1], pieces[-1][:-1]) if piece]


def _fulfil(future: Future[T], result: T) -> None:
    with suppress(InvalidStateError):  # the caller gave up in the meantime
        future.set_result(result)


def _fail(future: Future[T], error: EngineError) -> None:
    with suppress(InvalidStateError):
        future.set_exception(error)
