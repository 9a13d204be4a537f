"""The parts of `cordctl watch` as lines of text.

Names, reasons and conditions are untrusted text: all of them go through `shown`, and nothing is read as markup.
"""

from __future__ import annotations

from collections.abc import Sequence

from cord_worker.display_text import counted, shown
from cord_worker.progress.live_state import LiveState, ModelState
from cord_worker.progress.number_format import duration, figure, percent
from cord_worker.progress.snapshot import Condition

Line = tuple[str, str]
"""A line's text, and the style in which it is drawn (empty: none)."""

_BLOCKS = " ▁▂▃▄▅▆▇█"
_LABEL_WIDTH = 19
_NAME_WIDTH = 24
_BAR_WIDTH = 20
_MINUTE = 60.0
_WARNING, _FAINT, _HEAD = "bold yellow", "dim", "bold"
_MAX_CHARACTERS = 300


def head(state: LiveState) -> list[Line]:
    """Name and state of the run, its priority, the time left, and the time of the snapshot."""
    snapshot = state.snapshot
    left = "final" if snapshot.is_final else f"ETA {duration(snapshot.eta_seconds)}"
    elapsed = duration(snapshot.seconds_since_start())
    facts = f"{snapshot.state}   priority {state.priority}   {elapsed} so far   {left}   at {state.at:%H:%M:%S}"
    style = _HEAD if snapshot.state in ("active", "finished") else _WARNING
    return [(f"{shown(snapshot.run, 60)}   {facts}", style)]


def progress(state: LiveState) -> list[Line]:
    """Problems by state as a bar, and the results so far."""
    counts, totals = state.snapshot.counts, state.snapshot.totals
    share = counts.final / counts.total if counts.total else 0.0
    filled = int(share * _BAR_WIDTH)
    bar = "█" * filled + "░" * (_BAR_WIDTH - filled)
    queued, failed = counts.problems.get("queued", 0), counts.problems.get("failed", 0)
    return [
        (
            f"{bar} {100 * share:.0f} %   {counts.problems.get('done', 0):,} done, {counts.active:,} active, "
            f"{queued:,} queued, {failed:,} failed of {counts.total:,}",
            "",
        ),
        (
            f"score {figure(totals.mean_score)}, accuracy {percent(totals.accuracy)} of {totals.checked:,}, "
            f"{counted(totals.proposed, 'candidate')}, {counted(totals.tokens, 'token')}",
            _FAINT,
        ),
    ]


def curves(state: LiveState) -> list[Line]:
    """Trajectories, candidates and tokens per minute over the last minutes: two lines each."""
    rates = state.rates
    lines: list[Line] = []
    for title, bins in (
        ("trajectories/min", rates.trajectories),
        ("candidates/min", rates.candidates),
        ("tokens/min", rates.tokens),
    ):
        per_minute = [None if one is None else one * _MINUTE / rates.bin_seconds for one in bins]
        of_last_minute = [one for one in per_minute[-round(_MINUTE / rates.bin_seconds) :] if one is not None]
        now = compact(sum(of_last_minute) / len(of_last_minute)) if of_last_minute else "-"
        most = compact(max((one for one in per_minute if one is not None), default=0.0))
        upper, lower = curve(per_minute, 2)
        lines.append((f"{title:<{_LABEL_WIDTH}}{upper}", ""))
        lines.append((f"{f'{now} (most {most})':<{_LABEL_WIDTH}}{lower}", ""))
    return lines


def curve(values: Sequence[float | None], height: int) -> list[str]:
    """A bar for each value. The largest value is `height` characters high; the upper line comes first.

    A value above 0 is never drawn as 0. An unknown value is a `?` in the lowest line.
    """
    steps = len(_BLOCKS) - 1
    most = max((value for value in values if value is not None), default=0.0)

    def level_of(value: float | None) -> int:
        if value is None:
            return -1
        return max(1, round(value / most * steps * height)) if value > 0 else 0

    levels = [level_of(value) for value in values]
    return [
        "".join(
            ("?" if row == 0 else " ") if level < 0 else _BLOCKS[min(steps, max(0, level - row * steps))]
            for level in levels
        )
        for row in range(height - 1, -1, -1)
    ]


def models(state: LiveState) -> list[Line]:
    """A line for each model and the coordinator (workers, backlog, leases, cached share), each followed by its
    conditions."""
    title = f"{'model':<{_NAME_WIDTH}}{'workers':>9}{'waiting':>10}{'leased':>9}{'cached':>10}"
    lines: list[Line] = [(title, _FAINT)]
    conditions = list(state.snapshot.conditions)
    for model in state.models:
        lines.append(_model_line(model, is_missing=model.name in state.snapshot.missing))
        lines += [_condition_line(one) for one in conditions if one.model == model.name]
    named = {model.name for model in state.models}
    return lines + [_condition_line(one) for one in conditions if one.model not in named]


def _model_line(model: ModelState, *, is_missing: bool) -> Line:
    workers = f"{model.ready}/{model.workers}" if model.ready < model.workers else f"{model.workers}"
    if is_missing:
        workers = "NONE"
    text = f"{cells(model.name, _NAME_WIDTH)}{workers:>9}{model.waiting:>10,}{model.leased:>9,}"
    return f"{text}{percent(model.cached):>10}", _WARNING if is_missing else ""


def _condition_line(condition: Condition) -> Line:
    text = shown(condition.text, _MAX_CHARACTERS)
    return f"  {shown(condition.model)} {text} (for {duration(condition.seconds)})", _WARNING


def failures(state: LiveState, most: int) -> list[Line]:
    """The newest failed problems, one per line, at most `most`."""
    if not state.failures:
        return [("no failed problems", _FAINT)]
    lines: list[Line] = [("newest failures", _FAINT)]
    for failure in state.failures[:most]:
        at = failure.at.astimezone()
        reason = shown(failure.reason, _MAX_CHARACTERS)
        lines.append((f"{at:%H:%M:%S} {cells(failure.key, _NAME_WIDTH)} {reason}", ""))
    return lines


def cells(text: str, width: int) -> str:
    """`text`, made safe by `shown`, cut or padded to exactly `width` cells of the terminal."""
    from rich.cells import cell_len, set_cell_size

    safe = shown(text)
    return safe + " " * (width - cell_len(safe)) if cell_len(safe) < width else set_cell_size(safe, width - 2) + "… "


def compact(value: float) -> str:
    """A number in few characters: 3.2, 120, 9,500, 12.5k, 3.1M."""
    if value < 10:
        return f"{value:.1f}".removesuffix(".0")
    for limit, divisor, unit in ((9_999.5, 1, ""), (999_950, 1_000, "k"), (999_950_000, 1_000_000, "M")):
        if value < limit:
            return f"{value / divisor:,.0f}" if not unit else f"{value / divisor:.1f}{unit}"
    return f"{value / 1_000_000_000:.1f}G"
