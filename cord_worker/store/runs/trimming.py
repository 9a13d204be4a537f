"""Writes trimmed runs: copies of the winners of another run, up to the step at which each of them is cut.

A copy of a candidate has the text, score, seed and lineage of the original, but no tokens of prompts and no seconds:
nothing was computed for it, so it costs nothing. Its digests are those of the original with the new owner
(`Digest.copied_sql`). A trajectory that is cut waits for a new final answer; its problem is `queued` and becomes
`answering` when it is admitted. For a trajectory that keeps all steps, the final answer is copied too, and the problem
is done at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

import cord_worker
from cord_worker.errors import RunConflict
from cord_worker.search.types import Finish
from cord_worker.store.runs.enqueue import lock_run_name
from cord_worker.store.runs.runs import RunRow, find_run
from cord_worker.store.schema import digests
from cord_worker.store.schema.digests import Digest
from cord_worker.store.schema.rollups import write_rollups
from cord_worker.store.schema.tables import AnswerState, Base, ProblemState, RunState
from cord_worker.store.session_settings import find_by_keys


@dataclass(frozen=True, slots=True)
class WinnerStep:
    """A step of a winner: the key of its candidate, its lineage, the name of its teacher and its score."""

    candidate_id: int
    lineage: str
    teacher: str
    score: float | None


@dataclass(frozen=True, slots=True)
class Winner:
    """The winner of a done problem, with its steps in order; `key` is that of its problem in the dataset."""

    problem_id: int
    key: str
    trajectory_id: int
    steps: tuple[WinnerStep, ...]


@dataclass(frozen=True, slots=True)
class WinnerCopy:
    """What is copied of a winner: the path to the candidate `last_id`. `key` is that of its problem in the dataset.
    `answer_seed` is the seed of the new final answer; None if the trajectory keeps all steps and its answer."""

    problem_id: int
    key: str
    trajectory_id: int
    last_id: int
    answer_seed: int | None


@dataclass(frozen=True, slots=True)
class TrimmedCounts:
    """Numbers of problems: `shortened` and `unchanged` in a trimmed run; `failed` (or cancelled) and `unfinished` in
    its source."""

    shortened: int
    unchanged: int
    failed: int
    unfinished: int


_COSTS = (
    *("prompt_tokens", "cached_tokens", "propose_seconds", "score_prompt_tokens", "score_cached_tokens"),
    *("score_seconds", "judgment_prompt_tokens", "judgment_completion_tokens", "judgment_cached_tokens"),
    "judgment_seconds",
)
_ANSWER_COSTS = (
    *("answer_prompt_tokens", "answer_cached_tokens", "answer_seconds", "verdict_prompt_tokens"),
    *("verdict_completion_tokens", "verdict_seconds"),
)
_NO_COSTS, _NO_ANSWER_COSTS = dict.fromkeys(_COSTS, "NULL"), dict.fromkeys(_ANSWER_COSTS, "NULL")


def _copied(digest: Digest, own: dict[str, str], owner: str) -> str:
    """SQL: the digest of a copy that differs in the columns `own`; see `Digest.copied_sql`."""
    return digest.copied_sql(f"{digest.row}.{digest.column}", own, owner=owner)


_NEW_OWNER = "CAST(json_build_array(copied.run_id, copied.key, c.lineage) AS text)"
_CANDIDATE = {
    "problem_id": "copied.id",
    "parent_id": "NULL",
    "teacher_id": "t.id",
    "sources": "NULL",
    "duplicate_of": "NULL",
    "rank": "0",
    "kept": "true",
    "winning": "true",
    "touched_at": "now()",
    **_NO_COSTS,
    **{one.column: _copied(one, _NO_COSTS, _NEW_OWNER) for one in (digests.PROPOSAL, digests.SCORE, digests.JUDGMENT)},
}
"""SQL: columns in which a copied candidate differs from the original `c`; `copied` is the new problem, `t` the teacher
in the new run."""
_TRAJECTORY = {
    "problem_id": "copied.id",
    "candidate_id": "c.id",
    "dropped_at_step": "NULL",
    "touched_at": "now()",
    **_NO_ANSWER_COSTS,
    **{one.column: _copied(one, _NO_ANSWER_COSTS, _NEW_OWNER) for one in (digests.ANSWER, digests.CORRECTNESS)},
}
"""SQL: columns in which the copy of an unchanged trajectory differs from the original `j`; `c` is its last step in the
new run."""
_RUN = {
    "name": "CAST(:name AS text)",
    "state": f"'{RunState.ACTIVE}'",
    "config_fingerprint": "CAST(:fingerprint AS text)",
    "code_version": "CAST(:version AS text)",
    "trimmed_from": "r.name",
    "source_run_id": "r.id",
    "trim_above": "CAST(:above AS float8)",
    "created_at": "now()",
    "pause_reason": "NULL",
    "max_tokens": "NULL",
    "max_cost": "NULL",
}
_RUN["digest"] = "CASE WHEN r.digest IS NOT NULL THEN {} END".format(
    digests.RUN.sql(_RUN, owner="concat_ws(' trimmed from ', CAST(:name AS text), CAST(r.name AS text))")
)
"""SQL: columns in which a trimmed run differs from its source `r`. It has digests if its source has them."""


def _columns_and_values(table: str, row: str, own: dict[str, str]) -> tuple[str, str]:
    """SQL: all columns of `table` but its key, and their values in a copy of `row` (an alias); `own` has the SQL of
    columns in which the copy differs."""
    names = [column.name for column in Base.metadata.tables[table].columns if column.name != "id"]
    return ", ".join(names), ", ".join(own.get(name, f"{row}.{name}") for name in names)


_RUN_COLUMNS, _RUN_VALUES = _columns_and_values("runs", "r", _RUN)
_CANDIDATE_COLUMNS, _CANDIDATE_VALUES = _columns_and_values("candidates", "c", _CANDIDATE)
_TRAJECTORY_COLUMNS, _TRAJECTORY_VALUES = _columns_and_values("trajectories", "j", _TRAJECTORY)

_INSERT_RUN = sa.text(
    f"INSERT INTO runs ({_RUN_COLUMNS}) SELECT {_RUN_VALUES} FROM runs r WHERE r.id = :source RETURNING id"
)

_INSERT_TEACHERS = sa.text(
    """
    INSERT INTO teachers (run_id, ordinal, name, role, model_id, sampling, system_prompt)
    SELECT :run_id, t.ordinal, t.name, t.role, t.model_id, t.sampling, t.system_prompt
    FROM teachers t WHERE t.run_id = :source ORDER BY t.ordinal
    """
)

_WINNERS = sa.text(
    """
    SELECT p.id AS problem_id, p.key, j.id AS trajectory_id, path.steps
    FROM problems p JOIN trajectories j ON j.problem_id = p.id AND j.winner
    CROSS JOIN LATERAL (
        WITH RECURSIVE path AS (
            SELECT c.* FROM candidates c WHERE c.id = j.candidate_id
            UNION ALL
            SELECT c.* FROM path JOIN candidates c ON c.id = path.parent_id
        )
        SELECT jsonb_agg(jsonb_build_array(c.id, c.lineage, t.name, c.score) ORDER BY c.depth) AS steps
        FROM path c JOIN teachers t ON t.id = c.teacher_id
    ) path
    WHERE p.run_id = :source AND p.state = 'done' AND p.position BETWEEN :first AND :last
      AND NOT EXISTS (SELECT 1 FROM problems copied WHERE copied.run_id = :run_id AND copied.key = p.key)
    ORDER BY p.position
    """
)

_GIVEN = """
    given AS (
        SELECT * FROM unnest(
            CAST(:problem_id AS bigint[]), CAST(:trajectory_id AS bigint[]), CAST(:last_id AS bigint[]),
            CAST(:answer_seed AS bigint[]), CAST(:new_id AS bigint[])
        ) AS g(problem_id, trajectory_id, last_id, answer_seed, new_id)
    )
"""
"""SQL: a table of what is copied (see `WinnerCopy`). `new_id` is the key of the new problem, NULL before it is
inserted. Other rows are found by the keys in this table, because PostgreSQL has no statistics of a run that is being
written."""
_PROBLEM_DIGEST = _copied(
    digests.PROBLEM, {}, "CAST(json_build_array(CAST(:run_id AS bigint), CAST(p.key AS text)) AS text)"
)

_INSERT_PROBLEMS = sa.text(
    f"""
    WITH {_GIVEN}
    INSERT INTO problems
        (run_id, position, key, content_hash, question, answer, passage, attributes, digest, state, step, round,
         admitted_at, finished_at)
    SELECT :run_id, p.position, p.key, p.content_hash, p.question, p.answer, p.passage, p.attributes,
           {_PROBLEM_DIGEST},
           CASE WHEN g.answer_seed IS NULL THEN '{ProblemState.DONE}' ELSE '{ProblemState.QUEUED}' END,
           c.step, c.round, CASE WHEN g.answer_seed IS NULL THEN now() END,
           CASE WHEN g.answer_seed IS NULL THEN now() END
    FROM given g JOIN problems p ON p.id = g.problem_id JOIN candidates c ON c.id = g.last_id
    ORDER BY p.position RETURNING id, key
    """
)

_INSERT_CANDIDATES = sa.text(
    f"""
    WITH RECURSIVE {_GIVEN}, path AS (
        SELECT g.new_id, c.id, c.parent_id FROM given g JOIN candidates c ON c.id = g.last_id
        UNION
        SELECT path.new_id, c.id, c.parent_id FROM path JOIN candidates c ON c.id = path.parent_id
    )
    INSERT INTO candidates ({_CANDIDATE_COLUMNS})
    SELECT {_CANDIDATE_VALUES}
    FROM path JOIN problems copied ON copied.id = path.new_id JOIN candidates c ON c.id = path.id
    JOIN teachers original_teacher ON original_teacher.id = c.teacher_id
    JOIN teachers t ON t.run_id = :run_id AND t.ordinal = original_teacher.ordinal
    ORDER BY copied.id, c.depth
    """
)

_SET_PARENTS = sa.text(
    """
    UPDATE candidates c SET parent_id = parent.id FROM candidates parent
    WHERE c.problem_id = ANY(CAST(:ids AS bigint[])) AND parent.problem_id = c.problem_id AND parent.depth = c.depth - 1
    """
)

_COPIED_LAST_STEP = """
    JOIN problems copied ON copied.id = g.new_id
    JOIN candidates original ON original.id = g.last_id
    JOIN candidates c ON c.problem_id = g.new_id AND c.lineage = original.lineage
"""
"""SQL: joins the new problem and its last candidate `c` to `given g`."""

_INSERT_UNCHANGED = sa.text(
    f"""
    WITH {_GIVEN}
    INSERT INTO trajectories ({_TRAJECTORY_COLUMNS})
    SELECT {_TRAJECTORY_VALUES}
    FROM given g {_COPIED_LAST_STEP} JOIN trajectories j ON j.id = g.trajectory_id
    WHERE g.answer_seed IS NULL ORDER BY g.new_id
    """
)

_INSERT_CUT = sa.text(
    f"""
    WITH {_GIVEN}
    INSERT INTO trajectories (problem_id, candidate_id, steps, score, finish, winner, answer_state, answer_seed)
    SELECT copied.id, c.id, c.depth, c.score, '{Finish.TRIMMED}', true, '{AnswerState.PENDING}', g.answer_seed
    FROM given g {_COPIED_LAST_STEP}
    WHERE g.answer_seed IS NOT NULL ORDER BY g.new_id
    """
)

_INSERT_BEAMS = sa.text(
    """
    INSERT INTO beams (problem_id, step, rank, candidate_id, finish)
    SELECT c.problem_id, c.step, 0, c.id, j.finish
    FROM candidates c LEFT JOIN trajectories j ON j.candidate_id = c.id
    WHERE c.problem_id = ANY(CAST(:ids AS bigint[])) ORDER BY c.problem_id, c.step
    """
)

_LAST_POSITION = sa.text("SELECT coalesce(max(position), -1) FROM problems WHERE run_id = :source")

_COUNTS = sa.text(
    f"""
    SELECT count(*) FILTER (WHERE j.finish = '{Finish.TRIMMED}') AS shortened,
           count(*) FILTER (WHERE j.finish <> '{Finish.TRIMMED}') AS unchanged,
           (SELECT count(*) FROM problems p WHERE p.run_id = :source AND p.state IN ('failed', 'cancelled')) AS failed,
           (SELECT count(*) FROM problems p WHERE p.run_id = :source
            AND p.state IN ('queued', 'searching', 'answering', 'verifying')) AS unfinished
    FROM problems p JOIN trajectories j ON j.problem_id = p.id AND j.winner WHERE p.run_id = :run_id
    """
)

_MISSING = sa.text(
    """
    SELECT count(*) FROM problems p WHERE p.run_id = :source AND p.state = 'done'
      AND NOT EXISTS (SELECT 1 FROM problems copied WHERE copied.run_id = :run_id AND copied.key = p.key)
    """
)

_OF_SOURCE = sa.text("SELECT name FROM runs WHERE source_run_id = :source AND trim_above = :above ORDER BY id")


def ensure_trimmed_run(connection: sa.Connection, source: RunRow, name: str, above: float, fingerprint: str) -> int:
    """Key of the run called `name`, which holds the winners of `source` trimmed at `above`; creates it if needed.

    Until this transaction ends, no other one trims into this run or cancels it. Raises RunConflict if another run has
    this name or if the trimmed run was cancelled.
    """
    lock_run_name(connection, name)
    existing = find_run(connection, name)
    if existing is None:
        parameters = {"name": name, "fingerprint": fingerprint, "version": cord_worker.__version__}
        run_id = connection.execute(_INSERT_RUN, {**parameters, "source": source.id, "above": above}).scalar_one()
        connection.execute(_INSERT_TEACHERS, {"run_id": run_id, "source": source.id})
        return int(run_id)
    if (existing.source_run_id, existing.trim_above) != (source.id, above):
        raise RunConflict(
            f"another run is called {name!r}, which is not run {source.name!r} trimmed above {above}. Choose another "
            "name with --name, or remove that run (cordctl rm)."
        )
    if existing.state == RunState.CANCELLED:
        raise RunConflict(
            f"run {name!r} was cancelled and takes no more problems. Remove it (cordctl rm {name}), or choose another "
            "name with --name."
        )
    return existing.id


def last_position(connection: sa.Connection, source_id: int) -> int:
    """The position of the source's last problem; -1 if it has none."""
    return int(connection.execute(_LAST_POSITION, {"source": source_id}).scalar_one())


def winners_to_copy(connection: sa.Connection, source_id: int, run_id: int, *, first: int, last: int) -> list[Winner]:
    """Winners of the source's done problems from position `first` to `last` that the trimmed run does not have yet, in
    dataset order. (A limit instead of `last` would make PostgreSQL read all problems for every batch.)"""
    find_by_keys(connection)
    parameters = {"source": source_id, "run_id": run_id, "first": first, "last": last}
    return [
        Winner(row.problem_id, row.key, row.trajectory_id, tuple(WinnerStep(*step) for step in row.steps))
        for row in connection.execute(_WINNERS, parameters)
    ]


def copy_winners(connection: sa.Connection, run_id: int, copies: Sequence[WinnerCopy]) -> None:
    """Writes the problems of the trimmed run for these winners, with all of their rows.

    Rows are found by keys: with hash joins, every batch would read whole tables (measured: 0.8 s instead of 0.1 s for
    200 winners in a table of 90,000 candidates).
    """
    find_by_keys(connection)
    given = {
        "run_id": run_id,
        **{name: [getattr(one, name) for one in copies] for name in WinnerCopy.__slots__ if name != "key"},
    }
    nothing_yet = {"new_id": [None] * len(copies)}
    new_ids = {row.key: row.id for row in connection.execute(_INSERT_PROBLEMS, {**given, **nothing_yet})}
    new_problems = {"ids": sorted(new_ids.values())}
    given["new_id"] = [new_ids[one.key] for one in copies]
    connection.execute(_INSERT_CANDIDATES, given)
    connection.execute(_SET_PARENTS, new_problems)
    connection.execute(_INSERT_UNCHANGED, given)
    connection.execute(_INSERT_CUT, given)
    connection.execute(_INSERT_BEAMS, new_problems)
    write_rollups(connection, new_problems["ids"])


def count_trimmed(connection: sa.Connection, source_id: int, run_id: int) -> TrimmedCounts:
    """Counts the problems of the trimmed run, and those of its source that have no winner."""
    row = connection.execute(_COUNTS, {"source": source_id, "run_id": run_id}).one()
    return TrimmedCounts(**row._mapping)


def count_missing(connection: sa.Connection, source_id: int, run_id: int) -> int:
    """Number of done problems of the source that the trimmed run does not have yet."""
    return int(connection.execute(_MISSING, {"source": source_id, "run_id": run_id}).scalar_one())


def trimmed_runs(connection: sa.Connection, source_id: int, above: float) -> list[str]:
    """Names of the runs that hold the source's winners trimmed at `above`, oldest first."""
    return list(connection.execute(_OF_SOURCE, {"source": source_id, "above": above}).scalars())
