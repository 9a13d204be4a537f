"""Reads from a run what a plan needs: the requests of its problems, how fast its models are, what a problem takes."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import groupby, pairwise

import numpy as np
import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.display_text import counted
from cord_worker.errors import StoreError
from cord_worker.operations.fleet import names_by_path
from cord_worker.planning.simulation import Pool, Request, Trace, Wave
from cord_worker.planning.slowdown import Observation, concurrency, fit_slowdown, most_at_once, usual_most
from cord_worker.store.database import Database
from cord_worker.store.reports.costs import read_wall_times
from cord_worker.store.reports.storage import row_bytes
from cord_worker.store.reports.trace_rows import CandidateRow, ProblemRow, RequestRow, final_problem_ids, problem_rows
from cord_worker.store.runs.runs import RunRow

MIN_PROBLEMS = 10
_MOST_PROBLEMS = 1000
_AT_ONCE = 50
_IDLE_SECONDS = 10.0
"""A longer time without a request in any engine is no part of the search: a pause, or workers that were missing."""


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens of the requests to one model: `cached` of the prompt tokens came from its prefix cache."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def plus(self, request: RequestRow) -> TokenCount:
        """With those of one more request."""
        return TokenCount(
            self.prompt + (request.prompt_tokens or 0),
            self.cached + (request.cached_tokens or 0),
            self.completion + (request.completion_tokens or 0),
        )


@dataclass(frozen=True, slots=True)
class Pilot:
    """What a run tells about its models and problems.

    `traces` and `tokens` (by model) are those of its final problems, or of a random sample of 1,000; `failed` of these
    failed. `models` are names of cord.toml, and requests hold their indices. `pools` and `max_active` are those that it
    had, `planned_pools` and `planned_max_active` those of the configuration to plan for. `measured_seconds`: from its
    first request to the end of its last problem, without `idle_seconds`, in which no request was in an engine; None if
    the traces are only a sample. `row_bytes`: mean bytes of the rows of a problem, with their indexes.
    `without_slowdown`: models whose slowdown its requests do not show.
    """

    run: str
    models: tuple[str, ...]
    traces: tuple[Trace, ...]
    tokens: tuple[Mapping[str, TokenCount], ...]
    failed: int
    pools: tuple[Pool, ...]
    max_active: int
    planned_pools: tuple[Pool, ...]
    planned_max_active: int
    measured_seconds: float | None
    idle_seconds: float
    row_bytes: float
    without_slowdown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Sent:
    """A request with its kind. `wave` is the number of its wave within the problem."""

    wave: int
    kind: str
    row: RequestRow


def read_pilot(database: Database, run: RunRow, planned: RunConfig, *, seed: int = 0) -> Pilot:
    """Reads the run's final problems. `planned`: a configuration with the run's fingerprint, whose `run.max_active` and
    batch sizes may differ.

    Raises StoreError if fewer than `MIN_PROBLEMS` are done, or two of its models cannot be told apart.
    """
    config = RunConfig.from_stored(run.config)
    names = names_by_path(run)
    models = tuple(config.served_models)
    if set(names.values()) != set(models):
        shared = sorted(set(models) - set(names.values()))
        raise StoreError(
            f"run {run.name}: the models {', '.join(shared)} have the same weights, so their requests cannot be told "
            "apart. Give each its own path (a link to the folder) and run a new pilot"
        )
    ids = database.run(partial(final_problem_ids, run_id=run.id))
    chosen = ids if len(ids) <= _MOST_PROBLEMS else sorted(random.Random(seed).sample(ids, _MOST_PROBLEMS))
    problems = sorted(_read(database, chosen), key=lambda problem: (problem.admitted_at is None, problem.admitted_at))
    failed = sum(problem.state == "failed" for problem in problems)
    if len(problems) - failed < MIN_PROBLEMS:
        raise StoreError(
            f"run {run.name} has only {counted(len(problems) - failed, 'done problem')} ({failed:,} failed); a plan "
            f"needs {MIN_PROBLEMS} or more: run more problems of the pilot, or `cordctl retry {run.name}`"
        )
    sent = [list(_requests(problem)) for problem in problems]
    speeds = {name: _Speed([one for all_of in sent for one in all_of if names.get(one.row.model or "") == name])
              for name in models}  # fmt: skip
    delays = _Delays.of(problems)
    index = {path: models.index(name) for path, name in names.items()}
    walls = database.run(partial(read_wall_times, run_id=run.id))
    idle = idle_seconds([one.row for of in sent for one in of])
    pools = tuple(
        Pool(
            max(speeds[name].workers, 1),
            _at_once(config.models[name].batch_size, speeds[name].usual_most),
            speeds[name].slowdown or 0.0,
        )
        for name in models
    )
    return Pilot(
        run=run.name,
        models=models,
        traces=tuple(_trace(of, index, speeds, models, delays) for of in sent),
        tokens=tuple(_tokens(of, names) for of in sent),
        failed=failed,
        pools=pools,
        max_active=config.run.max_active,
        planned_pools=tuple(
            replace(
                pool,
                batch_size=max(
                    round(pool.batch_size * planned.models[name].batch_size / config.models[name].batch_size), 1
                ),
            )
            for name, pool in zip(models, pools, strict=True)
        ),
        planned_max_active=planned.run.max_active,
        measured_seconds=walls.run_seconds - idle if len(chosen) == len(ids) else None,
        idle_seconds=idle,
        row_bytes=database.run(partial(row_bytes, problems=chosen)),
        without_slowdown=tuple(name for name in models if speeds[name].slowdown is None and speeds[name].workers),
    )


def _at_once(batch_size: int, usual_most: int) -> int:
    """Requests that a worker handles at once. Some engines handle more than a batch of what their worker holds, which
    is at most two batches."""
    return min(max(batch_size, usual_most), 2 * batch_size)


def idle_seconds(rows: Iterable[RequestRow]) -> float:
    """The time between the first and the last of these requests in which none was in an engine for more than 10 s."""
    idle = 0.0
    busy_until: float | None = None
    for began, ended in sorted(
        (row.at.timestamp() - row.seconds, row.at.timestamp())
        for row in rows
        if row.at is not None and row.seconds is not None
    ):
        if busy_until is not None and began - busy_until > _IDLE_SECONDS:
            idle += began - busy_until
        busy_until = ended if busy_until is None else max(busy_until, ended)
    return idle


class _Speed:
    """The durations of a model's requests: how they depend on the requests handled at once, and each one alone."""

    def __init__(self, sent: Sequence[_Sent]) -> None:
        observations = [
            Observation(
                one.kind,
                one.row.worker or "",
                one.row.at.timestamp() - one.row.seconds,
                one.row.at.timestamp(),
                (one.row.prompt_tokens or 0) - (one.row.cached_tokens or 0),
                one.row.completion_tokens or 0,
            )
            for one in sent
            if one.row.at is not None and one.row.seconds is not None
        ]
        at_once = concurrency(observations)
        self.workers = most_at_once(observations)
        self.usual_most = usual_most(observations)
        self.slowdown = fit_slowdown(observations, at_once)
        self._alone = {
            id(one.row): (one.row.seconds or 0.0) / (1.0 + (self.slowdown or 0.0) * (float(number) - 1.0))
            for one, number in zip(sent, at_once, strict=True)
        }

    def alone(self, row: RequestRow) -> float:
        """Seconds that the request would take if its worker did nothing else."""
        return self._alone[id(row)]


@dataclass(frozen=True, slots=True)
class _Delays:
    """What lies between the work of the models, in seconds (medians of what was recorded).

    `decide`: from the last result of a step to the rows of the next. `begin`: from when a request could begin to when
    the first of its wave did; of the quickest tenth, because the others waited for a worker.
    """

    decide: float
    begin: float

    @classmethod
    def of(cls, problems: Iterable[ProblemRow]) -> _Delays:
        decide: list[float] = []
        begin: list[float] = []
        for problem in problems:
            stages = list(_stages(problem))
            for stage in stages:
                _extend(begin, [one.propose for one in stage], min(one.created_at for one in stage))
                texts = [one.propose.at for one in stage if one.propose.at is not None]
                if texts:
                    _extend(begin, [one.score_request for one in stage], max(texts))
            for before, after in pairwise(stages):
                ends = [at for one in before for at in (one.propose.at, one.score_request.at, one.judge.at) if at]
                if ends:
                    decide.append(max((min(one.created_at for one in after) - max(ends)).total_seconds(), 0.0))
        return cls(float(np.median(decide)) if decide else 0.0, float(np.quantile(begin, 0.1)) if begin else 0.0)


def _extend(delays: list[float], rows: Iterable[RequestRow], since: datetime) -> None:
    begins = [row.at.timestamp() - row.seconds for row in rows if row.at is not None and row.seconds is not None]
    if begins:
        delays.append(max(min(begins) - since.timestamp(), 0.0))


def _read(database: Database, ids: Sequence[int]) -> Iterator[ProblemRow]:
    for place in range(0, len(ids), _AT_ONCE):
        batch = ids[place : place + _AT_ONCE]
        yield from database.run(partial(_rows, batch))


def _rows(problems: Sequence[int], connection: sa.Connection) -> list[ProblemRow]:
    return list(problem_rows(connection, problems))


def _stages(problem: ProblemRow) -> Iterator[list[CandidateRow]]:
    """The candidates that were planned together, in order."""
    for _, group in groupby(problem.candidates, key=lambda one: (one.step, one.round)):
        yield list(group)


def _requests(problem: ProblemRow) -> Iterator[_Sent]:
    """The requests that reached an engine, with the waves in which the search sends them."""
    waves: list[list[tuple[str, RequestRow]]] = [[("score", problem.base)]]
    for number, stage in enumerate(_stages(problem)):
        proposals = [("propose", one.propose) for one in stage]
        if number:
            waves.append(proposals)
        else:
            waves[0] += proposals
        waves.append([("score", one.score_request) for one in stage])
        waves.append([("judge", one.judge) for one in stage])
    waves.append([("answer", one.answer) for one in problem.answers])
    waves.append([("verdict", one.verdict) for one in problem.answers])
    for number, wave in enumerate(waves):
        for kind, row in wave:
            if row.at is not None and row.seconds is not None and row.model is not None:
                yield _Sent(number, kind, row)


def _trace(
    sent: Sequence[_Sent], index: Mapping[str, int], speeds: Mapping[str, _Speed], models: Sequence[str],
    delays: _Delays,
) -> Trace:  # fmt: skip
    waves: list[Wave] = []
    for _, group in groupby(sent, key=lambda one: one.wave):
        requests = []
        kinds = set()
        for one in group:
            assert one.row.model is not None
            model = index[one.row.model]
            kinds.add(one.kind)
            requests.append(Request(model, speeds[models[model]].alone(one.row)))
        decided = "propose" in kinds or "answer" in kinds
        waves.append(Wave(delays.begin + (delays.decide if decided and waves else 0.0), tuple(requests)))
    return tuple(waves)


def _tokens(sent: Sequence[_Sent], names: Mapping[str, str]) -> Mapping[str, TokenCount]:
    found: defaultdict[str, TokenCount] = defaultdict(TokenCount)
    for one in sent:
        assert one.row.model is not None
        found[names[one.row.model]] = found[names[one.row.model]].plus(one.row)
    return dict(found)
