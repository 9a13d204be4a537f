"""`cordctl bench control-plane`: the service with an engine that answers at once, against bare Celery on the same
broker.

The reference is half the rate at which a Celery worker runs empty tasks: the candidates per second of a service that
sends one message per proposal and one per score. This service sends fewer messages and may exceed it. Each round
measures the reference, then the service.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cord_worker.bench import noop_worker
from cord_worker.bench.fleet import Fleet, running_fleet
from cord_worker.bench.overhead import Load, load_of
from cord_worker.bench.report import Figure, Report, check_rounds, quotients
from cord_worker.bench.soak import Growth, soak
from cord_worker.bench.workspace import Workspace
from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.display_text import counted
from cord_worker.errors import LocalServiceError
from cord_worker.local import processes
from cord_worker.store.reports.measurements import count_final_candidates, pace_of
from cord_worker.store.runs.enqueue import enqueue

_PATIENCE_SECONDS = 900.0
_SOAK_PROBLEMS = 40
_LOAD_FIGURES = ("overhead_p50", "overhead_p95", "delay_p50", "delay_p95")

INSTANT_CONFIG = """
[models.alpha]
path = "alpha"
engine = "instant"
batch_size = 4
[models.beta]
path = "beta"
engine = "instant"
batch_size = 4
[models.prover]
path = "prover"
engine = "instant"
batch_size = 4
[[teachers]]
name = "alpha"
model = "alpha"
[[teachers]]
name = "beta"
model = "beta"
[[teachers]]
name = "beta-hot"
model = "beta"
temperature = 0.9
[prover]
model = "prover"
[search]
beam_width = {beam_width}
max_steps = 8
[run]
max_active = {max_active}
"""
"""Three models that answer at once: two that three teachers use, and the prover."""


@dataclass(frozen=True, slots=True)
class ControlPlaneBench:
    """The parameters of the measurement.

    A round at full load runs `problems` problems, at most `max_active` at once; a round at light load runs
    `light_problems`, one after another. Bare Celery runs `noop_tasks` in `noop_concurrency` threads. In the soak every
    model worker runs `soak_tasks` tasks, and its memory, threads and files are compared; 0 leaves the soak out.
    """

    problems: int = 100
    max_active: int = 256
    beam_width: int = 4
    rounds: int = 3
    noop_tasks: int = 4000
    noop_concurrency: int = 64
    light_problems: int = 5
    soak_tasks: int = 0


def measure(bench: ControlPlaneBench, workspace: Workspace, say: Callable[[str], None]) -> Report:
    """Runs the measurement; `say` receives a sentence after each round, and one before the soak.

    Raises ConfigError for too few rounds, LocalServiceError if a process ended early.
    """
    check_rounds(bench.rounds)
    references: list[float] = []
    rates: list[float] = []
    loads: dict[str, list[Load]] = {"light": [], "full": []}
    for number in range(1, bench.rounds + 1):
        tasks_per_second = noop_rate(workspace, bench.noop_tasks, bench.noop_concurrency)
        references.append(tasks_per_second / 2)
        with running_fleet(workspace, *instant_config(workspace, bench.beam_width, bench.max_active)) as fleet:

            def serve(load: str, problems: int, max_active: int, number: int = number, fleet: Fleet = fleet) -> None:
                rate = service_rate(workspace, fleet, bench, f"{load}-{number}", problems, max_active)
                if load == "full":
                    rates.append(rate)

            serve("warm-up", 1, 1)
            loads["light"].append(load_of(workspace, fleet, lambda: serve("light", bench.light_problems, 1)))
            loads["full"].append(load_of(workspace, fleet, lambda: serve("full", bench.problems, bench.max_active)))
        say(
            f"round {number}: bare Celery {tasks_per_second:.0f} tasks/s, "
            f"service {rates[-1]:.0f} candidates/s, {rates[-1] / references[-1]:.0%} of the reference"
        )
    growth = _soak(workspace, bench, say) if bench.soak_tasks else None
    bare = Figure("bare Celery, no-op tasks", tuple(2 * rate for rate in references), "tasks/s")
    reference = Figure("reference (two tasks a candidate)", tuple(references), "candidates/s")
    service = Figure("service, instant engine", tuple(rates), "candidates/s")
    fraction = Figure("service / reference", quotients(rates, references), "", 3)
    figures = (
        bare,
        reference,
        service,
        fraction,
        *(
            Figure(
                f"{figure.replace('_', ' ')} per candidate, {name} load",
                tuple(getattr(load, figure) for load in rounds),
                "ms",
            )
            for name, rounds in loads.items()
            for figure in _LOAD_FIGURES
        ),
        *(growth.figures() if growth is not None else ()),
    )
    light, full = loads["light"], loads["full"]
    keys: dict[str, Any] = {
        "rounds": bench.rounds,
        "problems": bench.problems,
        "max_active": bench.max_active,
        "ceiling_candidates_per_second": reference.median,
        "candidates_per_second": service.median,
        "fraction_of_ceiling": fraction.median,
        "overhead_light_p50_ms": statistics.median(load.overhead_p50 for load in light),
        "overhead_light_p95_ms": statistics.median(load.overhead_p95 for load in light),
        "delay_light_p50_ms": statistics.median(load.delay_p50 for load in light),
        "delay_light_p95_ms": statistics.median(load.delay_p95 for load in light),
        "overhead_full_p50_ms": statistics.median(load.overhead_p50 for load in full),
        "overhead_full_p95_ms": statistics.median(load.overhead_p95 for load in full),
        "delay_full_p50_ms": statistics.median(load.delay_p50 for load in full),
        "delay_full_p95_ms": statistics.median(load.delay_p95 for load in full),
        "overhead_by_kind_ms": {
            f"{name}_{kind}_{share}": statistics.median(load.kinds[kind][index] for load in rounds)
            for name, rounds in loads.items()
            for kind in rounds[0].kinds
            for index, share in enumerate(("p50", "p95"))
        },
    }
    if growth is not None:
        keys |= {
            "rss_growth": growth.rss(),
            "threads_growth": growth.threads(),
            "files_growth": growth.files(),
            "soak": growth.to_json(),
        }
    notes = (
        f"{bench.problems} problems, {bench.max_active} active at most, beam of {bench.beam_width}, 3 teachers on 2 "
        "models and a prover; the rate counts final candidates in the tables, from the first admission to the end of "
        "the last problem",
        f"bare Celery: one worker with {bench.noop_concurrency} threads runs {bench.noop_tasks} no-op tasks that were "
        "published before, with the same broker and settings; each round measures bare Celery, then the service",
        "overhead: start, claim, reading and writing of a proposal and of its score together, from the histograms of "
        "the workers; p95 is the sum of the p95 of both tasks, an upper bound",
        "delay: overhead, transport of the messages and the wait for room; at full load it is mostly the wait",
        f"light load: {bench.light_problems} problems one after another",
    )
    return Report("control-plane", figures, keys, notes)


def _soak(workspace: Workspace, bench: ControlPlaneBench, say: Callable[[str], None]) -> Growth:
    with running_fleet(workspace, *instant_config(workspace, bench.beam_width, bench.max_active)) as fleet:

        def work(number: int) -> None:
            service_rate(
                workspace, fleet, bench, f"soak-{number}", min(_SOAK_PROBLEMS, bench.problems), bench.max_active
            )

        say(f"soak: until every model worker has done {counted(bench.soak_tasks, 'task')}")
        return soak(workspace, fleet, bench.soak_tasks, work)


def service_rate(
    workspace: Workspace, fleet: Fleet, bench: ControlPlaneBench, run: str, problems: int, max_active: int
) -> float:
    """Candidates per second of a new run on the running fleet. Raises LocalServiceError if a problem failed, or if
    the tables do not show how long it took."""
    config, _ = instant_config(workspace, bench.beam_width, max_active)
    records = [
        ProblemRecord(f"{run}-{n}", f"What is {n} + {n}, in {run}?", str(2 * n), None, {}, f"{run}:{n}")
        for n in range(problems)
    ]
    report = workspace.database.run(lambda connection: enqueue(connection, run, config, records))

    def done() -> bool:
        pace = workspace.database.run(lambda connection: pace_of(connection, report.run_id))
        return pace.final == pace.problems

    fleet.wait_until(done, f"the run {run}", _PATIENCE_SECONDS)
    pace = workspace.database.run(lambda connection: pace_of(connection, report.run_id))
    if pace.failed:
        raise LocalServiceError(f"{pace.failed} of {pace.problems} problems of {run} failed; nothing was measured")
    if not pace.seconds:
        raise LocalServiceError(f"by the tables, the run {run} took no time from start to end; nothing was measured")
    return workspace.database.run(lambda connection: count_final_candidates(connection, report.run_id)) / pace.seconds


def noop_rate(workspace: Workspace, tasks: int, concurrency: int) -> float:
    """Tasks per second of a Celery worker whose tasks do nothing. Raises LocalServiceError if it ended early."""
    noop_worker.publish(noop_worker.noop_app(workspace.settings), tasks)
    environment = {
        **os.environ,
        **processes.python_environment(),
        "CORD_DATABASE_URL": workspace.endpoints.database_url,
        "CORD_BROKER_URL": workspace.endpoints.broker_url,
        "CORD_KEY_PREFIX": workspace.settings.key_prefix,
    }
    argv = [sys.executable, "-P", "-m", "cord_worker.bench.noop_worker", str(tasks), str(concurrency)]
    with subprocess.Popen(argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as worker:
        try:
            line = worker.stdout.readline() if worker.stdout is not None else ""
        finally:
            # The worker holds no work, and a warm shutdown would wait for its threads.
            worker.kill()
    if not line.startswith("{"):
        raise LocalServiceError(f"the bare Celery worker ended early (exit code {worker.returncode})")
    found = json.loads(line)
    # The time begins when the first task starts, so it is that of all tasks but the first.
    return float((found["tasks"] - 1) / found["seconds"])


def instant_config(workspace: Workspace, beam_width: int, max_active: int) -> tuple[RunConfig, Path]:
    """Writes the configuration of a measurement to a file. Returns the configuration and the file's path."""
    path = workspace.folder / "cord.toml"
    path.write_text(INSTANT_CONFIG.format(beam_width=beam_width, max_active=max_active), encoding="utf-8")
    return RunConfig.load(path), path
