"""Rescorings: a second set of scores of a run's candidates. Begins, extends, retries, lists and removes them.

A rescoring takes, from done problems, the candidates that have a score, or would have one if the run had a prover. It
changes nothing in the run itself. Its work is leased like all work (`store.work.rescore`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

import cord_worker
from cord_worker.config import ModelConfig, ProverConfig
from cord_worker.errors import RunConflict, StoreError
from cord_worker.name_suggestions import did_you_mean
from cord_worker.store.runs.enqueue import ensure_model, lock_run_name
from cord_worker.store.runs.runs import RunRow, resolve_run
from cord_worker.store.schema import digests
from cord_worker.store.schema.tables import RunState
from cord_worker.store.work.rescore import GIVEN_UP

_RESCORINGS = sa.text(
    """
    SELECT q.id, q.name, m.fingerprint AS model, m.path, q.prover, q.system_prompt, q.scoring_mode, q.created_at
    FROM rescorings q JOIN models m ON m.id = q.model_id WHERE q.run_id = :run_id ORDER BY q.id
    """
)

_INSERT = sa.text(
    f"""
    INSERT INTO rescorings (run_id, name, model_id, prover, system_prompt, code_version, digest)
    SELECT q.*, {digests.RESCORING.sql()}
    FROM (VALUES (CAST(:run_id AS bigint), CAST(:name AS text), CAST(:model_id AS bigint), CAST(:prover AS jsonb),
                  CAST(:system_prompt AS text), CAST(:version AS text))
    ) AS q(run_id, name, model_id, prover, system_prompt, code_version)
    """
)

_ADD = sa.text(
    """
    INSERT INTO rescores (rescoring_id, candidate_id, problem_id)
    SELECT :rescoring_id, c.id, c.problem_id
    FROM problems p JOIN candidates c ON c.problem_id = p.id
    WHERE p.run_id = :run_id AND p.state = 'done' AND c.state IN ('scored', 'unscored') AND c.text IS NOT NULL
    AND NOT EXISTS (
        SELECT 1 FROM rescores x WHERE x.rescoring_id = :rescoring_id AND x.candidate_id = c.id
    )
    ORDER BY p.position, c.id
    """
)

_RETRY = sa.text(
    f"""
    UPDATE rescores SET state = 'queued', rescore_attempts = 0, invalid_reason = NULL, scored_at = NULL, digest = NULL,
                        touched_at = 'epoch'
    WHERE rescoring_id = :rescoring_id AND state = 'invalid' AND invalid_reason = '{GIVEN_UP}'
    """
)

_COUNTS = sa.text(
    f"""
    SELECT count(*) AS total, count(*) FILTER (WHERE state = 'scored') AS scored,
           count(*) FILTER (WHERE state = 'invalid') AS invalid,
           count(*) FILTER (WHERE state = 'invalid' AND invalid_reason = '{GIVEN_UP}') AS given_up
    FROM rescores WHERE rescoring_id = :rescoring_id
    """
)

_LEFT = sa.text(
    """
    SELECT (SELECT count(*) FROM rescores WHERE rescoring_id = :rescoring_id AND state = 'queued')
         + (SELECT count(*) FROM rescores WHERE state IN ('pending', 'scoring') AND rescoring_id = :rescoring_id)
    """
)
"""Each part uses a partial index of unfinished rows, so that the cost does not grow with the number of finished
ones."""

_REMOVE = sa.text("DELETE FROM rescorings WHERE id = :rescoring_id")


@dataclass(frozen=True, slots=True)
class RescoringRow:
    """A rescoring as stored; `model` is a fingerprint, `prover` the table [prover] without its model."""

    id: int
    name: str
    model: str
    path: str
    prover: dict[str, Any]
    system_prompt: str | None
    scoring_mode: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class RescoringCounts:
    """How many candidates a rescoring has, and how many have a result: `given_up` ones are among the `invalid` ones."""

    total: int
    scored: int
    invalid: int
    given_up: int

    @property
    def left(self) -> int:
        """Candidates without a result."""
        return self.total - self.scored - self.invalid


@dataclass(frozen=True, slots=True)
class BegunRescoring:
    """What `begin_rescoring` changed: whether the rescoring is new, how many candidates were `added`, how many
    `retried`."""

    run: RunRow
    rescoring: RescoringRow
    created: bool
    added: int
    retried: int
    counts: RescoringCounts


def stored_prover(prover: ProverConfig) -> dict[str, Any]:
    """The table [prover] as a rescoring stores it: without the model, which has a column."""
    return prover.model_dump(mode="json", exclude={"model"})


def prover_of(stored: dict[str, Any]) -> ProverConfig:
    """The table [prover] of a rescoring, from its stored form (`stored_prover`); its model is a placeholder."""
    return ProverConfig.model_validate({"model": "-", **stored})


def list_rescorings(connection: sa.Connection, run_id: int) -> list[RescoringRow]:
    """The rescorings of the run, oldest first."""
    return [RescoringRow(**row._mapping) for row in connection.execute(_RESCORINGS, {"run_id": run_id})]


def find_rescoring(connection: sa.Connection, run: RunRow, name: str) -> RescoringRow:
    """The rescoring of the run with this name. Raises StoreError, which names the existing ones."""
    existing = list_rescorings(connection, run.id)
    for one in existing:
        if one.name == name:
            return one
    names = [one.name for one in existing]
    listed = ", ".join(names) or f"none yet (cordctl rescore {run.name} --prover MODEL begins one)"
    near = did_you_mean(name, names)
    raise StoreError(
        f"run {run.name!r} has no rescoring called {name!r}{':' if near else '.'}{near} There are: {listed}"
    )


def begin_rescoring(
    connection: sa.Connection,
    run_name: str,
    name: str,
    model: ModelConfig,
    prover: ProverConfig,
    *,
    retry: bool = False,
) -> BegunRescoring:
    """Queues all candidates of the run that the rescoring called `name` does not have yet; creates it if needed.

    With `retry`, rescores that were given up are queued again. Raises RunNotFound; RunConflict if the run was
    cancelled, or if the rescoring has another prover; StoreError if the run has no candidate yet that can be scored.
    """
    lock_run_name(connection, run_name)
    run = resolve_run(connection, run_name)
    if run.state == RunState.CANCELLED:
        raise RunConflict(f"run {run.name!r} was cancelled: its candidates are no longer scored")
    existing = next((one for one in list_rescorings(connection, run.id) if one.name == name), None)
    if existing is None:
        values = {
            "run_id": run.id,
            "name": name,
            "model_id": ensure_model(connection, model.fingerprint(), model.path, model.identity()),
            "prover": json.dumps(stored_prover(prover)),
            "system_prompt": model.system_prompt,
            "version": cord_worker.__version__,
        }
        connection.execute(_INSERT, values)
    elif (existing.model, prover_of(existing.prover), existing.system_prompt) != (
        model.fingerprint(),
        prover_of(stored_prover(prover)),
        model.system_prompt,
    ):
        raise RunConflict(
            f"run {run.name!r} has a rescoring {name!r} by another prover ({existing.path}, fingerprint "
            f"{existing.model}) or with another scoring template or system prompt. Choose another name with --name."
        )
    rescoring = find_rescoring(connection, run, name)
    parameters = {"rescoring_id": rescoring.id}
    added = connection.execute(_ADD, {**parameters, "run_id": run.id}).rowcount
    retried = connection.execute(_RETRY, parameters).rowcount if retry else 0
    counts = rescoring_counts(connection, rescoring.id)
    if not counts.total:
        raise StoreError(
            f"run {run.name!r} has no finished problem with candidates that can be scored yet (cordctl status "
            f"{run.name})"
        )
    return BegunRescoring(run, rescoring, existing is None, added, retried, counts)


def rescoring_counts(connection: sa.Connection, rescoring_id: int) -> RescoringCounts:
    """How many candidates of the rescoring have which result; reads all of its rows."""
    return RescoringCounts(**connection.execute(_COUNTS, {"rescoring_id": rescoring_id}).one()._mapping)


def rescores_left(connection: sa.Connection, rescoring_id: int) -> int:
    """How many candidates of the rescoring have no result yet; cheap enough to be read every second."""
    return int(connection.execute(_LEFT, {"rescoring_id": rescoring_id}).scalar_one())


def remove_rescoring(connection: sa.Connection, run_name: str, name: str) -> int:
    """Deletes a rescoring with its scores; returns how many candidates it had. Raises RunNotFound, StoreError."""
    lock_run_name(connection, run_name)
    rescoring = find_rescoring(connection, resolve_run(connection, run_name), name)
    counts = rescoring_counts(connection, rescoring.id)
    connection.execute(_REMOVE, {"rescoring_id": rescoring.id})
    return counts.total
