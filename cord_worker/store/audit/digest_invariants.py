"""Invariants about digests: stored rows match their digests, which show later changes. Also the digest of a whole run.

See `invariants`; docs/provenance.md says which columns are covered, and how.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.audit.history_invariants import MODEL_OF_RUN, WRONG_RUN_TIMES
from cord_worker.store.audit.invariants import JOIN_CANDIDATES, JOIN_RESCORES, JOIN_TRAJECTORIES, Invariant
from cord_worker.store.audit.row_names import candidate_name_sql, rescore_name_sql, trajectory_name_sql
from cord_worker.store.schema import digests
from cord_worker.store.schema.digests import Digest
from cord_worker.store.schema.verification_sql import OWED_TO_CHECK

_C, _J, _X = candidate_name_sql("c"), trajectory_name_sql("j"), rescore_name_sql("q", "c")
"""SQL: the names of a candidate `c`, a trajectory `j`, and the rescore of `c` in `q`, in findings."""


def _wrong_digest(digest: Digest, name: str, join: str, needs_digest: str) -> str:
    """SQL: rows (with this `name`, joined to the problem by `join`) that differ from their digest, and rows that lack
    one. A digest is needed if `needs_digest` (SQL) holds, or if a value is set that is only written with a digest."""
    row, column = digest.row, digest.column
    return f"""
        SELECT p.id, {name} || ': ' || {digest.changed_sql("computed.digest")}
        FROM scope p {join}
        CROSS JOIN LATERAL (SELECT {digest.expected_sql} AS digest OFFSET 0) computed
        WHERE {row}.{column} IS NOT NULL AND {row}.{column} <> computed.digest
        UNION ALL
        SELECT p.id, {name} || ': ' ||
               CASE WHEN {needs_digest} THEN '{digest.missing_finding}' ELSE {digest.undigested_sql} END
        FROM scope p {join}
        WHERE p.has_digests AND {row}.{column} IS NULL AND ({needs_digest} OR {digest.undigested_sql} IS NOT NULL)
    """


_MUST_HAVE_RESULT = f"""
    (j.answer_state IN ('unjudged', 'judged') OR j.verification IS NOT NULL OR j.correct IS NOT NULL
     OR p.state = 'done' AND {OWED_TO_CHECK})
"""
"""SQL: whether a check or the judge must have written a result."""

DIGEST_INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "inputs",
        "questions, answers, passages and attributes are those that were enqueued",
        f"""
        SELECT p.id, 'its row: ' || changed.detail FROM scope p
        CROSS JOIN LATERAL (SELECT {digests.CONTENT_CHANGED} AS detail) changed WHERE changed.detail IS NOT NULL
        UNION ALL
        {_wrong_digest(digests.PROBLEM, "'its row'", "", "true")}
        UNION ALL
        SELECT p.id, 'its row: digest: set, though its run has none' FROM scope p
        WHERE NOT p.has_digests AND p.digest IS NOT NULL
              AND p.position = (SELECT min(other.position) FROM problems other WHERE other.run_id = p.run_id)
        """,
    ),
    Invariant(
        "base scores",
        "base scores are those that were written",
        _wrong_digest(digests.BASE_SCORE, "'its row'", "", "p.base_score IS NOT NULL"),
    ),
    Invariant(
        "results",
        "texts, scores and judgments of candidates are those that were written",
        f"""
        {_wrong_digest(digests.PROPOSAL, _C, JOIN_CANDIDATES, "c.state NOT IN ('pending', 'proposing')")}
        UNION ALL
        {_wrong_digest(digests.SCORE, _C, JOIN_CANDIDATES, "c.scored_at IS NOT NULL")}
        UNION ALL
        SELECT p.id, {_C} || ': mean_probability: set, though score_digest is of an older version'
        FROM scope p {JOIN_CANDIDATES}
        WHERE c.mean_probability IS NOT NULL AND octet_length(c.score_digest) = {digests.SCORE.older_bytes}
        UNION ALL
        {_wrong_digest(digests.JUDGMENT, _C, JOIN_CANDIDATES, "c.judged_at IS NOT NULL")}
        """,
    ),
    Invariant(
        "final answers",
        "final answers, check results and verdicts are those that were written",
        f"""
        {
            _wrong_digest(
                digests.ANSWER,
                _J,
                JOIN_TRAJECTORIES,
                "j.answer_state IN ('written', 'checking', 'unjudged', 'judging', 'judged')",
            )
        }
        UNION ALL
        {
            _wrong_digest(
                digests.CORRECTNESS,
                _J,
                JOIN_TRAJECTORIES + " JOIN runs r ON r.id = p.run_id",
                _MUST_HAVE_RESULT,
            )
        }
        """,
    ),
    Invariant(
        "rescores as written",
        "the results of rescorings are those that were written",
        _wrong_digest(digests.RESCORE, _X, JOIN_RESCORES, "x.scored_at IS NOT NULL"),
    ),
)
"""Invariants about digests; `cordctl replay` checks them too."""


@dataclass(frozen=True, slots=True)
class Undigested:
    """Numbers of rows in runs of older versions, whose results have no digests."""

    problems: int
    candidates: int
    answers: int


_UNDIGESTED = sa.text(
    """
    WITH old AS (
        SELECT p.id, p.digest FROM problems p JOIN runs r ON r.id = p.run_id
        WHERE r.id = ANY(:runs) AND r.digest IS NULL
    )
    SELECT (SELECT count(*) FROM old WHERE old.digest IS NULL) AS problems,
           (SELECT count(*) FROM candidates c JOIN old ON old.id = c.problem_id
            WHERE c.proposal_digest IS NULL AND c.proposed_at IS NOT NULL) AS candidates,
           (SELECT count(*) FROM trajectories j JOIN old ON old.id = j.problem_id
            WHERE j.answer_digest IS NULL AND j.answered_at IS NOT NULL) AS answers
    """
)


def count_undigested(connection: sa.Connection, run_ids: list[int]) -> Undigested:
    """Counts rows without a digest, in those of the runs that are older than digests. (In newer runs a missing digest
    is a violation.)"""
    return Undigested(**connection.execute(_UNDIGESTED, {"runs": run_ids}).one()._mapping)


_WRONG_RUN = sa.text(
    f"""
    SELECT {digests.RUN.changed_sql("computed.digest")} AS detail
    FROM runs r CROSS JOIN LATERAL (SELECT {digests.RUN.expected_sql} AS digest OFFSET 0) computed
    WHERE r.id = :run_id AND r.digest <> computed.digest
    UNION ALL
    ({WRONG_RUN_TIMES})
    """
)

_WRONG_MODELS = sa.text(
    f"""
    SELECT m.path || ': ' || CASE
        WHEN m.weights_digest IS NULL THEN 'weights_digest: none, though a worker loaded the weights'
        WHEN m.digest IS NULL THEN '{digests.MODEL.missing_finding}'
        ELSE {digests.MODEL.changed_sql("computed.digest")} END AS detail
    FROM runs r JOIN models m
    ON ({MODEL_OF_RUN} OR m.id IN (SELECT q.model_id FROM rescorings q WHERE q.run_id = r.id))
    CROSS JOIN LATERAL (SELECT {digests.MODEL.expected_sql} AS digest OFFSET 0) computed
    CROSS JOIN LATERAL (
        SELECT min(w.started_at) AS first FROM workers w WHERE w.model_id = m.id AND w.ready_at IS NOT NULL
    ) loaded
    WHERE r.id = :run_id AND CASE
        WHEN m.weights_digest IS NULL THEN m.digest IS NOT NULL OR loaded.first IS NOT NULL
        WHEN m.digest IS NULL THEN EXISTS (
            SELECT 1 FROM runs earlier WHERE earlier.digest IS NOT NULL AND earlier.created_at <= loaded.first)
        ELSE m.digest <> computed.digest END
    ORDER BY m.id
    """
)
"""A model needs a digest if a run with digests already existed when the model's first worker started."""


_WRONG_RESCORINGS = sa.text(
    f"""
    SELECT q.name || ': ' || ({digests.RESCORING.finding_sql("r.digest IS NOT NULL")}) AS detail
    FROM rescorings q JOIN runs r ON r.id = q.run_id
    WHERE r.id = :run_id AND ({digests.RESCORING.finding_sql("r.digest IS NOT NULL")}) IS NOT NULL ORDER BY q.id
    """
)


def findings_of_rescorings(connection: sa.Connection, run_id: int) -> list[str]:
    """Findings about the rows of the run's rescorings: changed values and missing digests."""
    return [f"rescoring {detail}" for detail in connection.execute(_WRONG_RESCORINGS, {"run_id": run_id}).scalars()]


def findings_of_run(connection: sa.Connection, run_id: int) -> list[str]:
    """Findings about the run's row: changed values and impossible times."""
    return [f"its row: {detail}" for detail in connection.execute(_WRONG_RUN, {"run_id": run_id}).scalars()]


def findings_of_models(connection: sa.Connection, run_id: int) -> list[str]:
    """Findings about the rows of the run's models: changed values and missing digests."""
    return [f"model {detail}" for detail in connection.execute(_WRONG_MODELS, {"run_id": run_id}).scalars()]


_ALL_DIGESTS = sa.text(
    """
    SELECT position, row_kind, step, lineage, digests FROM (
        SELECT p.position, 0 AS row_kind, 0 AS step, '' AS lineage, ARRAY[p.digest] AS digests
        FROM problems p WHERE p.run_id = :run_id
        UNION ALL
        SELECT p.position, 1, c.step, c.lineage, ARRAY[c.proposal_digest, c.score_digest, c.judgment_digest]
        FROM candidates c JOIN problems p ON p.id = c.problem_id WHERE p.run_id = :run_id
        UNION ALL
        SELECT p.position, 2, c.step, c.lineage, ARRAY[j.answer_digest, j.correctness_digest]
        FROM trajectories j JOIN candidates c ON c.id = j.candidate_id JOIN problems p ON p.id = j.problem_id
        WHERE p.run_id = :run_id
    ) all_of_them ORDER BY position, row_kind, step, lineage COLLATE "C"
    """
)
_DIGESTS_OF_KIND = (
    (digests.PROBLEM,),
    (digests.PROPOSAL, digests.SCORE, digests.JUDGMENT),
    (digests.ANSWER, digests.CORRECTNESS),
)
"""The digests in a row of `_ALL_DIGESTS`, by its `row_kind`."""

_RUN_DIGEST = sa.text("SELECT digest FROM runs WHERE id = :run_id")


def run_digest(connection: sa.Connection, run_id: int) -> str | None:
    """One digest of everything that the run's digests cover, ordered by position, kind of row, step and lineage. It is
    equal in equal runs: row ids, seconds and token counts are left out. None for runs of older versions.

    Needs a transaction, because rows are streamed.
    """
    first = connection.execute(_RUN_DIGEST, {"run_id": run_id}).scalar_one()
    if first is None:
        return None
    total = hashlib.sha256(digests.RUN.content_parts(first))
    options = {"stream_results": True, "yield_per": 2_000}
    for row in connection.execute(_ALL_DIGESTS, {"run_id": run_id}, execution_options=options):
        total.update(f"\0{row.position} {row.row_kind} {row.step} {row.lineage}".encode())
        for kind, digest in zip(_DIGESTS_OF_KIND[row.row_kind], row.digests, strict=True):
            total.update(b"\0" if digest is None else kind.content_parts(digest))
    return total.hexdigest()
