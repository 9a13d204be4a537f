"""Evaluates a model: a run of samples, and their figures (`cordctl eval`).

A sample without an answer (its problem failed, or the prompt did not fit the context) counts as wrong. An undecided
answer is left out and counted separately. A problem with too few decided answers for a pass@k is left out of that
figure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
import tomlkit

from cord_worker.config import NAME_PATTERN, ModelConfig, RunConfig, RunTable, SearchConfig, Settings, TeacherConfig
from cord_worker.errors import ConfigError, DatasetError
from cord_worker.export.exporting import export_run
from cord_worker.export.file_types import check_output
from cord_worker.local.state import StateDir
from cord_worker.name_suggestions import unknown
from cord_worker.operations.comparison import Interval, bootstrap
from cord_worker.operations.enqueue import DatasetSource, default_run_name
from cord_worker.operations.estimators import pass_at_k, powers_of_two
from cord_worker.operations.local_run import LocalRun, LocalRunResult, run_until_final
from cord_worker.operations.preload import preloading
from cord_worker.operations.run_cost import read_cost
from cord_worker.progress import ProgressView
from cord_worker.store.database import Database
from cord_worker.store.reports.costs import engine_seconds
from cord_worker.store.reports.evaluation import AnswerCounts, attribute_names, read_answer_counts, read_teacher_tokens
from cord_worker.store.reports.status import read_counts
from cord_worker.store.runs.runs import RunRow, resolve_run

_FOLDER = "eval"
"""Folder in the state folder with the configurations that workers of evaluations read."""


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """How answers are sampled; tokens are the model's own. The defaults of the command are the paper's."""

    samples: int
    temperature: float
    top_p: float
    thinking_tokens: int
    answer_tokens: int
    seed: int
    system_prompt: str | None


@dataclass(frozen=True, slots=True)
class PassAtK:
    """A pass@k: the mean over `problems` with its 95 % bootstrap interval."""

    problems: int
    interval: Interval

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {**asdict(self.interval), "problems": self.problems}


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of the answers to some problems. `missing` samples have no answer and count as wrong."""

    problems: int
    correct: int
    wrong: int
    undecided: int
    missing: int
    pass_at: dict[int, PassAtK]

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "problems": self.problems,
            "pass_at": {str(k): found.to_json() for k, found in self.pass_at.items()},
            "answers": {
                "correct": self.correct,
                "wrong": self.wrong,
                "undecided": self.undecided,
                "missing": self.missing,
            },
        }


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """One row of an evaluation: a teacher of a run of samples, or the whole of another run. `categories` holds the
    figures by field and value; `thinking_tokens` and `answer_tokens` count generated tokens."""

    name: str
    model: str | None
    figures: Figures
    categories: dict[str, dict[str, Figures]]
    thinking_tokens: int
    answer_tokens: int

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        answers = self.figures.correct + self.figures.wrong + self.figures.undecided
        tokens = self.thinking_tokens + self.answer_tokens
        return {
            "name": self.name,
            "model": self.model,
            **self.figures.to_json(),
            "tokens": {
                "thinking": self.thinking_tokens,
                "answers": self.answer_tokens,
                "per_answer": tokens / answers if answers else None,
            },
            "categories": {
                field: {value: found.to_json() for value, found in values.items()}
                for field, values in self.categories.items()
            },
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The figures of a run's models. `run_seconds` is wall time; `engine_seconds`: see `costs.engine_seconds`."""

    run: str
    pipeline: str
    samples: int
    unfinished: int
    failed: int
    run_seconds: float
    engine_seconds: float
    models: tuple[ModelFigures, ...]

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "models"}
        return {**values, "models": [model.to_json() for model in self.models]}


def evaluation_config(
    model: str, sampling: SampleSettings, *, configured: RunConfig | None, engine: str | None
) -> RunConfig:
    """The configuration of a run that samples `model`.

    With `configured`, `model` is a key of its models, and answers are verified as it says. Without it, `model` is a
    folder, hub id or bundled:NAME, which `engine` hosts. Raises ConfigError.
    """
    if configured is None:
        name = _plain_name(model)
        models = {name: _direct_model(model, engine)}
    else:
        if model not in configured.models:
            raise ConfigError(
                f"{unknown('model', model, sorted(configured.models))} (in [models]); a folder, hub id or bundled:NAME "
                "needs --engine"
            )
        name = model
        models = {model: configured.models[model]}
    verify: dict[str, Any] = {}
    if configured is not None:
        verify = {"verify": configured.verify}
        if configured.verify.judge is not None:
            judge = configured.verify.judge.model
            models[judge] = configured.models[judge]
    teacher = TeacherConfig(
        name=name,
        model=name,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        system_prompt=sampling.system_prompt,
    )
    search = SearchConfig(
        pipeline="sample",
        trajectories=sampling.samples,
        thinking_tokens=sampling.thinking_tokens,
        step_tokens=min(sampling.thinking_tokens, SearchConfig().step_tokens),
        answer_tokens=sampling.answer_tokens,
    )
    return RunConfig(models=models, teachers=[teacher], search=search, run=RunTable(seed=sampling.seed), **verify)


def evaluate(
    source: DatasetSource,
    config: RunConfig,
    settings: Settings,
    view: ProgressView,
    check_interrupted: Callable[[], None],
    *,
    run_name: str | None = None,
    categories: Sequence[str] = (),
    output: str | None = None,
) -> LocalRunResult[Evaluation]:
    """Samples every problem of `source`, or continues an interrupted evaluation, and computes the figures.

    All samples are exported to `output`, if it is given. Raises what `run_until_final` raises, and ExportError.
    """
    if output is not None:
        check_output(output)
    name = run_name or default_run_name(source.path, config)

    def conclude(database: Database, run: RunRow) -> Evaluation:
        if output is not None:
            export_run(database, run.name, output)
        return database.run(lambda connection: read_evaluation(connection, run.name, categories))

    path = _write_configuration(config, settings.state_dir, name)
    task = LocalRun(source=source, config=config, config_path=path, run_name=name, settings=settings)
    with preloading(config, settings) as fork_server:
        return run_until_final(task, view, check_interrupted, conclude, fork_server)


def read_evaluation(connection: sa.Connection, run_name: str | None, categories: Sequence[str] = ()) -> Evaluation:
    """The figures of the run with this name, by default the newest, over its finished problems.

    A run that searches counts as one model with one answer per problem. Raises RunNotFound, and DatasetError if no row
    of its dataset has a field of `categories`.
    """
    run = resolve_run(connection, run_name)
    known_fields = attribute_names(connection, run.id) if categories else []
    for field in categories:
        if field not in known_fields:
            raise DatasetError(
                f"category {field!r}: no row of the run {run.name!r} has such a field; there are: "
                f"{', '.join(known_fields) or 'none'}. "
                f"`cordctl eval --of {run.name}` prints its figures with another category."
            )
    search = RunConfig.from_stored(run.config).search
    counts = read_counts(connection, run.id)
    rows = read_answer_counts(connection, run.id, categories)
    tokens = read_teacher_tokens(connection, run.id)
    sampled = search.pipeline == "sample"
    samples = search.trajectories if sampled else 1
    if sampled:
        models = tuple(
            _model_figures(
                used.teacher,
                used.model,
                [row for row in rows if row.teacher == used.teacher],
                samples,
                categories,
                used.thinking,
                used.answers,
            )
            for used in tokens
        )
    else:
        thinking, answers = sum(used.thinking for used in tokens), sum(used.answers for used in tokens)
        merged = _merged_by_problem(rows)
        models = (_model_figures(search.pipeline, None, merged, samples, categories, thinking, answers),)
    cost = read_cost(connection, run.name)
    return Evaluation(
        run=run.name,
        pipeline=search.pipeline,
        samples=samples,
        unfinished=counts.total - counts.final,
        failed=counts.problems.get("failed", 0),
        run_seconds=cost.walls.run_seconds,
        engine_seconds=round(engine_seconds(cost.rows), 3),
        models=models,
    )


def compute_figures(rows: Iterable[AnswerCounts], samples: int) -> Figures:
    """The figures of these problems, each with `samples` samples."""
    pool = list(rows)
    missing = [max(0, samples - row.correct - row.wrong - row.undecided) for row in pool]
    decided = [row.correct + row.wrong + absent for row, absent in zip(pool, missing, strict=True)]
    pass_at = {}
    for k in powers_of_two(samples):
        values = [pass_at_k(n, row.correct, k) for row, n in zip(pool, decided, strict=True) if n >= k]
        interval = bootstrap(np.array(values, dtype=np.float64))
        if interval is not None:
            pass_at[k] = PassAtK(len(values), interval)
    return Figures(
        problems=len(pool),
        correct=sum(row.correct for row in pool),
        wrong=sum(row.wrong for row in pool),
        undecided=sum(row.undecided for row in pool),
        missing=sum(missing),
        pass_at=pass_at,
    )


def _model_figures(
    name: str,
    model: str | None,
    rows: Sequence[AnswerCounts],
    samples: int,
    categories: Sequence[str],
    thinking_tokens: int,
    answer_tokens: int,
) -> ModelFigures:
    by_field: dict[str, dict[str, Figures]] = {}
    for place, field in enumerate(categories):
        groups: dict[str, list[AnswerCounts]] = defaultdict(list)
        for row in rows:
            value = row.categories[place]
            groups["(none)" if value is None else value].append(row)
        by_field[field] = {value: compute_figures(groups[value], samples) for value in sorted(groups)}
    return ModelFigures(name, model, compute_figures(rows, samples), by_field, thinking_tokens, answer_tokens)


def _merged_by_problem(rows: Sequence[AnswerCounts]) -> list[AnswerCounts]:
    """One row per problem: a search has one answer per problem, whichever teacher wrote it."""
    merged: dict[int, AnswerCounts] = {}
    for row in rows:
        before = merged.get(row.problem)
        merged[row.problem] = AnswerCounts(
            problem=row.problem,
            teacher="",
            categories=row.categories,
            correct=row.correct + (before.correct if before else 0),
            wrong=row.wrong + (before.wrong if before else 0),
            undecided=row.undecided + (before.undecided if before else 0),
        )
    return list(merged.values())


def _direct_model(path: str, engine: str | None) -> ModelConfig:
    folder = Path(path).expanduser()
    # Workers read the configuration from another folder, so the path must be absolute.
    is_folder = folder.is_dir() or path.startswith(("./", "../", "/", "~"))
    where = str(folder.resolve()) if is_folder else path
    return ModelConfig.model_validate({"path": where, "engine": engine or "transformers"})


def _write_configuration(config: RunConfig, state_dir: Path, name: str) -> Path:
    """Writes the configuration for the workers and returns the file's path; equal configurations give equal files."""
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigError(
            f"run name {name!r} must begin with a letter or digit and may hold letters, digits, '_', '.' and '-' only, "
            "at most 63"
        )
    path = StateDir.open(state_dir).path / _FOLDER / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = config.model_dump(mode="json", exclude_none=True)
    path.write_text(f"# written by cordctl eval\n{tomlkit.dumps(document)}", encoding="utf-8")
    return path


def _plain_name(model: str) -> str:
    last = model.removeprefix("bundled:").rstrip("/").rsplit("/", 1)[-1]
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in last).strip("-._")
    return plain[:63] or "model"
