"""`cordctl stats --plot`: what is drawn, on which screen."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from cord_worker.cli import run_reports
from cord_worker.cli.plots import plots
from cord_worker.operations.run_statistics import TABLES, RunStatistics
from cord_worker.operations.run_watch import TeacherSelection
from cord_worker.store.reports.base_scores import BaseScores
from cord_worker.store.reports.costs import ProblemResult
from cord_worker.store.reports.search_figures import DepthScores, TeacherGains
from cord_worker.store.reports.status import TeacherTotals, TenthRow

HOSTILE = "[red]b[/red]\x1b]0;x\x07\u202e"
TEACHERS = ("a", HOSTILE)


def statistics(problems: int = 5, *, base_scores: BaseScores | None = None) -> RunStatistics:
    selection = TeacherSelection(
        run="mine",
        teachers=[TeacherTotals(name, 10, 0, 0, 5, 2, 0.5, 0.5, 100, 0.25) for name in TEACHERS],
        tenths=[TenthRow(name, tenth, 4, 2, 1, 0.5, 0.5, 9) for name in TEACHERS for tenth in (1, 4, 10)],
        caches=[],
        base_scores=base_scores or BaseScores(0, 0, 0, 0, None, None),
    )
    return RunStatistics(
        selection,
        depths=[DepthScores(0, 0, None, 0, None, 5, 0.1), DepthScores(1, 9, 0.2, 4, 0.3, 5, 0.4)],
        gains=[TeacherGains("a", 3, 0.1, 2.0, 0.2), TeacherGains(HOSTILE, 3, -0.1, 1.0, -0.05)],
        problems=[ProblemResult(f"p{n}", 0.5, 1.0, 0, float(n % 3 + 1), 100 * n, 50.0) for n in range(problems)],
    )


def drawn(found: RunStatistics, *, width: int = 80, is_terminal: bool = False, no_color: bool = False) -> str:
    screen = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=is_terminal,
        no_color=no_color,
        color_system="256" if is_terminal else None,
    )
    return "\n".join(plots(screen, found))


def test_a_plot_has_no_control_sequences_but_colours_in_a_terminal() -> None:
    plain = drawn(statistics())
    assert not set(plain) & set("\x1b\x07\u202e")
    assert "A a" in plain
    assert r"B [red]b[/red]\x1b]0;x\x07\u202e"[:20] in plain
    assert "-0.050" in plain
    coloured = drawn(statistics(), is_terminal=True)
    assert "\x1b[38;5;6mA" in coloured
    assert not set(coloured) & set("\x07\u202e")
    assert "\x1b" not in drawn(statistics(), is_terminal=True, no_color=True)


@pytest.mark.parametrize(("width", "columns"), [(20, 40), (60, 60), (400, 110)])
def test_plots_fit_the_terminal(width: int, columns: int) -> None:
    lines = drawn(statistics(), width=width, is_terminal=True, no_color=True).splitlines()
    assert max(map(len, lines)) == columns


def test_without_data_a_sentence_stands_in_place_of_a_plot() -> None:
    nothing = RunStatistics(statistics().selection, [], [], [])
    assert drawn(nothing).count("no data yet") == 4
    assert "steps of the result" in drawn(statistics(1))


def test_a_table_is_csv_with_a_header_and_without_values_that_are_missing() -> None:
    found = statistics(2)
    assert found.csv("depths").splitlines() == [
        "depth,candidates,mean_score,kept,kept_score,winners,winning_score",
        "0,0,,0,,5,0.1",
        "1,9,0.2,4,0.3,5,0.4",
    ]
    assert found.csv("prefix_cache") == ""
    assert run_reports._STATISTICS == TABLES
    assert all(len(found.csv(name).splitlines()) > 1 for name in TABLES if name != "prefix_cache")


def test_whole_numbers_in_csv_have_no_point() -> None:
    result = ProblemResult(
        key="p", score=0.5, correct=1.0, undecided=0, steps=7.0, generated_tokens=9, result_tokens=157.0
    )
    found = replace(statistics(), problems=[result])
    assert found.csv("problems").splitlines()[1] == "p,0.5,1,0,7,9,157"
