"""How long a dataset will take on given workers, and what it will cost: `cordctl plan`.

A draw takes problems of a pilot run at random, each any number of times, until it has as many as the dataset, or
`_SIMULATED`. A simulation sends all requests of these problems through the planned workers, wave by wave as the search
does. Intervals come from several draws (bootstrap over problems).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from cord_worker.config import ModelConfig, ModelPrices, Prices
from cord_worker.errors import ConfigError
from cord_worker.name_suggestions import unknown
from cord_worker.operations.pilot import Pilot
from cord_worker.planning.simulation import Pool, Simulated, Trace, simulate

_DRAWS = 12
_COST_DRAWS = 200
_SIMULATED = 600
"""Problems of a draw, or more if the pilot had many in flight. A run with more problems than a draw continues at the
pace of the second half of the draw."""
_SPLIT_SIMULATED = 150
"""The same for a draw that compares splits of the GPUs, which are simulated many times."""
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and the range that holds 95 % of the draws."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """The interval of the values of all draws."""
        return cls(float(np.mean(values)), *(float(one) for one in np.quantile(values, (0.025, 0.975))))

    def times(self, factor: float) -> Interval:
        """The interval with all three numbers multiplied by `factor`."""
        return Interval(self.mean * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model in the plan. `gpus`: the GPUs of all its workers. `busy`: how full the batches of its workers are on
    average, from 0 to 1. `with_one_more`: the hours of the run if the model had one more worker. Tokens are those of
    the whole run."""

    model: str
    workers: int
    gpus: int
    busy: float
    with_one_more: float
    prompt_tokens: float
    cached_tokens: float
    completion_tokens: float


@dataclass(frozen=True, slots=True)
class Check:
    """How good the simulation is: the seconds that it gives for the pilot with the pilot's own workers, and the seconds
    that the pilot really took, without the `idle` ones, in which no request was in an engine."""

    simulated: float
    measured: float
    idle: float

    @property
    def error(self) -> float:
        """The relative error of the simulation."""
        return self.simulated / self.measured - 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run of `problems` problems will take, computed from `pilot_problems` problems of the run `pilot`, of which
    `pilot_failed` failed.

    `cost` is None without prices. `problem_seconds`: the mean time of a problem from admission to its end.
    `bottleneck`: the model for which one more worker would save the most time; None if that is less than 2 %.
    `database_bytes`: the size of the rows of the problems. `without_slowdown`: models for which the pilot does not show
    how larger batches slow them down.
    """

    pilot: str
    pilot_problems: int
    pilot_failed: int
    problems: int
    hours: Interval
    gpu_hours: Interval
    cost: Interval | None
    currency: str | None
    problem_seconds: float
    models: Sequence[PlannedModel]
    bottleneck: str | None
    database_bytes: float
    check: Check | None
    without_slowdown: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            **asdict(self),
            "check": None if self.check is None else {**asdict(self.check), "error": self.check.error},
        }


def gpus_of_worker(model: ModelConfig, price: ModelPrices | None = None) -> int:
    """GPUs of one worker: those in its prices, or what its engine takes. 0 on a CPU or for a model on a server."""
    if price is not None and price.gpu_hour is not None:
        return price.gpus
    if model.engine == "vllm":
        return model.vllm.tensor_parallel_size if model.vllm is not None else 1
    return 1 if model.engine == "transformers" and model.device != "cpu" else 0


def plan(
    pilot: Pilot,
    problems: int,
    workers: Mapping[str, int],
    gpus: Mapping[str, int],
    prices: Prices | None = None,
    *,
    seed: int = 0,
) -> Plan:
    """The plan of a run of `problems` problems. `workers`: the number of workers by model. `gpus`: the number of GPUs
    of one worker, by model."""
    pools = tuple(
        replace(pool, workers=workers[name]) for name, pool in zip(pilot.models, pilot.planned_pools, strict=True)
    )
    chance = random.Random(seed)
    count = min(problems, max(_SIMULATED, 4 * pilot.planned_max_active))
    draws = [_drawn(pilot.traces, count, chance) for _ in range(_DRAWS)]
    found = [_simulated(draw, pools, pilot.planned_max_active, problems) for draw in draws]
    seconds = Interval.of([one.seconds for one in found])
    hours = seconds.times(1.0 / _HOUR)
    all_gpus = sum(workers[name] * gpus[name] for name in pilot.models)
    # Seconds with one more worker, from the first draw only; so they are compared with the seconds of that draw.
    more = {name: _with_one_more(pilot, pools, draws[0], problems, index) for index, name in enumerate(pilot.models)}
    first = found[0].seconds
    saved = {name: 1.0 - one / first for name, one in more.items() if first}
    best = max(saved, key=lambda name: saved[name], default=None)
    models = [
        PlannedModel(
            model=name,
            workers=workers[name],
            gpus=workers[name] * gpus[name],
            busy=float(np.mean([one.busy[index] for one in found])),
            with_one_more=hours.mean * (more[name] / first if first else 1.0),
            prompt_tokens=_per_problem(pilot, name, "prompt") * problems,
            cached_tokens=_per_problem(pilot, name, "cached") * problems,
            completion_tokens=_per_problem(pilot, name, "completion") * problems,
        )
        for index, name in enumerate(pilot.models)
    ]
    return Plan(
        pilot=pilot.run,
        pilot_problems=len(pilot.traces),
        pilot_failed=pilot.failed,
        problems=problems,
        hours=hours,
        gpu_hours=hours.times(all_gpus),
        cost=None if prices is None else _cost(pilot, problems, models, hours, prices, chance),
        currency=None if prices is None else prices.currency,
        problem_seconds=float(np.mean([one.problem_seconds for one in found])),
        models=models,
        bottleneck=best if best is not None and saved[best] >= 0.02 else None,
        database_bytes=pilot.row_bytes * problems,
        check=check(pilot),
        without_slowdown=pilot.without_slowdown,
    )


def check(pilot: Pilot) -> Check | None:
    """Simulates the pilot itself; None if its traces are only a sample of its problems."""
    if not pilot.measured_seconds:
        return None
    return Check(
        simulate(pilot.traces, pilot.pools, pilot.max_active).seconds, pilot.measured_seconds, pilot.idle_seconds
    )


def split_of_gpus(pilot: Pilot, total: int, gpus: Mapping[str, int], *, seed: int = 0) -> dict[str, int]:
    """The number of workers of each model with which `total` GPUs finish soonest. A model without GPUs keeps the number
    of the pilot.

    Workers are given one by one to the model whose full batches would need the longest; then one worker at a time is
    moved from model to model as long as the simulation gets shorter.

    Raises ConfigError if not every model can have a worker, or no model has GPUs.
    """
    on_gpus = [name for name in pilot.models if gpus[name]]
    workers = {name: pool.workers for name, pool in zip(pilot.models, pilot.planned_pools, strict=True)}
    if not on_gpus:
        raise ConfigError("--gpus: no model of this run works on a GPU; give the number of workers with --workers")
    workers |= dict.fromkeys(on_gpus, 1)
    least = sum(gpus[name] for name in on_gpus)
    if least > total:
        needs = ", ".join(f"{name} {gpus[name]}" for name in on_gpus)
        raise ConfigError(f"--gpus {total}: one worker of every model needs {least} GPUs ({needs})")
    demand = _demand(pilot)
    left = total - least
    while fitting := [name for name in on_gpus if gpus[name] <= left]:
        neediest = max(fitting, key=lambda name: demand[name] / workers[name])
        if not demand[neediest]:
            break
        workers[neediest] += 1
        left -= gpus[neediest]
    return _improved(pilot, workers, on_gpus, gpus, total, random.Random(seed))


def _improved(
    pilot: Pilot, workers: dict[str, int], on_gpus: Sequence[str], gpus: Mapping[str, int], total: int,
    chance: random.Random,
) -> dict[str, int]:  # fmt: skip
    draw = _drawn(pilot.traces, max(_SPLIT_SIMULATED, pilot.planned_max_active), chance)

    def seconds(numbers: Mapping[str, int]) -> float:
        pools = [
            replace(pool, workers=numbers[name]) for name, pool in zip(pilot.models, pilot.planned_pools, strict=True)
        ]
        return simulate(draw, pools, pilot.planned_max_active).seconds

    best, is_better = seconds(workers), True
    while is_better:
        is_better = False
        for giver in on_gpus:
            for taker in on_gpus:
                moved = {**workers, giver: workers[giver] - 1, taker: workers[taker] + 1}
                used = sum(moved[name] * gpus[name] for name in on_gpus)
                if giver == taker or not moved[giver] or used > total:
                    continue
                if (found := seconds(moved)) < 0.99 * best:
                    workers, best, is_better = moved, found, True
    return workers


def chosen_workers(pilot: Pilot, given: Mapping[str, int]) -> dict[str, int]:
    """The number of workers by model: from `given`, or as in the pilot for models that are not in it. Raises
    ConfigError for an unknown model."""
    for name in given:
        if name not in pilot.models:
            raise ConfigError(f"--workers {name}={given[name]}: {unknown('model', name, pilot.models)}")
    return {name: given.get(name, pool.workers) for name, pool in zip(pilot.models, pilot.planned_pools, strict=True)}


def _drawn(traces: Sequence[Trace], count: int, chance: random.Random) -> list[Trace]:
    return [traces[chance.randrange(len(traces))] for _ in range(count)]


def _simulated(draw: Sequence[Trace], pools: Sequence[Pool], max_active: int, problems: int) -> Simulated:
    """Simulates the draw. If the run has more problems than the draw, the others are added at the pace of the second
    half of the draw."""
    whole = simulate(draw, pools, max_active)
    if problems <= len(draw):
        return whole
    half = len(draw) // 2
    pace = (whole.seconds - simulate(draw[:half], pools, max_active).seconds) / (len(draw) - half)
    return replace(whole, seconds=whole.seconds + pace * (problems - len(draw)))


def _with_one_more(pilot: Pilot, pools: Sequence[Pool], draw: Sequence[Trace], problems: int, index: int) -> float:
    """Seconds with one more worker of the model with this index."""
    more = list(pools)
    more[index] = replace(more[index], workers=more[index].workers + 1)
    return _simulated(draw, more, pilot.planned_max_active, problems).seconds


def _demand(pilot: Pilot) -> dict[str, float]:
    """By model, the seconds that one worker needs for an average problem, with full batches."""
    alone = dict.fromkeys(range(len(pilot.models)), 0.0)
    for trace in pilot.traces:
        for wave in trace:
            for request in wave.requests:
                alone[request.model] += request.seconds
    return {
        name: alone[index] / len(pilot.traces) / replace(pilot.planned_pools[index], workers=1).best_rate
        for index, name in enumerate(pilot.models)
    }


def _per_problem(pilot: Pilot, name: str, kind: str) -> float:
    total: int = sum(getattr(by_model[name], kind) for by_model in pilot.tokens if name in by_model)
    return total / len(pilot.tokens)


def _cost(
    pilot: Pilot, problems: int, models: Sequence[PlannedModel], hours: Interval, prices: Prices,
    chance: random.Random,
) -> Interval:  # fmt: skip
    """The price of the tokens, plus that of the GPUs from the first request to the end of the run, idle or not."""
    of_tokens = [
        sum(
            prices.models[name].of_tokens(count.prompt, count.cached, count.completion)
            for name, count in by_model.items()
        )
        for by_model in pilot.tokens
    ]
    per_hour = sum(model.gpus * (prices.models[model.model].gpu_hour or 0.0) for model in models)
    means = [
        float(np.mean([of_tokens[chance.randrange(len(of_tokens))] for _ in of_tokens])) for _ in range(_COST_DRAWS)
    ]
    tokens = Interval.of(means).times(problems)
    return Interval(
        tokens.mean + per_hour * hours.mean, tokens.low + per_hour * hours.low, tokens.high + per_hour * hours.high
    )
