"""The documents of one run that a bundle or a report contains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from cord_worker import __version__
from cord_worker.errors import StoreError
from cord_worker.name_suggestions import unknown
from cord_worker.store.reports.problem_list import ProblemFilter, position_of
from cord_worker.store.reports.search_trees import similar_keys
from cord_worker.store.runs.runs import RunRow
from cord_worker.web.documents import ProblemList, RunDocument, RunList, Site
from cord_worker.web.paths import segment
from cord_worker.web.problems import problem_document, problem_list, step_texts
from cord_worker.web.runs import run_document

_NAMED_KEYS = 10

Documents = Iterator[tuple[str, Any]]
"""Documents, each after its path."""


def site_of(
    run: RunRow, size: str, *, left_out: Sequence[str] = (), whole_problems: Sequence[int] | None = None
) -> Site:
    """The `Site` of a bundle or report."""
    return Site(
        size=size,
        version=__version__,
        run=segment(run.name),
        is_live=False,
        poll_seconds=0.0,
        has_prompts=False,
        has_comparisons=False,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        left_out=list(left_out),
        whole_problems=whole_problems,
    )


def run_documents(connection: sa.Connection, run: RunRow) -> tuple[dict[str, Any], ProblemList]:
    """The documents that are not about a single problem, by path, and the one of them that lists the problems."""
    document: RunDocument = run_document(connection, run)
    problems = problem_list(connection, run, ProblemFilter())
    folder = f"runs/{segment(run.name)}"
    shared = {
        "runs.json": RunList([document.run]),
        f"{folder}/run.json": document,
        f"{folder}/problems.json": problems,
    }
    return shared, problems


def problem_documents(connection: sa.Connection, run: RunRow, position: int) -> Documents:
    """The documents of one problem; nothing if the run has no such problem."""
    document = problem_document(connection, run, position)
    if document is None:
        return
    folder = f"runs/{segment(run.name)}/problems"
    yield f"{folder}/{position}.json", document
    if document.texts == "by_step":
        for column in document.columns:
            yield f"{folder}/{position}/texts/{column.step}.json", step_texts(connection, run, position, column.step)


def winner_documents(connection: sa.Connection, run: RunRow, position: int) -> Documents:
    """The document of one problem with only its winner; nothing if it has no answer."""
    document = problem_document(connection, run, position, only_answered=True)
    if document is not None and document.answers:
        yield f"runs/{segment(run.name)}/problems/{position}.json", document


def positions_of(connection: sa.Connection, run: RunRow, keys: Sequence[str]) -> list[int]:
    """The positions in the dataset of the problems with these ids. Raises StoreError for an unknown id."""
    found = []
    for key in keys:
        position = position_of(connection, run.id, key)
        if position is None:
            near = similar_keys(connection, run.id, key, limit=_NAMED_KEYS)
            raise StoreError(f"{run.name}: {unknown('problem', key, near)}")
        found.append(position)
    return list(dict.fromkeys(found))
