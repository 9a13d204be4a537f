"""`cordctl report -o FILE`: a run in one HTML file of limited size. The file needs no network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from cord_worker.display_text import counted
from cord_worker.export.files import ExportError, check_writable, replaced_file
from cord_worker.store.database import Database
from cord_worker.store.reports.problem_list import ProblemFilter, list_problems, positions_with_answers
from cord_worker.store.runs.runs import RunRow, resolve_run
from cord_worker.web.file_documents import (
    Documents,
    positions_of,
    problem_documents,
    run_documents,
    site_of,
    winner_documents,
)
from cord_worker.web.pages import App, report_document, report_end, report_start

MIB = 1 << 20
DEFAULT_BUDGET_MIB = 20.0
DEFAULT_TREES = 20
_PAGE_START = b"<!doctype html>"
_SITE_BYTES = 2_000
"""Room for the page's `Site`, without `whole_problems`."""
_BYTES_PER_POSITION = 12
"""Room for each number of `whole_problems`."""
_MAX_MISFITS = 10


@dataclass(frozen=True, slots=True)
class Report:
    """The report that was written. `whole` counts the problems with their whole search, `winners` those with only their
    winner. `left_out`: sentences about what is missing, empty if nothing is."""

    run: str
    file: str
    bytes: int
    problems: int
    whole: int
    winners: int
    left_out: Sequence[str]

    def sentence(self) -> str:
        """One line for the terminal."""
        size = f"{self.bytes / MIB:,.1f} MiB"
        held = f"{counted(self.whole, 'whole search', 'whole searches')} and {counted(self.winners, 'other winner')}"
        return " ".join([f"{self.file}: {size}, with {held} of {counted(self.problems, 'problem')}.", *self.left_out])

    def to_json(self) -> dict[str, Any]:
        """A JSON object for scripts; keys are stable."""
        return {
            "run": self.run,
            "output": self.file,
            "bytes": self.bytes,
            "problems": self.problems,
            "whole_searches": self.whole,
            "other_winners": self.winners,
            "left_out": list(self.left_out),
        }


def check_report_output(output: str) -> None:
    """Raises ExportError if the file cannot be written, or exists and is not an HTML page."""
    check_writable(output)
    target = Path(output)
    if target.is_file() and target.stat().st_size:
        with target.open("rb") as file:
            if file.read(len(_PAGE_START)).lower() != _PAGE_START:
                raise ExportError(f"{output} is not a report: name another file, or remove it first.")


def write_report(
    database: Database,
    run_name: str | None,
    output: str,
    *,
    trees: int = DEFAULT_TREES,
    keys: Sequence[str] = (),
    budget_mib: float = DEFAULT_BUDGET_MIB,
) -> Report:
    """Writes the run to `output`: everything about the run, the list of its problems, the whole search of some problems
    and the winners of the others. `keys` names the problems with the whole search; without it, `trees` of them are
    chosen. What does not fit into the budget is left out.

    Raises ExportError if the file cannot be written, or the budget is too small for the run itself; RunNotFound;
    StoreError for an unknown problem.
    """
    check_report_output(output)
    app = App.read()
    with database.transaction(one_snapshot=True) as connection:
        run = resolve_run(connection, run_name)
        chosen = positions_of(connection, run, keys) if keys else choose_trees(connection, run, trees)
        shared, problems = run_documents(connection, run)
        with replaced_file(output) as file:
            writer = _Writer(file, int(budget_mib * MIB))
            writer.reserve(len(report_end(site_of(run, "report"), app).encode()) + _SITE_BYTES)
            writer.reserve(_BYTES_PER_POSITION * len(chosen))
            head = report_start(site_of(run, "report"), app)
            base = [head, *(report_document(path, document) for path, document in shared.items())]
            if not writer.write(base):
                needed = math.ceil(writer.budget_for(base) / MIB * 100) / 100
                raise ExportError(
                    f"a report of {run.name} without any search does not fit into --budget {budget_mib:g}: it needs "
                    f"--budget {needed:g} (MiB), and more for searches and winners."
                )
            whole = [
                position for position in chosen if writer.write(_elements(problem_documents(connection, run, position)))
            ]
            others = sorted(set(positions_with_answers(connection, run.id)) - set(whole))
            winners, missing = _write_winners(connection, run, writer, others)
            left_out = _left_out(len(chosen) - len(whole), missing, budget_mib)
            site = site_of(run, "report", left_out=left_out, whole_problems=whole)
            writer.finish(report_end(site, app))
        return Report(run.name, output, writer.written, problems.total, len(whole), winners, left_out)


def _write_winners(
    connection: sa.Connection, run: RunRow, writer: _Writer, positions: Iterable[int]
) -> tuple[int, int]:
    """Writes the winners of the problems at `positions` that fit. Returns how many were written, and how many were not.
    After `_MAX_MISFITS` winners in a row that do not fit, no more are tried."""
    written = missing = in_a_row = 0
    for position in positions:
        if in_a_row < _MAX_MISFITS and writer.write(_elements(winner_documents(connection, run, position))):
            written, in_a_row = written + 1, 0
        else:
            missing, in_a_row = missing + 1, in_a_row + 1
    return written, missing


def choose_trees(connection: sa.Connection, run: RunRow, number: int) -> list[int]:
    """Positions of the problems whose whole search a report holds if the user names none. They are taken in turn from
    the problems with wrong answers, the largest gains, the smallest leads, the lowest scores, and the first ones of the
    dataset."""
    done = ProblemFilter(states=("done",))
    lists = [
        list_problems(connection, run.id, ProblemFilter(states=("done",), correctness="wrong"), limit=number),
        list_problems(connection, run.id, done, sort="gain", descending=True, limit=number),
        list_problems(connection, run.id, done, sort="lead", limit=number),
        list_problems(connection, run.id, done, sort="score", limit=number),
        list_problems(connection, run.id, ProblemFilter(), limit=number),
    ]
    in_turn = (one.position for turn in zip_longest(*lists) for one in turn if one is not None)
    return list(dict.fromkeys(in_turn))[:number]


def _elements(documents: Documents) -> list[str]:
    return [report_document(path, document) for path, document in documents]


def _left_out(trees: int, winners: int, budget_mib: float) -> list[str]:
    parts = []
    if trees:
        parts.append(counted(trees, "chosen search", "chosen searches"))
    if winners:
        parts.append(counted(winners, "winner"))
    if not parts:
        return []
    return [f"{' and '.join(parts)} did not fit into {budget_mib:g} MiB. A bundle has all of them."]


class _Writer:
    """Writes texts while they fit into the budget."""

    def __init__(self, file: IO[bytes], budget: int) -> None:
        self._file = file
        self._budget = self._left = budget
        self.written = 0

    def reserve(self, size: int) -> None:
        """Keeps `size` bytes free for the end."""
        self._left -= size

    def write(self, texts: Sequence[str]) -> bool:
        """Writes all of the texts, or none if they do not fit; returns whether it wrote them."""
        data = [text.encode() for text in texts]
        size = sum(map(len, data))
        if size > self._left:
            return False
        self._left -= size
        self._put(data)
        return True

    def budget_for(self, texts: Sequence[str]) -> int:
        """The least budget with which `write` would have written them."""
        return self._budget - self._left + sum(len(text.encode()) for text in texts)

    def finish(self, text: str) -> None:
        """Writes the end, for which `reserve` kept room."""
        self._put([text.encode()])

    def _put(self, data: Sequence[bytes]) -> None:
        for part in data:
            self._file.write(part)
            self.written += len(part)
