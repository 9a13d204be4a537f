"""Simulates runs: problems whose requests are known go through workers of a given number and speed.

A problem is a sequence of *waves*. The requests of a wave are sent together, and the next wave starts when the last of
them has ended, as the search waits for all candidates of a step. At most `max_active` problems are in flight. A worker
handles up to `batch_size` requests at once. With n of them each takes 1 + slowdown x (n - 1) times as long as alone:
0 is a device that batches for free, 1 one that gains nothing from batches.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a model (its index), which takes `seconds` if its worker does nothing else."""

    model: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Wave:
    """Requests that are sent together, `delay` seconds after the wave before has ended. May be empty."""

    delay: float
    requests: tuple[Request, ...]


Trace = tuple[Wave, ...]
"""All requests of one problem."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers of one model."""

    workers: int
    batch_size: int
    slowdown: float

    def slowed(self, requests: int) -> float:
        """How many times as long a request takes as alone if its worker handles `requests` at once."""
        return 1.0 + self.slowdown * (requests - 1)

    @property
    def best_rate(self) -> float:
        """The most seconds' worth of requests (alone) that the pool finishes in a second, with full batches."""
        return self.workers * max(self.batch_size / self.slowed(self.batch_size), 1.0)


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came out: `seconds` from the first request to the end of the last problem; the mean time of a problem from
    admission to its end; and per model the mean share of its workers' places for requests that were in use."""

    seconds: float
    problem_seconds: float
    busy: tuple[float, ...]


@dataclass(slots=True)
class _Worker:
    """A worker. `done`: the seconds' worth of work that a request which it had from the start would have received;
    `busy`: seconds, weighted with the share of its places that were in use."""

    pool: Pool
    model: int
    place: int
    done: float = 0.0
    at: float = 0.0
    busy: float = 0.0
    version: int = 0
    running: list[tuple[float, int, int]] = field(default_factory=list)
    """(the value of `done` at which it ends, number, problem)."""

    def advance(self, now: float) -> None:
        if self.running:
            self.done += (now - self.at) / self.pool.slowed(len(self.running))
            self.busy += (now - self.at) * len(self.running) / self.pool.batch_size
        self.at = now

    def next_end(self) -> float:
        return self.at + max(self.running[0][0] - self.done, 0.0) * self.pool.slowed(len(self.running))


class _Simulation:
    def __init__(self, traces: Sequence[Trace], pools: Sequence[Pool], max_active: int) -> None:
        self._traces = traces
        self._waves = [0] * len(traces)
        self._left = [0] * len(traces)
        self._began = [0.0] * len(traces)
        self._queued = deque(range(len(traces)))
        self._waiting: list[deque[tuple[float, int]]] = [deque() for _ in pools]
        self._workers = [
            [_Worker(pool, model, place) for place in range(pool.workers)] for model, pool in enumerate(pools)
        ]
        self._by_load = [[(0, place) for place in range(pool.workers)] for pool in pools]
        """(number of running requests, worker), as a heap for each model. A worker has an entry for every number that
        it had; only that of its present number counts."""
        self._events: list[tuple[float, int, _Worker | int, int]] = []
        """(time, number, the worker whose next request ends or the problem whose wave starts, the worker's version)."""
        self._number = 0
        self._problem_seconds = 0.0
        self._max_active = max_active
        self._active = 0

    def run(self) -> Simulated:
        now = 0.0
        self._admit(now)
        while self._events:
            now, _, what, version = heapq.heappop(self._events)
            if isinstance(what, int):
                self._send(what, now)
            elif what.version == version:
                self._end_request(what, now)
            self._admit(now)
        seconds = now or 1e-9
        busy = tuple(
            sum(worker.busy for worker in workers) / (len(workers) * seconds) if workers else 0.0
            for workers in self._workers
        )
        return Simulated(now, self._problem_seconds / max(len(self._traces), 1), busy)

    def _push(self, time: float, what: _Worker | int, version: int = 0) -> None:
        self._number += 1
        heapq.heappush(self._events, (time, self._number, what, version))

    def _admit(self, now: float) -> None:
        while self._queued and self._active < self._max_active:
            problem = self._queued.popleft()
            self._active += 1
            self._began[problem] = now
            self._begin_wave(problem, now)

    def _begin_wave(self, problem: int, now: float) -> None:
        trace = self._traces[problem]
        if self._waves[problem] == len(trace):
            self._problem_seconds += now - self._began[problem]
            self._active -= 1
        else:
            self._push(now + trace[self._waves[problem]].delay, problem)

    def _send(self, problem: int, now: float) -> None:
        requests = self._traces[problem][self._waves[problem]].requests
        self._waves[problem] += 1
        self._left[problem] = len(requests)
        for request in requests:
            self._waiting[request.model].append((request.seconds, problem))
        for model in {request.model for request in requests}:
            self._serve(model, now)
        if not requests:
            self._begin_wave(problem, now)

    def _serve(self, model: int, now: float) -> None:
        """Gives waiting requests to the workers with the fewest running ones, as long as one has room."""
        waiting, workers, by_load = self._waiting[model], self._workers[model], self._by_load[model]
        changed = set()
        while waiting:
            load, place = by_load[0]
            worker = workers[place]
            if load != len(worker.running):
                heapq.heappop(by_load)
                continue
            if load >= worker.pool.batch_size:
                break
            if place not in changed:
                worker.advance(now)
                changed.add(place)
            seconds, problem = waiting.popleft()
            self._number += 1
            heapq.heappush(worker.running, (worker.done + seconds, self._number, problem))
            heapq.heapreplace(by_load, (load + 1, place))
        for place in changed:
            self._schedule(workers[place])

    def _schedule(self, worker: _Worker) -> None:
        worker.version += 1
        if worker.running:
            self._push(worker.next_end(), worker, worker.version)

    def _end_request(self, worker: _Worker, now: float) -> None:
        worker.advance(now)
        _, _, problem = heapq.heappop(worker.running)
        heapq.heappush(self._by_load[worker.model], (len(worker.running), worker.place))
        self._left[problem] -= 1
        if not self._left[problem]:
            self._begin_wave(problem, now)
        self._schedule(worker)
        self._serve(worker.model, now)


def simulate(traces: Sequence[Trace], pools: Sequence[Pool], max_active: int) -> Simulated:
    """Runs these problems, in this order.

    Raises ValueError if a model that has requests has no worker.
    """
    used = {request.model for trace in traces for wave in trace for request in wave.requests}
    if any(not pools[model].workers for model in used):
        raise ValueError("a model with requests has no worker")
    return _Simulation(traces, pools, max_active).run()
