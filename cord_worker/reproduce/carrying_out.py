"""Runs all experiments through the service: every model is loaded once, and what is done already stays done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cord_worker.config import RunConfig, Settings
from cord_worker.local.supervisor import EventKind, ProcessSpec, Supervisor
from cord_worker.operations.database import open_database
from cord_worker.operations.enqueuing import DatasetSource, enqueue_dataset
from cord_worker.operations.fleet import process_specs
from cord_worker.operations.services import Services, services_for
from cord_worker.reproduce.experiments import Experiment
from cord_worker.store.database import Database
from cord_worker.store.measuring import pace_of
from cord_worker.store.runs import list_runs
from cord_worker.store.schema import upgrade

_INTERVAL_SECONDS = 0.5
_FEW = 300
"""Unfinished problems of all runs together, below which another run begins."""
_TOLD_SECONDS = 15.0
_STOP_MARGIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where the reproduction keeps its files, and how it speaks (`echo`)."""

    folder: Path
    settings: Settings
    echo: Callable[[str], None]
    check_interrupted: Callable[[], None]
    started: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """A line, with the time since the beginning."""
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        self.echo(f"[{minutes}:{seconds:02d}] {text}")


def carry_out(experiments: Sequence[Experiment], dataset: Path, place: Workplace) -> None:
    """Works until every problem of every experiment on `dataset` is final; those that are already are left alone.

    Raises CordError where going on is senseless; KeyboardInterrupt stops in good order first.
    """
    configs = {experiment.run: _written(experiment, place.folder) for experiment in experiments}
    with services_for(place.settings) as services:
        upgrade(services.endpoints.database_url)
        with open_database(place.settings, url=services.endpoints.database_url) as database:
            owed = [experiment for experiment in experiments if not is_finished(database, experiment)]
            if not owed:
                return
            place.say(f"{len(owed)} of {len(experiments)} runs to do: {', '.join(one.run for one in owed)}")
            specs = _fleet([configs[experiment.run] for experiment in owed], place.settings, services)
            supervisor = Supervisor(specs, grace_seconds=place.settings.grace_seconds + _STOP_MARGIN_SECONDS)
            try:
                supervisor.start()
                _work_off(deque(owed), configs, dataset, database, supervisor, place)
            finally:
                supervisor.stop()


def is_finished(database: Database, experiment: Experiment) -> bool:
    """Whether all problems of the experiment's run are final."""
    runs = {run.name: run for run in database.run(list_runs)}
    if experiment.run not in runs:
        return False
    run = runs[experiment.run]
    return database.run(lambda connection: pace_of(connection, run.id)).final >= experiment.problems


def _written(experiment: Experiment, folder: Path) -> Path:
    path = folder / "configurations" / f"{experiment.run}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(experiment.cord_toml(), encoding="utf-8")
    return path


def _fleet(paths: Sequence[Path], settings: Settings, services: Services) -> list[ProcessSpec]:
    """One coordinator, and one worker a model, whichever of the configurations names it."""
    specs: dict[str, ProcessSpec] = {}
    for path in paths:
        config = RunConfig.load(path)
        for spec in process_specs(config, path, settings, services.endpoints, services.state.path):
            specs.setdefault(spec.name, spec)
    return list(specs.values())


def _work_off(
    waiting: deque[Experiment],
    configs: dict[str, Path],
    dataset: Path,
    database: Database,
    supervisor: Supervisor,
    place: Workplace,
) -> None:
    """The next run begins when few problems of those before are left, so that batches stay full."""
    told = time.monotonic()
    working: dict[str, tuple[int, Experiment]] = {}
    while waiting or working:
        place.check_interrupted()
        _look_after(supervisor, place.say)
        left = 0
        lines = []
        for name, (run_id, experiment) in list(working.items()):
            final = database.run(partial(pace_of, run_id=run_id)).final
            left += experiment.problems - final
            lines.append(f"{name} {final} of {experiment.problems}")
            if final >= experiment.problems:
                place.say(f"{name}: done")
                del working[name]
        if waiting and left < _FEW:
            experiment = waiting.popleft()
            source = DatasetSource(dataset, limit=experiment.problems)
            config = RunConfig.load(configs[experiment.run])
            enqueued = enqueue_dataset(database, source, config, experiment.run)
            working[experiment.run] = (enqueued.report.run_id, experiment)
            continue
        if time.monotonic() - told >= _TOLD_SECONDS and lines:
            told = time.monotonic()
            place.say(f"{', '.join(lines)}; {len(waiting)} runs wait")
        time.sleep(_INTERVAL_SECONDS)


def _look_after(supervisor: Supervisor, say: Callable[[str], None]) -> None:
    for event in supervisor.poll():
        if event.kind is EventKind.GAVE_UP and event.error is not None:
            raise event.error
        if event.kind is EventKind.FELL:
            say(f"process {event}")
