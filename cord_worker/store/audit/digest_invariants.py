"""Invariants about digests, which show later changes, and about the history that each row tells.

See `invariants`; docs/provenance.md says which columns are covered, and how.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.audit.invariants import Invariant
from cord_worker.store.audit.row_names import candidate_name_sql, trajectory_name_sql
from cord_worker.store.schema import digests
from cord_worker.store.schema.digests import Digest
from cord_worker.store.schema.verification_sql import OWED_TO_CHECK

_C, _J = candidate_name_sql("c"), trajectory_name_sql("j")
_TOLERANCE = "interval '1 day'"
"""SQL: how far clocks may differ: they are set, and after a failover another machine's clock is used."""


def _wrong_digest(digest: Digest, name: str, join: str, due: str) -> str:
    """SQL: rows (with this `name`, joined to the problem by `join`) that differ from their digest, and rows without a
    digest that should have one: because they are `due`, or have a value that is written only with one."""
    row, column = digest.row, digest.column
    return f"""
        SELECT p.id, {name} || ': ' || {digest.changed("computed.digest")}
        FROM scope p {join}
        CROSS JOIN LATERAL (SELECT {digest.again} AS digest OFFSET 0) computed
        WHERE {row}.{column} IS NOT NULL AND {row}.{column} <> computed.digest
        UNION ALL
        SELECT p.id, {name} || ': ' || CASE WHEN {due} THEN '{digest.missing}' ELSE {digest.without} END
        FROM scope p {join}
        WHERE p.has_digests AND {row}.{column} IS NULL AND ({due} OR {digest.without} IS NOT NULL)
    """


_CANDIDATE = "JOIN candidates c ON c.problem_id = p.id"
_TRAJECTORY = "JOIN trajectories j ON j.problem_id = p.id"

_VERDICT_DUE = f"""
    (j.answer_state IN ('unjudged', 'judged') OR j.verification IS NOT NULL OR j.correct IS NOT NULL
     OR p.state = 'done' AND {OWED_TO_CHECK})
"""
"""SQL: whether the comparison or the judge has written a result."""

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
        SELECT p.id, 'its row: the run has no digest, though the problem has one' FROM scope p
        WHERE NOT p.has_digests AND p.digest IS NOT NULL
              AND p.position = (SELECT min(q.position) FROM problems q WHERE q.run_id = p.run_id)
        """,
    ),
    Invariant(
        "results",
        "texts, scores and judgments of candidates are those that were written",
        f"""
        {_wrong_digest(digests.PROPOSAL, _C, _CANDIDATE, "c.state NOT IN ('pending', 'proposing')")}
        UNION ALL
        {_wrong_digest(digests.SCORE, _C, _CANDIDATE, "c.scored_at IS NOT NULL")}
        UNION ALL
        {_wrong_digest(digests.JUDGMENT, _C, _CANDIDATE, "c.judged_at IS NOT NULL")}
        """,
    ),
    Invariant(
        "final answers",
        "final answers and their verdicts are those that were written",
        f"""
        {
            _wrong_digest(
                digests.ANSWER,
                _J,
                _TRAJECTORY,
                "j.answer_state IN ('written', 'checking', 'unjudged', 'judging', 'judged')",
            )
        }
        UNION ALL
        {
            _wrong_digest(
                digests.CORRECTNESS,
                _J,
                _TRAJECTORY + " JOIN runs r ON r.id = p.run_id",
                _VERDICT_DUE,
            )
        }
        """,
    ),
)
"""Invariants about digests; `cordctl replay` checks them too."""

_WRONG_STAGES = """
    concat_ws(', ',
        CASE WHEN (c.proposed_at IS NULL) <> (c.state IN ('pending', 'proposing')) THEN 'proposed_at' END,
        CASE WHEN c.state IN ('unjudged', 'judging', 'scored') AND c.scored_at IS NULL
               OR c.state IN ('pending', 'proposing', 'proposed', 'scoring', 'unscored') AND c.scored_at IS NOT NULL
             THEN 'scored_at' END,
        CASE WHEN c.score IS NOT NULL AND c.scored_at IS NULL THEN 'score' END,
        CASE WHEN c.judged_at IS NOT NULL AND (p.selection_model_id IS NULL OR c.state NOT IN ('scored', 'invalid'))
               OR c.judged_at IS NULL AND p.selection_model_id IS NOT NULL AND c.state = 'scored' THEN 'judged_at' END,
        CASE WHEN c.judgment IS NOT NULL AND c.judged_at IS NULL
               OR c.judgment IS NULL AND c.judged_at IS NOT NULL AND c.state = 'scored' THEN 'judgment' END,
        CASE WHEN c.state = 'unscored' AND p.is_scored
               OR c.state IN ('proposed', 'scoring', 'unjudged', 'judging', 'scored') AND NOT p.is_scored
             THEN 'state' END,
        CASE WHEN c.state = 'unscored' AND c.thinking_tokens IS DISTINCT FROM c.completion_tokens
             THEN 'thinking_tokens' END,
        CASE WHEN c.propose_attempts < num_nonnulls(c.proposed_at) THEN 'propose_attempts' END,
        CASE WHEN c.score_attempts < num_nonnulls(c.scored_at)
               OR c.score_attempts > 0 AND (NOT p.is_scored OR c.state IN ('pending', 'proposing', 'unscored')
                                            OR p.has_digests AND c.state = 'invalid' AND c.scored_at IS NULL)
             THEN 'score_attempts' END,
        CASE WHEN c.judgment_attempts < num_nonnulls(c.judged_at)
               OR c.judgment_attempts > 0 AND (p.selection_model_id IS NULL OR c.scored_at IS NULL)
             THEN 'judgment_attempts' END)
"""

_WRONG_ANSWER_STAGES = """
    concat_ws(', ',
        CASE WHEN (j.answered_at IS NULL) = (j.answer_state IN ('written', 'checking', 'unjudged', 'judging', 'judged'))
             THEN 'answered_at' END,
        CASE WHEN (j.answer_seed IS NULL) <> (j.answer_state = 'none') THEN 'answer_seed' END,
        CASE WHEN (j.judged_at IS NULL) = (j.answer_state = 'judged') THEN 'judged_at' END,
        CASE WHEN j.answer_attempts < CASE WHEN l.answer_part IS NULL THEN num_nonnulls(j.answered_at) ELSE 0 END
               OR j.answer_attempts > 0 AND j.answer_state = 'none' THEN 'answer_attempts' END,
        CASE WHEN j.check_attempts < 0
               OR j.check_attempts > 0 AND j.answer_state IN ('none', 'pending', 'writing') THEN 'check_attempts' END,
        CASE WHEN j.verdict_attempts < num_nonnulls(j.judged_at)
               OR j.verdict_attempts > 0 AND (p.judge_model_id IS NULL
                                               OR j.answer_state IN ('none', 'pending', 'writing', 'checking'))
             THEN 'verdict_attempts' END,
        CASE WHEN j.answer_attempts < 1 AND l.answer_part IS NOT NULL AND j.answered_at IS NOT NULL
                  AND j.answer_text IS DISTINCT FROM l.answer_part THEN 'answer_text' END)
"""


def _wrong_order(*columns: tuple[str, str], until: str = "now()") -> str:
    """SQL: names of those of the times (column, name) that are out of order, or later than `until`."""
    cases = [
        f"CASE WHEN {later} < {earlier} - {_TOLERANCE} THEN '{name} or {other}' END"
        for place, (earlier, name) in enumerate(columns)
        for later, other in columns[place + 1 :]
    ]
    cases += [f"CASE WHEN {column} > {until} + {_TOLERANCE} THEN '{name}' END" for column, name in columns]
    return f"concat_ws(', ', {', '.join(cases)})"


_END = "CASE WHEN p.state = 'done' THEN p.finished_at ELSE now() END"
"""SQL: the time by which everything of the problem was written; late results go only to problems that are not done."""
_WRONG_TIMES = _wrong_order(
    ("p.admitted_at", "admitted_at of its problem"),
    ("c.created_at", "created_at"),
    ("c.proposed_at", "proposed_at"),
    ("c.scored_at", "scored_at"),
    ("c.judged_at", "judged_at"),
    until=_END,
)
_WRONG_ANSWER_TIMES = _wrong_order(
    ("l.proposed_at", "proposed_at of its last step"),
    ("j.created_at", "created_at"),
    ("j.answered_at", "answered_at"),
    ("j.judged_at", "judged_at"),
    until=_END,
)
_WRONG_PROBLEM_TIMES = _wrong_order(
    ("p.run_created_at", "created_at of its run"),
    ("p.created_at", "created_at"),
    ("p.admitted_at", "admitted_at"),
    ("p.finished_at", "finished_at"),
)


def _wrong_worker(name: str, rows: str, done: str, attempts: str, worker: str, model: str | None) -> str:
    """SQL: rows whose worker is missing, unknown, or hosts another model than the one with the key `model` (SQL; None
    for work of coordinators). Only rows that are `done`, were leased or name a worker count."""
    column = worker.partition(".")[2]
    if model is None:
        other, wrong = "is no coordinator", "w.role <> 'coordinator'"
    else:
        other, wrong = "hosts another model", f"w.model_id IS DISTINCT FROM {model}"
    return f"""
        SELECT p.id, {name} || ': {column}: ' || CASE WHEN {worker} IS NULL THEN 'no worker is named'
            WHEN w.id IS NULL THEN format('worker %s is unknown', {worker})
            ELSE format('worker %s {other}', {worker}) END
        FROM scope p {rows} LEFT JOIN workers w ON w.id = {worker}
        WHERE ({done} OR {attempts} > 0 OR {worker} IS NOT NULL) AND (w.id IS NULL OR {wrong})
    """


HISTORY_INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "stages",
        "the times, attempts, scores and judgments of a row agree with its state",
        f"""
        SELECT p.id, format('%s: %s: contradicts that it is %s', {_C}, wrong.columns, c.state)
        FROM scope p {_CANDIDATE} CROSS JOIN LATERAL (SELECT {_WRONG_STAGES} AS columns) wrong WHERE wrong.columns <> ''
        UNION ALL
        SELECT p.id, format('%s: %s: contradicts that its answer is %s', {_J}, wrong.columns, j.answer_state)
        FROM scope p {_TRAJECTORY} JOIN candidates l ON l.id = j.candidate_id
        CROSS JOIN LATERAL (SELECT {_WRONG_ANSWER_STAGES} AS columns) wrong WHERE wrong.columns <> ''
        """,
    ),
    Invariant(
        "times",
        "times are in the order of the events, and none is in the future",
        f"""
        SELECT p.id, format('%s: %s: out of order', {_C}, wrong.columns)
        FROM scope p {_CANDIDATE} CROSS JOIN LATERAL (SELECT {_WRONG_TIMES} AS columns) wrong WHERE wrong.columns <> ''
        UNION ALL
        SELECT p.id, format('%s: %s: out of order', {_J}, wrong.columns)
        FROM scope p {_TRAJECTORY} JOIN candidates l ON l.id = j.candidate_id
        CROSS JOIN LATERAL (SELECT {_WRONG_ANSWER_TIMES} AS columns) wrong WHERE wrong.columns <> ''
        UNION ALL
        SELECT p.id, format('its row: %s: out of order', wrong.columns)
        FROM scope p CROSS JOIN LATERAL (SELECT {_WRONG_PROBLEM_TIMES} AS columns) wrong WHERE wrong.columns <> ''
        """,
    ),
    Invariant(
        "workers",
        "every result names a known worker that hosted its model",
        " UNION ALL ".join(
            (
                _wrong_worker(
                    _C,
                    f"{_CANDIDATE} JOIN teachers t ON t.id = c.teacher_id",
                    "c.proposed_at IS NOT NULL",
                    "c.propose_attempts",
                    "c.propose_worker_id",
                    "t.model_id",
                ),
                _wrong_worker(
                    _C,
                    _CANDIDATE,
                    "c.scored_at IS NOT NULL",
                    "c.score_attempts",
                    "c.score_worker_id",
                    "p.prover_model_id",
                ),
                _wrong_worker(
                    _C,
                    _CANDIDATE,
                    "c.judged_at IS NOT NULL",
                    "c.judgment_attempts",
                    "c.judgment_worker_id",
                    "p.selection_model_id",
                ),
                _wrong_worker(
                    _J,
                    f"{_TRAJECTORY} JOIN candidates l ON l.id = j.candidate_id JOIN teachers t ON t.id = l.teacher_id",
                    "j.answered_at IS NOT NULL AND l.answer_part IS NULL",
                    "j.answer_attempts",
                    "j.answer_worker_id",
                    "t.model_id",
                ),
                _wrong_worker(
                    _J,
                    _TRAJECTORY,
                    "j.judged_at IS NOT NULL",
                    "j.verdict_attempts",
                    "j.verdict_worker_id",
                    "p.judge_model_id",
                ),
                _wrong_worker(_J, _TRAJECTORY, "false", "j.check_attempts", "j.check_worker_id", None),
            )
        ),
    ),
    Invariant(
        "methods",
        "an answer is as correct as the method of its verification says",
        f"""
        SELECT p.id, format('%s: correct or verification: %s by %s', {_J}, coalesce(CAST(j.correct AS text), 'nothing'),
                            j.verification ->> 'method')
        FROM scope p {_TRAJECTORY}
        WHERE CASE j.verification ->> 'method'
              WHEN 'exact' THEN j.correct IS NOT TRUE WHEN 'math' THEN j.correct IS NOT TRUE
              WHEN 'choice' THEN j.correct IS NOT TRUE WHEN 'numeric' THEN j.correct IS NOT TRUE
              WHEN 'unequal' THEN j.correct IS NOT FALSE WHEN 'judge' THEN j.correct IS NULL
              WHEN 'undecided' THEN j.correct IS NOT NULL WHEN 'timeout' THEN j.correct IS NOT NULL
              WHEN 'crashed' THEN j.correct IS NOT NULL WHEN 'unsupported' THEN j.correct IS NOT NULL
              WHEN 'failed' THEN j.correct IS NOT NULL ELSE false END
        """,
    ),
    Invariant(
        "positions",
        "the problems of a run are numbered from 0 without a gap",
        """
        SELECT p.id, format('its row: position: %s, that of the problem before it %s', p.position, p.before)
        FROM (
            SELECT s.id, s.position, lag(s.position, 1, CAST(-1 AS bigint)) OVER (PARTITION BY s.run_id
                                                                                 ORDER BY s.position) AS before
            FROM scope s
        ) p WHERE p.position <> p.before + 1
        """,
        of_whole_runs=True,
    ),
)
"""Invariants about the history of rows: states, times, workers, methods, positions."""


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
    """Rows with results and without digests, in those of these runs that have no digests; in others it is a finding."""
    return Undigested(**connection.execute(_UNDIGESTED, {"runs": run_ids}).one()._mapping)


_OF_RUN = """
    (m.id IN (SELECT t.model_id FROM teachers t WHERE t.run_id = r.id)
     OR m.id IN (r.prover_model_id, r.selection_model_id, r.judge_model_id))
"""

_WRONG_RUN = sa.text(
    f"""
    SELECT {digests.RUN.changed("computed.digest")} AS detail
    FROM runs r CROSS JOIN LATERAL (SELECT {digests.RUN.again} AS digest OFFSET 0) computed
    WHERE r.id = :run_id AND r.digest <> computed.digest
    UNION ALL
    SELECT 'created_at: before that of model ' || m.path FROM runs r JOIN models m ON {_OF_RUN}
    WHERE r.id = :run_id AND r.created_at < m.created_at - {_TOLERANCE}
    UNION ALL
    SELECT 'created_at: in the future' FROM runs r WHERE r.id = :run_id AND r.created_at > now() + {_TOLERANCE}
    """
)

_WRONG_MODELS = sa.text(
    f"""
    SELECT m.path || ': ' || CASE
        WHEN m.weights_digest IS NULL THEN 'weights_digest: none, though a worker loaded the weights'
        WHEN m.digest IS NULL THEN '{digests.MODEL.missing}'
        ELSE {digests.MODEL.changed("computed.digest")} END AS detail
    FROM runs r JOIN models m ON {_OF_RUN}
    CROSS JOIN LATERAL (SELECT {digests.MODEL.again} AS digest OFFSET 0) computed
    CROSS JOIN LATERAL (
        SELECT min(w.started_at) AS first FROM workers w WHERE w.model_id = m.id AND w.ready_at IS NOT NULL
    ) loaded
    WHERE r.id = :run_id AND CASE
        WHEN m.weights_digest IS NULL THEN m.digest IS NOT NULL OR loaded.first IS NOT NULL
        WHEN m.digest IS NULL THEN EXISTS (
            SELECT 1 FROM runs o WHERE o.digest IS NOT NULL AND o.created_at <= loaded.first)
        ELSE m.digest <> computed.digest END
    ORDER BY m.id
    """
)
"""The first worker records the weights: it wrote a digest if it started after a run that has one was created."""


def changed_run(connection: sa.Connection, run_id: int) -> list[str]:
    """Findings about the run's row: what differs from its digest, and impossible times."""
    return [f"its row: {detail}" for detail in connection.execute(_WRONG_RUN, {"run_id": run_id}).scalars()]


def changed_models(connection: sa.Connection, run_id: int) -> list[str]:
    """Findings about the rows of the run's models: missing digests, and what differs from a digest."""
    return [f"model {detail}" for detail in connection.execute(_WRONG_MODELS, {"run_id": run_id}).scalars()]


_ALL_DIGESTS = sa.text(
    """
    SELECT position, place, step, lineage, digests FROM (
        SELECT p.position, 0 AS place, 0 AS step, '' AS lineage, ARRAY[p.digest] AS digests
        FROM problems p WHERE p.run_id = :run_id
        UNION ALL
        SELECT p.position, 1, c.step, c.lineage, ARRAY[c.proposal_digest, c.score_digest, c.judgment_digest]
        FROM candidates c JOIN problems p ON p.id = c.problem_id WHERE p.run_id = :run_id
        UNION ALL
        SELECT p.position, 2, c.step, c.lineage, ARRAY[j.answer_digest, j.correctness_digest]
        FROM trajectories j JOIN candidates c ON c.id = j.candidate_id JOIN problems p ON p.id = j.problem_id
        WHERE p.run_id = :run_id
    ) all_of_them ORDER BY position, place, step, lineage COLLATE "C"
    """
)
_DIGESTS_AT = (
    (digests.PROBLEM,),
    (digests.PROPOSAL, digests.SCORE, digests.JUDGMENT),
    (digests.ANSWER, digests.CORRECTNESS),
)
"""The digests in a row of `_ALL_DIGESTS`, by its `place`."""

_RUN_DIGEST = sa.text("SELECT digest FROM runs WHERE id = :run_id")


def run_digest(connection: sa.Connection, run_id: int) -> str | None:
    """One digest of everything that the run's digests cover, in the order of its dataset and its searches. It is equal
    in equal runs: keys, seconds and token counts are left out. None for runs of older versions.

    Needs a transaction, because rows are streamed.
    """
    first = connection.execute(_RUN_DIGEST, {"run_id": run_id}).scalar_one()
    if first is None:
        return None
    total = hashlib.sha256(digests.RUN.of_content(first))
    options = {"stream_results": True, "yield_per": 2_000}
    for row in connection.execute(_ALL_DIGESTS, {"run_id": run_id}, execution_options=options):
        total.update(f"\0{row.position} {row.place} {row.step} {row.lineage}".encode())
        for kind, digest in zip(_DIGESTS_AT[row.place], row.digests, strict=True):
            total.update(b"\0" if digest is None else kind.of_content(digest))
    return total.hexdigest()
