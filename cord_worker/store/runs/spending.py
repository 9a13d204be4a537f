"""What a run has spent, in tokens and in money, and its spending limits.

What was spent is computed from the stored rows, as `cordctl cost` shows it: what `cordctl retry --from-scratch` deleted
is not counted, and neither are rescorings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import sqlalchemy as sa

from cord_worker.config import ModelPrices, Prices, RunConfig
from cord_worker.display_text import counted, money
from cord_worker.errors import ConfigError
from cord_worker.store.reports.costs import TokenRow, read_tokens, read_worker_seconds
from cord_worker.store.runs.runs import RunRow, get_run

_UNCHECKED = "its spending limit cannot be checked"

T = TypeVar("T", int, float)


@dataclass(frozen=True, slots=True)
class ModelMoney:
    """What one model of a run cost, in money: `of_tokens` and `of_gpus`. `model` is its path. `gpu_hours`: hours in
    which its workers had at least one request of the run, summed over replicas, times the GPUs of a worker; None if
    GPUs have no price."""

    model: str
    of_tokens: float
    gpu_hours: float | None
    of_gpus: float

    @property
    def total(self) -> float:
        """Cost of tokens and GPUs."""
        return self.of_tokens + self.of_gpus


@dataclass(frozen=True, slots=True)
class Money:
    """What a run cost, in money, by model, the most expensive first."""

    currency: str
    models: tuple[ModelMoney, ...]

    @property
    def total(self) -> float:
        """Cost of all models."""
        return sum(model.total for model in self.models)


@dataclass(frozen=True, slots=True)
class Spending:
    """What a run has spent, and its limits: `tokens` are generated ones; `cost` is None without prices."""

    tokens: int
    max_tokens: int | None
    cost: float | None
    max_cost: float | None
    currency: str | None

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object for scripts; keys are stable."""
        return asdict(self)

    def reached_limit(self) -> str | None:
        """Which limit the run has reached, as part of a sentence; None if none."""
        if self.max_tokens is not None and self.tokens >= self.max_tokens:
            return f"{counted(self.tokens, 'generated token')}, of at most {self.max_tokens:,} (run.max_tokens)"
        if self.max_cost is not None and self.cost is not None and self.cost >= self.max_cost:
            most = money(self.max_cost, self.currency)
            return f"{money(self.cost, self.currency)} spent, of at most {most} (run.max_cost)"
        return None


@dataclass(frozen=True, slots=True)
class NewLimits:
    """Spending limits and prices to set. None leaves a value as it is; the text `none` removes a limit."""

    max_tokens: int | Literal["none"] | None = None
    max_cost: float | Literal["none"] | None = None
    prices: Prices | None = None

    @property
    def are_given(self) -> bool:
        """Whether anything changes."""
        return any(one is not None for one in (self.max_tokens, self.max_cost, self.prices))

    def set(self, connection: sa.Connection, run: RunRow) -> RunRow:
        """Sets these limits and prices; returns the changed run. Raises ConfigError if prices are missing or do not fit
        the run's models."""
        max_tokens = run.max_tokens if self.max_tokens is None else _value(self.max_tokens)
        max_cost = run.max_cost if self.max_cost is None else _value(self.max_cost)
        prices = self.prices
        if prices is None and run.prices is not None:
            prices = Prices.from_stored(run.prices)
        if prices is not None:
            price_by_path(run, prices)
        elif max_cost is not None:
            raise ConfigError(f"run {run.name} has no prices, so its cost cannot be limited: give --prices FILE")
        document = None if prices is None else prices.model_dump_json()
        connection.execute(
            _SET_LIMITS, {"run_id": run.id, "max_tokens": max_tokens, "max_cost": max_cost, "prices": document}
        )
        return get_run(connection, run.id)


def _value(limit: T | Literal["none"]) -> T | None:
    return None if limit == "none" else limit


_LIMITED_RUNS = sa.text(
    """
    SELECT r.id FROM runs r
    WHERE r.state = 'active' AND (r.max_tokens IS NOT NULL OR r.max_cost IS NOT NULL) AND EXISTS (
        SELECT 1 FROM problems p
        WHERE p.run_id = r.id AND p.state IN ('queued', 'searching', 'answering', 'verifying')
    )
    ORDER BY r.id
    """
)

# Does nothing if a limit was changed since it was read.
_PAUSE = sa.text(
    """
    UPDATE runs SET state = 'paused', pause_reason = :reason
    WHERE id = :run_id AND state = 'active' AND max_tokens IS NOT DISTINCT FROM :max_tokens
      AND max_cost IS NOT DISTINCT FROM :max_cost
    """
)

_SET_LIMITS = sa.text(
    """
    UPDATE runs SET max_tokens = CAST(:max_tokens AS bigint), max_cost = CAST(:max_cost AS float8),
        prices = CAST(:prices AS jsonb)
    WHERE id = :run_id
    """
)


def how_to_continue(run_name: str, reason: str) -> str:
    """Says which command continues a run that was paused for this reason."""
    if _UNCHECKED in reason:
        return f"Give it other prices: cordctl resume {run_name} --prices FILE"
    option = "--max-cost" if "run.max_cost" in reason else "--max-tokens"
    return f"Continue it with a higher limit: cordctl resume {run_name} {option} N (or `none`)"


def limited_runs(connection: sa.Connection) -> list[int]:
    """Keys of the active runs that have unfinished problems and a spending limit."""
    return list(connection.execute(_LIMITED_RUNS).scalars())


def read_spending(connection: sa.Connection, run: RunRow) -> Spending:
    """What the run has spent, and its limits. Raises ConfigError if its prices do not fit its models."""
    rows = read_tokens(connection, run.id)
    spent = stored_money(connection, run, rows)
    cost, currency = (None, None) if spent is None else (spent.total, spent.currency)
    return Spending(sum(row.completion_tokens for row in rows), run.max_tokens, cost, run.max_cost, currency)


def stored_money(connection: sa.Connection, run: RunRow, rows: Sequence[TokenRow]) -> Money | None:
    """What the run cost by the prices stored with it; None if it has none. `rows` are its tokens. Raises ConfigError if
    its prices do not fit its models."""
    return None if run.prices is None else money_of(connection, run, rows, Prices.from_stored(run.prices))


def money_of(connection: sa.Connection, run: RunRow, rows: Sequence[TokenRow], prices: Prices) -> Money:
    """What the run cost by these prices; `rows` are its tokens. Raises ConfigError if a model of the run has no
    price."""
    by_path = price_by_path(run, prices)
    has_gpus = any(price.gpu_hour is not None for price in by_path.values())
    seconds = read_worker_seconds(connection, run.id) if has_gpus else {}
    unpriced = sorted({row.model for row in rows} - set(by_path))
    if unpriced:
        raise ConfigError(f"run {run.name}: its tables name models that its configuration lacks: {', '.join(unpriced)}")
    models = []
    for path, price in by_path.items():
        of_model = [row for row in rows if row.model == path]
        tokens = sum(price.of_tokens(row.prompt_tokens, row.cached_tokens, row.completion_tokens) for row in of_model)
        hours = None if price.gpu_hour is None else price.gpu_hours(seconds.get(path, 0.0))
        models.append(ModelMoney(path, tokens, hours, price.of_gpus(hours or 0.0)))
    return Money(prices.currency, tuple(sorted(models, key=lambda model: (-model.total, model.model))))


def price_by_path(run: RunRow, prices: Prices) -> Mapping[str, ModelPrices]:
    """The prices of each model of the run, by path. Raises ConfigError if a model has none, or if two models cannot be
    told apart."""
    config = RunConfig.from_stored(run.config)
    try:
        return (config if run.trimmed_from is None else config.for_answers).price_by_path(prices)
    except ValueError as error:
        raise ConfigError(f"run {run.name}: {error}") from None


def pause_if_limit_reached(connection: sa.Connection, run_id: int) -> RunRow | None:
    """Pauses the run if it has reached one of its spending limits, or if these cannot be checked. Returns the run with
    the reason if it was paused, else None."""
    run = get_run(connection, run_id)
    try:
        reason = read_spending(connection, run).reached_limit()
    except ConfigError as error:
        reason = f"{_UNCHECKED}: {error}"
    if reason is None:
        return None
    parameters = {"run_id": run_id, "reason": reason, "max_tokens": run.max_tokens, "max_cost": run.max_cost}
    paused = connection.execute(_PAUSE, parameters).rowcount
    return get_run(connection, run_id) if paused else None
