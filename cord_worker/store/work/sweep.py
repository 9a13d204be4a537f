"""What the sweeper asks of the tables: admitting problems, and finding work whose message was lost.

The state of the rows is the outbox: a row in a waiting state *is* owed a message. `touched_at` says when it was
sent last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from cord_worker.store.runs.admission import begin_problems
from cord_worker.store.schema.isolation import MOST_ATTEMPTS
from cord_worker.store.work.judge_answer import IS_OWED, OWED_TO_CHECK, OWED_TO_JUDGE
from cord_worker.store.work.leases import is_compared


class Kind(StrEnum):
    """What a message asks for."""

    ADVANCE = "advance"
    PROPOSE = "propose"
    SCORE = "score"
    JUDGE = "judge"
    ANSWER = "answer"
    VERDICT = "verdict"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class Due:
    """A message that is owed. `model` is the fingerprint of the model that serves it (None: a coordinator)."""

    kind: Kind
    problem_id: int
    step: int
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Parked:
    """A problem that was given up because one piece of its work kept failing."""

    problem_id: int
    reason: str


def _untouched(row: str) -> str:
    """SQL: nothing happened to the row for `:age` seconds. A time to come is none at which something happened: where
    PostgreSQL's clock was set back, what is owed must not wait until it has caught up."""
    age = "make_interval(secs => :age)"
    return f"{row}.touched_at NOT BETWEEN now() - {age} AND now() + {age}"


_DUE_PROPOSALS = sa.text(
    f"""
    WITH due AS (
        SELECT c.id, p.step, m.fingerprint AS model
        FROM candidates c
        JOIN problems p ON p.id = c.problem_id AND p.state = 'searching'
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN teachers t ON t.id = c.teacher_id
        JOIN models m ON m.id = t.model_id AND m.fingerprint = ANY(CAST(:models AS text[]))
        WHERE c.state = 'pending' AND {_untouched("c")}
        ORDER BY c.id LIMIT :most FOR UPDATE OF c SKIP LOCKED
    )
    UPDATE candidates c SET touched_at = now() FROM due WHERE c.id = due.id
    RETURNING c.problem_id, due.step, due.model
    """
)

_DUE_SCORES = sa.text(
    f"""
    WITH due AS (
        SELECT c.id, p.step, m.fingerprint AS model
        FROM candidates c
        JOIN problems p ON p.id = c.problem_id AND p.state = 'searching'
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN models m ON m.id = r.prover_model_id AND m.fingerprint = ANY(CAST(:models AS text[]))
        WHERE c.state = 'proposed' AND {is_compared("c", "p")} AND {_untouched("c")}
        ORDER BY c.id LIMIT :most FOR UPDATE OF c SKIP LOCKED
    )
    UPDATE candidates c SET touched_at = now() FROM due WHERE c.id = due.id
    RETURNING c.problem_id, due.step, due.model
    """
)

_DUE_JUDGMENTS = sa.text(
    f"""
    WITH due AS (
        SELECT c.id, p.step, m.fingerprint AS model
        FROM candidates c
        JOIN problems p ON p.id = c.problem_id AND p.state = 'searching'
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN models m ON m.id = r.reward_model_id AND m.fingerprint = ANY(CAST(:models AS text[]))
        WHERE c.state = 'unjudged' AND {_untouched("c")}
        ORDER BY c.id LIMIT :most FOR UPDATE OF c SKIP LOCKED
    )
    UPDATE candidates c SET touched_at = now() FROM due WHERE c.id = due.id
    RETURNING c.problem_id, due.step, due.model
    """
)

_DUE_ADVANCES = sa.text(
    f"""
    UPDATE problems p SET touched_at = now()
    FROM runs r
    WHERE p.state = 'searching' AND p.outstanding = 0 AND {_untouched("p")} AND p.decision_due_at IS NULL
      AND r.id = p.run_id AND r.state = 'active'
    RETURNING p.id AS problem_id, p.step
    """
)
"""Decisions that failed need no message: every coordinator looks for those that are its own to try (`undecided`)."""

_DUE_ANSWERS = sa.text(
    f"""
    WITH due AS (
        SELECT j.id, p.step, m.fingerprint AS model
        FROM trajectories j
        JOIN problems p ON p.id = j.problem_id AND p.state = 'answering'
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN candidates c ON c.id = j.candidate_id
        JOIN teachers t ON t.id = c.teacher_id
        JOIN models m ON m.id = t.model_id AND m.fingerprint = ANY(CAST(:models AS text[]))
        WHERE j.answer_state = 'pending' AND {_untouched("j")}
        ORDER BY j.id LIMIT :most FOR UPDATE OF j SKIP LOCKED
    )
    UPDATE trajectories j SET touched_at = now() FROM due WHERE j.id = due.id
    RETURNING j.problem_id, due.step, due.model
    """
)

_DUE_VERDICTS = sa.text(
    f"""
    WITH due AS (
        SELECT j.id, m.fingerprint AS model
        FROM trajectories j
        JOIN problems p ON p.id = j.problem_id AND p.state = 'verifying'
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN models m ON m.id = r.judge_model_id AND m.fingerprint = ANY(CAST(:models AS text[]))
        WHERE {OWED_TO_JUDGE} AND {_untouched("j")}
        ORDER BY j.id LIMIT :most FOR UPDATE OF j SKIP LOCKED
    )
    UPDATE trajectories j SET touched_at = now() FROM due WHERE j.id = due.id
    RETURNING j.problem_id, j.steps AS step, due.model
    """
)

_DUE_VERIFICATIONS = sa.text(
    f"""
    UPDATE problems p SET touched_at = now()
    FROM runs r
    WHERE p.state = 'verifying' AND {_untouched("p")}
      AND r.id = p.run_id AND r.state = 'active'
      AND (EXISTS (SELECT 1 FROM trajectories j WHERE j.problem_id = p.id AND {OWED_TO_CHECK})
           OR NOT EXISTS (SELECT 1 FROM trajectories j WHERE j.problem_id = p.id AND {IS_OWED}))
    RETURNING p.id AS problem_id, p.step
    """
)
"""Answers that nobody compares, and problems whose answers wait for nothing. Those that wait for the LLM judge are its
model's work."""

_WAITING = sa.text(
    f"""
    SELECT m.fingerprint AS model, count(*) AS messages
    FROM (
        SELECT DISTINCT c.problem_id, t.model_id
        FROM candidates c
        JOIN problems p ON p.id = c.problem_id AND p.state = 'searching'
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN teachers t ON t.id = c.teacher_id
        WHERE c.state = 'pending'
        UNION ALL
        SELECT DISTINCT c.problem_id, r.prover_model_id
        FROM candidates c
        JOIN problems p ON p.id = c.problem_id AND p.state = 'searching'
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        WHERE c.state = 'proposed' AND {is_compared("c", "p")}
        UNION ALL
        SELECT DISTINCT c.problem_id, r.reward_model_id
        FROM candidates c
        JOIN problems p ON p.id = c.problem_id AND p.state = 'searching'
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        WHERE c.state = 'unjudged'
        UNION ALL
        SELECT DISTINCT j.problem_id, t.model_id
        FROM trajectories j
        JOIN problems p ON p.id = j.problem_id AND p.state = 'answering'
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN candidates c ON c.id = j.candidate_id
        JOIN teachers t ON t.id = c.teacher_id
        WHERE j.answer_state = 'pending'
        UNION ALL
        SELECT DISTINCT j.problem_id, r.judge_model_id
        FROM trajectories j
        JOIN problems p ON p.id = j.problem_id AND p.state = 'verifying'
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        WHERE {OWED_TO_JUDGE}
    ) units
    JOIN models m ON m.id = units.model_id
    GROUP BY m.fingerprint
    """
)

_LEAD_KEY = 0x53776570
"""Advisory lock (the letters Swep) of the leading sweeper."""

_TRY_LEAD = sa.text(
    f"""
    SELECT pg_try_advisory_xact_lock({_LEAD_KEY}),
           set_config('idle_in_transaction_session_timeout', :milliseconds, true)
    """
)


def _last_words(worker: str) -> str:
    """SQL: how the worker that had the work last (a column) ended, in brackets."""
    return f"coalesce((SELECT ' (' || w.stop_reason || ')' FROM workers w WHERE w.id = {worker}), '')"


_PARK_PROPOSALS = sa.text(
    f"""
    SELECT DISTINCT ON (c.problem_id) c.problem_id,
           'a proposal of teacher ' || t.name || ' for step ' || c.step || ' was given up after '
           || c.propose_attempts || ' attempts: its worker was lost or failed each time'
           || {_last_words("c.worker_id")} AS reason
    FROM candidates c
    JOIN problems p ON p.id = c.problem_id AND p.state = 'searching'
    JOIN runs r ON r.id = p.run_id
    JOIN teachers t ON t.id = c.teacher_id
    WHERE c.state = 'pending' AND c.propose_attempts >= {MOST_ATTEMPTS}
    ORDER BY c.problem_id, c.id
    """
)

_PARK_SCORES = sa.text(
    f"""
    SELECT DISTINCT ON (c.problem_id) c.problem_id,
           'scoring a candidate of step ' || c.step || ' was given up after ' || c.score_attempts
           || ' attempts: its worker was lost or failed each time'
           || {_last_words("c.score_worker_id")} AS reason
    FROM candidates c
    JOIN problems p ON p.id = c.problem_id AND p.state = 'searching'
    JOIN runs r ON r.id = p.run_id
    WHERE c.state = 'proposed' AND c.score_attempts >= {MOST_ATTEMPTS}
    ORDER BY c.problem_id, c.id
    """
)

_PARK_JUDGMENTS = sa.text(
    f"""
    SELECT DISTINCT ON (c.problem_id) c.problem_id,
           'judging a candidate of step ' || c.step || ' was given up after ' || c.judgment_attempts
           || ' attempts: its worker was lost or failed each time'
           || {_last_words("c.judgment_worker_id")} AS reason
    FROM candidates c
    JOIN problems p ON p.id = c.problem_id AND p.state = 'searching'
    JOIN runs r ON r.id = p.run_id
    WHERE c.state = 'unjudged' AND c.judgment_attempts >= {MOST_ATTEMPTS}
    ORDER BY c.problem_id, c.id
    """
)

_PARK_ANSWERS = sa.text(
    f"""
    SELECT DISTINCT ON (j.problem_id) j.problem_id,
           'the final answer was given up after ' || j.answer_attempts
           || ' attempts: its worker was lost or failed each time'
           || {_last_words("j.worker_id")} AS reason
    FROM trajectories j
    JOIN problems p ON p.id = j.problem_id AND p.state = 'answering'
    JOIN runs r ON r.id = p.run_id
    WHERE j.answer_state = 'pending' AND j.answer_attempts >= {MOST_ATTEMPTS}
    ORDER BY j.problem_id, j.id
    """
)

_PARK_VERDICTS = sa.text(
    f"""
    SELECT DISTINCT ON (j.problem_id) j.problem_id,
           'judging the final answer was given up after ' || j.judgment_attempts
           || ' attempts: its worker was lost or failed each time'
           || {_last_words("j.judgment_worker_id")} AS reason
    FROM trajectories j
    JOIN problems p ON p.id = j.problem_id AND p.state = 'verifying'
    JOIN runs r ON r.id = p.run_id
    WHERE {OWED_TO_JUDGE} AND j.judgment_attempts >= {MOST_ATTEMPTS}
    ORDER BY j.problem_id, j.id
    """
)


def try_lead(connection: sa.Connection, seconds: float) -> bool:
    """Whether this transaction is the leading sweeper's; it stays so until it ends.

    PostgreSQL ends it when its process asks nothing for `seconds`.
    """
    milliseconds = str(max(1, round(seconds * 1000)))
    return bool(connection.execute(_TRY_LEAD, {"milliseconds": milliseconds}).one()[0])


def admit(connection: sa.Connection) -> list[Due]:
    """Lets queued problems of active runs begin where there are places (`admission`)."""
    return [Due(Kind.ADVANCE, problem_id, 0) for problem_id in begin_problems(connection)]


def waiting(connection: sa.Connection) -> dict[str, int]:
    """Messages that the unclaimed work of each model amounts to, by model fingerprint."""
    return {row.model: row.messages for row in connection.execute(_WAITING)}


def due_model_work(
    connection: sa.Connection, models: Sequence[str], age_seconds: float, *, limit: int | None = None
) -> list[Due]:
    """Work of these models that nobody claimed for `age_seconds`, oldest problems first; marks it as sent.

    `limit` bounds the rows (candidates or answers) of each kind.
    """
    parameters = {"models": list(models), "age": age_seconds, "most": limit}
    due = {
        Due(Kind.PROPOSE, row.problem_id, row.step, row.model) for row in connection.execute(_DUE_PROPOSALS, parameters)
    }
    due |= {Due(Kind.SCORE, row.problem_id, row.step, row.model) for row in connection.execute(_DUE_SCORES, parameters)}
    due |= {
        Due(Kind.JUDGE, row.problem_id, row.step, row.model) for row in connection.execute(_DUE_JUDGMENTS, parameters)
    }
    due |= {
        Due(Kind.ANSWER, row.problem_id, row.step, row.model) for row in connection.execute(_DUE_ANSWERS, parameters)
    }
    due |= {
        Due(Kind.VERDICT, row.problem_id, row.step, row.model) for row in connection.execute(_DUE_VERDICTS, parameters)
    }
    return sorted(due, key=lambda item: (item.problem_id, item.kind, item.model or ""))


def due_coordination(connection: sa.Connection, age_seconds: float) -> list[Due]:
    """Decisions and verifications that are due and were not taken up; marks them as sent."""
    advances = connection.execute(_DUE_ADVANCES, {"age": age_seconds})
    verifications = connection.execute(_DUE_VERIFICATIONS, {"age": age_seconds})
    return [Due(Kind.ADVANCE, row.problem_id, row.step) for row in advances] + [
        Due(Kind.VERIFY, row.problem_id, row.step) for row in verifications
    ]


def exhausted(connection: sa.Connection) -> list[Parked]:
    """Problems one of whose pieces of work used up its attempts (`run.max_attempts`)."""
    return [
        Parked(row.problem_id, row.reason)
        for statement in (_PARK_PROPOSALS, _PARK_SCORES, _PARK_JUDGMENTS, _PARK_ANSWERS, _PARK_VERDICTS)
        for row in connection.execute(statement)
    ]
