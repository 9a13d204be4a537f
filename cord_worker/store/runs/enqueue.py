"""Enqueues a run: its models and teachers, and its problems, in one transaction.

Problems are streamed into a staging table by COPY and checked there by SQL, so that memory stays constant for a dataset
of any size. They are inserted only when all are valid: nothing of a bad file is enqueued.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

import cord_worker
from cord_worker.config import DEFAULT_SCORE, ModelConfig, RunConfig
from cord_worker.dataset import ProblemRecord, RejectedRecord, flaw_of, rejection_error
from cord_worker.dataset.jsontext import exact_json
from cord_worker.dataset.repetition import conflicting_record, repeated_record
from cord_worker.errors import DatasetError, RunConflict
from cord_worker.store.runs.runs import find_run
from cord_worker.store.schema import digests
from cord_worker.store.schema.tables import RunState, TeacherRole
from cord_worker.store.schema.verification_sql import METHOD, REFERENCE, method_of, reference_of

_STAGE = sa.text(
    """
    CREATE TEMPORARY TABLE staged (
        line bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text, content_hash text, question text, answer text,
        passage text, attributes jsonb, location text
    ) ON COMMIT DROP
    """
)

_ANALYZE_STAGED = sa.text("ANALYZE staged (line, key)")
"""With statistics, the planner reads the rows in the order of the index on `line` to number them. Without, it would
sort whole rows on disk."""

_COPY = "COPY staged (key, content_hash, question, answer, passage, attributes, location) FROM STDIN"

_HAS_GIVEN_ID = """
    s.key <> left(encode(sha256(convert_to(s.question, 'UTF8') || decode('00', 'hex') || convert_to(s.answer, 'UTF8')),
                         'hex'), 16)
"""
"""SQL: whether the id of `s` is from the dataset; otherwise it is a hash of the content (`content_id`)."""

_REPEATED = sa.text(
    f"""
    SELECT line, key, location, first_location,
           (SELECT {_HAS_GIVEN_ID} FROM staged s WHERE s.line = numbered.line) AS has_given_id,
           (SELECT s.content_hash = f.content_hash FROM staged s, staged f
            WHERE s.line = numbered.line AND f.line = numbered.first_line) AS is_equal
    FROM (
        SELECT line, key, location, first_value(location) OVER same AS first_location,
               first_value(line) OVER same AS first_line, row_number() OVER same AS occurrence
        FROM staged WINDOW same AS (PARTITION BY key ORDER BY line)
    ) numbered
    WHERE occurrence > 1 ORDER BY line LIMIT :most
    """
)
"""The subqueries read whole rows only where an id is repeated; a join would sort or hash all whole rows."""

_DROP_REPEATED = sa.text(
    """
    DELETE FROM staged s USING staged earlier WHERE earlier.key = s.key AND earlier.line < s.line
    """
)

_CONFLICTS = f"""
    p.run_id = :run_id AND p.key = s.key AND r.id = p.run_id
    AND (p.content_hash <> s.content_hash OR {METHOD} IS DISTINCT FROM {method_of("s")}
         OR {REFERENCE} IS DISTINCT FROM {reference_of("s")})
"""
"""SQL: whether run `r` already holds, as `p`, a problem with the key of `s` but different content, method or
reference."""

_CONFLICTING = sa.text(
    f"""
    SELECT s.line, s.key, s.location, {_HAS_GIVEN_ID} AS has_given_id
    FROM staged s, problems p, runs r WHERE {_CONFLICTS}
    ORDER BY s.line LIMIT :most
    """
)

_DROP_CONFLICTING = sa.text(f"DELETE FROM staged s USING problems p, runs r WHERE {_CONFLICTS}")

_DROP_PRESENT = sa.text("DELETE FROM staged s USING problems p WHERE p.run_id = :run_id AND p.key = s.key")
"""Separate from `_INSERT`: if this were a condition there, PostgreSQL would read all rows inserted so far again for
every new row."""

_INSERT = sa.text(
    f"""
    INSERT INTO problems (run_id, position, key, content_hash, question, answer, passage, attributes, digest)
    SELECT p.run_id, p.position, p.key, p.content_hash, p.question, p.answer, p.passage, p.attributes,
           {digests.PROBLEM.sql()}
    FROM (
        SELECT s.*, CAST(:run_id AS bigint) AS run_id, :offset + row_number() OVER (ORDER BY s.line) - 1 AS position
        FROM staged s
    ) p
    ORDER BY p.line
    """
)

_MANY_ROWS = 10_000
"""If at least this many rows are inserted, the planner's statistics are updated at once: if the dataset is enqueued
again, its rows are compared with all of these."""
_ANALYZE_PROBLEMS = sa.text("ANALYZE problems (run_id, key)")

_NEXT_POSITION = sa.text("SELECT coalesce(max(position) + 1, 0) FROM problems WHERE run_id = :run_id")
_LOCK_NAME = sa.text("SELECT pg_advisory_xact_lock(hashtextextended('cord run ' || :name, 0))")

_INSERT_RUN = sa.text(
    f"""
    INSERT INTO runs
        (name, config, config_fingerprint, prover_model_id, selection_model_id, judge_model_id, seed, code_version,
         priority, prompt_date, pipeline, max_active, max_attempts, verify_method, verify_field, reference_field,
         judges_undecided, prover_score, max_tokens, max_cost, prices, digest)
    SELECT r.*, {digests.RUN.sql(owner="CAST(r.name AS text)")}
    FROM (VALUES
        (CAST(:name AS text), CAST(:config AS jsonb), CAST(:fingerprint AS text), CAST(:prover_model_id AS bigint),
         CAST(:selection_model_id AS bigint), CAST(:judge_model_id AS bigint), CAST(:seed AS bigint),
         CAST(:version AS text), CAST(:priority AS int), CAST(:prompt_date AS date), CAST(:pipeline AS text),
         CAST(:max_active AS int), CAST(:max_attempts AS int), CAST(:verify_method AS text),
         CAST(:verify_field AS text), CAST(:reference_field AS text), CAST(:judges_undecided AS boolean),
         CAST(:prover_score AS text), CAST(:max_tokens AS bigint), CAST(:max_cost AS float8), CAST(:prices AS jsonb))
    ) AS r(name, config, config_fingerprint, prover_model_id, selection_model_id, judge_model_id, seed, code_version,
           priority, prompt_date, pipeline, max_active, max_attempts, verify_method, verify_field, reference_field,
           judges_undecided, prover_score, max_tokens, max_cost, prices)
    RETURNING id
    """
)

_UPDATE_CONFIG = sa.text(
    """
    UPDATE runs SET config = CAST(:config AS jsonb), pipeline = :pipeline, max_active = :max_active,
        max_attempts = :max_attempts, verify_method = :verify_method, verify_field = :verify_field,
        reference_field = :reference_field, judges_undecided = :judges_undecided, prover_score = :prover_score,
        priority = CASE
        WHEN coalesce((config -> 'run' ->> 'priority')::int, 0) <> :priority THEN :priority ELSE priority END
    WHERE id = :run_id
    """
)
"""A priority set by command stays unless the file's priority has changed. The file's former priority is in `config`
only; the column holds the one in force."""

_UPDATE_LIMITS = sa.text(
    """
    UPDATE runs SET max_tokens = CAST(:max_tokens AS bigint), max_cost = CAST(:max_cost AS float8),
        prices = CAST(:prices AS jsonb), pause_reason = NULL,
        state = CASE WHEN pause_reason IS NULL THEN state ELSE 'active' END
    WHERE id = :run_id
      AND ((config -> 'run' ->> 'max_tokens')::bigint, (config -> 'run' ->> 'max_cost')::float8,
           nullif(config -> 'prices', 'null'))
          IS DISTINCT FROM (CAST(:max_tokens AS bigint), CAST(:max_cost AS float8), CAST(:prices AS jsonb))
    """
)
"""Limits and prices set by command, too, stay unless the file's have changed. If they have, a run that a limit had
paused continues; the sweeper pauses it again if it has reached a new limit."""

_ADD_DATASET = sa.text(
    """
    UPDATE runs SET datasets = datasets || jsonb_build_array(CAST(:dataset AS jsonb))
    WHERE id = :run_id AND NOT datasets @> jsonb_build_array(CAST(:dataset AS jsonb))
    """
)

_ENSURE_MODEL = sa.text(
    """
    INSERT INTO models (fingerprint, path, identity) VALUES (:fingerprint, :path, CAST(:identity AS jsonb))
    ON CONFLICT (fingerprint) DO NOTHING
    """
)
_MODEL_ID = sa.text("SELECT id FROM models WHERE fingerprint = :fingerprint")

_INSERT_TEACHER = sa.text(
    """
    INSERT INTO teachers (run_id, ordinal, name, role, model_id, sampling, system_prompt)
    VALUES (:run_id, :ordinal, :name, :role, :model_id, CAST(:sampling AS jsonb), :system_prompt)
    """
)

_MOST_NAMED = 20

_AS_JSON = json.JSONEncoder(ensure_ascii=False)
"""One encoder for all rows, because `json.dumps` makes a new one for every call with options."""


@dataclass(frozen=True, slots=True)
class EnqueueReport:
    """What happened to a dataset: numbers of rows added, already there with the same content, and rejected. `created`:
    whether the run is new."""

    run_id: int
    run_name: str
    created: bool
    added: int
    already: int
    rejected: int


def enqueue(
    connection: sa.Connection,
    name: str,
    config: RunConfig,
    records: Iterable[ProblemRecord | RejectedRecord],
    *,
    on_rejected: Callable[[RejectedRecord], None] | None = None,
    dataset: dict[str, str] | None = None,
) -> EnqueueReport:
    """Enqueues `records` into the run called `name`, which it creates if needed. If they are from the hub, `dataset`
    names their dataset there (id, revision, split); it is stored with the run.

    With `on_rejected`, bad rows are passed to it and the rest is enqueued; without it the first bad row raises
    DatasetError and the caller's transaction rolls back. Raises RunConflict if the run exists with another
    configuration, was cancelled, or is a trimmed run. Do not repeat the call with a consumed iterator.
    """
    lock_run_name(connection, name)
    run_id, created = _ensure_run(connection, name, config)
    connection.execute(_STAGE)
    rejected = _stage(connection, records, on_rejected)
    connection.execute(_ANALYZE_STAGED)
    rejected += _reject_staged(
        connection,
        on_rejected,
        found=_REPEATED,
        drop=_DROP_REPEATED,
        parameters={},
        reject=lambda row: repeated_record(
            row.key, row.location, row.first_location, has_given_id=row.has_given_id, is_equal=row.is_equal
        ),
    )
    if not created:
        rejected += _reject_staged(
            connection,
            on_rejected,
            found=_CONFLICTING,
            drop=_DROP_CONFLICTING,
            parameters={"run_id": run_id},
            reject=lambda row: conflicting_record(row.key, row.location, name, has_given_id=row.has_given_id),
        )
    already = 0 if created else connection.execute(_DROP_PRESENT, {"run_id": run_id}).rowcount
    offset = connection.execute(_NEXT_POSITION, {"run_id": run_id}).scalar_one()
    added = connection.execute(_INSERT, {"run_id": run_id, "offset": offset}).rowcount
    if added >= _MANY_ROWS:
        connection.execute(_ANALYZE_PROBLEMS)
    if not created:
        # The fingerprint is the same: only settings that do not decide results (max_active, batch sizes, ...) differ.
        # This comes last because it locks the run's row: `pause` must not wait until a long dataset is read.
        connection.execute(_UPDATE_LIMITS, {"run_id": run_id, **_spending_limits(config)})
        connection.execute(
            _UPDATE_CONFIG,
            {
                "run_id": run_id,
                "config": config.model_dump_json(),
                "priority": config.run.priority,
                **configuration_columns(config),
            },
        )
    if dataset is not None:
        connection.execute(_ADD_DATASET, {"run_id": run_id, "dataset": json.dumps(dataset)})
    return EnqueueReport(run_id, name, created, added, already, rejected)


def configuration_columns(config: RunConfig) -> dict[str, str | int | bool | None]:
    """The columns of a run that repeat parts of its configuration, because SQL needs them."""
    return {
        "pipeline": config.search.pipeline,
        "max_active": config.run.max_active,
        "max_attempts": config.run.max_attempts,
        "verify_method": config.verify.method,
        "verify_field": config.verify.field,
        "reference_field": config.verify.reference_field,
        "judges_undecided": config.verify.undecided == "judge",
        "prover_score": config.required_prover.score if config.is_scored else DEFAULT_SCORE,
    }


def _spending_limits(config: RunConfig) -> dict[str, str | int | float | None]:
    return {
        "max_tokens": config.run.max_tokens,
        "max_cost": config.run.max_cost,
        "prices": None if config.prices is None else config.prices.model_dump_json(),
    }


def lock_run_name(connection: sa.Connection, name: str) -> None:
    """Until the transaction ends, no other transaction enqueues into the run called `name` or cancels it."""
    connection.execute(_LOCK_NAME, {"name": name})


def ensure_model(connection: sa.Connection, fingerprint: str, path: str, identity: dict[str, Any]) -> int:
    """Key of the model with this fingerprint; inserts it if needed."""
    connection.execute(_ENSURE_MODEL, {"fingerprint": fingerprint, "path": path, "identity": json.dumps(identity)})
    return int(connection.execute(_MODEL_ID, {"fingerprint": fingerprint}).scalar_one())


def _ensure_model_of(connection: sa.Connection, model: ModelConfig | None) -> int | None:
    if model is None:
        return None
    return ensure_model(connection, model.fingerprint(), model.path, model.identity())


def _ensure_run(connection: sa.Connection, name: str, config: RunConfig) -> tuple[int, bool]:
    """The key of the run, and whether it is new. Raises RunConflict if it cannot take these problems."""
    fingerprint = config.fingerprint()
    existing = find_run(connection, name)
    if existing is not None:
        if existing.trimmed_from is not None:
            raise RunConflict(
                f"run {name!r} was trimmed from run {existing.trimmed_from!r} and takes no dataset: cordctl trim adds "
                "the problems that are done there. Choose another name with --run."
            )
        if existing.config_fingerprint != fingerprint:
            raise RunConflict(
                f"run {name!r} exists with another configuration (fingerprint {existing.config_fingerprint}, this "
                f"one {fingerprint}). Choose another name with --run, or use the configuration it was started with."
            )
        if existing.state == RunState.CANCELLED:
            raise RunConflict(f"run {name!r} was cancelled and takes no more problems. Choose another name with --run.")
        return existing.id, False
    run_id = connection.execute(
        _INSERT_RUN,
        {
            "name": name,
            "config": config.model_dump_json(),
            "fingerprint": fingerprint,
            "prover_model_id": _ensure_model_of(connection, config.prover_model if config.is_scored else None),
            "selection_model_id": _ensure_model_of(connection, config.selection_model),
            "judge_model_id": _ensure_model_of(connection, config.judge_model),
            "seed": config.run.seed,
            "version": cord_worker.__version__,
            "priority": config.run.priority,
            "prompt_date": config.run.date or datetime.now(UTC).date(),
            **configuration_columns(config),
            **_spending_limits(config),
        },
    ).scalar_one()
    for ordinal, teacher in enumerate(config.all_teachers):
        connection.execute(
            _INSERT_TEACHER,
            {
                "run_id": run_id,
                "ordinal": ordinal,
                "name": teacher.name,
                "role": (TeacherRole.TEACHER if ordinal < len(config.teachers) else TeacherRole.INTEGRATOR).value,
                "model_id": _ensure_model_of(connection, config.teacher_model(teacher)),
                "sampling": teacher.model_dump_json(exclude={"name", "model", "system_prompt"}),
                "system_prompt": config.system_prompt(teacher),
            },
        )
    return run_id, True


def _stage(
    connection: sa.Connection,
    records: Iterable[ProblemRecord | RejectedRecord],
    on_rejected: Callable[[RejectedRecord], None] | None,
) -> int:
    """Copies the valid records into the staging table; returns the number of rejected ones."""
    rejected = 0
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection was closed while problems were staged")
    with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
        for record in records:
            if isinstance(record, RejectedRecord):
                if on_rejected is None:
                    raise rejection_error(record, "skip such rows with --skip-invalid; nothing was enqueued")
                on_rejected(record)
                rejected += 1
                continue
            copy.write_row(
                (
                    record.key,
                    content_hash(record),
                    record.question,
                    record.answer,
                    record.passage,
                    exact_json(record.metadata),
                    record.location,
                )
            )
    return rejected


def content_hash(record: ProblemRecord) -> str:
    """Hash of question, answer and passage."""
    parts = (record.question, record.answer, record.passage)
    return hashlib.sha256(_AS_JSON.encode(parts).encode()).hexdigest()[:32]


def _reject_staged(
    connection: sa.Connection,
    on_rejected: Callable[[RejectedRecord], None] | None,
    *,
    found: sa.TextClause,
    drop: sa.TextClause,
    parameters: dict[str, Any],
    reject: Callable[[Any], RejectedRecord],
) -> int:
    """Drops the staged rows that `found` selects and passes them to `on_rejected`; returns their number. Without
    `on_rejected` it raises DatasetError, which names the first of them."""
    most = _MOST_NAMED + 1 if on_rejected is None else None
    rows = connection.execute(found, {**parameters, "most": most}).all()
    if not rows:
        return 0
    if on_rejected is None:
        named = "\n".join(flaw_of(reject(row)) for row in rows[:_MOST_NAMED])
        more = "\n…" if len(rows) > _MOST_NAMED else ""
        raise DatasetError(
            f"{named}{more}\nNothing was enqueued. Give every problem its own id, leave out repeated problems, or "
            "enqueue the others with --skip-invalid."
        )
    for row in rows:
        on_rejected(reject(row))
    return connection.execute(drop, parameters).rowcount
