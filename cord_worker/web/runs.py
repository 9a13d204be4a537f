"""The documents about runs: the list of all runs, and everything about one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from cord_worker.config import RunConfig, SearchConfig
from cord_worker.display_text import counted
from cord_worker.errors import ConfigError
from cord_worker.operations.estimators import wilson_interval
from cord_worker.operations.fleet import names_by_path
from cord_worker.operations.run_cost import budget
from cord_worker.store.reports import run_curves
from cord_worker.store.reports.answers import RunCounts, run_counts
from cord_worker.store.reports.costs import CostRow, read_costs, read_wall_times, read_worker_seconds
from cord_worker.store.reports.failure_causes import failure_causes
from cord_worker.store.reports.invalid_reasons import invalid_reasons
from cord_worker.store.reports.problem_list import position_of, problems_by_state
from cord_worker.store.reports.results import Provenance, read_provenance
from cord_worker.store.reports.status import (
    TeacherTotals,
    no_problems,
    problems_by_run,
    read_teacher_totals,
    shown_state,
    teacher_selection,
)
from cord_worker.store.runs.runs import RunRow, list_runs
from cord_worker.store.runs.spending import Money, stored_money
from cord_worker.store.schema.tables import RunState
from cord_worker.web.documents import (
    Cost,
    CostLine,
    Fact,
    Failures,
    Histogram,
    InvalidCandidates,
    ModelCost,
    RunDocument,
    RunList,
    RunSummary,
    SelectionCell,
    Spread,
    StepScores,
    TeacherFigures,
    Timeline,
)
from cord_worker.web.paths import segment, six_digits

_MAX_CAUSES = 20


def run_list(connection: sa.Connection) -> RunList:
    """All runs, newest first."""
    problems, counts = problems_by_run(connection), run_counts(connection)
    runs = reversed(list_runs(connection))
    return RunList(
        [_summary(run, problems.get(run.id, no_problems()), counts.get(run.id, RunCounts())) for run in runs]
    )


def run_summary(connection: sa.Connection, run: RunRow) -> RunSummary:
    """A run as the list of runs shows it."""
    counts = run_counts(connection, run.id).get(run.id, RunCounts())
    return _summary(run, problems_by_state(connection, run.id), counts)


def _summary(run: RunRow, problems: Mapping[str, int], counts: RunCounts) -> RunSummary:
    pipeline = run.config.get("search", {}).get("pipeline", "")
    low, high = None, None
    if counts.checked and pipeline != "sample":
        low, high = wilson_interval(counts.correct, counts.checked)
    return RunSummary(
        name=run.name,
        path=segment(run.name),
        state=shown_state(run.state, problems),
        pipeline=pipeline,
        created_at=run.created_at.isoformat(),
        problems=problems,
        total=sum(problems.values()),
        correct=counts.correct,
        checked=counts.checked,
        undecided=counts.undecided,
        accuracy=six_digits(counts.correct / counts.checked) if counts.checked else None,
        accuracy_low=six_digits(low),
        accuracy_high=six_digits(high),
        pause_reason=run.pause_reason if run.state == RunState.PAUSED else None,
        mean_score=six_digits(counts.mean_score),
        tokens=counts.tokens,
        trimmed_from=run.trimmed_from,
    )


def run_document(connection: sa.Connection, run: RunRow) -> RunDocument:
    """Everything about one run. Some figures of a large run are computed from a sample; `missing` says so."""
    costs = read_costs(connection, run.name)
    every = run_curves.sampled_every(connection, run.id)
    gains = run_curves.gain_spreads(connection, run.id, every)
    steps, tokens = run_curves.length_bars(connection, run.id)
    winning_steps = run_curves.winning_steps_by_tenth(connection, run.id)
    facts, missing = _facts(run, read_provenance(connection, run.id))
    try:
        money = stored_money(connection, run, costs)
    except ConfigError as error:
        money = None
        missing.append(f"There is no cost in money: {error}")
    if every > 1:
        missing.append(
            f"Scores and gains by step, and steps, scores and tokens over time, are those of every {every:,}th problem."
        )
    return RunDocument(
        run=run_summary(connection, run),
        facts=facts,
        config=run.config,
        teachers=[
            _teacher(one, _teacher_model(run, one.name), gains[one.name])
            for one in read_teacher_totals(connection, run.id)
        ],
        selection=[
            SelectionCell(
                row.teacher,
                row.tenth,
                row.proposed,
                row.kept,
                row.on_winning_path,
                six_digits(row.hit_rate),
                round((row.hit_rate or 0.0) * winning_steps.get(row.tenth, 0.0), 3),
                six_digits(row.mean_score),
            )
            for row in teacher_selection(connection, run.name)
        ],
        scores=[
            StepScores(one.step, _spread(one.winners), _spread(one.kept))
            for one in run_curves.score_curve(connection, run.id, every)
        ],
        steps=_histogram(steps),
        tokens=_histogram(tokens),
        cost=_cost(connection, run, costs, money),
        failures=_failures(connection, run),
        invalid=[
            InvalidCandidates(teacher, reason, number)
            for teacher, reasons in invalid_reasons(connection, run.id, with_duplicates=True).items()
            for reason, number in reasons.items()
        ],
        timeline=_timeline(run_curves.read_timeline(connection, run.id, every)),
        missing=missing,
    )


def _facts(run: RunRow, provenance: Provenance) -> tuple[list[Fact], list[str]]:
    """Lines about the configuration, and sentences about what is missing."""
    facts = [Fact("seed", str(run.seed)), Fact("date in prompts", run.prompt_date.isoformat())]
    facts += [Fact("version", provenance.code_version), Fact("configuration", run.config_fingerprint)]
    for one in provenance.datasets:
        facts.append(Fact("dataset", f"{one.get('id')}@{one.get('revision')}, split {one.get('split')}"))
    if run.scoring_mode is not None:
        facts.append(Fact("scoring mode", run.scoring_mode))
    if run.trimmed_from is not None:
        facts.append(Fact("trimmed from", f"{run.trimmed_from}, above {run.trim_above}"))
    try:
        config = RunConfig.from_stored(run.config)
    except ConfigError as error:
        return facts, [f"The configuration is not explained, because this version cannot read it: {error}"]
    search = config.search
    settings = [
        Fact("pipeline", f"{search.pipeline}, {budget(search)}"),
        Fact("ranked by", search.selection),
        *_resolution(search),
        Fact("teachers", ", ".join(teacher.name for teacher in config.all_teachers)),
        Fact("at most", f"{counted(search.max_steps, 'step')}, {counted(search.thinking_tokens, 'token')} of thinking"),
        Fact("answers checked by", config.verify.method),
    ]
    if config.is_scored:
        prover = Fact("prover", f"{config.required_prover.model} ({config.required_prover.score})")
        settings.insert(len(settings) - 2, prover)
    return [*settings, *facts], []


def _resolution(search: SearchConfig) -> list[Fact]:
    """What the score resolution does, if the run has one that counts."""
    if not search.score_resolution or search.selection != "predictive_perplexity":
        return []
    ties = "scores that round to the same multiple are ties"
    order = "they go to fewer steps, then the better parent, then the teacher named first"
    return [Fact("score resolution", f"{search.score_resolution:g}: {ties}, and {order}")]


def _cost_lines(names: Mapping[str, str], rows: Sequence[CostRow]) -> list[CostLine]:
    return [
        CostLine(
            model=names.get(row.model, row.model),
            kind=row.kind,
            requests=row.requests,
            prompt_tokens=row.prompt_tokens,
            cached_tokens=row.cached_tokens,
            completion_tokens=row.completion_tokens,
            request_seconds=round(row.request_seconds, 3),
            engine_seconds=round(row.engine_seconds, 3),
        )
        for row in rows
    ]


def _cost(connection: sa.Connection, run: RunRow, rows: Sequence[CostRow], money: Money | None) -> Cost:
    walls, names = read_wall_times(connection, run.id), names_by_path(run)
    return Cost(
        lines=_cost_lines(names, rows),
        models=_model_costs(names, rows, read_worker_seconds(connection, run.id), money),
        currency=None if money is None else money.currency,
        run_seconds=round(walls.run_seconds, 3) if walls.problems else None,
        problem_seconds=six_digits(walls.problem_seconds),
    )


def _model_costs(
    names: Mapping[str, str], rows: Sequence[CostRow], seconds: Mapping[str, float], money: Money | None
) -> list[ModelCost]:
    by_path = {} if money is None else {one.model: one for one in money.models}
    costs = []
    for path in dict.fromkeys(row.model for row in rows):
        own, price = [row for row in rows if row.model == path], by_path.get(path)
        costs.append(
            ModelCost(
                model=names.get(path, path),
                requests=sum(row.requests for row in own),
                prompt_tokens=sum(row.prompt_tokens for row in own),
                cached_tokens=sum(row.cached_tokens for row in own),
                completion_tokens=sum(row.completion_tokens for row in own),
                worker_seconds=round(seconds.get(path, 0.0), 3),
                gpu_hours=None if price is None else six_digits(price.gpu_hours),
                money=None if price is None else six_digits(price.total),
            )
        )
    return costs


def _teacher(one: TeacherTotals, model: str, gain: run_curves.Spread) -> TeacherFigures:
    return TeacherFigures(
        name=one.name,
        model=model,
        proposed=one.proposed,
        invalid=one.invalid,
        shared=one.shared,
        kept=one.kept,
        winning=one.winning,
        share=six_digits(one.share),
        mean_score=six_digits(one.mean_score),
        gain=_spread(gain),
        tokens=one.tokens,
        seconds=round(one.request_seconds, 3),
    )


def _teacher_model(run: RunRow, name: str) -> str:
    """The name of the teacher's model in the configuration, which any version may have written."""
    tables: list[Any] = [*run.config.get("teachers", []), run.config.get("integration")]
    found = next((one for one in tables if isinstance(one, dict) and one.get("name", "integrator") == name), {})
    return str(found.get("model", ""))


def _failures(connection: sa.Connection, run: RunRow) -> list[Failures]:
    return [
        Failures(one.count, one.reason, position_of(connection, run.id, one.key) or 0, one.key, one.is_technical)
        for one in failure_causes(connection, run.id, _MAX_CAUSES)
    ]


def _spread(one: run_curves.Spread) -> Spread:
    return Spread(one.count, *map(six_digits, (one.mean, one.low, one.median, one.high)))


def _histogram(bars: run_curves.Bars) -> Histogram:
    if not bars.counts:
        return Histogram((), (), None, None, None)
    edges = [bars.first + index * bars.width for index in range(len(bars.counts) + 1)]
    return Histogram(edges, bars.counts, six_digits(bars.mean), bars.low, bars.high)


def _timeline(found: run_curves.Timeline | None) -> Timeline:
    if found is None:
        return Timeline(None, 0.0, *([()] * 7))
    return Timeline(
        start=found.start.isoformat(),
        bucket_seconds=found.seconds,
        finished=found.finished,
        failed=found.failed,
        steps=found.steps,
        scores=found.scores,
        tokens=found.tokens,
        queued=found.queued,
        active=found.active,
    )
