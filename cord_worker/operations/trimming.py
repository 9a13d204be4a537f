"""`cordctl trim`: makes a trimmed run, and on one machine works on it until its problems are final.

A trimmed run holds the winners of its source, each ended at the first step from which every score is above a
threshold. The teacher of that step then writes a new final answer. The same workers and commands serve it as any run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cord_worker import endpoints
from cord_worker.config import NAME_PATTERN, RunConfig, Settings
from cord_worker.config.toml_file import toml_text
from cord_worker.display_text import counted
from cord_worker.errors import ConfigError, RunConflict, StoreError
from cord_worker.local.services import LocalServices
from cord_worker.local.state import StateDir, write_atomically
from cord_worker.operations.background import find_background
from cord_worker.operations.database import ensure_schema, open_database
from cord_worker.operations.fleet import check_limits, check_startable
from cord_worker.operations.local_run import (
    announce_command,
    local_workers,
    preparation,
    runnable_run,
    watch_until_final,
)
from cord_worker.operations.preload import preloading
from cord_worker.operations.run_watch import RunWatch, missing_workers, watch_run
from cord_worker.operations.services import services_for
from cord_worker.progress import ProgressView, Snapshot, no_workers_sentence
from cord_worker.search.seeds import answer_seed
from cord_worker.search.trimming import WITHOUT_STEPS, kept_steps
from cord_worker.store.database import Database
from cord_worker.store.runs.runs import RunRow, get_run, resolve_run
from cord_worker.store.runs.trimming import (
    Winner,
    WinnerCopy,
    copy_winners,
    count_missing,
    count_trimmed,
    ensure_trimmed_run,
    last_position,
    trimmed_runs,
    winners_to_copy,
)

_BATCH = 200
"""Problems that are copied in one transaction."""
_INTERVAL_SECONDS = 1.0


def exact(above: float) -> str:
    """The threshold in as few digits as give the same number again."""
    short = f"{above:g}"
    return short if float(short) == above else repr(above)


@dataclass(frozen=True, slots=True)
class Trim:
    """What is trimmed: the winners of the run called `source`, at the threshold `above`. `name` is the trimmed run's;
    None: a name made of `source` and `above`. Raises ConfigError for an impossible threshold."""

    source: str
    above: float
    name: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.above < 1:
            raise ConfigError(
                f"threshold {self.above}: scores are above 0 and at most 1, so give a number from 0 to below 1"
            )

    @property
    def run_name(self) -> str:
        """The name of the trimmed run."""
        return self.name or f"{self.source}-trim-{exact(self.above)}"

    @property
    def command(self) -> str:
        """The command that makes the trimmed run."""
        return f"cordctl trim {self.source} --above {exact(self.above)}{f' --name {self.name}' if self.name else ''}"


@dataclass(frozen=True, slots=True)
class Trimmed:
    """The result of trimming. This call `added` winners; in all, the trimmed run holds `shortened` ones, which get a
    new final answer, and `unchanged` ones, which keep theirs. Of the source, `failed` problems (cancelled ones
    included) have no winner, and `unfinished` ones none yet. `run_id` is the key of the trimmed run."""

    run: str
    run_id: int
    source: str
    above: float
    added: int
    shortened: int
    unchanged: int
    failed: int
    unfinished: int

    def sentence(self) -> str:
        """For people."""
        left_out = [f"{self.failed:,} failed"] if self.failed else []
        left_out += [f"{self.unfinished:,} unfinished"] if self.unfinished else []
        without = f"; left out: {' and '.join(left_out)} of run {self.source}" if left_out else ""
        return (
            f"run {self.run}: {counted(self.added, 'winner')} of run {self.source} added; {self.shortened:,} end at an "
            f"earlier step and get a new final answer, {self.unchanged:,} are unchanged{without}"
        )

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "run": self.run,
            "source": self.source,
            "above": self.above,
            "added": self.added,
            "shortened": self.shortened,
            "unchanged": self.unchanged,
            "failed": self.failed,
            "unfinished": self.unfinished,
        }


def trim_run(database: Database, trim: Trim, *, batch: int = _BATCH) -> Trimmed:
    """Makes the trimmed run. If it exists already, adds the problems that have become done since then. It copies
    `batch` problems in one transaction, so that the same call continues where a killed one stopped.

    Raises RunNotFound; RunConflict if the source has nothing to trim, or another run has the name; ConfigError for an
    invalid name.
    """
    source = database.run(lambda connection: _source(connection, trim))
    config = RunConfig.from_stored(source.config)
    fingerprint = config.trimmed_fingerprint(trim.above)
    run_id = added = 0
    for first in range(0, database.run(lambda connection: last_position(connection, source.id)) + 1, batch):

        def copy(connection: sa.Connection, first: int = first) -> tuple[int, int]:
            run_id = ensure_trimmed_run(connection, source, trim.run_name, trim.above, fingerprint)
            winners = winners_to_copy(connection, source.id, run_id, first=first, last=first + batch - 1)
            if winners:
                copy_winners(connection, run_id, [_copy(source, trim.above, winner) for winner in winners])
            return run_id, len(winners)

        run_id, number = database.run(copy)
        added += number
    counts = database.run(lambda connection: count_trimmed(connection, source.id, run_id))
    return Trimmed(
        run=trim.run_name,
        run_id=run_id,
        source=source.name,
        above=trim.above,
        added=added,
        shortened=counts.shortened,
        unchanged=counts.unchanged,
        failed=counts.failed,
        unfinished=counts.unfinished,
    )


def _source(connection: sa.Connection, trim: Trim) -> RunRow:
    """The run to trim. Raises RunConflict if it cannot be trimmed, ConfigError for an invalid name."""
    source = resolve_run(connection, trim.source)
    if source.trimmed_from is not None:
        raise RunConflict(
            f"run {source.name!r} was trimmed itself. Trim the run that it came from, "
            f"{source.trimmed_from!r}, which has all steps."
        )
    pipeline = RunConfig.from_stored(source.config).search.pipeline
    if pipeline in WITHOUT_STEPS:
        raise RunConflict(
            f"run {source.name!r} cannot be trimmed: with the pipeline {pipeline} a trajectory is written and scored "
            "in one piece, so it has no step at which it could end earlier."
        )
    if not NAME_PATTERN.fullmatch(trim.run_name):
        raise ConfigError(
            f"run name {trim.run_name!r} must begin with a letter or digit and may hold letters, digits, '_', '.' and "
            "'-' only, at most 63: choose one with --name"
        )
    if not count_missing(connection, source.id, 0):
        raise RunConflict(f"run {source.name!r} has no done problem to trim yet: see cordctl status {source.name}")
    return source


def _copy(source: RunRow, above: float, winner: Winner) -> WinnerCopy:
    """The copy of the winner: all of its steps, or those up to the cut and the seed of the new answer."""
    scores = [step.score for step in winner.steps if step.score is not None]
    if len(scores) < len(winner.steps):
        raise StoreError(
            f"problem {winner.key!r} of run {source.name!r}: a step of its winner has no score, which the service "
            f"cannot have written. Look at what changed: cordctl verify-db {source.name}"
        )
    kept = kept_steps(scores, above)
    last = winner.steps[kept - 1]
    seed = None
    if kept < len(winner.steps):
        seed = answer_seed(source.seed, winner.key, last.lineage, last.teacher)
    return WinnerCopy(winner.problem_id, winner.key, winner.trajectory_id, last.candidate_id, seed)


@dataclass(frozen=True, slots=True)
class TrimResult:
    """The result of trimming. `snapshot` is the last state of the trimmed run, None if it was only queued; `missing`
    names the workers that it lacks."""

    trimmed: Trimmed
    snapshot: Snapshot | None
    missing: list[str]
    seconds: float

    @property
    def failed_altogether(self) -> bool:
        """Whether problems failed and none is done."""
        problems = {} if self.snapshot is None else self.snapshot.counts.problems
        return bool(problems.get("failed")) and not problems.get("done")

    def lines(self) -> list[str]:
        """For people."""
        found = [self.trimmed.sentence()]
        if self.snapshot is None and self.missing:
            found.append(no_workers_sentence(self.missing))
        elif self.snapshot is not None:
            problems = self.snapshot.counts.problems
            found.append(f"{problems.get('done', 0):,} done, {problems.get('failed', 0):,} failed")
            found.append(f"compare: cordctl compare {self.trimmed.source} {self.trimmed.run}")
        return found

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            **self.trimmed.to_json(),
            "problems": None if self.snapshot is None else dict(self.snapshot.counts.problems),
            "missing_workers": self.missing,
            "seconds": round(self.seconds, 2),
        }


def queue_trim(settings: Settings, trim: Trim) -> TrimResult:
    """Makes the trimmed run, and leaves its work to a coordinator and workers that run elsewhere."""
    started = time.monotonic()
    with open_database(settings) as database:
        trimmed = trim_run(database, trim)
        timeout = settings.worker_timeout_seconds
        missing = database.run(lambda connection: missing_workers(connection, trimmed.run, timeout))
    return TrimResult(trimmed, None, missing, time.monotonic() - started)


def wait_for_trim(
    settings: Settings, trim: Trim, view: ProgressView, check_interrupted: Callable[[], None]
) -> TrimResult:
    """Makes the trimmed run, and waits until workers that run elsewhere have finished it."""
    started = time.monotonic()
    with open_database(settings) as database:
        trimmed = trim_run(database, trim)
        view.say(trimmed.sentence())
        run = database.run(lambda connection: runnable_run(connection, trimmed.run_id))
        watched = RunWatch(database, run, worker_timeout_seconds=settings.worker_timeout_seconds)
        with view:
            snapshot = watch_run(watched, view, interval_seconds=_INTERVAL_SECONDS, on_round=check_interrupted)
    return TrimResult(trimmed, snapshot, [], time.monotonic() - started)


def trim_locally(
    settings: Settings, trim: Trim, view: ProgressView, check_interrupted: Callable[[], None]
) -> TrimResult:
    """Makes the trimmed run and does its work on this machine, with embedded services; see `run_until_final`."""
    started = time.monotonic()
    _check_database_exists(settings)
    view.say(preparation(settings))
    with services_for(settings, view.say) as services, announce_command(services.state, view.say):
        ensure_schema(services.endpoints.database_url)
        with open_database(settings, url=services.endpoints.database_url) as database:
            trimmed = trim_run(database, trim)
            view.say(trimmed.sentence())
            run = database.run(lambda connection: runnable_run(connection, trimmed.run_id))
            config = RunConfig.from_stored(run.config).for_answers
            snapshot = RunWatch(database, run, worker_timeout_seconds=settings.worker_timeout_seconds).snapshot()
            if snapshot.is_final:
                return TrimResult(trimmed, snapshot, [], time.monotonic() - started)
            check_startable(config)
            if find_background(settings) is None:
                check_limits(config, settings)
            with (
                _config_file(services.state, run) as path,
                preloading(config, settings) as fork_server,
                local_workers(config, path, settings, services, view.say, fork_server) as workers,
            ):
                snapshot = watch_until_final(database, run, settings, workers, view, check_interrupted)
    return TrimResult(trimmed, snapshot, [], time.monotonic() - started)


def _check_database_exists(settings: Settings) -> None:
    """Raises ConfigError if there is no database yet. Without this check, an empty one would be made."""
    folder = settings.state_dir
    if settings.database_url is None and not (folder.is_dir() and LocalServices(folder).postgres.has_data()):
        endpoints.database_url(settings)


@contextmanager
def _config_file(state: StateDir, run: RunRow) -> Iterator[Path]:
    """A cord.toml with the run's configuration, for the workers of this command."""
    path = state.path / f"{run.name}.toml"
    write_atomically(path, toml_text(run.config))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def trimmed_run_of(connection: sa.Connection, source: str | None, above: float) -> str:
    """The name of the finished run that holds the winners of `source` (None: the newest run) trimmed at `above`.

    Raises RunNotFound; RunConflict, which names the command to give, if there is no such run, or if it lacks winners or
    is unfinished.
    """
    run = resolve_run(connection, source)
    default = Trim(run.name, above)
    names = trimmed_runs(connection, run.id, above)
    if not names:
        _source(connection, default)  # raises the reason if the run cannot be trimmed
        raise RunConflict(
            f"run {run.name!r} has not been trimmed above {exact(above)} yet. Do that first: {default.command}"
        )
    name = default.run_name if default.run_name in names else names[0]
    trimmed = resolve_run(connection, name)
    again = Trim(run.name, above, None if name == default.run_name else name).command
    missing = count_missing(connection, run.id, trimmed.id)
    if missing:
        raise RunConflict(
            f"run {name!r} lacks {counted(missing, 'winner')} of run {run.name!r}, done since it was made. Add them "
            f"first: {again}"
        )
    unfinished = count_trimmed(connection, trimmed.id, trimmed.id).unfinished
    if unfinished:
        raise RunConflict(
            f"run {name!r} still has {counted(unfinished, 'unfinished problem')}. Wait until they have their answers "
            f"(cordctl status {name}), or continue it: {again}"
        )
    return get_run(connection, trimmed.id).name
