"""Computes the cuts of a trimmed run again, and compares its copies with the winners of its source.

`cordctl replay` and `verify-db` both do this. While the source exists, every cut is computed from the source's scores,
and the digests of copy and winner must agree. If the source was removed, the cut is computed from the copy's own
scores: it must be the copy's last step.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from cord_worker.operations.recomputing import finding
from cord_worker.search.trimming import cut, kept_steps
from cord_worker.search.types import Finish
from cord_worker.store.audit.trimmed_copies import (
    COPIED_COLUMNS,
    PathStep,
    TrimmedProblem,
    WinnerPath,
    trimmed_problems,
)
from cord_worker.store.runs.runs import RunRow
from cord_worker.store.schema import digests

_OF_STEP = (digests.PROPOSAL, digests.SCORE, digests.JUDGMENT)


def wrong_copies(connection: sa.Connection, above: float, problem_ids: list[int]) -> Iterator[tuple[str, str]]:
    """Findings on these problems of a run trimmed at `above`, as (problem, finding)."""
    for one in trimmed_problems(connection, problem_ids):
        for detail in _wrong_copy(above, one):
            yield one.key, detail


def is_without_source(run: RunRow) -> bool:
    """Whether the run was trimmed from a run that was removed."""
    return run.trimmed_from is not None and run.source_run_id is None


def _wrong_copy(above: float, one: TrimmedProblem) -> Iterator[str]:
    copy = one.copy
    scores = _scores(copy)
    if scores is None or not scores:
        yield f"{copy.name}: score: a copied step has none"
        return
    kept = cut(scores, above)
    if kept is not None and kept != len(scores):
        yield finding(copy.name, "steps", len(scores), kept)
    if kept is None and copy.finish == Finish.TRIMMED:
        yield f"{copy.name}: finish: trimmed, though at no step every score from there on is above {above}"
    if not one.has_source:
        return
    if one.source is None:
        yield f"{copy.name}: its row: there, though the problem has no winner in the source"
        return
    yield from _unlike_source(above, copy, one.source)


def _unlike_source(above: float, copy: WinnerPath, source: WinnerPath) -> Iterator[str]:
    scores = _scores(source)
    if scores is None:
        yield f"{source.name}: score: a step of the source's winner has none"
        return
    kept = kept_steps(scores, above)
    is_unchanged = kept == len(scores)
    if len(copy.steps) != kept:
        yield finding(copy.name, "steps", len(copy.steps), f"{kept}, from the scores of the source")
    finish = source.finish if is_unchanged else Finish.TRIMMED.value
    if copy.finish != finish:
        yield finding(copy.name, "finish", copy.finish, finish)
    for own, original in zip(copy.steps, source.steps, strict=False):
        yield from _unlike_original(own, original)
    if digests.PROBLEM.content_parts(copy.digest or b"") != digests.PROBLEM.content_parts(source.digest or b""):
        yield "its row: digest: not that of the problem in the source"
    is_copied = is_unchanged and copy.finish != Finish.TRIMMED
    if is_copied and _content(digests.ANSWER, copy.answer_digest) != _content(digests.ANSWER, source.answer_digest):
        yield f"{copy.name}: answer_digest: not that of the source's answer"


def _unlike_original(own: PathStep, original: PathStep) -> Iterator[str]:
    if own.lineage != original.lineage:
        yield finding(own.name, "lineage", own.lineage, f"{original.lineage}, that of the source")
        return
    for kind, own_digest, other in zip(_OF_STEP, own.digests, original.digests, strict=True):
        if _content(kind, own_digest) != _content(kind, other):
            yield f"{own.name}: {kind.column}: not that of the source's {original.name}"
    for column, value, expected in zip(COPIED_COLUMNS, own.values, original.values, strict=True):
        if value != expected:
            yield finding(own.name, column, value, f"{expected}, that of the source")


def _content(kind: digests.Digest, stored: bytes | None) -> bytes | None:
    return None if stored is None else kind.content_parts(stored)


def _scores(path: WinnerPath) -> list[float] | None:
    """The scores of the path's steps; None if one is missing."""
    found = [step.score for step in path.steps if step.score is not None]
    return found if len(found) == len(path.steps) else None
