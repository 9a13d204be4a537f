"""Measures whether the memory, threads or open files of model workers grow between a tenth of the tasks and all
tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cord_worker.bench.fleet import Fleet
from cord_worker.bench.histograms import scrape
from cord_worker.bench.memory import Footprint, footprint
from cord_worker.bench.report import Figure
from cord_worker.bench.workspace import Workspace
from cord_worker.errors import ConfigError

_PARTS = "cord_task_part_seconds"
_EARLY_DIVISOR = 10
"""The early measurement is made when a worker has done the tasks divided by this number."""


@dataclass(frozen=True, slots=True)
class Growth:
    """The resources of each model worker at the early and the late measurement, and its numbers of tasks at both."""

    early: Mapping[str, Footprint]
    late: Mapping[str, Footprint]
    tasks: Mapping[str, tuple[int, int]]

    def rss(self) -> float:
        """Largest growth of resident memory of any model worker, as a ratio: 1.0 is none."""
        return max(self.late[name].rss_mb / self.early[name].rss_mb for name in self.early)

    def threads(self) -> int:
        """Largest increase of threads in any model worker since the early measurement."""
        return max(self.late[name].threads - self.early[name].threads for name in self.early)

    def files(self) -> int:
        """Largest increase of open files in any model worker since the early measurement."""
        return max(self.late[name].files - self.early[name].files for name in self.early)

    def to_json(self) -> dict[str, dict[str, float]]:
        """A JSON object, by model worker."""
        return {
            name: {
                "tasks_early": self.tasks[name][0],
                "tasks_late": self.tasks[name][1],
                "rss_mb_early": self.early[name].rss_mb,
                "rss_mb_late": self.late[name].rss_mb,
                "threads_early": self.early[name].threads,
                "threads_late": self.late[name].threads,
                "files_early": self.early[name].files,
                "files_late": self.late[name].files,
            }
            for name in self.early
        }

    def figures(self) -> Sequence[Figure]:
        """Rows of the table, one per model worker."""
        shown = []
        for name in self.early:
            values = (self.early[name].rss_mb, self.late[name].rss_mb)
            tasks = " and ".join(f"{count:,}" for count in self.tasks[name])
            shown.append(Figure(f"{name}: memory after {tasks} tasks", values, "MiB"))
        return shown


def soak(workspace: Workspace, fleet: Fleet, tasks: int, work: Callable[[int], None]) -> Growth:
    """Calls `work(number)`, with numbers from 0, until every model worker has done `tasks` tasks.

    Raises ConfigError if `tasks` is so small that no worker could be measured before its last task.
    """
    early: dict[str, tuple[int, Footprint]] = {}
    late: dict[str, tuple[int, Footprint]] = {}
    done = _tasks_done(workspace, fleet)
    number = 0
    while len(late) < len(done):
        work(number)
        number += 1
        done = _tasks_done(workspace, fleet)
        for name, count in done.items():
            if name not in early and count >= tasks:
                raise ConfigError(
                    f"{tasks:,} tasks are too few for a soak: {name} had done {count:,} when it was first measured. "
                    "Give more with --soak-tasks."
                )
            for seen, enough in ((early, tasks // _EARLY_DIVISOR), (late, tasks)):
                if count >= enough and name not in seen:
                    seen[name] = (count, footprint(fleet.pids[name]))
    return Growth(
        {name: held for name, (_, held) in early.items()},
        {name: held for name, (_, held) in late.items()},
        {name: (early[name][0], late[name][0]) for name in late},
    )


def _tasks_done(workspace: Workspace, fleet: Fleet) -> dict[str, int]:
    """Number of tasks that each model worker has run, of all kinds."""
    counts = {}
    for name, port in fleet.ports(workspace).items():
        if name.startswith("worker-"):
            parts = scrape([port], _PARTS, "part").get("start")
            counts[name] = 0 if parts is None else int(parts.total)
    return counts
