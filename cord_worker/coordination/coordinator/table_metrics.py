"""Metrics of the runs, read from the tables: only the leading coordinator serves them.

They are read only when Prometheus asks, at most every 10 s, and the reads take at most a twentieth of the time. Labels
have a bounded number of values: all further ones count under `(other)`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import DBAPIError

from cord_worker import metrics
from cord_worker.coordination.log_once import LogOnce
from cord_worker.coordination.transactions import read
from cord_worker.display_text import shown
from cord_worker.errors import ConfigError, StoreError
from cord_worker.store.database import Database
from cord_worker.store.reports import run_metrics
from cord_worker.store.reports.costs import TokenRow, read_tokens
from cord_worker.store.runs.processes import LiveProcess, live_processes
from cord_worker.store.runs.runs import find_run
from cord_worker.store.runs.spending import Money, stored_money

logger = logging.getLogger(__name__)

MAX_LABEL_VALUES = 50
"""A run or model beyond this number is counted under `OTHER`."""
OTHER = "(other)"
COORDINATOR = "coordinator"
"""The label `model` of a coordinator and of its work."""
_MAX_CHARACTERS = 100
_MIN_SECONDS, _COST_FACTOR = 10.0, 20.0
_KEPT_SECONDS = 3600.0
"""A run whose last problem has ended is shown for this long, so that a graph shows its end."""
_WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class TableMetric:
    """A gauge that is read from the tables."""

    name: str
    help: str
    labels: tuple[str, ...] = ()

    def family(self, values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
        """The gauge with these values, by the values of its labels."""
        family = GaugeMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in values.items():
            family.add_metric(labels, value)
        return family


LEADING = TableMetric("cord_leading", "1 if this coordinator leads, else 0. Only the leader has the metrics of runs.")
PROBLEMS = TableMetric("cord_problems", "Problems of unfinished runs, by run and state.", ("run", "state"))
RUN_ACTIVE = TableMetric("cord_run_active", "1 for an unfinished run that is active, 0 if it is paused.", ("run",))
WORK = TableMetric(
    "cord_work",
    "Unfinished work by model, kind (proposal, score, judgment, answer, check, verdict, rescore, decision) and state: "
    "waiting (not in paused runs) or leased. The backlog of a model is what waits for it.",
    ("model", "kind", "state"),
)
WORKERS = TableMetric(
    "cord_workers",
    "Living processes by model and state: starting, running, degraded (its condition says why) or draining.",
    ("model", "state"),
)
TOKENS_PER_SECOND = TableMetric(
    "cord_model_tokens_per_second",
    "Tokens of the last minute, by model, kind of request (proposal, score, judgment, answer, verdict) and direction: "
    "`prompt`, those of them `cached`, and `completion`. Read from the newest 20,000 candidates and trajectories.",
    ("model", "kind", "direction"),
)
REQUESTS_PER_SECOND = TableMetric(
    "cord_model_requests_per_second", "Likewise: requests of the last minute, by model and kind.", ("model", "kind")
)
SECONDS_PER_SECOND = TableMetric(
    "cord_model_request_seconds_per_second",
    "Likewise: durations of the requests of the last minute, added up; what a model costs, and how many requests it "
    "worked on at a time.",
    ("model", "kind"),
)
RUN_TOKENS = TableMetric(
    "cord_run_tokens",
    "Tokens of an unfinished run since it began, by run, model and direction: `prompt`, those of them `cached` "
    "(missing if there are none, or none are known), and `completion`. A retry from scratch lowers them. Without "
    "rescores.",
    ("run", "model", "direction"),
)
RUN_COST = TableMetric(
    "cord_run_cost",
    "Likewise: cost of the run by the prices stored with it, by run, model and currency; missing without prices.",
    ("run", "model", "currency"),
)
READ_SECONDS = TableMetric("cord_table_metrics_read_seconds", "How long the last reading of these metrics took.")
TABLE_METRICS = (
    LEADING,
    PROBLEMS,
    RUN_ACTIVE,
    WORK,
    WORKERS,
    TOKENS_PER_SECOND,
    REQUESTS_PER_SECOND,
    SECONDS_PER_SECOND,
    RUN_TOKENS,
    RUN_COST,
    READ_SECONDS,
)


class TableMetrics(Collector):
    """The metrics of the runs; registered for the length of a `with`."""

    def __init__(
        self,
        database: Database,
        leads: Callable[[], bool],
        *,
        worker_timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._leads = leads
        self._timeout = worker_timeout_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._families: Sequence[Metric] = ()
        self._due = float("-inf")
        self._runs: dict[int, tuple[str, float]] = {}
        """Names of the runs that were unfinished within the last hour, and when each was last seen unfinished."""
        self._log_once = LogOnce(logger)

    def __enter__(self) -> Self:
        metrics.REGISTRY.register(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        metrics.REGISTRY.unregister(self)

    def collect(self) -> Iterable[Metric]:
        """The metrics for Prometheus; a coordinator that does not lead gives only `cord_leading`, as 0."""
        leads = self._leads()
        yield LEADING.family({(): float(leads)})
        if leads:
            with self._lock:
                self._refresh()
                families = self._families
            yield from families
        else:
            self._due = float("-inf")

    def _refresh(self) -> None:
        started = self._clock()
        if started < self._due:
            return
        try:
            families = read(self._database, self._read, retry_seconds=0.0)
        except (StoreError, DBAPIError) as error:
            self._families = ()  # no values are better than old ones
            self._log_once.log("tables", f"the metrics of runs could not be read: {str(error).partition(chr(10))[0]}")
            return
        self._log_once.log_recovery("tables", "the metrics of runs can be read again")
        ended = self._clock()
        self._families = [*families, READ_SECONDS.family({(): ended - started})]
        self._due = ended + max(_MIN_SECONDS, _COST_FACTOR * (ended - started))

    def _read(self, connection: sa.Connection) -> list[Metric]:
        unfinished = run_metrics.unfinished_runs(connection)
        names = self._shown_runs(unfinished)
        problems = run_metrics.problem_counts(connection, names)
        work = run_metrics.work_by_model(connection)
        usage = run_metrics.recent_usage(connection, window_seconds=_WINDOW_SECONDS)
        processes = live_processes(connection, self._timeout)
        spending = self._spending(connection, names)
        label = labels_of([*(one.name for one in unfinished), *names.values()])
        of_model = _model_labels(work, usage, processes, spending)
        return [
            PROBLEMS.family(_sums(((label[names[one.run_id]], one.state), one.number) for one in problems)),
            RUN_ACTIVE.family(
                {(label[one.name],): float(one.is_active) for one in unfinished if label[one.name] != OTHER}
            ),
            *_by_model(work, usage, processes, of_model),
            *_by_run(spending, label, of_model),
        ]

    def _spending(self, connection: sa.Connection, names: Mapping[int, str]) -> list[_RunSpending]:
        """What these runs have spent so far. A run that was removed meanwhile is left out, and so is the cost of one
        whose prices do not fit its models."""
        found = []
        for key, name in names.items():
            run = find_run(connection, name)
            if run is None or run.id != key:
                continue
            tokens = read_tokens(connection, key)
            try:
                money = stored_money(connection, run, tokens)
            except ConfigError as error:
                money = None
                self._log_once.log(f"cost of run {key}", f"there is no metric of the cost of run {name}: {error}")
            found.append(_RunSpending(name, tokens, money))
        return found

    def _shown_runs(self, unfinished: Sequence[run_metrics.UnfinishedRun]) -> dict[int, str]:
        """Names by key of the runs that are shown: unfinished ones, and those that were so within the last hour."""
        now = self._clock()
        for one in unfinished:
            self._runs[one.id] = (one.name, now)
        self._runs = {key: value for key, value in self._runs.items() if now - value[1] < _KEPT_SECONDS}
        return {key: name for key, (name, _) in self._runs.items()}


@dataclass(frozen=True, slots=True)
class _RunSpending:
    run: str
    tokens: Sequence[TokenRow]
    money: Money | None


def _model_labels(
    work: Sequence[run_metrics.ModelWork],
    usage: Sequence[run_metrics.Usage],
    processes: Sequence[LiveProcess],
    spending: Sequence[_RunSpending],
) -> dict[str, str]:
    """Labels of models by path: models in use come first."""
    sizes: Counter[str] = Counter()
    for one in work:
        sizes[one.model or COORDINATOR] += one.waiting + one.leased
    for process in processes:
        sizes[process.path or COORDINATOR] += 1
    for used in usage:
        sizes[used.model] += used.requests
    for spent in spending:
        for row in spent.tokens:
            sizes[row.model] += 0
        for model in () if spent.money is None else spent.money.models:
            sizes[model.model] += 0
    return labels_of(model for model, _ in sizes.most_common())


def _by_model(
    work: Sequence[run_metrics.ModelWork],
    usage: Sequence[run_metrics.Usage],
    processes: Sequence[LiveProcess],
    label: Mapping[str, str],
) -> list[Metric]:
    waiting = _sums(((label[one.model or COORDINATOR], one.kind, "waiting"), one.waiting) for one in work)
    leased = _sums(((label[one.model or COORDINATOR], one.kind, "leased"), one.leased) for one in work)
    tokens = _sums(
        ((label[one.model], one.kind, direction), number / _WINDOW_SECONDS)
        for one in usage
        for direction, number in (
            ("prompt", one.prompt_tokens),
            ("cached", one.cached_tokens),
            ("completion", one.completion_tokens),
        )
        if number is not None
    )
    return [
        WORK.family({**waiting, **leased}),
        WORKERS.family(_sums(((label[one.path or COORDINATOR], one.state), 1) for one in processes)),
        TOKENS_PER_SECOND.family(tokens),
        REQUESTS_PER_SECOND.family(
            _sums(((label[one.model], one.kind), one.requests / _WINDOW_SECONDS) for one in usage)
        ),
        SECONDS_PER_SECOND.family(
            _sums(((label[one.model], one.kind), one.request_seconds / _WINDOW_SECONDS) for one in usage)
        ),
    ]


def _by_run(spending: Sequence[_RunSpending], of_run: Mapping[str, str], of_model: Mapping[str, str]) -> list[Metric]:
    tokens = _sums(
        ((of_run[spent.run], of_model[row.model], direction), number)
        for spent in spending
        for row in spent.tokens
        for direction, number in (
            ("prompt", row.prompt_tokens),
            ("cached", row.cached_tokens),
            ("completion", row.completion_tokens),
        )
        if number or direction != "cached"
    )
    cost = _sums(
        ((of_run[spent.run], of_model[model.model], shown(spent.money.currency)), model.total)
        for spent in spending
        if spent.money is not None
        for model in spent.money.models
    )
    return [RUN_TOKENS.family(tokens), RUN_COST.family(cost)]


def labels_of(names: Iterable[str]) -> dict[str, str]:
    """Label values of these names, the most important first: printable, short, and at most `MAX_LABEL_VALUES`."""
    labels: dict[str, str] = {}
    for name in names:
        label = shown(name, _MAX_CHARACTERS)
        is_known = label in labels.values()
        labels.setdefault(name, label if is_known or len(set(labels.values())) < MAX_LABEL_VALUES else OTHER)
    return labels


def _sums(pairs: Iterable[tuple[tuple[str, ...], float]]) -> dict[tuple[str, ...], float]:
    """Values by labels; those with equal labels are added, because a series may occur only once."""
    sums: dict[tuple[str, ...], float] = {}
    for labels, value in pairs:
        sums[labels] = sums.get(labels, 0.0) + value
    return sums
