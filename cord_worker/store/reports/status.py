"""The status of a run in figures: cheap counts that may be read every second, and totals over all its rollups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from cord_worker.store.reports.costs import engine_seconds, read_costs
from cord_worker.store.schema.tables import ProblemState, RunState

FINAL_STATES = ("done", "failed", "cancelled")
"""Problem states that end the work on a problem."""
_NO_PROBLEMS = {state.value: 0 for state in ProblemState}
_NO_CANDIDATES = dict.fromkeys(("pending", "proposing", "proposed", "scoring", "unjudged", "judging"), 0)


@dataclass(frozen=True, slots=True)
class Counts:
    """Figures that change every second.

    `problems` counts problems by state, `working` unfinished candidates by state. `active_steps` is the sum of the
    steps that problems in flight have begun, `steps` that of all problems. Rates are per second over the window:
    `steps_per_second` counts proposed steps, `tokens_per_second` the teachers' generated tokens. `idle_seconds` have
    passed since the last result of the run, or since it began.
    """

    problems: Mapping[str, int]
    active_steps: int
    working: Mapping[str, int]
    steps_per_second: float
    tokens_per_second: float
    scores_per_second: float
    steps: int = 0
    idle_seconds: float = 0.0

    @property
    def total(self) -> int:
        """All problems of the run."""
        return sum(self.problems.values())

    @property
    def final(self) -> int:
        """Problems that are done, failed or cancelled."""
        return sum(self.problems.get(state, 0) for state in FINAL_STATES)

    @property
    def leased(self) -> int:
        """Candidates that workers have leased."""
        return sum(self.working.get(state, 0) for state in ("proposing", "scoring", "judging"))

    @property
    def active(self) -> int:
        """Problems in flight."""
        return self.total - self.final - self.problems.get("queued", 0)


@dataclass(frozen=True, slots=True)
class TeacherTotals:
    """The work of one teacher in a run. `tokens` are those it generated, without copies in a trimmed run;
    `request_seconds` is the sum of the durations of its proposals, which overlap in batches.

    Proposals of one step with equal texts have the same score and result. Each of them counts as `shared` and not as
    `invalid`; each counts as `kept` and `winning` if one of them was kept and won. `share` is the teacher's share of
    the winning steps; the shares add up to 1. A step that N proposals have in common counts 1/N for each.
    """

    name: str
    proposed: int
    invalid: int
    shared: int
    kept: int
    winning: int
    share: float | None
    mean_score: float | None
    tokens: int
    request_seconds: float


@dataclass(frozen=True, slots=True)
class Totals:
    """The results of a run so far. Means are over the answered trajectories of done problems (the winners, or all
    samples).

    `accuracy` is the share of `correct` answers among the `checked` ones, which were found right or wrong. `undecided`
    answers were checked and are neither; they are not among the `checked` ones. For `without_result` of them, the check
    failed or took too long. `cut_answers` reached `search.answer_tokens`. `full_contexts` counts trajectories whose
    thinking ended because no model had room for more. `prover_seconds` and `scored_tokens` are the seconds and tokens
    of scoring, base scores included. `engine_seconds`: see `costs.engine_seconds`.
    """

    done: int
    mean_score: float | None
    checked: int
    correct: int
    undecided: int
    accuracy: float | None
    mean_steps: float | None
    candidates: Mapping[str, int]
    teachers: tuple[TeacherTotals, ...]
    answer_tokens: int
    scored_tokens: int
    prover_seconds: float
    first_admitted_at: datetime | None
    last_finished_at: datetime | None
    finished_recently: int
    recent_seconds: float
    engine_seconds: float = 0.0
    cut_answers: int = 0
    full_contexts: int = 0
    without_result: int = 0

    @property
    def proposed(self) -> int:
        """Candidates that were proposed."""
        return sum(teacher.proposed for teacher in self.teachers)

    @property
    def tokens(self) -> int:
        """Tokens generated: steps and final answers."""
        return self.answer_tokens + sum(teacher.tokens for teacher in self.teachers)

    def seconds_left(self, counts: Counts) -> float | None:
        """Estimated seconds until the run is final; None if less than a twentieth of it was finished recently.

        It assumes that work continues at the recent rate. Begun steps of problems in flight count as work done.
        """
        if counts.final == counts.total:
            return 0.0
        if not self.finished_recently or not self.mean_steps or self.finished_recently < counts.total / 20:
            return None
        begun = min(0.95 * counts.active, counts.active_steps / self.mean_steps)
        return (counts.total - counts.final - begun) * self.recent_seconds / (self.finished_recently + begun)


@dataclass(frozen=True, slots=True)
class LiveWorkers:
    """Workers of one role and model with a recent heartbeat; `ready` of them take work. `model` is a fingerprint, None
    for coordinators."""

    role: str
    model: str | None
    path: str | None
    count: int
    ready: int


@dataclass(frozen=True, slots=True)
class WorkerCondition:
    """What keeps a living worker from its work, in a sentence, and for how many seconds; `model` as in LiveWorkers."""

    model: str | None
    path: str | None
    process: str
    text: str
    since: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class TenthRow:
    """One row of the view teacher_selection."""

    teacher: str
    tenth: int
    proposed: int
    kept: int
    on_winning_path: int
    hit_rate: float | None
    mean_score: float | None
    tokens: int


@dataclass(frozen=True, slots=True)
class CacheRow:
    """How well one model reuses prefixes in a run, over all replicas; see the view model_usage."""

    model: str
    kind: str
    workers: int
    requests: int
    at_home: int
    prompt_tokens: int
    cached_tokens: int

    @property
    def hit_rate(self) -> float | None:
        """Share of the prompt tokens that came from the cache."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else None


_PROBLEMS = sa.text("SELECT state, count(*) AS number FROM problems WHERE run_id = :run_id GROUP BY state")

_STEPS = sa.text(
    """
    SELECT coalesce(sum(step) FILTER (WHERE state IN ('searching', 'answering', 'verifying')), 0) AS active,
           coalesce(sum(step), 0) AS steps, max(finished_at) AS finished_at
    FROM problems WHERE run_id = :run_id
    """
)

_RESULTS_BY_RUN = sa.text(
    """
    SELECT r.id AS run_id, k.score_sum / nullif(k.scored, 0) AS mean_score,
           k.correct::float8 / nullif(k.checked, 0) AS accuracy, k.undecided
    FROM runs r CROSS JOIN LATERAL (
        SELECT sum(k.score_sum) AS score_sum, sum(k.scored_answers) AS scored, sum(k.correct) AS correct,
               sum(k.checked) AS checked, sum(k.undecided) AS undecided, sum(k.answers) AS answers
        FROM current_problem_rollups k WHERE k.run_id = r.id AND k.state = 'done'
    ) k
    WHERE k.answers > 0
    """
)

_PROBLEMS_BY_RUN = sa.text("SELECT run_id, state, count(*) AS number FROM problems GROUP BY run_id, state")

_WORKING = sa.text(
    """
    SELECT c.state, count(*) AS number
    FROM candidates c JOIN problems p ON p.id = c.problem_id
    WHERE p.run_id = :run_id AND c.state IN ('pending', 'proposing', 'proposed', 'scoring', 'unjudged', 'judging')
    GROUP BY c.state
    """
)

# Rates read the newest rows by key, so that they cost the same in a large table as in a small one.
_RECENT = sa.text(
    """
    SELECT count(*) FILTER (WHERE c.proposed_at > now() - make_interval(secs => :window)) AS steps,
           count(*) FILTER (WHERE c.scored_at > now() - make_interval(secs => :window)) AS scores,
           coalesce(sum(c.completion_tokens)
                    FILTER (WHERE c.proposed_at > now() - make_interval(secs => :window)), 0) AS tokens,
           extract(epoch FROM now() - min(c.proposed_at)
                   FILTER (WHERE c.proposed_at > now() - make_interval(secs => :window))) AS span,
           CAST(extract(epoch FROM now() -
               greatest(max(c.proposed_at), max(c.scored_at), max(c.judged_at), CAST(:finished_at AS timestamptz),
                        (SELECT created_at FROM runs WHERE id = :run_id))
           ) AS float8) AS idle
    FROM candidates c JOIN problems p ON p.id = c.problem_id
    WHERE c.id > (SELECT coalesce(max(id), 0) FROM candidates) - :newest AND p.run_id = :run_id
    """
)

_RESULTS = sa.text(
    """
    SELECT count(*) FILTER (WHERE answers > 0) AS done, sum(score_sum) / nullif(sum(scored_answers), 0) AS mean_score,
           coalesce(sum(checked), 0) AS checked, coalesce(sum(correct), 0) AS correct,
           coalesce(sum(undecided), 0) AS undecided,
           sum(answer_steps)::float8 / nullif(sum(answers), 0) AS mean_steps,
           coalesce(sum(cut_answers), 0) AS cut_answers, coalesce(sum(full_contexts), 0) AS full_contexts,
           coalesce(sum(without_result), 0) AS without_result
    FROM current_problem_rollups WHERE run_id = :run_id AND state = 'done'
    """
)

_SPENT = sa.text(
    """
    SELECT coalesce(sum(answer_tokens), 0)::bigint AS answer_tokens,
           coalesce(sum(scored_tokens), 0)::bigint AS scored_tokens, coalesce(sum(prover_seconds), 0) AS prover_seconds
    FROM current_problem_rollups WHERE run_id = :run_id
    """
)

_TIMES = sa.text(
    """
    SELECT min(admitted_at) AS first_admitted_at, max(finished_at) AS last_finished_at,
           count(*) FILTER (WHERE finished_at > now() - make_interval(secs => :window)) AS finished_recently,
           least(:window, coalesce(extract(epoch FROM now() - min(admitted_at)), :window)) AS recent_seconds
    FROM problems WHERE run_id = :run_id
    """
)

_RUN_NAME = sa.text("SELECT name FROM runs WHERE id = :run_id")

_TEACHERS = sa.text(
    """
    SELECT t.name, coalesce(k.planned, 0) AS planned, coalesce(k.proposed, 0) AS proposed,
           coalesce(k.scored, 0) AS scored, coalesce(k.unscored, 0) AS unscored, coalesce(k.invalid, 0) AS invalid,
           coalesce(k.duplicate, 0) AS duplicate, coalesce(k.shared, 0) AS shared, coalesce(k.kept, 0) AS kept,
           coalesce(k.winning, 0) AS winning, coalesce(k.won, 0) AS won, k.mean_score,
           coalesce(k.tokens, 0) AS tokens, coalesce(k.seconds, 0) AS seconds
    FROM teachers t LEFT JOIN (
        SELECT teacher_id, sum(planned) AS planned, sum(proposed) AS proposed, sum(scored) AS scored,
               sum(unscored) AS unscored, sum(invalid) AS invalid, sum(duplicates) AS duplicate, sum(shared) AS shared,
               sum(kept) AS kept, sum(winning) AS winning, sum(winning_parts) AS won,
               sum(score_sum) / nullif(sum(scores), 0) AS mean_score, sum(generated_tokens)::bigint AS tokens,
               sum(request_seconds) AS seconds
        FROM current_teacher_rollups WHERE run_id = :run_id GROUP BY teacher_id
    ) k ON k.teacher_id = t.id
    WHERE t.run_id = :run_id ORDER BY t.ordinal
    """
)

_WORKERS = sa.text(
    """
    SELECT w.role, m.fingerprint AS model, m.path, count(*) AS count, count(w.ready_at) AS ready
    FROM workers w LEFT JOIN models m ON m.id = w.model_id
    WHERE w.stopped_at IS NULL AND w.heartbeat_at > now() - make_interval(secs => :timeout)
    GROUP BY w.role, m.fingerprint, m.path ORDER BY w.role, m.path
    """
)

_CONDITIONS = sa.text(
    """
    SELECT m.fingerprint AS model, m.path, w.hostname || ':' || w.pid AS process, w.condition AS text,
           w.condition_since AS since, CAST(extract(epoch FROM now() - w.condition_since) AS float8) AS seconds
    FROM workers w LEFT JOIN models m ON m.id = w.model_id
    WHERE w.stopped_at IS NULL AND w.heartbeat_at > now() - make_interval(secs => :timeout)
      AND w.condition IS NOT NULL
    ORDER BY m.path, w.hostname, w.pid
    """
)

_SELECTION = sa.text(
    """
    SELECT teacher, tenth, proposed, kept, on_winning_path, CAST(hit_rate AS float8) AS hit_rate, mean_score, tokens
    FROM teacher_selection WHERE run = :run
    """
)

_PREFIX_CACHE = sa.text(
    """
    SELECT m.path AS model, k.kind, count(DISTINCT k.worker_id) AS workers, sum(k.requests)::bigint AS requests,
           sum(k.at_home)::bigint AS at_home, sum(k.prompt_tokens)::bigint AS prompt_tokens,
           sum(k.cached_tokens)::bigint AS cached_tokens
    FROM current_request_rollups k JOIN models m ON m.id = k.model_id
    WHERE k.run_id = (SELECT id FROM runs WHERE name = :run) AND k.cached_tokens IS NOT NULL AND k.kind <> 'verdict'
    GROUP BY m.path, k.kind ORDER BY m.path, k.kind
    """
)

_UNFINISHED_RUNS = sa.text(
    """
    SELECT r.name FROM runs r
    WHERE r.state = 'active' AND EXISTS (
        SELECT 1 FROM problems p
        WHERE p.run_id = r.id AND p.state IN ('queued', 'searching', 'answering', 'verifying')
    )
    ORDER BY r.id
    """
)


def shown_state(state: str, problems: Mapping[str, int]) -> str:
    """`finished` for an active run whose problems are all final (it has some), else the run's own state."""
    left = sum(number for kind, number in problems.items() if kind not in FINAL_STATES)
    return "finished" if state == RunState.ACTIVE and any(problems.values()) and not left else state


def read_counts(
    connection: sa.Connection, run_id: int, *, window_seconds: float = 30.0, newest_candidates: int = 20_000
) -> Counts:
    """Problems and unfinished candidates by state, and rates over the last `window_seconds`.

    Rates read only the `newest_candidates` newest candidates of all runs.
    """
    problems = _NO_PROBLEMS | {row.state: row.number for row in connection.execute(_PROBLEMS, {"run_id": run_id})}
    working = _NO_CANDIDATES | {row.state: row.number for row in connection.execute(_WORKING, {"run_id": run_id})}
    steps = connection.execute(_STEPS, {"run_id": run_id}).one()
    recent = connection.execute(
        _RECENT,
        {
            "run_id": run_id,
            "window": window_seconds,
            "newest": newest_candidates,
            "finished_at": steps.finished_at,
        },
    ).one()
    # If the run began within the window, only the time since then counts.
    seconds = max(1.0, min(window_seconds, float(recent.span or window_seconds)))
    return Counts(
        problems=problems,
        active_steps=steps.active,
        working=working,
        steps_per_second=recent.steps / seconds,
        tokens_per_second=recent.tokens / seconds,
        scores_per_second=recent.scores / seconds,
        steps=steps.steps,
        idle_seconds=max(0.0, recent.idle),
    )


@dataclass(frozen=True, slots=True)
class RunResults:
    """The results of a run's answered trajectories. `accuracy` is the share of right answers among those found right or
    wrong; `undecided` answers were checked and are neither."""

    mean_score: float | None
    accuracy: float | None
    undecided: int = 0


def results_by_run(connection: sa.Connection) -> dict[int, RunResults]:
    """The results of every run that has answers, by its key."""
    rows = connection.execute(_RESULTS_BY_RUN)
    return {row.run_id: RunResults(row.mean_score, row.accuracy, row.undecided) for row in rows}


def no_problems() -> dict[str, int]:
    """Numbers of problems by state, for a run that has none."""
    return dict(_NO_PROBLEMS)


def problems_by_run(connection: sa.Connection) -> dict[int, dict[str, int]]:
    """Numbers of problems by state, of every run that has any, by its key."""
    problems: dict[int, dict[str, int]] = {}
    for row in connection.execute(_PROBLEMS_BY_RUN):
        problems.setdefault(row.run_id, no_problems())[row.state] = row.number
    return problems


def read_teacher_totals(connection: sa.Connection, run_id: int) -> tuple[TeacherTotals, ...]:
    """The work of each teacher of the run so far, in the order of cord.toml."""
    return _teacher_totals(connection.execute(_TEACHERS, {"run_id": run_id}).all())


def _teacher_totals(rows: Sequence[sa.Row[Any]]) -> tuple[TeacherTotals, ...]:
    won = sum(row.won for row in rows)
    return tuple(
        TeacherTotals(
            name=row.name,
            proposed=row.proposed,
            invalid=row.invalid,
            shared=row.shared,
            kept=row.kept,
            winning=row.winning,
            share=row.won / won if won else None,
            mean_score=row.mean_score,
            tokens=row.tokens,
            request_seconds=row.seconds,
        )
        for row in rows
    )


def read_totals(connection: sa.Connection, run_id: int, *, window_seconds: float = 600.0) -> Totals:
    """The results of the run so far. It reads at least one row of each problem, so do not call it every second."""
    results = connection.execute(_RESULTS, {"run_id": run_id}).one()
    spent = connection.execute(_SPENT, {"run_id": run_id}).one()
    run_name = connection.execute(_RUN_NAME, {"run_id": run_id}).scalar_one()
    times = connection.execute(_TIMES, {"run_id": run_id, "window": window_seconds}).one()
    rows = connection.execute(_TEACHERS, {"run_id": run_id}).all()
    final = {
        state: sum(getattr(row, state) for row in rows) for state in ("scored", "unscored", "invalid", "duplicate")
    }
    return Totals(
        done=results.done,
        mean_score=results.mean_score,
        checked=results.checked,
        correct=results.correct,
        undecided=results.undecided,
        without_result=results.without_result,
        accuracy=results.correct / results.checked if results.checked else None,
        mean_steps=results.mean_steps,
        cut_answers=results.cut_answers,
        full_contexts=results.full_contexts,
        candidates={**final, "unfinished": sum(row.planned for row in rows) - sum(final.values())},
        teachers=_teacher_totals(rows),
        answer_tokens=spent.answer_tokens,
        scored_tokens=spent.scored_tokens,
        prover_seconds=spent.prover_seconds,
        first_admitted_at=times.first_admitted_at,
        last_finished_at=times.last_finished_at,
        finished_recently=times.finished_recently,
        recent_seconds=float(times.recent_seconds),
        engine_seconds=engine_seconds(read_costs(connection, run_name)),
    )


def live_workers(connection: sa.Connection, timeout_seconds: float) -> list[LiveWorkers]:
    """Workers with a heartbeat within `timeout_seconds`, by role and model."""
    return [LiveWorkers(**row._mapping) for row in connection.execute(_WORKERS, {"timeout": timeout_seconds})]


def worker_conditions(connection: sa.Connection, timeout_seconds: float) -> list[WorkerCondition]:
    """What keeps workers with a heartbeat within `timeout_seconds` from their work."""
    return [WorkerCondition(**row._mapping) for row in connection.execute(_CONDITIONS, {"timeout": timeout_seconds})]


def teacher_selection(connection: sa.Connection, run_name: str) -> list[TenthRow]:
    """Which teacher was selected where: one row for each teacher and tenth of the decoding position, in order."""
    return [TenthRow(**row._mapping) for row in connection.execute(_SELECTION, {"run": run_name})]


def prefix_cache(connection: sa.Connection, run_name: str) -> list[CacheRow]:
    """How well the run's models reused prefixes: one row for each model and kind of request."""
    return [CacheRow(**row._mapping) for row in connection.execute(_PREFIX_CACHE, {"run": run_name})]


def unfinished_run_names(connection: sa.Connection) -> list[str]:
    """Names of the active runs that still have work."""
    return list(connection.execute(_UNFINISHED_RUNS).scalars())
