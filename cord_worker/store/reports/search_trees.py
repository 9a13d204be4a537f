"""The search trees of a run's problems with all their candidates: streamed in dataset order, or one with its beams."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from cord_worker.store.schema.tables import CandidateState, ProblemState


@dataclass(frozen=True, slots=True)
class TreeCandidate:
    """One candidate of a search tree. Candidates are named by their lineages, which are the same in equal runs.

    `slot` is the rank of the parent in its beam (0 at step 1, where `parent` is None). `score`, `log_prob_sum` (nats)
    and `mean_probability` are those of the known answer given the trajectory up to here; tokens are counts.
    `duplicate_of` and `sources` are lineages. The fields from `finish` to `correct` are set if a finished trajectory
    that held a slot ends here; only the winner, or every sample, has a final answer. The fields from `rescore_score` on
    are those of the chosen rescoring, if there is one.
    """

    lineage: str
    parent: str | None
    step: int
    depth: int
    round: int
    slot: int
    teacher: str
    sample: int
    whole: bool
    sources: tuple[str, ...]
    seed: int
    max_tokens: int
    state: str
    text: str | None
    finish_reason: str | None
    invalid_reason: str | None
    duplicate_of: str | None
    score: float | None
    log_prob_sum: float | None
    mean_probability: float | None
    answer_tokens: int | None
    thinking_tokens: int | None
    completion_tokens: int | None
    judgment: float | None
    rank: int | None
    kept: bool | None
    winning: bool
    finish: str | None
    dropped_at_step: int | None
    final_answer: str | None
    correct: bool | None
    rescore_score: float | None = None
    rescore_log_prob_sum: float | None = None
    rescore_answer_tokens: int | None = None
    rescore_thinking_tokens: int | None = None
    rescore_invalid_reason: str | None = None

    @property
    def is_valid(self) -> bool:
        """Whether it could enter a beam: it is final and not invalid."""
        return self.state in (CandidateState.SCORED, CandidateState.UNSCORED)


@dataclass(frozen=True, slots=True)
class SearchTree:
    """A problem with its candidates, ordered by step, round, parent, teacher and sample.

    `base_score` is the prover's score before any step; None if it is not known. `score` and `correct` are the winner's;
    None without a winner.
    """

    key: str
    question: str
    answer: str
    passage: str | None
    state: str
    base_score: float | None
    score: float | None
    correct: bool | None
    candidates: tuple[TreeCandidate, ...]

    @property
    def is_done(self) -> bool:
        """Whether the problem has a result."""
        return self.state == ProblemState.DONE

    @property
    def is_final(self) -> bool:
        """Whether the problem is done, failed or cancelled."""
        return self.state in (ProblemState.DONE, ProblemState.FAILED, ProblemState.CANCELLED)


_STREAMED = {"stream_results": True, "yield_per": 500}
"""A server-side cursor that reads this many candidates at a time."""

_PROBLEM_COLUMNS = 8
_SOURCES = TreeCandidate.__slots__.index("sources")

_RESCORE_COLUMNS = ("score", "log_prob_sum", "answer_tokens", "thinking_tokens", "invalid_reason")


def _candidates(columns: str, join: str, text: str = "c.text") -> str:
    """SQL: the candidates of problems, with the `columns` of the tables in `join`. After the columns of the problem
    they are in the order of the fields of TreeCandidate. `text` is SQL for that field."""
    return f"""
    SELECT p.key, p.question, p.answer, p.passage, p.state AS problem_state, p.base_score, won.score AS winner_score,
           won.correct AS winner_correct,
           c.lineage, parent.lineage AS parent, c.step, c.depth, c.round, c.parent_rank AS slot, t.name AS teacher,
           c.sample, c.whole,
           ARRAY(
               SELECT source.lineage FROM unnest(c.sources) WITH ORDINALITY AS named(id, place)
               JOIN candidates source ON source.id = named.id ORDER BY named.place
           ) AS sources,
           c.seed, c.max_tokens, c.state, {text}, c.finish_reason, c.invalid_reason, original.lineage AS duplicate_of,
           c.score, c.log_prob_sum, c.mean_probability, c.answer_tokens, c.thinking_tokens, c.completion_tokens,
           c.judgment, c.rank, c.kept, c.winning, j.finish, j.dropped_at_step, j.answer_text AS final_answer,
           j.correct, {columns}
    FROM problems p
    JOIN candidates c ON c.problem_id = p.id
    JOIN teachers t ON t.id = c.teacher_id
    LEFT JOIN trajectories won ON won.problem_id = p.id AND won.winner
    LEFT JOIN candidates parent ON parent.id = c.parent_id
    LEFT JOIN candidates original ON original.id = c.duplicate_of
    LEFT JOIN trajectories j ON j.candidate_id = c.id
    {join}"""


_IN_ORDER = "c.step, c.round, c.parent_rank, t.ordinal, c.sample, c.lineage"
_NO_RESCORES = ", ".join(f"NULL AS rescore_{name}" for name in _RESCORE_COLUMNS)
_NOT_RESCORED = _candidates(_NO_RESCORES, "")
_RESCORED = _candidates(
    ", ".join(f"x.{name} AS rescore_{name}" for name in _RESCORE_COLUMNS),
    "LEFT JOIN rescores x ON x.candidate_id = c.id AND x.rescoring_id = :rescoring_id",
)
_OF_RUN = f"""
    WHERE p.run_id = :run_id AND p.state IN ('done', 'failed')
          AND (won.correct IS TRUE OR NOT :only_correct)
          AND (won.score >= :min_score OR CAST(:min_score AS double precision) IS NULL)
    ORDER BY p.position, {_IN_ORDER}
"""
_TREES = sa.text(_NOT_RESCORED + _OF_RUN)
_RESCORED_TREES = sa.text(_RESCORED + _OF_RUN)

_TREE = sa.text(f"{_NOT_RESCORED} WHERE p.id = :problem_id ORDER BY {_IN_ORDER}")
_TREE_WITHOUT_TEXTS = sa.text(
    f"""
    {_candidates(_NO_RESCORES, "", "CASE WHEN c.winning THEN c.text END AS text")}
    WHERE p.id = :problem_id ORDER BY {_IN_ORDER}
    """
)
_ANSWERED = sa.text(
    f"""
    {_NOT_RESCORED} WHERE p.id = :problem_id AND (c.winning OR j.answer_state <> 'none') ORDER BY {_IN_ORDER}
    """
)

_PROBLEM = sa.text(
    """
    SELECT p.id, p.key, p.question, p.answer, p.passage, p.state, p.base_score, won.score, won.correct, p.failure_reason
    FROM problems p LEFT JOIN trajectories won ON won.problem_id = p.id AND won.winner
    WHERE p.run_id = :run_id AND p.key = :key
    """
)

_STEP_TEXTS = sa.text(
    f"""
    SELECT c.text FROM candidates c JOIN teachers t ON t.id = c.teacher_id
    WHERE c.problem_id = :problem_id AND c.step = :step ORDER BY {_IN_ORDER}
    """
)
_BEFORE_STEP = sa.text("SELECT count(*) FROM candidates WHERE problem_id = :problem_id AND step < :step")

_BEST = sa.text(
    """
    SELECT p.key FROM problems p JOIN trajectories j ON j.problem_id = p.id AND j.answer_state <> 'none'
    WHERE p.run_id = :run_id AND p.state = 'done'
    ORDER BY j.correct IS TRUE DESC, coalesce(j.score, 0) DESC, p.position LIMIT 1
    """
)

_BEAMS = sa.text(
    """
    SELECT b.step, b.rank, c.lineage, b.finish FROM beams b JOIN candidates c ON c.id = b.candidate_id
    WHERE b.problem_id = :problem_id ORDER BY b.step, b.rank
    """
)

_TEACHERS = sa.text("SELECT name FROM teachers WHERE run_id = :run_id ORDER BY ordinal")

_SIMILAR_KEYS = sa.text(
    """
    SELECT key FROM problems WHERE run_id = :run_id
    ORDER BY starts_with(key, :key) DESC, position LIMIT :limit
    """
)


def stream_trees(
    connection: sa.Connection,
    run_id: int,
    *,
    only_correct: bool = False,
    min_score: float | None = None,
    rescoring_id: int | None = None,
) -> Iterator[SearchTree]:
    """The trees of all done and failed problems. A server-side cursor reads them, so keep the transaction open
    meanwhile. One tree at a time is held in memory.

    With `only_correct` or `min_score`: those whose winner was found right, or has at least this score. With
    `rescoring_id`, candidates have the figures of this rescoring too.
    """
    parameters: dict[str, object] = {"run_id": run_id, "only_correct": only_correct, "min_score": min_score}
    if rescoring_id is not None:
        parameters["rescoring_id"] = rescoring_id
    statement = _TREES if rescoring_id is None else _RESCORED_TREES
    rows = connection.execute(statement, parameters, execution_options=_STREAMED)
    for _, group in groupby(rows, key=lambda row: row.key):
        members = list(group)
        key, question, answer, passage, state, base_score, score, correct = members[0][:_PROBLEM_COLUMNS]
        candidates = tuple(map(_candidate, members))
        yield SearchTree(key, question, answer, passage, state, base_score, score, correct, candidates)


def _candidate(row: sa.Row[Any]) -> TreeCandidate:
    """The candidate in a row of `_candidates`. Columns are read by position, which is faster than by name: a search may
    have 10,000 rows."""
    values: list[Any] = list(row[_PROBLEM_COLUMNS:])
    values[_SOURCES] = tuple(values[_SOURCES])
    return TreeCandidate(*values)


@dataclass(frozen=True, slots=True)
class BeamSlot:
    """One slot of the beam chosen after `step`. Rank 0 is the best; `finish` is None while the trajectory is live."""

    step: int
    rank: int
    lineage: str
    finish: str | None


@dataclass(frozen=True, slots=True)
class Search:
    """The search of one problem as far as it is stored, with the names of the run's teachers in their order."""

    tree: SearchTree
    beams: tuple[BeamSlot, ...]
    teachers: tuple[str, ...]
    failure_reason: str | None


def read_search(
    connection: sa.Connection, run_id: int, key: str, *, only_answered: bool = False, with_texts: bool = True
) -> Search | None:
    """The search of the problem called `key`, in whatever state it is; None if the run has no such problem.

    With `only_answered` it has only the candidates of the winner, or of the samples. Without `with_texts`, only the
    winner's steps have texts.
    """
    problem = connection.execute(_PROBLEM, {"run_id": run_id, "key": key}).one_or_none()
    if problem is None:
        return None
    statement = _ANSWERED if only_answered else _TREE if with_texts else _TREE_WITHOUT_TEXTS
    rows = connection.execute(statement, {"problem_id": problem.id})
    tree = SearchTree(
        key=problem.key,
        question=problem.question,
        answer=problem.answer,
        passage=problem.passage,
        state=problem.state,
        base_score=problem.base_score,
        score=problem.score,
        correct=problem.correct,
        candidates=tuple(map(_candidate, rows)),
    )
    beams = (BeamSlot(*row) for row in connection.execute(_BEAMS, {"problem_id": problem.id}))
    known = {one.lineage for one in tree.candidates} if only_answered else None
    return Search(
        tree=tree,
        beams=tuple(slot for slot in beams if known is None or slot.lineage in known),
        teachers=tuple(connection.execute(_TEACHERS, {"run_id": run_id}).scalars()),
        failure_reason=problem.failure_reason,
    )


def best_problem(connection: sa.Connection, run_id: int) -> str | None:
    """The id of the problem with the best result: a correct one if there is one, then the highest score."""
    return connection.execute(_BEST, {"run_id": run_id}).scalar_one_or_none()


def similar_keys(connection: sa.Connection, run_id: int, key: str, *, limit: int) -> list[str]:
    """At most `limit` ids of the run's problems: those that begin with `key` first, then in dataset order."""
    return list(connection.execute(_SIMILAR_KEYS, {"run_id": run_id, "key": key, "limit": limit}).scalars())


def step_texts(connection: sa.Connection, problem_id: int, step: int) -> tuple[int, list[str | None]]:
    """The number of candidates of earlier steps, and the texts of the candidates of this step, in the order of the
    tree."""
    parameters = {"problem_id": problem_id, "step": step}
    first = connection.execute(_BEFORE_STEP, parameters).scalar_one()
    return int(first), list(connection.execute(_STEP_TEXTS, parameters).scalars())
