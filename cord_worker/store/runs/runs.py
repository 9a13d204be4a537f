"""Finds and lists runs, sets their state and priority, and reads their teachers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from cord_worker.errors import RunNotFound, StoreError
from cord_worker.name_suggestions import did_you_mean
from cord_worker.store.schema.tables import RunState


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as stored; `prover_model` is the fingerprint of the model that scores, None in a run without scores.

    `max_tokens` (generated tokens) and `max_cost` (in the currency of `prices`) are its spending limits;
    `pause_reason` says which of them paused it. `trimmed_from`, `source_run_id` and `trim_above` are set only in a
    trimmed run, `source_run_id` until the source is removed.
    """

    id: int
    name: str
    state: str
    priority: int
    config: dict[str, Any]
    config_fingerprint: str
    prover_model: str | None
    seed: int
    scoring_mode: str | None
    prompt_date: date
    created_at: datetime
    pause_reason: str | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    prices: dict[str, Any] | None = None
    trimmed_from: str | None = None
    source_run_id: int | None = None
    trim_above: float | None = None


@dataclass(frozen=True, slots=True)
class TeacherRow:
    """A teacher as stored, with the fingerprint of its model."""

    id: int
    run_id: int
    ordinal: int
    name: str
    role: str
    model_fingerprint: str
    sampling: dict[str, Any]
    system_prompt: str | None


_RUNS = """
    SELECT r.id, r.name, r.state, r.priority, r.config, r.config_fingerprint, m.fingerprint AS prover_model, r.seed,
           r.scoring_mode, r.prompt_date, r.created_at, r.pause_reason, r.max_tokens, r.max_cost, r.prices,
           r.trimmed_from, r.source_run_id, r.trim_above
    FROM runs r LEFT JOIN models m ON m.id = r.prover_model_id
"""

_FIND_RUN = sa.text(f"{_RUNS} WHERE r.name = :name")
_GET_RUN = sa.text(f"{_RUNS} WHERE r.id = :id")
_LIST_RUNS = sa.text(f"{_RUNS} ORDER BY r.created_at, r.id")

_TEACHERS = sa.text(
    """
    SELECT t.id, t.run_id, t.ordinal, t.name, t.role, m.fingerprint AS model_fingerprint, t.sampling, t.system_prompt
    FROM teachers t JOIN models m ON m.id = t.model_id
    WHERE t.run_id = :run_id ORDER BY t.ordinal
    """
)

_SET_STATE = sa.text("UPDATE runs SET state = :state, pause_reason = NULL WHERE id = :id")

_SET_PRIORITY = sa.text("UPDATE runs SET priority = :priority WHERE id = :id")


def find_run(connection: sa.Connection, name: str) -> RunRow | None:
    """The run called `name`, or None."""
    row = connection.execute(_FIND_RUN, {"name": name}).one_or_none()
    return None if row is None else RunRow(**row._mapping)


def get_run(connection: sa.Connection, run_id: int) -> RunRow:
    """The run with this key. Raises StoreError if there is none."""
    row = connection.execute(_GET_RUN, {"id": run_id}).one_or_none()
    if row is None:
        raise StoreError(f"no run with key {run_id}; it was removed meanwhile")
    return RunRow(**row._mapping)


def list_runs(connection: sa.Connection) -> list[RunRow]:
    """All runs, oldest first."""
    return [RunRow(**row._mapping) for row in connection.execute(_LIST_RUNS)]


def resolve_run(connection: sa.Connection, name: str | None) -> RunRow:
    """The run called `name`; without a name the newest one. Raises RunNotFound, which names the existing runs."""
    runs = list_runs(connection)
    if name is None:
        if not runs:
            raise RunNotFound("there are no runs yet. Start one with: cordctl enqueue DATASET")
        return runs[-1]
    for run in runs:
        if run.name == name:
            return run
    names = [run.name for run in runs]
    near = did_you_mean(name, names)
    existing = ", ".join(names[-10:]) or "none yet (cordctl enqueue DATASET begins one)"
    raise RunNotFound(f"no run is called {name!r}{':' if near else '.'}{near} There are: {existing}")


def set_run_state(connection: sa.Connection, run_id: int, state: RunState) -> None:
    """Sets the run's state, which decides whether its problems are worked on."""
    connection.execute(_SET_STATE, {"id": run_id, "state": state.value})


def set_run_priority(connection: sa.Connection, run_id: int, priority: int) -> None:
    """Sets the run's priority."""
    connection.execute(_SET_PRIORITY, {"id": run_id, "priority": priority})


def read_teachers(connection: sa.Connection, run_id: int) -> list[TeacherRow]:
    """The run's teachers in their order."""
    return [TeacherRow(**row._mapping) for row in connection.execute(_TEACHERS, {"run_id": run_id})]
