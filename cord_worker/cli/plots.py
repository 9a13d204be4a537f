"""Plots in the terminal (`cordctl stats --plot`).

Letters distinguish the series, with and without colours. Every text from outside goes through `shown`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from cord_worker.display_text import shown

if TYPE_CHECKING:
    from rich.console import Console

    from cord_worker.operations.run_statistics import RunStatistics

_COLOURS = ("cyan", "orange", "magenta", "green", "blue", "red")
_PLAIN_COLUMNS = 80
"""Width of plots that are not printed to a terminal."""
_COLUMNS = (40, 110)
"""Least and greatest width of a plot."""
_ROWS = 16
_LONGEST_NAME = 24
_MOST_BINS = 20
_MOST_TICKS = 10
_MIN_WITHOUT_DIGITS = 100
"""If the highest value is at least this, ticks have no digits after the point."""

Points = Sequence[tuple[float, float]]


def plots(screen: Console, found: RunStatistics) -> Iterator[str]:
    """The plots of a run's statistics, each as lines for this screen. A plot without data is replaced by a sentence."""
    draw = _Drawing(screen)
    shares = {
        teacher.name: [
            (row.tenth, row.hit_rate)
            for row in found.selection.tenths
            if row.teacher == teacher.name and row.hit_rate is not None
        ]
        for teacher in found.selection.teachers
    }
    yield draw.lines("share of the winning steps, by tenth of the decoding position", shares, top=1.0)
    depths = {
        "winning steps": [(row.depth, row.winning_score) for row in found.depths if row.winning_score is not None],
        "kept": [(row.depth, row.kept_score) for row in found.depths if row.kept_score is not None],
        "all candidates": [(row.depth, row.mean_score) for row in found.depths if row.mean_score is not None],
    }
    yield draw.lines("mean score, by depth (0: base score, before any step)", depths, top=1.0)
    gains = {row.teacher: row.mean_winning_gain for row in found.gains if row.mean_winning_gain is not None}
    yield draw.bars("mean gain of a winning step, by teacher", gains)
    done = [row for row in found.problems if row.steps is not None]
    yield draw.histogram("steps of the result (problems)", [row.steps for row in done if row.steps is not None])
    yield draw.histogram("generated tokens of a problem (problems)", [row.generated_tokens for row in found.problems])


class _Drawing:
    """Draws for one screen: its width, and whether it has colours."""

    def __init__(self, screen: Console) -> None:
        least, most = _COLUMNS
        self._width = max(least, min(most, screen.width if screen.is_terminal else _PLAIN_COLUMNS))
        self._has_colours = screen.is_terminal and not screen.no_color and screen.color_system is not None

    def lines(self, title: str, series: Mapping[str, Points], *, top: float | None = None) -> str:
        """One line for each series."""
        drawn = {name: points for name, points in series.items() if points}
        if not drawn:
            return _no_data(title)
        plot = self._begin(title, _ROWS + len(drawn))
        for number, (name, points) in enumerate(drawn.items()):
            letter = ascii_uppercase[number % len(ascii_uppercase)]
            plot.plot(
                [x for x, _ in points],
                [y for _, y in points],
                marker=letter,
                label=f"{letter} {shown(name, _LONGEST_NAME)}",
                **self._colour(number),
            )
        xs = sorted({x for points in drawn.values() for x, _ in points})
        plot.xticks(xs[:: max(1, len(xs) // 15)], [f"{x:g}" for x in xs[:: max(1, len(xs) // 15)]])
        if top is not None:
            plot.ylim(0.0, top)
        return self._build(plot)

    def bars(self, title: str, values: Mapping[str, float]) -> str:
        """One horizontal bar for each value, which may be negative."""
        if not values:
            return _no_data(title)
        plot = self._begin(title, 2 * len(values) + 5)
        names = [f"{shown(name, _LONGEST_NAME)} {value:+.3f}" for name, value in values.items()]
        plot.bar(names[::-1], list(values.values())[::-1], orientation="horizontal", width=0.3, **self._colour(0))
        return self._build(plot)

    def histogram(self, title: str, values: Sequence[float]) -> str:
        """How many values are in each of equal intervals."""
        if not values:
            return _no_data(title)
        plot = self._begin(title, _ROWS)
        low, high = min(values), max(values)
        is_whole = all(float(value).is_integer() for value in values)
        has_bin_per_value = is_whole and high - low < _MOST_BINS
        bins = int(high - low) + 1 if has_bin_per_value else _MOST_BINS
        size = 1.0 if has_bin_per_value else (high - low) / bins or 1.0
        counts = [0] * bins
        for value in values:
            counts[min(bins - 1, int((value - low) / size))] += 1
        middles = [low + size * (number + (0.0 if size == 1.0 else 0.5)) for number in range(bins)]
        plot.bar(middles, counts, width=0.8, **self._colour(0))
        ticks = middles[:: max(1, -(-bins // _MOST_TICKS))]
        plot.xticks(
            ticks, [f"{tick:,.0f}" if high >= _MIN_WITHOUT_DIGITS or size == 1.0 else f"{tick:.3g}" for tick in ticks]
        )
        most = max(counts)
        marks = sorted({round(most * part / 4) for part in range(5)})
        plot.yticks(marks, [f"{mark:,}" for mark in marks])
        return self._build(plot)

    def _begin(self, title: str, rows: int) -> Any:
        import plotext

        plotext.clear_figure()
        plotext.theme("clear")
        plotext.limit_size(False, False)
        plotext.plotsize(self._width, rows)
        plotext.title(title)
        return plotext

    def _colour(self, number: int) -> dict[str, str]:
        return {"color": _COLOURS[number % len(_COLOURS)]} if self._has_colours else {}

    def _build(self, plot: Any) -> str:
        text: str = plot.build()
        if not self._has_colours:
            text = plot.uncolorize(text)
        return "\n".join(line.rstrip() for line in text.splitlines())


def _no_data(title: str) -> str:
    return f"{title}: no data yet"
