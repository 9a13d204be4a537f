"""What was claimed, committed and computed how often: by triggers that write it down, and by the engines' own log."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from cord_worker.engines.instant import input_key
from cord_worker.store.database import Database

_UNFLUSHED_SECONDS = 5.0
"""A claim younger than this may be lost in a crash of PostgreSQL: claims do not wait for the disk. On a busy machine,
its worker may call the engine that long after the crash."""
_SHOWN_SECONDS = 60.0

INSTALL = """
    CREATE TABLE chaos_audit (id bigserial PRIMARY KEY, owner text NOT NULL, row_id bigint NOT NULL,
                              work text NOT NULL, event text NOT NULL);
    CREATE INDEX ON chaos_audit (owner, row_id);
    CREATE FUNCTION chaos_audit() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        before text := to_jsonb(OLD) ->> TG_ARGV[0];
        now_is text := to_jsonb(NEW) ->> TG_ARGV[0];
        waiting text := CASE before WHEN 'proposing' THEN 'pending' WHEN 'scoring' THEN 'proposed'
                                    WHEN 'writing' THEN 'pending'
                                    WHEN 'checking' THEN CASE WHEN to_jsonb(NEW) ->> 'verification' IS NULL
                                                         THEN 'written' ELSE '' END
                                    WHEN 'judging' THEN CASE TG_TABLE_NAME WHEN 'candidates' THEN 'unjudged'
                                                                           ELSE 'written' END END;
    BEGIN
        IF before = now_is THEN
            RETURN NULL;
        ELSIF now_is IN ('proposing', 'scoring', 'judging', 'writing', 'checking') THEN
            INSERT INTO chaos_audit (owner, row_id, work, event) VALUES (TG_TABLE_NAME, NEW.id, now_is, 'claim');
        ELSIF waiting IS NOT NULL AND now_is <> waiting THEN
            INSERT INTO chaos_audit (owner, row_id, work, event) VALUES (TG_TABLE_NAME, NEW.id, before, 'finish');
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER chaos_audit AFTER UPDATE ON candidates FOR EACH ROW EXECUTE FUNCTION chaos_audit('state');
    CREATE TRIGGER chaos_audit AFTER UPDATE ON trajectories FOR EACH ROW EXECUTE FUNCTION chaos_audit('answer_state');
"""

_REPEATED = """
    WITH rows AS (
        SELECT 'candidates' AS owner, c.id FROM candidates c JOIN problems p ON p.id = c.problem_id
        WHERE p.run_id = :run
        UNION ALL
        SELECT 'trajectories', j.id FROM trajectories j JOIN problems p ON p.id = j.problem_id WHERE p.run_id = :run
    )
    SELECT count(*) FROM chaos_audit a JOIN rows ON rows.owner = a.owner AND rows.id = a.row_id
    WHERE EXISTS (
        SELECT 1 FROM chaos_audit earlier
        WHERE earlier.owner = a.owner AND earlier.row_id = a.row_id AND earlier.work = a.work
          AND earlier.event = 'finish' AND earlier.id < a.id
    )
"""

_CLAIMS = """
    SELECT c.id, count(*) FILTER (WHERE a.work = 'proposing') AS proposals,
           count(*) FILTER (WHERE a.work = 'scoring') AS scores,
           count(*) FILTER (WHERE a.work = 'judging') AS judgments
    FROM candidates c JOIN problems p ON p.id = c.problem_id
    LEFT JOIN chaos_audit a ON a.owner = 'candidates' AND a.row_id = c.id AND a.event = 'claim'
    WHERE p.run_id = :run GROUP BY c.id
"""

_CANDIDATES = """
    SELECT c.id, c.parent_id, c.text, c.seed, p.question
    FROM candidates c JOIN problems p ON p.id = c.problem_id WHERE p.run_id = :run ORDER BY c.step, c.id
"""

_FORGET = """
    DELETE FROM chaos_audit a USING candidates c, problems p
    WHERE a.owner = 'candidates' AND a.row_id = c.id AND p.id = c.problem_id AND p.run_id = :run;
    DELETE FROM chaos_audit a USING trajectories j, problems p
    WHERE a.owner = 'trajectories' AND a.row_id = j.id AND p.id = j.problem_id AND p.run_id = :run;
    DELETE FROM beams b USING problems p WHERE p.id = b.problem_id AND p.run_id = :run;
    DELETE FROM trajectories j USING problems p WHERE p.id = j.problem_id AND p.run_id = :run;
    DELETE FROM candidates c USING problems p WHERE p.id = c.problem_id AND p.run_id = :run;
    DELETE FROM problems WHERE run_id = :run;
    DELETE FROM teachers WHERE run_id = :run;
    DELETE FROM runs WHERE id = :run
"""


@dataclass(slots=True)
class Audit:
    """Claims of all runs by their request to the engine, to be compared with the engines' log."""

    database: Database
    log: Path
    claims: Counter[tuple[str, int]] = field(default_factory=Counter)
    committed: int = 0
    repeated: int = 0

    def take(self, run: int) -> None:
        """Adds the claims of a finished run."""
        key = {"run": run}

        def read(connection: sa.Connection) -> None:
            found = connection.execute(sa.text(_REPEATED), key).scalar_one()
            claims = {row.id: row for row in connection.execute(sa.text(_CLAIMS), key)}
            paths: dict[int, list[str]] = {}
            counted: Counter[tuple[str, int]] = Counter()
            for row in connection.execute(sa.text(_CANDIDATES), key):
                paths[row.id] = [*paths.get(row.parent_id, []), row.text or ""]
                asked = claims[row.id]
                counted["propose", row.seed] += asked.proposals
                counted["score", input_key(row.question, paths[row.id])] += asked.scores
                counted["reward", input_key(row.question, paths[row.id])] += asked.judgments
            self.claims += counted
            self.committed += len(paths)
            self.repeated += int(found)

        self.database.run(read)

    def forget(self, run: int) -> None:
        """Deletes a run that was added."""

        def delete(connection: sa.Connection) -> None:
            for statement in _FORGET.split(";"):
                connection.execute(sa.text(statement), {"run": run})

        self.database.run(delete)

    def calls(self) -> int:
        """Calls of the engines for proposals and scores."""
        return sum(len(times) for (kind, _), times in self._calls().items() if kind in {"propose", "score"})

    def unexplained(self, crashes: Sequence[tuple[float, float]]) -> list[str]:
        """What the engines computed more often than it was claimed, but for claims that a crash undid: each is the
        span of time in which it was."""
        found: list[str] = []
        for key, times in self._calls().items():
            if key not in self.claims or len(times) <= self.claims[key]:
                continue
            undone = sum(1 for time in times if any(_is_near(time, crash) for crash in crashes))
            if len(times) - undone > self.claims[key]:
                near = sorted(
                    crash for crash in crashes if any(abs(time - crash[1]) < _SHOWN_SECONDS for time in times)
                )
                found.append(f"{key}: {self.claims[key]} claims, computed at {times}; crashes of PostgreSQL: {near}")
        return found

    def _calls(self) -> dict[tuple[str, int], list[float]]:
        calls: dict[tuple[str, int], list[float]] = defaultdict(list)
        for line in self.log.read_text(encoding="ascii").splitlines() if self.log.exists() else []:
            kind, key, _, time = line.split()
            calls["propose" if kind in {"complete", "reply"} else kind, int(key)].append(float(time))
        return calls


def _is_near(time: float, crash: tuple[float, float]) -> bool:
    began, ended = crash
    return began - _UNFLUSHED_SECONDS <= time <= ended + _UNFLUSHED_SECONDS
