"""The documents about problems: the list of a run's problems, and the search of one as a beam grid."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from cord_worker.operations.search_grid import Loser, SearchGrid, gain, grid_of
from cord_worker.store.reports import search_trees
from cord_worker.store.reports.answers import DecidedAnswer, answers_of
from cord_worker.store.reports.problem_list import (
    ListedProblem,
    ProblemFilter,
    ProblemWithNeighbours,
    count_problems,
    list_problems,
    problem_at,
)
from cord_worker.store.reports.search_trees import TreeCandidate, read_search
from cord_worker.store.runs.runs import RunRow
from cord_worker.web.documents import (
    BeamCell,
    CandidateTable,
    FinalAnswer,
    GridColumn,
    NearestLoser,
    ProblemDocument,
    ProblemList,
    ProblemTable,
    StepTexts,
)
from cord_worker.web.paths import six_digits
from cord_worker.web.ties import tie_sentences

INLINE_CHARACTERS = 200_000
"""If the texts of a problem have more characters in total, they are in separate documents, one for each step."""
_LAST_STEP = 2**31 - 1


def problem_list(
    connection: sa.Connection,
    run: RunRow,
    chosen: ProblemFilter,
    *,
    sort: str = "position",
    descending: bool = False,
    offset: int = 0,
    limit: int | None = None,
) -> ProblemList:
    """The requested part of the list of the run's problems."""
    rows = list_problems(connection, run.id, chosen, sort=sort, descending=descending, offset=offset, limit=limit)
    return ProblemList(
        run=run.name,
        total=count_problems(connection, run.id, ProblemFilter()),
        matching=count_problems(connection, run.id, chosen),
        offset=offset,
        rows=_table(rows),
    )


def _table(rows: Sequence[ListedProblem]) -> ProblemTable:
    return ProblemTable(
        position=[row.position for row in rows],
        id=[row.key for row in rows],
        state=[row.state for row in rows],
        score=[six_digits(row.score) for row in rows],
        gain=[six_digits(row.gain) for row in rows],
        correct=[row.correct for row in rows],
        steps=[six_digits(row.steps) for row in rows],
        tokens=[row.tokens for row in rows],
        result_tokens=[six_digits(row.result_tokens) for row in rows],
        lead=[six_digits(row.lead) for row in rows],
        loser_step=[row.loser_step for row in rows],
        loser_teacher=[row.loser_teacher for row in rows],
        loser_text=[row.loser_text for row in rows],
        loser_repeats=[row.loser_repeats for row in rows],
        seconds=[six_digits(row.seconds) for row in rows],
        answer=[row.answer for row in rows],
        question=[row.question for row in rows],
    )


def problem_document(
    connection: sa.Connection, run: RunRow, position: int, *, only_answered: bool = False
) -> ProblemDocument | None:
    """The search of the problem at this position of the dataset; with `only_answered`, only the candidates of its
    winner. None if there is no such problem."""
    placed = problem_at(connection, run.id, position)
    if placed is None:
        return None
    is_inline = only_answered or placed.characters <= INLINE_CHARACTERS
    search = read_search(connection, run.id, placed.key, only_answered=only_answered, with_texts=is_inline)
    if search is None:
        return None
    grid = grid_of(run.name, search)
    ties = {} if only_answered else tie_sentences(run, grid)
    return _document(connection, placed, grid, ties, position, is_inline=is_inline, is_whole=not only_answered)


def step_texts(connection: sa.Connection, run: RunRow, position: int, step: int) -> StepTexts | None:
    """The texts of one step of the problem at this position; None if there is no such problem or step."""
    placed = problem_at(connection, run.id, position)
    if placed is None or step > _LAST_STEP:
        return None
    first, texts = search_trees.step_texts(connection, placed.id, step)
    return StepTexts(step, first, texts) if texts else None


def read_grid(connection: sa.Connection, run: RunRow, position: int) -> SearchGrid | None:
    """The whole search of the problem at this position; None if there is no such problem."""
    placed = problem_at(connection, run.id, position)
    search = None if placed is None else read_search(connection, run.id, placed.key)
    return None if search is None else grid_of(run.name, search)


def _document(
    connection: sa.Connection,
    placed: ProblemWithNeighbours,
    grid: SearchGrid,
    ties: Mapping[str, str],
    position: int,
    *,
    is_inline: bool,
    is_whole: bool,
) -> ProblemDocument:
    tree = grid.search.tree
    places = {one.lineage: place for place, one in enumerate(tree.candidates)}
    return ProblemDocument(
        run=grid.run,
        position=position,
        id=tree.key,
        state=tree.state,
        failure_reason=grid.search.failure_reason,
        question=tree.question,
        passage=tree.passage,
        answer=tree.answer,
        attributes={name: _as_text(value) for name, value in placed.attributes.items()},
        base_score=six_digits(tree.base_score),
        score=six_digits(tree.score),
        correct=tree.correct,
        result_tokens=six_digits(placed.result_tokens),
        nearest=_nearest(placed, places),
        seconds=six_digits(placed.seconds),
        teachers=list(grid.search.teachers),
        texts="inline" if is_inline else "by_step",
        candidates=_candidates(grid, places, ties, is_inline=is_inline),
        columns=_columns(grid, places),
        path=[places[cell.candidate.lineage] for cell in grid.path],
        path_texts=[cell.candidate.text for cell in grid.path],
        answers=[_answer(one, places) for one in answers_of(connection, placed.id)],
        previous=placed.previous,
        next=placed.next,
        is_whole=is_whole,
    )


def _nearest(placed: ProblemWithNeighbours, places: Mapping[str, int]) -> NearestLoser | None:
    if placed.loser is None or placed.loser_step is None or placed.loser_teacher is None:
        return None
    return NearestLoser(
        candidate=places.get(placed.loser),
        step=placed.loser_step,
        teacher=placed.loser_teacher,
        text=placed.loser_text or "",
        lead=six_digits(placed.lead) or 0.0,
        repeats=bool(placed.loser_repeats),
    )


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _candidates(
    grid: SearchGrid, places: Mapping[str, int], ties: Mapping[str, str], *, is_inline: bool
) -> CandidateTable:
    tree, teachers = grid.search.tree, {name: place for place, name in enumerate(grid.search.teachers)}
    by_lineage = {one.lineage: one for one in tree.candidates}
    lost = {loser.candidate.lineage: loser for column in grid.columns for loser in column.losers}
    rows = tree.candidates

    def place(lineage: str | None) -> int | None:
        return None if lineage is None else places.get(lineage)

    return CandidateTable(
        step=[one.step for one in rows],
        depth=[one.depth for one in rows],
        round=[one.round for one in rows],
        slot=[one.slot for one in rows],
        parent=[place(one.parent) for one in rows],
        teacher=[teachers[one.teacher] for one in rows],
        sample=[one.sample for one in rows],
        state=[one.state for one in rows],
        score=[six_digits(one.score) for one in rows],
        gain=[six_digits(gain(one, by_lineage, tree.base_score)) for one in rows],
        judgment=[six_digits(one.judgment) for one in rows],
        rank=[one.rank for one in rows],
        kept=[_is_kept(one, lost) for one in rows],
        reason=[lost[one.lineage].reason if one.lineage in lost else "" for one in rows],
        behind=[six_digits(lost[one.lineage].behind) if one.lineage in lost else None for one in rows],
        tie=[ties.get(one.lineage, "") for one in rows],
        seed=[str(one.seed) for one in rows],
        max_tokens=[one.max_tokens for one in rows],
        tokens=[one.completion_tokens for one in rows],
        ended=[one.finish_reason for one in rows],
        duplicate_of=[place(one.duplicate_of) for one in rows],
        finish=[one.finish for one in rows],
        text=[one.text for one in rows] if is_inline else [None] * len(rows),
    )


def _is_kept(one: TreeCandidate, lost: Mapping[str, Loser]) -> bool | None:
    if one.lineage not in lost:
        return True
    return None if one.kept is None and one.invalid_reason is None else False


def _columns(grid: SearchGrid, places: Mapping[str, int]) -> list[GridColumn]:
    return [
        GridColumn(
            step=column.step,
            beam=[
                BeamCell(cell.rank, places[cell.candidate.lineage], cell.carried, cell.finish) for cell in column.cells
            ],
            lost=[places[loser.candidate.lineage] for loser in sorted(column.losers, key=_by_rank)],
        )
        for column in grid.columns
    ]


def _by_rank(loser: Loser) -> tuple[bool, int]:
    rank = loser.candidate.rank
    return rank is None, rank or 0


def _answer(one: DecidedAnswer, places: Mapping[str, int]) -> FinalAnswer:
    decided = one.verification or {}
    return FinalAnswer(
        candidate=places[one.lineage],
        is_winner=one.winner,
        text=one.text,
        correct=one.correct,
        method=decided.get("method"),
        extracted=decided.get("extracted"),
        detail=decided.get("detail"),
    )
