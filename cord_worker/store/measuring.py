"""What measurements read from the tables."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

_PACE = sa.text(
    """
    SELECT count(*) AS problems,
           count(*) FILTER (WHERE state IN ('done', 'failed', 'cancelled')) AS final,
           count(*) FILTER (WHERE state = 'failed') AS failed,
           extract(epoch FROM max(finished_at) - min(admitted_at))::float8 AS seconds
    FROM problems WHERE run_id = :run_id
    """
)

_CANDIDATES = sa.text(
    """
    SELECT count(*) FROM candidates c JOIN problems p ON p.id = c.problem_id
    WHERE p.run_id = :run_id AND c.state IN ('scored', 'invalid')
    """
)

_WORKER_PORTS = sa.text(
    """
    SELECT pid, metrics_port FROM workers
    WHERE pid = ANY(:pids) AND stopped_at IS NULL AND ready_at IS NOT NULL AND metrics_port IS NOT NULL
    """
)

_EMPTY = sa.text("TRUNCATE runs, models, teachers, problems, candidates, beams, trajectories, workers")


@dataclass(frozen=True, slots=True)
class Pace:
    """How far a run is; `seconds` are from its first admission to its last final problem, None before either."""

    problems: int
    final: int
    failed: int
    seconds: float | None


def pace_of(connection: sa.Connection, run_id: int) -> Pace:
    """How far the run is."""
    return Pace(**connection.execute(_PACE, {"run_id": run_id}).one()._mapping)


def final_candidates(connection: sa.Connection, run_id: int) -> int:
    """Candidates of the run that are scored or invalid."""
    return int(connection.execute(_CANDIDATES, {"run_id": run_id}).scalar_one())


def metrics_ports(connection: sa.Connection, pids: list[int]) -> dict[int, int]:
    """Ports of the metrics of these processes of this machine, by process id; only of those that are ready."""
    return {row.pid: row.metrics_port for row in connection.execute(_WORKER_PORTS, {"pids": pids})}


def empty_tables(connection: sa.Connection) -> None:
    """Empties every table: for a database that a measurement made for itself, and for none else."""
    connection.execute(_EMPTY)
