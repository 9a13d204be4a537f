"""The cost of a run: `cordctl cost`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from cord_worker.config import Prices, RunConfig, SearchConfig
from cord_worker.operations.fleet import names_by_path
from cord_worker.store.reports.costs import CostRow, WallTimes, engine_seconds, read_costs, read_wall_times
from cord_worker.store.runs.runs import resolve_run
from cord_worker.store.runs.spending import Money, money_of

GENERATION = ("propose", "answer")
SCORING = ("score", "judge")
"""Kinds of request for the selection: the prover's scores, and selection judgments."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one run: by model and kind of request, in wall time, and in money if there are prices."""

    run: str
    pipeline: str
    budget: str
    rows: Sequence[CostRow]
    walls: WallTimes
    money: Money | None = None

    @property
    def money_per_problem(self) -> float | None:
        """Money per final problem; None without prices."""
        return None if self.money is None else self._per_problem(self.money.total)

    def seconds_per_problem(self, kinds: Sequence[str]) -> float | None:
        """Engine seconds of these kinds of request per final problem (paper, Table 14)."""
        return self._per_problem(sum(row.engine_seconds for row in self.rows if row.kind in kinds))

    @property
    def run_seconds_per_problem(self) -> float | None:
        """Wall seconds of the run, divided by its final problems."""
        return self._per_problem(self.walls.run_seconds)

    def tokens_in_per_problem(self, kinds: Sequence[str]) -> float | None:
        """Prompt tokens of these kinds of request per final problem, cached ones included."""
        return self._per_problem(sum(row.prompt_tokens for row in self.rows if row.kind in kinds))

    def tokens_out_per_problem(self, kinds: Sequence[str]) -> float | None:
        """Generated tokens of these kinds of request per final problem."""
        return self._per_problem(sum(row.completion_tokens for row in self.rows if row.kind in kinds))

    def _per_problem(self, total: float) -> float | None:
        return total / self.walls.problems if self.walls.problems else None

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "run": self.run,
            "pipeline": self.pipeline,
            "budget": self.budget,
            "problems": self.walls.problems,
            "run_seconds": self.walls.run_seconds,
            "run_seconds_per_problem": self.run_seconds_per_problem,
            "mean_problem_seconds": self.walls.problem_seconds,
            "generation_wall_seconds_per_problem": self.walls.generation_seconds,
            "scoring_wall_seconds_per_problem": self.walls.scoring_seconds,
            "generation_engine_seconds_per_problem": self.seconds_per_problem(GENERATION),
            "scoring_engine_seconds_per_problem": self.seconds_per_problem(SCORING),
            "tokens_in_per_problem": self.tokens_in_per_problem(GENERATION),
            "tokens_out_per_problem": self.tokens_out_per_problem(GENERATION),
            "scored_tokens_per_problem": self.tokens_in_per_problem(SCORING),
            "engine_seconds": round(engine_seconds(self.rows), 3),
            "money": None if self.money is None else self._money_to_json(self.money),
            "models": [
                {
                    **asdict(row),
                    "request_seconds": round(row.request_seconds, 3),
                    "engine_seconds": round(row.engine_seconds, 3),
                    "engine_seconds_per_problem": self._per_problem(row.engine_seconds),
                }
                for row in self.rows
            ],
        }

    def _money_to_json(self, money: Money) -> dict[str, Any]:
        return {
            "currency": money.currency,
            "total": money.total,
            "per_problem": self.money_per_problem,
            "models": [{**asdict(model), "total": model.total} for model in money.models],
        }


def read_cost(connection: sa.Connection, run_name: str | None, prices: Prices | None = None) -> Cost:
    """The cost of the run with this name, by default the newest. Its cost in money is computed with `prices`, else with
    those of the run.

    Raises RunNotFound; ConfigError if a model of the run has no price.
    """
    run = resolve_run(connection, run_name)
    search = RunConfig.from_stored(run.config).search
    names = names_by_path(run)
    rows = read_costs(connection, run.name)
    if prices is None and run.prices is not None:
        prices = Prices.from_stored(run.prices)
    money = None if prices is None else money_of(connection, run, rows, prices)
    if money is not None:
        money = replace(money, models=tuple(replace(m, model=names.get(m.model, m.model)) for m in money.models))
    rows = [replace(row, model=names.get(row.model, row.model)) for row in rows]
    return Cost(run.name, search.pipeline, budget(search), rows, read_wall_times(connection, run.id), money)


def budget(search: SearchConfig) -> str:
    """What the pipeline may spend on a problem, as text."""
    if search.pipeline == "cord":
        proposals = f", {search.samples_per_teacher} proposals" if search.samples_per_teacher > 1 else ""
        return f"B = {search.beam_width}{proposals}"
    return f"{search.trajectories} trajectories" if search.trajectories > 1 else "1 trajectory"
