"""`cordctl bench tables`: the time that statistics of one run take while many candidates of other runs are stored."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from cord_worker.bench.control_plane import ControlPlaneBench, instant_config, service_rate
from cord_worker.bench.fleet import running_fleet
from cord_worker.bench.report import Figure, Report, check_rounds
from cord_worker.bench.workspace import Workspace
from cord_worker.display_text import counted
from cord_worker.errors import ConfigError
from cord_worker.operations.run_cost import read_cost
from cord_worker.operations.run_status import report_on, watch_of
from cord_worker.operations.run_watch import list_overviews, read_teacher_selection
from cord_worker.operations.search_grid import BEST, read_grid
from cord_worker.store.reports.multiplied_runs import (
    add_blocks,
    analyze_tables,
    begin_copy,
    read_view,
    run_size,
    table_bytes,
    views_of_runs,
)
from cord_worker.store.runs.runs import resolve_run
from cord_worker.store.schema.rollups import fill_rollups

_SEED_RUN = "seed"
_TIMED_RUN = "timed"
_LISTING = ("beam_history", "problem_summary", "trajectory_text")
"""Views with at least one row for every problem. For these, reading the first page is timed too."""
_PAGE = 100
_BEAM_WIDTH = 3
"""With this width a problem has about 50 candidates."""
_CANDIDATES_AT_ONCE = 50_000
_ROLLUPS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class TablesBench:
    """The parameters of the measurement. The timed run has `problems` problems; the tables hold `candidates`
    candidates of `runs` runs. All runs consist of copies of one run of `seed_problems` problems."""

    candidates: int = 1_000_000
    runs: int = 20
    problems: int = 10_000
    seed_problems: int = 20
    rounds: int = 3


def measure(bench: TablesBench, workspace: Workspace, say: Callable[[str], None]) -> Report:
    """Fills the database, then times every view and command. `say` receives a sentence after each part.

    Raises ConfigError for sizes that contradict each other, LocalServiceError if the run that is copied fails.
    """
    check_rounds(bench.rounds)
    name = _fill(bench, workspace, say)
    reads = _timed_reads(workspace, name)
    times: dict[str, list[float]] = {title: [] for title in reads}
    for number in range(1, bench.rounds + 1):
        for title, read in reads.items():
            started = time.perf_counter()
            read()
            times[title].append(time.perf_counter() - started)
        say(f"round {number}: the slowest took {max(one[-1] for one in times.values()):.2f} s")
    figures = tuple(Figure(title, tuple(values), "s", 3) for title, values in times.items())
    slowest = max(figures, key=lambda figure: figure.median)
    everything, rollups = workspace.database.run(table_bytes)
    keys = {
        "rounds": bench.rounds,
        "candidates": bench.candidates,
        "runs": bench.runs,
        "problems": bench.problems,
        "slowest": slowest.name,
        "slowest_seconds": slowest.median,
        "database_mb": everything / 2**20,
        "rollups_mb": rollups / 2**20,
    }
    notes = (
        f"about {counted(bench.candidates, 'candidate')} in {counted(bench.runs, 'run')}, copied from a run of "
        f"{counted(bench.seed_problems, 'problem')} with an engine that answers at once; everything that is timed "
        f"reads one run of {counted(bench.problems, 'problem')}",
        "views: all rows are read; commands: what they read, without the start of their process",
        f"{everything / 2**20:,.0f} MiB, of which the rollups are {rollups / 2**20:,.0f} MiB",
    )
    return Report("tables", figures, keys, notes)


def _fill(bench: TablesBench, workspace: Workspace, say: Callable[[str], None]) -> str:
    """Makes the runs. Returns the name of the timed one. A block is a copy of the seed run."""
    config, path = instant_config(workspace, _BEAM_WIDTH, 64)
    with running_fleet(workspace, config, path) as fleet:
        service_rate(workspace, fleet, ControlPlaneBench(beam_width=_BEAM_WIDTH), _SEED_RUN, bench.seed_problems, 64)
    source = workspace.database.run(lambda connection: resolve_run(connection, _SEED_RUN)).id
    problems, candidates = workspace.database.run(lambda connection: run_size(connection, source))
    blocks = -(-bench.candidates // candidates)
    timed_blocks = -(-bench.problems // problems)
    others = blocks - timed_blocks
    if others < bench.runs - 1:
        needed = (timed_blocks + bench.runs - 1) * candidates
        raise ConfigError(
            f"{counted(bench.problems, 'problem')} in a run and {counted(bench.runs, 'run')} need "
            f"{counted(needed, 'candidate')} or more: give "
            f"--candidates {needed}, or fewer --problems or --runs"
        )
    sizes = {f"run-{number}": others // max(1, bench.runs - 1) for number in range(2, bench.runs + 1)}
    started = time.perf_counter()
    for name, size in {_TIMED_RUN: timed_blocks, **sizes}.items():
        _multiply(workspace, source, name, size, max(1, _CANDIDATES_AT_ONCE // candidates))
    say(f"made {counted(blocks * candidates, 'candidate')} in {time.perf_counter() - started:.0f} s")
    started = time.perf_counter()
    after = 0
    while ids := workspace.database.run(partial(fill_rollups, after=after, most=_ROLLUPS_AT_ONCE)):
        after = ids[-1]
    seconds = time.perf_counter() - started
    workspace.database.run(analyze_tables)
    say(f"wrote the rollups of {counted(blocks * problems, 'problem')} in {seconds:.0f} s")
    return _TIMED_RUN


def _multiply(workspace: Workspace, source: int, name: str, blocks: int, at_once: int) -> None:
    run_id = workspace.database.run(lambda connection: begin_copy(connection, source, name))
    for first in range(0, blocks, at_once):
        last = min(first + at_once, blocks) - 1
        with workspace.database.transaction() as connection:
            add_blocks(connection, source, run_id, first=first, last=last)


def _timed_reads(workspace: Workspace, name: str) -> dict[str, Callable[[], object]]:
    """Functions to time, by title: each reads a view of the run, or what a command reads about it."""
    database, timeout = workspace.database, workspace.settings.worker_timeout_seconds

    def view(of: str, most: int | None = None) -> Callable[[], object]:
        return lambda: database.run(lambda connection: read_view(connection, of, name, most))

    def command(read: Callable[[sa.Connection], object]) -> Callable[[], object]:
        return lambda: database.run(read)

    def status() -> object:
        watched = watch_of(database, name, worker_timeout_seconds=timeout)
        return report_on(database, watched, watched.snapshot(), worker_timeout_seconds=timeout)

    key = database.run(lambda connection: read_grid(connection, name, BEST)).search.tree.key
    views = database.run(views_of_runs)
    return {
        "cordctl stats": command(lambda connection: read_teacher_selection(connection, name)),
        "cordctl cost": command(lambda connection: read_cost(connection, name)),
        "cordctl status": status,
        "cordctl runs": command(list_overviews),
        "cordctl show best": command(lambda connection: read_grid(connection, name, BEST)),
        "cordctl show PROBLEM": command(lambda connection: read_grid(connection, name, key)),
        **{f"view {one}": view(one) for one in views},
        **{f"view {one}, {_PAGE} rows": view(one, _PAGE) for one in views if one in _LISTING},
    }
