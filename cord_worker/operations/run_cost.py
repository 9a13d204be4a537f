"""The cost of a run: `cordctl cost`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from cord_worker.config import RunConfig, SearchConfig
from cord_worker.operations.fleet import names_by_path
from cord_worker.store.reports.costs import CostRow, Walls, engine_seconds, read_costs, read_walls
from cord_worker.store.runs.runs import resolve_run

GENERATION = ("propose", "answer")
SCORING = ("score", "judge")
"""Kinds of request for the selection: the prover's scores, and selection judgments."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one run: by model and kind of request, and in wall time."""

    run: str
    pipeline: str
    budget: str
    rows: Sequence[CostRow]
    walls: Walls

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


def read_cost(connection: sa.Connection, run_name: str | None) -> Cost:
    """The cost of the run with this name, by default the newest. Raises RunNotFound."""
    run = resolve_run(connection, run_name)
    search = RunConfig.from_stored(run.config).search
    names = names_by_path(run)
    rows = [replace(row, model=names.get(row.model, row.model)) for row in read_costs(connection, run.name)]
    return Cost(run.name, search.pipeline, budget(search), rows, read_walls(connection, run.id))


def budget(search: SearchConfig) -> str:
    """What the pipeline may spend on a problem, as text."""
    if search.pipeline == "cord":
        proposals = f", {search.samples_per_teacher} proposals" if search.samples_per_teacher > 1 else ""
        return f"B = {search.beam_width}{proposals}"
    return f"{search.trajectories} trajectories" if search.trajectories > 1 else "1 trajectory"
