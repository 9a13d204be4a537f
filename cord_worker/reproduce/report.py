"""The report on the reproduction: one self-contained HTML file, and the same figures as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from cord_worker.export.files import replaced_file
from cord_worker.reproduce.figures import TENTHS, Cell, Finding, Outcome
from cord_worker.reproduce.paper import HIT_RATES, TABLES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

METRICS = {
    "accuracy": "accuracy",
    "score": "mean score",
    "pass@1": "Pass@1",
    "tokens": "tokens / problem",
    "hit_rate": "hit rate",
}
MARKS = {
    Outcome.AS_IN_THE_PAPER: "yes",
    Outcome.UNDECIDED: "undecided",
    Outcome.REVERSED: "no",
    Outcome.NOT_RUN: "not run",
}
_COLOURS = ("#2a6f97", "#e09f3e", "#7a9e5f", "#9c6b98")


@dataclass(frozen=True, slots=True)
class Report:
    """The results; `remarks` are sentences for the top of the report."""

    cells: Sequence[Cell]
    findings: Sequence[Finding]
    remarks: Sequence[str]

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Writes `reproduce.json` and `reproduce.html`; returns their paths."""
        cells, page = folder / "reproduce.json", folder / "reproduce.html"
        text = json.dumps([cell.to_json() for cell in self.cells], ensure_ascii=False, indent=2, allow_nan=False)
        for path, content in ((cells, text + "\n"), (page, self.html())):
            with replaced_file(str(path)) as file:
                file.write(content.encode())
        return cells, page

    def html(self) -> str:
        """A page without scripts and without external resources."""
        source = (files(__package__) / "report.html.jinja").read_text(encoding="utf-8")
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(source).render(
            tables=[(name, TABLES[name], list(self._rows(name))) for name in TABLES if any(self._rows(name))],
            findings=[
                (finding.claim.text, METRICS[finding.metric], difference(finding), finding.outcome)
                for finding in self.findings
            ],
            explanations=self._explanations(),
            figure=hit_rate_lines(self.cells),
            metric_name=METRICS.__getitem__,
            ours=ours,
            paper=paper,
            remarks=self.remarks,
        )

    def print(self, console: Console) -> None:
        """Prints the report as text."""
        from rich.table import Table
        from rich.text import Text

        for remark in self.remarks:
            console.print(Text(remark))
            console.print()
        for name, title in TABLES.items():
            rows = list(self._rows(name))
            if not rows:
                continue
            table = Table(title=f"{name}: {title}", title_justify="left", box=None, padding=(0, 2, 0, 0))
            for column in ("", "metric", "ours", "paper", "problems"):
                table.add_column(column, justify="left" if column in ("", "metric") else "right")
            for row, cells in rows:
                for cell in cells:
                    texts = (row, METRICS[cell.metric], ours(cell), paper(cell), f"{cell.problems:,}")
                    table.add_row(*(Text(text) for text in texts))
            console.print(table)
            for row, (cell, *_) in rows:
                if cell.note and cell.value is not None:
                    console.print(Text(f"{row}: {cell.note}", style="dim"))
            console.print()
        if any(self._rows(HIT_RATES.table)):
            console.print(self._hit_rates())
            console.print()
        findings = Table(title="The paper's rankings", title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in ("order", "metric", "difference", "here"):
            findings.add_column(column, overflow="fold")
        for finding in self.findings:
            findings.add_row(
                Text(finding.claim.text),
                METRICS[finding.metric],
                Text(difference(finding)),
                MARKS[finding.outcome],
            )
        console.print(findings)
        for claim, explanation in self._explanations().items():
            console.print(Text(f"\n{claim}: {explanation}"))

    def _explanations(self) -> dict[str, str]:
        """Why an order differs from the paper's, by claim. A claim with several metrics has one explanation."""
        return {finding.claim.text: finding.explanation for finding in self.findings if finding.explanation}

    def _hit_rates(self) -> Table:
        """Figure 2 as text: the share of the selected steps, by teacher and tenth."""
        from rich.table import Table

        title = f"{HIT_RATES.table}: whose step is selected, over the decoding position (%)"
        table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        shares: dict[str, dict[str, float]] = {}
        for row, (cell, *_) in self._rows(HIT_RATES.table):
            teacher, _, tenth = row.rpartition(", ")
            shares.setdefault(teacher, {})[tenth.removesuffix(" %")] = cell.value or 0.0
        tenths = list(dict.fromkeys(tenth for by_tenth in shares.values() for tenth in by_tenth))
        for column in ("", *tenths):
            table.add_column(column, justify="right" if column else "left")
        for teacher, by_tenth in shares.items():
            table.add_row(teacher, *(f"{100 * by_tenth[tenth]:.0f}" for tenth in tenths))
        return table

    def _rows(self, table: str) -> Iterator[tuple[str, list[Cell]]]:
        cells = [cell for cell in self.cells if cell.table == table]
        for row in dict.fromkeys(cell.row for cell in cells):
            yield row, [cell for cell in cells if cell.row == row]


def ours(cell: Cell) -> str:
    """Our figure with its interval."""
    if cell.value is None:
        return cell.note
    bounds = (
        "" if cell.low is None or cell.high is None else f" [{_figure(cell, cell.low)}, {_figure(cell, cell.high)}]"
    )
    return _figure(cell, cell.value) + bounds


def paper(cell: Cell) -> str:
    """The paper's figure."""
    return "-" if cell.paper is None else _figure(cell, cell.paper)


def difference(finding: Finding) -> str:
    """A difference with its interval, signed."""
    found = finding.difference
    if found is None:
        return "-"
    if finding.metric == "score":
        return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
    return f"{100 * found.mean:+.1f} points [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _figure(cell: Cell, value: float) -> str:
    if cell.metric == "tokens":
        return f"{value:,.0f}"
    return f"{value:.3f}" if cell.metric == "score" else f"{100 * value:.1f} %"


@dataclass(frozen=True, slots=True)
class Line:
    """One teacher's hit rates in an SVG of 640 by 260: a line, and the band of its intervals."""

    teacher: str
    colour: str
    points: str
    band: str


def hit_rate_lines(cells: Sequence[Cell]) -> list[Line]:
    """Figure 2 as lines, one per teacher, over the tenths of the decoding position."""
    lines: list[Line] = []
    by_teacher: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.table == HIT_RATES.table and cell.value is not None:
            by_teacher.setdefault(cell.row.rpartition(", ")[0], []).append(cell)
    for (teacher, found), colour in zip(by_teacher.items(), _COLOURS, strict=False):
        across = [_x(cell) for cell in found]
        middle = [_y(cell.value or 0.0) for cell in found]
        low = [_y(cell.low or 0.0) for cell in found]
        high = [_y(cell.high or 0.0) for cell in found]
        band = [*zip(across, high, strict=True), *reversed(list(zip(across, low, strict=True)))]
        lines.append(Line(teacher, colour, _points(zip(across, middle, strict=True)), _points(band)))
    return lines


def _x(cell: Cell) -> float:
    """The x coordinate: the middle of the tenth; `planner, 30-40 %` is at 35 %."""
    start = int(cell.row.rpartition(", ")[2].partition("-")[0])
    return 40 + 590 * (start + 100 / TENTHS / 2) / 100


def _y(share: float) -> float:
    return 230 - 220 * share


def _points(points: Any) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
