"""`cordctl bench export`: the speed of `cordctl export`, and whether its memory grows with the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cord_worker.bench.control_plane import INSTANT_CONFIG
from cord_worker.bench.enqueuing import command_once, enqueue_once, write_dataset
from cord_worker.bench.report import Figure, Report, check_rounds
from cord_worker.bench.workspace import Workspace
from cord_worker.display_text import counted
from cord_worker.store.reports.measurements import add_winners, empty_tables
from cord_worker.store.runs.runs import resolve_run

FILE_TYPES = ("jsonl", "parquet")
_BATCH = 50_000
"""Problems that one transaction adds."""
_STEP = "A train leaves with three boxes of apples, and at every station one box of five is unloaded and counted. " * 2


@dataclass(frozen=True, slots=True)
class ExportBench:
    """The parameters of the measurement: runs with `rows` trajectories each, of `steps` steps."""

    rows: Sequence[int] = (10_000, 1_000_000)
    steps: int = 3
    rounds: int = 3


def measure(bench: ExportBench, workspace: Workspace, say: Callable[[str], None]) -> Report:
    """Makes runs of all sizes and exports them to every file type; `say` receives each result.

    Raises ConfigError, LocalServiceError.
    """
    check_rounds(bench.rounds)
    rates: dict[tuple[str, int], list[float]] = {}
    peaks: dict[tuple[str, int], list[float]] = {}
    sizes = sorted(set(bench.rows))
    workspace.database.run(empty_tables)
    for rows in sizes:
        _make_run(workspace, rows, bench.steps)
        say(f"made a run of {counted(rows, 'trajectory')}")
    for number in range(1, bench.rounds + 1):
        for rows in sizes:
            for kind in FILE_TYPES:
                file = workspace.folder / f"out.{kind}"
                document, seconds, peak = command_once(workspace, ["export", f"rows-{rows}", "-o", str(file), "--json"])
                exported, size = int(document["exported"]), file.stat().st_size
                file.unlink()
                rates.setdefault((kind, rows), []).append(exported / seconds)
                peaks.setdefault((kind, rows), []).append(peak)
                say(
                    f"round {number}, {counted(exported, 'row')} to {kind}: {exported / seconds:,.0f} rows/s, "
                    f"peak {peak:.0f} MiB, file {size / 2**20:,.0f} MiB"
                )
    figures = []
    for kind, rows in rates:
        figures.append(Figure(f"{kind}, {rows} rows: whole command", tuple(rates[kind, rows]), "rows/s", 0))
        figures.append(Figure(f"{kind}, {rows} rows: peak memory", tuple(peaks[kind, rows]), "MiB"))
    medians = {figure.name: figure.median for figure in figures}
    keys = {
        "rounds": bench.rounds,
        "rows": sizes,
        **{f"{kind}_rows_per_second": medians[f"{kind}, {sizes[-1]} rows: whole command"] for kind in FILE_TYPES},
        **{f"{kind}_peak_rss_mb": medians[f"{kind}, {sizes[-1]} rows: peak memory"] for kind in FILE_TYPES},
        **{
            f"{kind}_rss_growth": medians[f"{kind}, {sizes[-1]} rows: peak memory"]
            / medians[f"{kind}, {sizes[0]} rows: peak memory"]
            for kind in FILE_TYPES
        },
    }
    notes = (
        f"`cordctl export` of the format jsonl in a separate process, from its start to its end; winners have "
        f"{bench.steps} steps of about {len(_STEP)} characters; rss_growth is the largest size's peak over the "
        "smallest's",
    )
    return Report("export", figures, keys, notes)


def _make_run(workspace: Workspace, rows: int, steps: int) -> None:
    """Makes a run called `rows-N` with N done problems."""
    config, dataset, name = workspace.folder / "cord.toml", workspace.folder / "first.jsonl", f"rows-{rows}"
    config.write_text(INSTANT_CONFIG.format(beam_width=4, max_active=256), encoding="utf-8")
    write_dataset(dataset, 1, 256)
    enqueue_once(workspace, dataset, config, name)
    run_id = workspace.database.run(lambda connection: resolve_run(connection, name)).id
    for first in range(1, rows + 1, _BATCH):
        last = min(first + _BATCH - 1, rows)
        with workspace.database.transaction() as connection:
            add_winners(connection, run_id, first=first, last=last, steps=steps, text=_STEP)
