"""`cordctl bench enqueue`: the speed of `cordctl enqueue`, and whether its memory grows with the dataset."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cord_worker.bench.control_plane import INSTANT_CONFIG
from cord_worker.bench.memory import PeakMemory
from cord_worker.bench.report import Figure, Report, check_rounds
from cord_worker.bench.workspace import Workspace
from cord_worker.display_text import counted
from cord_worker.errors import LocalServiceError
from cord_worker.local import processes
from cord_worker.store.reports.measurements import empty_tables

_WORDS = ("a", "train", "leaves", "with", "apples", "boxes", "of", "each", "at", "speed", "how", "many", "are", "left")


@dataclass(frozen=True, slots=True)
class EnqueueBench:
    """The parameters of the measurement: datasets of these sizes (rows), or the user's dataset."""

    rows: Sequence[int] = (10_000, 1_000_000)
    row_bytes: int = 1024
    rounds: int = 3
    dataset: Path | None = None
    arguments: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Enqueuing:
    """One `cordctl enqueue`: the added rows, its time from start to end, and its peak memory in MiB."""

    rows: int
    seconds: float
    peak_mb: float

    @property
    def rows_per_second(self) -> float:
        """Rows per second, including the start of the process."""
        return self.rows / self.seconds


def measure(bench: EnqueueBench, workspace: Workspace, say: Callable[[str], None]) -> Report:
    """Measures all sizes in every round. `say` receives each result. Raises ConfigError and LocalServiceError."""
    check_rounds(bench.rounds)
    config = workspace.folder / "cord.toml"
    config.write_text(INSTANT_CONFIG.format(beam_width=4, max_active=256), encoding="utf-8")
    datasets = _datasets(bench, workspace.folder)
    found: dict[str, list[Enqueuing]] = {name: [] for name in datasets}
    for number in range(1, bench.rounds + 1):
        for name, path in datasets.items():
            run = f"bench-{number}-{name}"
            done = enqueue_once(workspace, path, config, run, bench.arguments)
            # Every measurement starts with empty tables.
            workspace.database.run(empty_tables)
            found[name].append(done)
            say(
                f"round {number}, {counted(done.rows, 'row')}: {done.rows_per_second:,.0f} rows/s, "
                f"peak {done.peak_mb:.0f} MiB"
            )
    figures = []
    for name, times in found.items():
        rates = tuple(done.rows_per_second for done in times)
        figures.append(Figure(f"{name}: whole command", rates, "rows/s", 0))
        figures.append(Figure(f"{name}: peak memory", tuple(done.peak_mb for done in times), "MiB"))
    smallest, largest = figures[1].median, figures[-1].median
    keys = {
        "rounds": bench.rounds,
        "rows": [times[0].rows for times in found.values()],
        "rows_per_second": figures[-2].median,
        "peak_rss_mb": largest,
        "peak_rss_mb_by_rows": {
            str(times[0].rows): item.median for times, item in zip(found.values(), figures[1::2], strict=True)
        },
        "rss_growth": largest / smallest,
    }
    notes = (
        "`cordctl enqueue` in a separate process, from its start to its end, into empty tables; memory is the sum of "
        "the peaks of that process and its children; rows_per_second and peak_rss_mb are of the largest size, "
        "rss_growth is the largest size's peak over the smallest's",
    )
    return Report("enqueue", figures, keys, notes)


def enqueue_once(
    workspace: Workspace, dataset: Path, config: Path, run: str, arguments: Sequence[str] = ()
) -> Enqueuing:
    """Runs `cordctl enqueue` in a separate process. Raises LocalServiceError with its output if it fails."""
    document, seconds, peak = command_once(
        workspace, ["enqueue", str(dataset), "--config", str(config), "--run", run, "--json", *arguments]
    )
    return Enqueuing(int(document["added"]), seconds, peak)


def command_once(workspace: Workspace, arguments: Sequence[str]) -> tuple[dict[str, Any], float, float]:
    """Runs `cordctl` with these arguments, which must include --json, in a separate process. Returns its JSON document,
    its seconds from start to end, and its peak memory (MiB). Raises LocalServiceError with its output if it fails."""
    argv = [sys.executable, "-P", "-m", "cord_worker.cli", *arguments]
    environment = {
        **os.environ,
        **processes.python_environment(),
        "CORD_DATABASE_URL": workspace.endpoints.database_url,
        "CORD_BROKER_URL": workspace.endpoints.broker_url,
        "CORD_STATE_DIR": str(workspace.settings.state_dir),
    }
    started = time.perf_counter()
    with (
        subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        PeakMemory(process.pid) as memory,
    ):
        output, errors = process.communicate()
        seconds = time.perf_counter() - started
    if process.returncode != 0:
        raise LocalServiceError(f"cordctl {arguments[0]} ended with exit code {process.returncode}: {errors[-1000:]}")
    return json.loads(output), seconds, memory.mb


def write_dataset(path: Path, rows: int, row_bytes: int) -> None:
    """Writes JSON lines of about `row_bytes` each, with id, question, answer and two further fields. Equal arguments
    give equal files."""
    randomness = random.Random(rows)
    row_format = (
        '{"id": "p%07d", "question": "%s How many are left of %d?", "answer": "%d", "source": "bench", "level": %d}\n'
    )
    filler = " ".join(randomness.choices(_WORDS, k=row_bytes))
    room = max(1, row_bytes - len(row_format % (0, "", 1000, 1000, 1)))
    with path.open("w", encoding="utf-8") as out:
        for number in range(rows):
            start = randomness.randrange(len(filler) - room)
            out.write(row_format % (number, filler[start : start + room], number % 1000, number % 997, number % 5))


def _datasets(bench: EnqueueBench, folder: Path) -> dict[str, Path]:
    if bench.dataset is not None:
        return {bench.dataset.name: bench.dataset}
    made = {}
    for rows in sorted(set(bench.rows)):
        path = folder / f"rows-{rows}.jsonl"
        write_dataset(path, rows, bench.row_bytes)
        made[f"{rows}-rows"] = path
    return made
