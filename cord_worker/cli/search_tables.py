"""The search of one problem in the terminal (`cordctl show`). Every text from outside goes through `shown`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from cord_worker.display_text import counted
from cord_worker.progress import figure, shown, shown_lines

if TYPE_CHECKING:
    from rich.console import Console

    from cord_worker.operations.search_grid import Cell, Column, Loser, SearchGrid
    from cord_worker.store.reports.search_trees import TreeCandidate

_COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "red")
"""Colours of the teachers, in their order."""
_HEADING = 500
"""Characters of the question and of the final answer above the grid."""
_EXCERPT = 160
"""Characters of a candidate's text in a table."""
_CORRECTNESS = {True: "correct", False: "wrong", None: "undecided"}
_SLOT_COLUMN_WIDTH = 8
_GAP_WIDTH = 2
_MARKS_WIDTH = 2
_FIGURES_WIDTH = len("  0.123 +0.123")
_LEGEND = "* step of the winner; = kept its slot without a new step; below: score, gain"
_PIPED_WIDTH = 120
"""Width of a grid that is not printed to a terminal. Programs such as `less` would wrap longer lines."""


def print_search(screen: Console, grid: SearchGrid) -> None:
    """Prints the problem, its grid in blocks of as many steps as fit the screen, and how many candidates each step
    lost."""
    _print_heading(screen, grid)
    if not grid.columns:
        screen.print("no step has been planned yet")
        return
    width = screen.width if screen.is_terminal else min(screen.width, _PIPED_WIDTH)
    names = [shown(one.candidate.teacher) for column in grid.columns for one in column.cells]
    cell = max(_FIGURES_WIDTH, *(len(name) + _MARKS_WIDTH for name in names)) if names else _FIGURES_WIDTH
    fitting = max(1, (width - _SLOT_COLUMN_WIDTH) // (cell + _GAP_WIDTH))
    for first in range(0, len(grid.columns), fitting):
        screen.print(_block(grid, grid.columns[first : first + fitting]))
    if any(column.cells for column in grid.columns):
        screen.print(Text(_LEGEND, style="dim"))
    for column in grid.columns:
        if column.losers:
            said = _lost(column, grid.score_resolution) if grid.is_decided(column) else _waiting(column)
            screen.print(Text(f"step {column.step}: {said}"))


def print_step(screen: Console, grid: SearchGrid, column: Column, *, in_full: bool) -> None:
    """Prints every candidate of a step: those in the beam, then those with a rank, then those without one, by score.
    The column `slot` has the slot of the parent."""
    winning = {cell.candidate.lineage for cell in grid.path}
    table = Table(
        box=None, padding=(0, 2, 0, 0), header_style="bold", title=f"step {column.step}", title_justify="left"
    )
    losers = sorted(column.losers, key=_by_rank)
    every = [*(cell.candidate for cell in column.cells), *(loser.candidate for loser in losers)]
    has_judgments = any(one.judgment is not None for one in every)
    has_rounds = any(one.round for one in every)
    titles = [
        "",
        "rank",
        "slot",
        "teacher",
        "sample",
        "round",
        "score",
        "gain",
        "judgment",
        "tokens",
        "why it lost",
        "text",
    ]
    left_out = {*([] if has_judgments else ["judgment"]), *([] if has_rounds else ["round"])}
    titles = [title for title in titles if title not in left_out]
    for title in titles:
        numbers = {"rank", "slot", "sample", "round", "score", "gain", "judgment", "tokens"}
        table.add_column(title, justify="right" if title in numbers else "left", overflow="fold")
    listed: list[tuple[TreeCandidate, float | None, str, str]] = [
        *((cell.candidate, cell.gain, str(cell.rank), "") for cell in column.cells),
        *((loser.candidate, loser.gain, "-", loser.reason) for loser in losers),
    ]
    for one, gain, rank, reason in listed:
        text = one.text or ""
        table.add_row(
            "*" if one.lineage in winning else "",
            rank,
            str(one.slot),
            _teacher(grid, one),
            str(one.sample),
            *([str(one.round)] if has_rounds else []),
            figure(one.score),
            _signed(gain),
            *([figure(one.judgment)] if has_judgments else []),
            "-" if one.completion_tokens is None else f"{one.completion_tokens:,}",
            Text(shown(reason)),
            Text(shown_lines(text) if in_full else shown(text, _EXCERPT)),
        )
    screen.print(table)


def print_path(screen: Console, grid: SearchGrid) -> None:
    """Prints the winner in full: every step under a line with its teacher and figures, then the final answer. Without a
    winner it prints a sentence."""
    if not grid.path:
        samples = any(one.final_answer is not None for one in grid.search.tree.candidates)
        why = "samples have none; --step 1 --text shows them in full" if samples else "there is none"
        screen.print(Text(f"\nno winner: {why}"))
    for place, cell in enumerate(grid.path, start=1):
        line = Text(f"\n{place}. ", style="bold") + _teacher(grid, cell.candidate)
        screen.print(line + Text(f"  score {figure(cell.candidate.score)}, gain {_signed(cell.gain)}"))
        screen.print(Text(shown_lines((cell.candidate.text or "").strip())))
    if grid.winner is not None and grid.winner.final_answer is not None:
        screen.print(Text("\nfinal answer", style="bold"))
        screen.print(Text(shown_lines(grid.winner.final_answer.strip())))


def _print_heading(screen: Console, grid: SearchGrid) -> None:
    tree, winner = grid.search.tree, grid.winner
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    state = tree.state
    if not tree.is_final:
        state += f", at step {grid.columns[-1].step}" if grid.columns else ""
        state += f"; the run is {shown(grid.pause)}" if grid.pause is not None else ""
    table.add_row("problem", Text(f"{shown(tree.key)} of {shown(grid.run)}: {state}"))
    if grid.trimmed_from is not None:
        source = f"a trimmed run has only the winner's steps; the whole search is in {shown(grid.trimmed_from)}"
        table.add_row("trimmed", Text(source))
    table.add_row("question", Text(shown(tree.question.strip(), _HEADING)))
    table.add_row("known answer", Text(shown(tree.answer, _HEADING)))
    if winner is not None and winner.final_answer is not None:
        answer = shown(winner.final_answer.strip(), _HEADING) or "empty"
        table.add_row("final answer", Text(f"{answer} ({_CORRECTNESS[tree.correct]})"))
    samples = [one for one in tree.candidates if one.final_answer is not None] if winner is None else []
    if samples:
        right = sum(one.correct is True for one in samples)
        table.add_row("final answers", f"{right:,} of {counted(len(samples), 'sample')} correct")
    if tree.base_score is not None:
        table.add_row("base score", f"{figure(tree.base_score)} (of the known answer before any step)")
    if winner is not None:
        ended = f", ended by {winner.finish}" if winner.finish else ""
        length = "a whole trajectory" if winner.whole else counted(len(grid.path), "step")
        table.add_row("winner", f"score {figure(tree.score)}, {length}{ended}")
    if grid.search.failure_reason is not None:
        table.add_row("failed", Text(shown(grid.search.failure_reason)))
    whole = ", each a whole trajectory" if tree.candidates and all(one.whole for one in tree.candidates) else ""
    table.add_row("candidates", f"{len(tree.candidates):,}{whole}")
    screen.print(table)


def _block(grid: SearchGrid, columns: Sequence[Column]) -> Table:
    winning = {cell.candidate.lineage for cell in grid.path}
    table = Table(box=None, padding=(1, _GAP_WIDTH, 0, 0), header_style="bold")
    table.add_column("slot", no_wrap=True)
    for column in columns:
        table.add_column(f"step {column.step}", no_wrap=True)
    for rank in range(max((len(column.cells) for column in columns), default=0)):
        cells = [next((cell for cell in column.cells if cell.rank == rank), None) for column in columns]
        table.add_row(str(rank), *(_cell(grid, cell, winning) for cell in cells))
    numbers = [f"+{len(column.losers)}" if column.losers and grid.is_decided(column) else "" for column in columns]
    if any(numbers):
        table.add_row("lost", *numbers, style="dim")
    return table


def _cell(grid: SearchGrid, cell: Cell | None, winning: set[str]) -> Text:
    if cell is None:
        return Text("")
    one = cell.candidate
    mark = ("=" if cell.carried else " ") + ("*" if one.lineage in winning else " ")
    if one.score is None:  # a sample, whose final answer says more
        figures = "" if one.final_answer is None else _CORRECTNESS[one.correct]
    else:
        figures = f"{figure(one.score)} {'' if cell.carried else _signed(cell.gain)}"
    return Text(mark, style="bold") + _teacher(grid, one) + Text(f"\n  {figures}")


def _teacher(grid: SearchGrid, one: TreeCandidate) -> Text:
    teachers = grid.search.teachers
    place = teachers.index(one.teacher) if one.teacher in teachers else 0
    return Text(shown(one.teacher), style=_COLOURS[place % len(_COLOURS)])


def _lost(column: Column, score_resolution: float) -> str:
    parts = [f"{number:,} {reason}" for reason, number in column.reasons.most_common()]
    summary = f"{len(column.losers):,} lost ({shown(', '.join(parts))})"
    near, least = column.narrowest, column.least_score
    if near is None or near.candidate.score is None or least is None:
        return summary
    score = near.candidate.score
    nearest = f"{summary}; narrowest: {shown(near.candidate.teacher)} {figure(score)}"
    if near.behind is not None:
        return f"{nearest}, {figure(near.behind)} below the lowest score kept ({figure(least)})"
    above = "equal to" if score == least else f"{figure(score - least)} above"
    is_tie = score_resolution and round(score / score_resolution) == round(least / score_resolution)
    why = f", a tie at score_resolution {score_resolution:g}" if is_tie else ""
    return f"{nearest}, {above} the lowest score kept ({figure(least)}){why}"


def _waiting(column: Column) -> str:
    """The candidates of an undecided step, counted by state."""
    states = Counter(one.candidate.invalid_reason or one.candidate.state for one in column.losers)
    return f"in work, {counted(len(column.losers), 'candidate')}: " + shown(
        ", ".join(f"{number:,} {state}" for state, number in states.most_common())
    )


def _by_rank(one: Loser) -> tuple[bool, int, float]:
    rank = one.candidate.rank
    return rank is None, rank or 0, -(one.candidate.score or 0.0)


def _signed(value: float | None) -> str:
    """The value with its sign, which is left out if the value is shown as 0."""
    return "-" if value is None else f"{value:+.3f}".replace("-0.000", " 0.000").replace("+0.000", " 0.000")
