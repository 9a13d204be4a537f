"""What a run waits for at this moment: unfinished work by the model that has to do it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.work.judge_answer import IS_OWED, OWED_TO_CHECK, WITH_JUDGE


@dataclass(frozen=True, slots=True)
class Owed:
    """Unfinished work of one `kind`: `waiting` pieces that nobody has begun and `in_work` ones, the oldest of which was
    begun `seconds` ago. `model` is a fingerprint, None for a coordinator's work."""

    kind: str
    model: str | None
    path: str | None
    waiting: int
    in_work: int
    seconds: float | None


_OWED = sa.text(
    f"""
    SELECT work.kind, m.fingerprint AS model, m.path, count(*) FILTER (WHERE NOT work.is_leased) AS waiting,
           count(*) FILTER (WHERE work.is_leased) AS in_work,
           CAST(extract(epoch FROM now() - min(work.touched_at) FILTER (WHERE work.is_leased)) AS float8) AS seconds
    FROM (
        SELECT 'proposal' AS kind, t.model_id, c.state = 'proposing' AS is_leased, c.touched_at
        FROM candidates c
        JOIN problems p ON p.id = c.problem_id AND p.state = 'searching' AND p.run_id = :run_id
        JOIN teachers t ON t.id = c.teacher_id
        WHERE c.state IN ('pending', 'proposing')
        UNION ALL
        SELECT 'score', r.prover_model_id, c.state = 'scoring', c.touched_at
        FROM candidates c
        JOIN problems p ON p.id = c.problem_id AND p.state = 'searching' AND p.run_id = :run_id
        JOIN runs r ON r.id = p.run_id
        WHERE c.state = 'scoring' OR c.state = 'proposed' AND p.unproposed = 0
        UNION ALL
        SELECT 'judgment', r.reward_model_id, c.state = 'judging', c.touched_at
        FROM candidates c
        JOIN problems p ON p.id = c.problem_id AND p.state = 'searching' AND p.run_id = :run_id
        JOIN runs r ON r.id = p.run_id
        WHERE c.state IN ('unjudged', 'judging')
        UNION ALL
        SELECT 'answer', t.model_id, j.answer_state = 'writing', j.touched_at
        FROM trajectories j
        JOIN problems p ON p.id = j.problem_id AND p.state = 'answering' AND p.run_id = :run_id
        JOIN candidates c ON c.id = j.candidate_id
        JOIN teachers t ON t.id = c.teacher_id
        WHERE j.answer_state IN ('pending', 'writing')
        UNION ALL
        SELECT 'verdict', r.judge_model_id, j.answer_state = 'judging', j.touched_at
        FROM trajectories j
        JOIN problems p ON p.id = j.problem_id AND p.state = 'verifying' AND p.run_id = :run_id
        JOIN runs r ON r.id = p.run_id
        WHERE {WITH_JUDGE}
        UNION ALL
        SELECT 'decision', NULL, false, p.touched_at
        FROM problems p WHERE p.run_id = :run_id AND p.state = 'searching' AND p.outstanding = 0
        UNION ALL
        SELECT 'check', NULL, j.answer_state = 'checking', j.touched_at
        FROM trajectories j
        JOIN problems p ON p.id = j.problem_id AND p.state = 'verifying' AND p.run_id = :run_id
        JOIN runs r ON r.id = p.run_id
        WHERE j.answer_state = 'checking' OR {OWED_TO_CHECK}
        UNION ALL
        SELECT 'verification', NULL, false, p.touched_at
        FROM problems p JOIN runs r ON r.id = p.run_id
        WHERE p.run_id = :run_id AND p.state = 'verifying' AND NOT EXISTS (
            SELECT 1 FROM trajectories j WHERE j.problem_id = p.id AND {IS_OWED}
        )
        UNION ALL
        SELECT 'admission', NULL, false, p.touched_at
        FROM problems p
        WHERE p.run_id = :run_id AND p.state = 'queued' AND NOT EXISTS (
            SELECT 1 FROM problems q
            WHERE q.run_id = :run_id AND q.state IN ('searching', 'answering', 'verifying')
        )
    ) work
    LEFT JOIN models m ON m.id = work.model_id
    GROUP BY work.kind, m.fingerprint, m.path
    ORDER BY m.path NULLS FIRST, work.kind
    """
)


def owed_work(connection: sa.Connection, run_id: int) -> list[Owed]:
    """Unfinished work of the run, by kind and model; reads all of it, so not to be asked while all goes well."""
    return [Owed(**row._mapping) for row in connection.execute(_OWED, {"run_id": run_id})]
