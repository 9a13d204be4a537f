"""The report: what it shows, what it escapes, and that it needs no external resource."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

from rich.console import Console

from cord_worker.operations.comparison import Interval
from cord_worker.reproduce.figures import Cell, Finding, hit_rate_cells
from cord_worker.reproduce.paper import CLAIMS, Claim
from cord_worker.reproduce.remarks import remarks_on
from cord_worker.reproduce.report import Report, hit_rate_lines
from cord_worker.store.reports.winning_steps import WinningStep

MEASURED = Cell("Table 2", "CoRD", "accuracy", 0.935, 0.9, 0.965, 0.931, 200, "")
NOT_RUN = Cell("Table 2", "Integration", "accuracy", None, None, None, 0.912, 0, "needs <an integrator> & more")
HOSTILE = Claim("<script>alert('order')</script>", "a", ("b",), "because <b>it</b> is & was")
HIT_RATES = hit_rate_cells(
    [WinningStep(f"p{number}", "<planner>" if number % 3 else "closer", number % 10 + 1) for number in range(200)]
)


def report() -> Report:
    findings = [
        Finding(CLAIMS[0], "accuracy", Interval(0.1, 0.05, 0.15), 200),
        Finding(HOSTILE, "score", Interval(-0.1, -0.15, 0.05), 200),
    ]
    return Report([MEASURED, NOT_RUN, *HIT_RATES], findings, remarks_on(findings))


def test_foreign_text_is_escaped() -> None:
    page = report().html()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "because &lt;b&gt;it&lt;/b&gt; is &amp; was" in page
    assert "needs &lt;an integrator&gt; &amp; more" in page
    assert "&lt;planner&gt;" in page


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere() -> None:
    page = report().html()
    assert not re.search(r"(src|href)=|@import|url\(", page)
    open_tags: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, _attrs: object) -> None:
            if tag != "meta":
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Checker().feed(page)
    assert open_tags == []


def test_a_figure_is_shown_with_its_interval_and_the_papers_figure() -> None:
    page = report().html()
    assert "93.5 % [90.0 %, 96.5 %]" in page
    assert "93.1 %" in page
    assert "91.2 %" in page  # of a row that was not run


def test_an_order_that_was_not_reproduced_is_explained_on_screen_too() -> None:
    screen = io.StringIO()
    report().print(Console(file=screen, width=160))
    text = screen.getvalue()
    assert "93.5 % [90.0 %, 96.5 %]" in text
    assert "undecided" in text
    assert "because <b>it</b> is & was" in text
    assert HOSTILE.text in text


def test_square_brackets_in_a_row_are_shown_as_text() -> None:
    screen = io.StringIO()
    cell = Cell("Table 2", "[bold]row[/bold]", "score", 0.5, 0.4, 0.6, None, 1, "")
    Report([cell], [], []).print(Console(file=screen, width=160))
    assert "[bold]row[/bold]" in screen.getvalue()
    assert "0.500 [0.400, 0.600]" in screen.getvalue()


def test_the_cells_are_a_list_with_the_keys_of_the_contract(tmp_path: Path) -> None:
    cells, page = report().write(tmp_path)
    document = json.loads(cells.read_text(encoding="utf-8"))
    assert {"table", "row", "metric", "value", "low", "high", "paper"} <= set(document[0])
    assert document[0]["value"] == 0.935
    assert document[1]["value"] is None
    assert page.read_text(encoding="utf-8") == report().html()


def test_the_lines_of_figure_2_stay_inside_the_drawing() -> None:
    for line in hit_rate_lines(HIT_RATES):
        for point in f"{line.points} {line.band}".split():
            x, y = map(float, point.split(","))
            assert 40 <= x <= 630
            assert 10 <= y <= 230


def test_the_remarks_count_the_orders() -> None:
    assert remarks_on(report().findings)[-1] == "1 of 2 rankings hold as in the paper (1 undecided)."
