"""Leases: the SQL that all kinds of work share, for claiming work and for writing its result once.

A lease is (state, worker, attempt). Only the holder of the current lease can write a result. If the sweeper has
returned the lease, or another worker has claimed the row, the late result matches no row; it is dropped and counted
(fencing). Every function takes many pieces at once, so that a process can commit in groups.

A claim does not wait for the disk. If PostgreSQL crashes before the claim is flushed, the row is unclaimed again. The
first worker's result may then match no row and be dropped. No result that was flushed is lost. Results are flushed
before they count, and everything that they depend on was written to the log before them.

Each claim and each finish of candidates is one statement, so that it can be its own transaction (`Database.run` with
`single`). These statements find rows by their keys, whatever the planner's statistics say.

Locks are always taken on candidates first, then on problems in key order. A decision locks its problem first, but it
touches candidates only if all are final, when no claim or finish locks them. So no deadlock can form.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from cord_worker.store.schema.isolation import must_be_exclusive
from cord_worker.store.schema.kinds import ADVANCE, WorkKind
from cord_worker.store.work.values import Claimed, Due, Outcome

WITHOUT_FLUSH = "unflushed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))"
"""SQL: a table of a claim. The commit of a statement that reads from `unflushed` does not wait for the disk, see above.
A separate statement would cost one more round trip."""

_COUNT_DROPPED = sa.text("UPDATE workers SET dropped_results = dropped_results + :count WHERE id = :worker_id")


def in_state(column: str, state: str) -> str:
    """SQL: the row is in `state`, in a form that keeps PostgreSQL from using the partial index of states.

    Rows must be found by their keys. With its old statistics, the planner would expect that index to be cheaper. But
    the index has a dead entry for every state that a row has left lately: hundreds for every live one.
    """
    return f"{column} IS NOT DISTINCT FROM '{state}'"


def steps_to(leaf: str) -> str:
    """SQL: the texts of the steps from the root to the candidate with this key (a column); NULL if the key is NULL.

    LIMIT makes PostgreSQL look up each parent by its key. For a plain join the planner expects ten times as many rows
    as there are, and then reads all candidates at every step.
    """
    return f"""
        (WITH RECURSIVE path AS (
            SELECT c.parent_id, c.depth, c.text FROM candidates c WHERE c.id = {leaf}
            UNION ALL
            SELECT parent.* FROM path, LATERAL (
                SELECT c.parent_id, c.depth, c.text FROM candidates c WHERE c.id = path.parent_id LIMIT 1
            ) parent
        ) SELECT array_agg(path.text ORDER BY path.depth) FROM path)"""


def is_for_model(kind: WorkKind) -> str:
    """SQL: the model `:model` (a fingerprint) does this piece. It only filters rows that are found by their keys.

    The filter is needed because a worker of another model may receive the message, by mistake or from another database.
    """
    return f"""
        (SELECT m.fingerprint FROM (VALUES (0)) AS one {kind.joins} JOIN models m ON m.id = {kind.model}) = :model"""


def claim_statement(
    kind: WorkKind,
    *,
    condition: str | None = None,
    joins: str = "",
    read: str = "",
    taken: str = "",
    found: str = "",
    at_most: str = "",
    only: str = "true",
) -> sa.TextClause:
    """The statement that claims the waiting pieces of `:problem_ids`; for work of models, those of the model `:model`.

    All arguments are SQL. `condition` says which pieces wait; by default those in the first of the kind's waiting
    states. `joins` adds tables, and `at_most` a LIMIT. `read` are columns of each piece and of its problem (`p`);
    `found` uses them as `due.…`. `taken` are columns of the leased row; `found` uses them as `claimed.…`. Pieces that
    need the other mode than `:exclusive`, and those for which `only` (about `due`) does not hold, are returned without
    an attempt.
    """
    row = kind.alias
    of_model = f"AND {is_for_model(kind)}" if kind.model is not None else ""
    return sa.text(
        f"""
        WITH {WITHOUT_FLUSH}, due AS MATERIALIZED (
            SELECT {row}.id, p.id AS problem_id, p.run_id, p.question, {read}
                   {must_be_exclusive(f"{row}.{kind.attempts}")} = :exclusive AS fits
            FROM unflushed, problems p
            JOIN runs r ON r.id = p.run_id AND r.state = 'active'
            JOIN {kind.table} {row} ON {row}.problem_id = p.id {joins}
            WHERE p.id = ANY(CAST(:problem_ids AS bigint[])) AND p.state = '{kind.problem_state}'
              AND {condition or in_state(f"{row}.{kind.state}", kind.waiting[0])} {of_model}
            ORDER BY {row}.id {at_most}
            FOR UPDATE OF {row} SKIP LOCKED
        ), claimed AS (
            UPDATE {kind.table} {row}
            SET {kind.state} = '{kind.working}', {kind.worker} = :worker_id,
                {kind.attempts} = {row}.{kind.attempts} + 1, touched_at = now()
            FROM due WHERE {row}.id = due.id AND due.fits AND {only}
            RETURNING {row}.id, {row}.{kind.attempts} AS attempt {taken}
        )
        SELECT due.problem_id, due.run_id, claimed.id AS {kind.key}, claimed.attempt, due.question {found}
        FROM due LEFT JOIN claimed ON claimed.id = due.id
        ORDER BY due.id
        """
    )


def is_held(kind: WorkKind) -> str:
    """SQL: the worker `:worker_id` still holds the lease under which the result `r` (id, attempt) was computed."""
    row = kind.alias
    return f"""
        {row}.id = r.id AND {in_state(f"{row}.{kind.state}", kind.working)}
        AND {row}.{kind.worker} = :worker_id AND {row}.{kind.attempts} = r.attempt"""


def lower_barrier(moves_on: str, *, also: str = "", values: Mapping[str, str] | None = None) -> str:
    """SQL: the end of a statement whose table `written` (problem_id, is_text, is_final, step, next_model) holds the
    candidates that it wrote.

    Subtracts new texts and final candidates from their problems' counts. Returns one row for each written candidate.
    `is_complete`: the problem's step is complete now. `moves_on`: the next model must be sent a message; the argument
    `moves_on` is SQL for that, about `written` and the problem `lowered`.

    `also` is a table (problem_id, …) of problems in which other columns are set too. `values` is SQL by column, about
    the problem `p` and its row `also`. No other part of the statement can set them, because PostgreSQL updates a row
    only once in a statement.
    """
    needed = f"OR problem_id IN (SELECT {also}.problem_id FROM {also})" if also else ""
    joined = f"LEFT JOIN {also} also ON also.problem_id = locked.id" if also else ""
    assigned = "".join(
        f", {column} = CASE WHEN also.problem_id IS NULL THEN p.{column} ELSE {value} END"
        for column, value in (values or {}).items()
    )
    return f"""
    locked AS MATERIALIZED (
        SELECT p.id, done.texts, done.final
        FROM (
            SELECT problem_id, count(*) FILTER (WHERE is_text) AS texts, count(*) FILTER (WHERE is_final) AS final
            FROM written WHERE is_text OR is_final {needed} GROUP BY problem_id
        ) done
        JOIN problems p ON p.id = done.problem_id
        ORDER BY p.id FOR NO KEY UPDATE OF p
    ), lowered AS (
        UPDATE problems p
        SET outstanding = p.outstanding - locked.final, unproposed = p.unproposed - locked.texts, touched_at = now()
            {assigned}
        FROM locked {joined} WHERE p.id = locked.id
        RETURNING p.id, p.outstanding, p.unproposed, p.state = 'searching' AS is_searched
    )
    SELECT written.problem_id, written.step, written.next_model,
           coalesce(lowered.is_searched AND lowered.outstanding = 0, false) AS is_complete,
           coalesce(written.next_model IS NOT NULL AND {moves_on}, false) AS moves_on
    FROM written LEFT JOIN lowered ON lowered.id = written.problem_id
"""


def field_arrays(result_type: type, results: Sequence[Any]) -> dict[str, list[Any]]:
    """One array for each field of the results, for statements that unnest them."""
    return {field.name: [getattr(result, field.name) for result in results] for field in fields(result_type)}


def lease_fields(row: sa.Row[Any], *without: str) -> dict[str, Any]:
    """The fields of a lease with `steps`, from a claim's row; leaves out the columns `without`."""
    values = {name: value for name, value in row._mapping.items() if name not in without}
    return {**values, "steps": tuple(row.steps or ())}


def claimed_from(rows: Iterable[sa.Row[Any]], leased: Callable[[sa.Row[Any]], Any], due: Iterable[Due] = ()) -> Claimed:
    """The result of a claim, from its rows. Rows without an attempt were not claimed: their problems are
    `held_back`."""
    leases, held_back = [], set()
    for row in rows:
        if row.attempt is None:
            held_back.add(row.problem_id)
        else:
            leases.append(leased(row))
    return Claimed.of(leases, held_back, due)


def finish_candidates(
    connection: sa.Connection,
    statement: sa.TextClause,
    result_type: type,
    results: Sequence[Any],
    *,
    worker_id: uuid.UUID,
    next_kind: str,
    **parameters: object,
) -> Outcome:
    """Writes results of candidates by a statement that ends with `lower_barrier`.

    The outcome names the messages that are due then: decisions of complete steps, and `next_kind` for the next models.
    """
    rows = connection.execute(
        statement, {"worker_id": worker_id, **field_arrays(result_type, results), **parameters}
    ).all()
    complete = {(row.problem_id, row.step) for row in rows if row.is_complete}
    moves_on = {(row.problem_id, row.step, row.next_model) for row in rows if row.moves_on}
    due = (
        *(Due(ADVANCE, *completed) for completed in sorted(complete)),
        *(Due(next_kind, *following) for following in sorted(moves_on)),
    )
    return Outcome(due, count_dropped(connection, worker_id, len(results) - len(rows)))


def count_dropped(connection: sa.Connection, worker_id: uuid.UUID, count: int) -> int:
    """Adds to the count of results that came late or twice; returns `count`."""
    if count:
        connection.execute(_COUNT_DROPPED, {"count": count, "worker_id": worker_id})
    return count
