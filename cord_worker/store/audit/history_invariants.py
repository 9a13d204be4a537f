"""Invariants about the history of a row: its states, times, workers, methods and positions agree.

See `invariants`.
"""

from __future__ import annotations

from collections.abc import Callable

from cord_worker.store.audit.invariants import JOIN_CANDIDATES, JOIN_RESCORES, JOIN_TRAJECTORIES, Invariant
from cord_worker.store.audit.row_names import candidate_name_sql, rescore_name_sql, trajectory_name_sql

_TOLERANCE = "interval '15 minutes'"
"""SQL: how far two instants of one database may be out of order. An instant is the beginning of a transaction, which
may then wait up to ten minutes for another one (`Database`); and a failover to another machine may change the clock."""
_TOLERANCE_AFTER_SET_BACK = "interval '1 day'"
"""SQL: the same, if workers or other problems show that PostgreSQL's clock was set back."""
MODEL_OF_RUN = """
    (m.id IN (SELECT t.model_id FROM teachers t WHERE t.run_id = r.id)
     OR m.id IN (r.prover_model_id, r.selection_model_id, r.judge_model_id))
"""
"""SQL: whether the run `r` uses the model `m` in its search, its answers and their verdicts."""
_C, _J, _X = candidate_name_sql("c"), trajectory_name_sql("j"), rescore_name_sql("q", "c")
"""SQL: the names of a candidate `c`, a trajectory `j`, and the rescore of `c` in `q`, in findings."""

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
        CASE WHEN c.scored_at IS NULL
               AND c.thinking_tokens IS DISTINCT FROM CASE WHEN NOT p.is_scored THEN c.completion_tokens END
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
"""SQL: the names of those columns of the candidate `c` that do not fit its state."""

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
"""SQL: the names of those columns of the trajectory `j` that do not fit its answer_state."""


def plus(instant: str, interval: str) -> str:
    """SQL: the instant (SQL) plus the interval (SQL), or the instant if PostgreSQL cannot store the sum."""
    return f"(CASE WHEN {instant} < '9999-01-01+00' THEN {instant} + {interval} ELSE {instant} END)"


def _wrong_order(*columns: tuple[str, str], until: str = "now()") -> Callable[[str], str]:
    """Returns a function that takes a tolerance (SQL) and returns SQL: the names of the wrong instants, in one text.

    `columns` are pairs of an instant (SQL) and its name, in the order of the events. An instant is wrong if it is later
    than one that follows it, or than `until`, by more than the tolerance.
    """

    def wrong(tolerance: str) -> str:
        cases = [
            f"CASE WHEN {plus(later, tolerance)} < {earlier} THEN '{name} or {other}' END"
            for place, (earlier, name) in enumerate(columns)
            for later, other in columns[place + 1 :]
        ]
        cases += [f"CASE WHEN {column} > {plus(until, tolerance)} THEN '{name}' END" for column, name in columns]
        return f"concat_ws(', ', {', '.join(cases)})"

    return wrong


_END = "(CASE WHEN p.state = 'done' THEN p.finished_at ELSE now() END)"
"""SQL: the latest instant that any row of the problem may have: its end if the problem is done, otherwise now."""
_OF_CANDIDATE = (
    ("c.created_at", "created_at"),
    ("c.proposed_at", "proposed_at"),
    ("c.scored_at", "scored_at"),
    ("c.judged_at", "judged_at"),
)
_WRONG_TIMES = _wrong_order(("p.admitted_at", "admitted_at of its problem"), *_OF_CANDIDATE, until=_END)
_WRONG_TIMES_OF_COPIES = _wrong_order(*_OF_CANDIDATE, until=_END)
"""Copies of a trimmed run have the times of the originals, which are before all times of its problems."""
_WRONG_ANSWER_TIMES = _wrong_order(
    ("last_step.proposed_at", "proposed_at of its last step"),
    ("j.created_at", "created_at"),
    ("j.answered_at", "answered_at"),
    ("j.judged_at", "judged_at"),
    until=_END,
)
_WRONG_RESCORE_TIMES = (
    _wrong_order(
        ("p.finished_at", "finished_at of its problem"), ("x.created_at", "created_at"), ("x.scored_at", "scored_at")
    ),
    _wrong_order(
        ("p.run_created_at", "created_at of its run"),
        ("q.created_at", "created_at of its rescoring"),
        ("x.created_at", "created_at"),
    ),
)
_OF_PROBLEM = (("p.created_at", "created_at"), ("p.admitted_at", "admitted_at"), ("p.finished_at", "finished_at"))
_WRONG_PROBLEM_TIMES = _wrong_order(("p.run_created_at", "created_at of its run"), *_OF_PROBLEM)
_WRONG_BASE_TIMES = _wrong_order(("p.created_at", "created_at"), ("p.base_scored_at", "base_scored_at"), until=_END)
"""SQL: a base score may be older than the admission: it stays if the problem begins again."""
_WRONG_WORKER_TIMES = (
    _wrong_order(("w.started_at", "a"), ("w.ready_at", "b")),
    _wrong_order(("w.started_at", "a"), ("w.heartbeat_at", "b")),
    _wrong_order(("w.started_at", "a"), ("w.stopped_at", "b")),
)
"""The names stand for nothing: only whether there is a wrong instant is read."""

_JOIN_LAST_STEP = f"{JOIN_TRAJECTORIES} JOIN candidates last_step ON last_step.id = j.candidate_id"
_ROWS_WITH_TIMES = (
    # Without the run's created_at: one edit of it would make all problems of the run look wrong.
    (_wrong_order(*_OF_PROBLEM), ""),
    (_WRONG_TIMES, JOIN_CANDIDATES),
    (_WRONG_ANSWER_TIMES, _JOIN_LAST_STEP),
)
_CLOCK_WAS_SET_BACK = (
    "clock_was_set_back AS MATERIALIZED (("
    + ") UNION ALL (".join(
        (
            "SELECT CAST(NULL AS bigint) AS problem_id FROM workers w WHERE "
            + " OR ".join(f"{wrong(_TOLERANCE)} <> ''" for wrong in _WRONG_WORKER_TIMES)
            + " LIMIT 1",
            *(
                "SELECT DISTINCT p.id FROM problems p JOIN runs r ON r.id = p.run_id AND r.trim_above IS NULL "
                f"{join} WHERE {wrong(_TOLERANCE)} <> '' LIMIT 2"
                for wrong, join in _ROWS_WITH_TIMES
            ),
        )
    )
    + "))"
)
"""SQL: a table of problems whose instants are out of order, at most two of each kind of row; NULL stands for workers.
PostgreSQL computes it only if it is read."""


def _out_of_order(name: str, join: str, wrong: Callable[[str], str], where: str = "true") -> str:
    """SQL: rows (with this `name`, joined to the problem by `join`, for which `where` holds) whose instants are out of
    order. More is tolerated in a problem if workers or other problems show that the clock was set back: an edit by hand
    changes few rows, and a clock that is set back affects all rows under way."""
    return f"""
        SELECT p.id, format('%s: %s: out of order', {name}, wrong.columns)
        FROM scope p {join}
        CROSS JOIN LATERAL (
            SELECT CASE WHEN {wrong(_TOLERANCE)} = '' THEN ''
                        WHEN EXISTS (SELECT 1 FROM clock_was_set_back k WHERE k.problem_id IS DISTINCT FROM p.id)
                        THEN {wrong(_TOLERANCE_AFTER_SET_BACK)} ELSE {wrong(_TOLERANCE)} END AS columns OFFSET 0
        ) wrong
        WHERE {where} AND wrong.columns <> ''
    """


WRONG_RUN_TIMES = f"""
    WITH {_CLOCK_WAS_SET_BACK}, tolerated AS MATERIALIZED (
        SELECT CASE WHEN EXISTS (SELECT 1 FROM clock_was_set_back) OR EXISTS (
            SELECT 1 FROM (
                SELECT p.created_at, lag(p.created_at) OVER (ORDER BY p.id) AS before FROM problems p
            ) p WHERE {plus("p.created_at", _TOLERANCE)} < p.before
        ) THEN {_TOLERANCE_AFTER_SET_BACK} ELSE {_TOLERANCE} END AS long
    )
    SELECT wrong.detail FROM runs r CROSS JOIN LATERAL (
        SELECT 'created_at: before that of model ' || m.path AS detail, m.created_at AS from_, r.created_at AS until
        FROM models m WHERE {MODEL_OF_RUN}
        UNION ALL
        SELECT 'created_at: in the future', r.created_at, now()
    ) wrong
    WHERE r.id = :run_id AND {plus("wrong.until", _TOLERANCE)} < wrong.from_
          AND {plus("wrong.until", "(SELECT long FROM tolerated)")} < wrong.from_
"""
"""SQL: findings about the run's own `created_at`. Keys rise with time, so the clock was set back if a problem is older
than the problem before it."""


def _wrong_worker(name: str, join: str, done: str, attempts: str, worker: str, model: str | None) -> str:
    """SQL: rows whose worker is missing, unknown, or hosts another model than the expected one. `model` is SQL for the
    expected model's key; None means that a coordinator is expected. `join` is SQL that joins the rows to their problem
    `p`. Looks only at rows that are `done` (SQL), were leased or name a worker."""
    column = worker.partition(".")[2]
    if model is None:
        other, wrong = "is not a coordinator", "w.role <> 'coordinator'"
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
        f"WITH {_CLOCK_WAS_SET_BACK}"
        + " UNION ALL ".join(
            (
                _out_of_order(_C, JOIN_CANDIDATES, _WRONG_TIMES, "NOT p.is_trimmed"),
                _out_of_order(_C, JOIN_CANDIDATES, _WRONG_TIMES_OF_COPIES, "p.is_trimmed"),
                _out_of_order(_J, _JOIN_LAST_STEP, _WRONG_ANSWER_TIMES),
                _out_of_order("'its row'", "", _WRONG_PROBLEM_TIMES),
                _out_of_order("'its row'", "", _WRONG_BASE_TIMES),
                *(_out_of_order(_X, JOIN_RESCORES, wrong) for wrong in _WRONG_RESCORE_TIMES),
            )
        ),
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
                    "'its row'", "", "p.base_score IS NOT NULL", "0", "p.base_scored_by", "p.prover_model_id"
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
                _wrong_worker(
                    _X,
                    JOIN_RESCORES,
                    "x.score IS NOT NULL",
                    "x.rescore_attempts",
                    "x.rescore_worker_id",
                    "q.model_id",
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
        "the problems of a run are numbered from 0 without a gap (a trimmed run has the numbers of its source)",
        """
        SELECT p.id, format('its row: position: %s, that of the problem before it %s', p.position, p.before)
        FROM (
            SELECT s.id, s.position, lag(s.position, 1, CAST(-1 AS bigint)) OVER (PARTITION BY s.run_id
                                                                                 ORDER BY s.position) AS before
            FROM scope s WHERE NOT s.is_trimmed
        ) p WHERE p.position <> p.before + 1
        """,
        of_whole_runs=True,
    ),
)
"""Invariants about the history of rows: states, times, workers, methods, positions."""
