"""Runs for the web view, written straight into the tables: every kind of candidate, and texts that attack a page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.schema.tables import BeamMember, Candidate, Problem, Teacher, Trajectory
from tests.support.configurations import INSTANT

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "end of the element": '</script><script src="https://example.org/x.js"></script>',
    "comment": "<!--<script>",
    "style": "</style><style>body{display:none}</style>",
    "svg": '<svg onload="alert(1)"><foreignObject><iframe srcdoc="&lt;script&gt;"/></foreignObject></svg>',
    "url": "[x](javascript:alert(1)) <a href='data:text/html,<script>'>x</a>",
    "bidi": "\u202ereversed\u202c \u2066isolated\u2069 \u200f",
    "separators": "one\u2028two\u2029three\x85four",
    "maths": r"$\href{javascript:alert(1)}{x}$ $$\def\a{\a\a}\a$$ \(\htmlData{x=1}{y}\)",
    "entities": "&lt;img src=x onerror=alert(1)&gt; &amp;amp;",
    "attribute": '" onmouseover="alert(1)" x=\'',
    "control": "\x01\x1b[2J\x7f",
}
"""Texts that would do something in a page that takes them for HTML."""
_BEGUN = datetime(2026, 1, 1, 12, tzinfo=UTC)


def enqueue_hostile(
    connection: sa.Connection, name: str, *, config: str = INSTANT, shift: float = 0.0, done: int | None = None
) -> None:
    """A run with one problem for each text of HOSTILE. The text is part of the problem's id, question, answer,
    candidates and final answer. The first `done` problems (all by default) are done. `shift` is added to all scores."""
    records = [
        ProblemRecord(f"{kind}: {text}"[:200], f"What is {text}?", f"it is {text}", None, {"note": text, "n": 1}, text)
        for kind, text in HOSTILE.items()
    ]
    enqueue(connection, name, RunConfig.parse(config, source=name, folder=Path()), records)
    run_id = connection.execute(sa.text("SELECT id FROM runs WHERE name = :name"), {"name": name}).scalar_one()
    problems = connection.execute(sa.select(Problem.id).where(Problem.run_id == run_id).order_by(Problem.position))
    teachers = connection.execute(sa.select(Teacher.id).where(Teacher.run_id == run_id).order_by(Teacher.ordinal))
    ids = list(teachers.scalars())
    for place, (problem_id, text) in enumerate(zip(problems.scalars().all(), HOSTILE.values(), strict=True)):
        if done is None or place < done:
            search(connection, problem_id, ids, text, base=0.1 + shift, is_right=place % 3 != 1, place=place)


def search(
    connection: sa.Connection,
    problem_id: int,
    teachers: list[int],
    text: str,
    *,
    base: float,
    is_right: bool,
    place: int = 0,
    steps: int = 3,
) -> None:
    """A finished search of some steps with two slots: in each step two are kept, one loses by rank, one repeats
    another and one is invalid."""
    begun = _BEGUN + timedelta(seconds=10 * place)
    parents: list[int | None] = [None, None]
    path: list[int] = []
    for step in range(1, steps + 1):
        at = begun + timedelta(seconds=step)
        common = {"problem_id": problem_id, "step": step, "depth": step, "at": at}
        score = round(min(0.99, base + step * 0.2), 6)
        best = candidate(connection, common, teachers[0], parents[0], 0, f" {text} {step}.", score, rank=0)
        second = candidate(connection, common, teachers[1], parents[1], 1 if step > 1 else 0, " b.", score / 2, rank=1)
        candidate(connection, common, teachers[1], parents[0], 0, " rather not.", score / 4, rank=2, sample=1)
        repeated = {"state": "invalid", "invalid_reason": "duplicate", "duplicate_of": best}
        candidate(connection, common, teachers[2], parents[0], 0, f" {text} {step}.", None, more=repeated)
        empty = {"state": "invalid", "invalid_reason": "empty"}
        candidate(connection, common, teachers[2], parents[1], 0, "", None, sample=1, more=empty)
        ends = "think_end" if step == steps else None
        for rank, member in enumerate((best, second)):
            connection.execute(
                sa.insert(BeamMember).values(
                    problem_id=problem_id, step=step, rank=rank, candidate_id=member, finish=None if rank else ends
                )
            )
        parents, path = [best, second], [*path, best]
    connection.execute(sa.update(Candidate).where(Candidate.id.in_(path)).values(winning=True))
    connection.execute(
        sa.insert(Trajectory).values(
            problem_id=problem_id,
            candidate_id=path[-1],
            steps=steps,
            score=score,
            finish="think_end",
            winner=True,
            answer_state="written",
            answer_text=f"It is {text}.",
            answer_completion_tokens=7,
            answer_seconds=0.5,
            answered_at=begun + timedelta(seconds=steps + 1),
            correct=is_right,
            verification={"method": "exact", "extracted": text, "detail": text, "type": "text", "readings": []},
        )
    )
    connection.execute(
        sa.update(Problem)
        .where(Problem.id == problem_id)
        .values(
            state="done",
            step=steps,
            base_score=base,
            created_at=_BEGUN,
            admitted_at=begun,
            finished_at=begun + timedelta(seconds=steps + 2),
        )
    )


def candidate(
    connection: sa.Connection,
    common: dict[str, Any],
    teacher: int,
    parent: int | None,
    slot: int,
    text: str,
    score: float | None,
    *,
    rank: int | None = None,
    sample: int = 0,
    more: dict[str, Any] | None = None,
) -> int:
    """Writes one candidate, and returns its key."""
    values = {name: value for name, value in common.items() if name != "at"}
    scored = {"log_prob_sum": -1.0, "answer_tokens": 1, "score_seconds": 0.1, "score_prompt_tokens": 20}
    statement = sa.insert(Candidate).values(
        **values,
        parent_id=parent,
        parent_rank=slot,
        round=0,
        teacher_id=teacher,
        sample=sample,
        lineage=f"{common['step']}-{teacher}-{sample}-{slot}-{parent}",
        seed=2**62 + sample,
        max_tokens=64,
        whole=False,
        text=text,
        finish_reason="step",
        completion_tokens=5,
        thinking_tokens=5 * common["step"],
        prompt_tokens=10,
        propose_seconds=0.2,
        proposed_at=common["at"],
        rank=rank,
        kept=rank is not None and rank < 2,
        **({"state": "scored", "score": score, "scored_at": common["at"], **scored} if score is not None else {}),
        **(more or {}),
    )
    return int(connection.execute(statement.returning(Candidate.id)).scalar_one())
