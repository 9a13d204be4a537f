"""Invariants about the history of a row: its states, times, workers, methods and positions agree.

See `invariants`.
"""

from __future__ import annotations

from cord_worker.store.audit.invariants import JOIN_CANDIDATES, JOIN_TRAJECTORIES, Invariant
from cord_worker.store.audit.row_names import candidate_name_sql, trajectory_name_sql

CLOCK_TOLERANCE = "interval '1 day'"
"""SQL: how far two times may be out of order: a clock can be set, and a failover changes the clock."""
_C, _J = candidate_name_sql("c"), trajectory_name_sql("j")

_WRONG_FOR_STATE = """
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

_WRONG_FOR_ANSWER_STATE = """
    concat_ws(', ',
        CASE WHEN (j.answered_at IS NULL) = (j.answer_state IN ('written', 'checking', 'unjudged', 'judging', 'judged'))
             THEN 'answered_at' END,
        CASE WHEN (j.answer_seed IS NULL) <> (j.answer_state = 'none') THEN 'answer_seed' END,
        CASE WHEN (j.judged_at IS NULL) = (j.answer_state = 'judged') THEN 'judged_at' END,
        CASE WHEN j.answer_attempts < CASE WHEN last_step.answer_part IS NULL
                                           THEN num_nonnulls(j.answered_at) ELSE 0 END
               OR j.answer_attempts > 0 AND j.answer_state = 'none' THEN 'answer_attempts' END,
        CASE WHEN j.check_attempts < 0
               OR j.check_attempts > 0 AND j.answer_state IN ('none', 'pending', 'writing') THEN 'check_attempts' END,
        CASE WHEN j.verdict_attempts < num_nonnulls(j.judged_at)
               OR j.verdict_attempts > 0 AND (p.judge_model_id IS NULL
                                               OR j.answer_state IN ('none', 'pending', 'writing', 'checking'))
             THEN 'verdict_attempts' END,
        CASE WHEN j.answer_attempts < 1 AND last_step.answer_part IS NOT NULL AND j.answered_at IS NOT NULL
                  AND j.answer_text IS DISTINCT FROM last_step.answer_part THEN 'answer_text' END)
"""


def _wrong_order(*columns: tuple[str, str], until: str = "now()") -> str:
    """SQL: the names of the times (pairs of column and name) that are out of order, or later than `until`."""
    cases = [
        f"CASE WHEN {later} < {earlier} - {CLOCK_TOLERANCE} THEN '{name} or {other}' END"
        for place, (earlier, name) in enumerate(columns)
        for later, other in columns[place + 1 :]
    ]
    cases += [f"CASE WHEN {column} > {until} + {CLOCK_TOLERANCE} THEN '{name}' END" for column, name in columns]
    return f"concat_ws(', ', {', '.join(cases)})"


_END = "CASE WHEN p.state = 'done' THEN p.finished_at ELSE now() END"
"""SQL: the latest time that any row of the problem may have: its end if the problem is done, otherwise now."""
_WRONG_TIMES = _wrong_order(
    ("p.admitted_at", "admitted_at of its problem"),
    ("c.created_at", "created_at"),
    ("c.proposed_at", "proposed_at"),
    ("c.scored_at", "scored_at"),
    ("c.judged_at", "judged_at"),
    until=_END,
)
_WRONG_ANSWER_TIMES = _wrong_order(
    ("last_step.proposed_at", "proposed_at of its last step"),
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


def _wrong_worker(name: str, join: str, done: str, attempts: str, worker: str, model: str | None) -> str:
    """SQL: rows whose worker is missing, unknown, or hosts another model than the expected one. `model` is SQL for the
    expected model's key; None means that a coordinator is expected. `join` is SQL that joins the rows to their problem
    `p`. Looks only at rows that are `done` (SQL), were leased or name a worker."""
    column = worker.partition(".")[2]
    if model is None:
        other, wrong = "is no coordinator", "w.role <> 'coordinator'"
    else:
        other, wrong = "hosts another model", f"w.model_id IS DISTINCT FROM {model}"
    return f"""
        SELECT p.id, {name} || ': {column}: ' || CASE WHEN {worker} IS NULL THEN 'no worker is named'
            WHEN w.id IS NULL THEN format('worker %s is unknown', {worker})
            ELSE format('worker %s {other}', {worker}) END
        FROM scope p {join} LEFT JOIN workers w ON w.id = {worker}
        WHERE ({done} OR {attempts} > 0 OR {worker} IS NOT NULL) AND (w.id IS NULL OR {wrong})
    """


HISTORY_INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "states",
        "the times, attempts, scores and judgments of a row agree with its state",
        f"""
        SELECT p.id, format('%s: %s: does not fit the state %s', {_C}, wrong.columns, c.state)
        FROM scope p {JOIN_CANDIDATES}
        CROSS JOIN LATERAL (SELECT {_WRONG_FOR_STATE} AS columns) wrong WHERE wrong.columns <> ''
        UNION ALL
        SELECT p.id, format('%s: %s: does not fit the answer_state %s', {_J}, wrong.columns, j.answer_state)
        FROM scope p {JOIN_TRAJECTORIES} JOIN candidates last_step ON last_step.id = j.candidate_id
        CROSS JOIN LATERAL (SELECT {_WRONG_FOR_ANSWER_STATE} AS columns) wrong WHERE wrong.columns <> ''
        """,
    ),
    Invariant(
        "times",
        "times are in the order of the events, and none is in the future",
        f"""
        SELECT p.id, format('%s: %s: out of order', {_C}, wrong.columns)
        FROM scope p {JOIN_CANDIDATES}
        CROSS JOIN LATERAL (SELECT {_WRONG_TIMES} AS columns) wrong WHERE wrong.columns <> ''
        UNION ALL
        SELECT p.id, format('%s: %s: out of order', {_J}, wrong.columns)
        FROM scope p {JOIN_TRAJECTORIES} JOIN candidates last_step ON last_step.id = j.candidate_id
        CROSS JOIN LATERAL (SELECT {_WRONG_ANSWER_TIMES} AS columns) wrong WHERE wrong.columns <> ''
        UNION ALL
        SELECT p.id, format('its row: %s: out of order', wrong.columns)
        FROM scope p CROSS JOIN LATERAL (SELECT {_WRONG_PROBLEM_TIMES} AS columns) wrong WHERE wrong.columns <> ''
        """,
    ),
    Invariant(
        "workers",
        "every result names a known worker that hosted its model; a check names a coordinator",
        " UNION ALL ".join(
            (
                _wrong_worker(
                    _C,
                    f"{JOIN_CANDIDATES} JOIN teachers t ON t.id = c.teacher_id",
                    "c.proposed_at IS NOT NULL",
                    "c.propose_attempts",
                    "c.propose_worker_id",
                    "t.model_id",
                ),
                _wrong_worker(
                    _C,
                    JOIN_CANDIDATES,
                    "c.scored_at IS NOT NULL",
                    "c.score_attempts",
                    "c.score_worker_id",
                    "p.prover_model_id",
                ),
                _wrong_worker(
                    _C,
                    JOIN_CANDIDATES,
                    "c.judged_at IS NOT NULL",
                    "c.judgment_attempts",
                    "c.judgment_worker_id",
                    "p.selection_model_id",
                ),
                _wrong_worker(
                    _J,
                    f"{JOIN_TRAJECTORIES} JOIN candidates last_step ON last_step.id = j.candidate_id "
                    "JOIN teachers t ON t.id = last_step.teacher_id",
                    "j.answered_at IS NOT NULL AND last_step.answer_part IS NULL",
                    "j.answer_attempts",
                    "j.answer_worker_id",
                    "t.model_id",
                ),
                _wrong_worker(
                    _J,
                    JOIN_TRAJECTORIES,
                    "j.judged_at IS NOT NULL",
                    "j.verdict_attempts",
                    "j.verdict_worker_id",
                    "p.judge_model_id",
                ),
                # The argument `done` is 'false', because older versions recorded no worker for a check.
                _wrong_worker(_J, JOIN_TRAJECTORIES, "false", "j.check_attempts", "j.check_worker_id", None),
            )
        ),
    ),
    Invariant(
        "methods",
        "`correct` agrees with the method in `verification`",
        f"""
        SELECT p.id, format('%s: correct or verification: %s by %s', {_J}, coalesce(CAST(j.correct AS text), 'nothing'),
                            j.verification ->> 'method')
        FROM scope p {JOIN_TRAJECTORIES}
        WHERE CASE j.verification ->> 'method'
              WHEN 'exact' THEN j.correct IS NOT TRUE WHEN 'math' THEN j.correct IS NOT TRUE
              WHEN 'choice' THEN j.correct IS NOT TRUE WHEN 'numeric' THEN j.correct IS NOT TRUE
              WHEN 'math_verify' THEN j.correct IS NOT TRUE
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
