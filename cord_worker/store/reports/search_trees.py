"""The search trees of a run's problems with all their candidates, streamed problem by problem in dataset order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import sqlalchemy as sa

from cord_worker.store.schema.tables import CandidateState, ProblemState


@dataclass(frozen=True, slots=True)
class TreeCandidate:
    """One candidate of a search tree. Candidates are named by their lineages, which are the same in equal runs.

    `slot` is the rank of the parent in its beam (0 at step 1, where `parent` is None). `score` and `log_prob_sum`
    (nats) are those of the known answer given the trajectory up to here; tokens are counts. `duplicate_of` and
    `sources` are lineages. `finish` to `correct` are set if a finished trajectory that held a slot ends here; only the
    winner, or every sample, has a final answer.
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

    @property
    def is_valid(self) -> bool:
        """Whether it could enter a beam: it has a text, is no duplicate, and nothing is still owed for it."""
        return self.state in (CandidateState.SCORED, CandidateState.UNSCORED)


@dataclass(frozen=True, slots=True)
class SearchTree:
    """A problem whose search has ended, with all its candidates: by step, round, parent, teacher and sample.

    `score` and `correct` are the winner's; None without a winner.
    """

    key: str
    question: str
    answer: str
    passage: str | None
    state: str
    score: float | None
    correct: bool | None
    candidates: tuple[TreeCandidate, ...]

    @property
    def is_done(self) -> bool:
        """Whether the problem has a result."""
        return self.state == ProblemState.DONE


_STREAMED = {"stream_results": True, "yield_per": 500}
"""A server-side cursor that reads this many candidates at a time."""

_PROBLEM_COLUMNS = 7

_TREES = sa.text(
    """
    SELECT p.key, p.question, p.answer, p.passage, p.state AS problem_state, w.score AS winner_score,
           w.correct AS winner_correct,
           c.lineage, parent.lineage AS parent, c.step, c.depth, c.round, c.parent_rank AS slot, t.name AS teacher,
           c.sample, c.whole,
           ARRAY(
               SELECT s.lineage FROM unnest(c.sources) WITH ORDINALITY AS named(id, place)
               JOIN candidates s ON s.id = named.id ORDER BY named.place
           ) AS sources,
           c.seed, c.max_tokens, c.state, c.text, c.finish_reason, c.invalid_reason, original.lineage AS duplicate_of,
           c.score, c.log_prob_sum, c.answer_tokens, c.thinking_tokens, c.completion_tokens, c.judgment, c.rank, c.kept,
           c.winning, j.finish, j.dropped_at_step, j.answer_text AS final_answer, j.correct
    FROM problems p
    JOIN candidates c ON c.problem_id = p.id
    JOIN teachers t ON t.id = c.teacher_id
    LEFT JOIN trajectories w ON w.problem_id = p.id AND w.winner
    LEFT JOIN candidates parent ON parent.id = c.parent_id
    LEFT JOIN candidates original ON original.id = c.duplicate_of
    LEFT JOIN trajectories j ON j.candidate_id = c.id
    WHERE p.run_id = :run_id AND p.state IN ('done', 'failed')
          AND (w.correct IS TRUE OR NOT :only_correct)
          AND (w.score >= :min_score OR CAST(:min_score AS double precision) IS NULL)
    ORDER BY p.position, c.step, c.round, c.parent_rank, t.ordinal, c.sample, c.lineage
    """
)


def stream_trees(
    connection: sa.Connection, run_id: int, *, only_correct: bool = False, min_score: float | None = None
) -> Iterator[SearchTree]:
    """The trees of all done and failed problems, by a server-side cursor; keep the transaction open while reading. One
    tree is held in memory at once.

    With `only_correct` or `min_score`: those whose winner was found correct, or has at least this score.
    """
    parameters = {"run_id": run_id, "only_correct": only_correct, "min_score": min_score}
    rows = connection.execute(_TREES, parameters, execution_options=_STREAMED)
    for _, group in groupby(rows, key=lambda row: row.key):
        members = list(group)
        key, question, answer, passage, state, score, correct = members[0][:_PROBLEM_COLUMNS]
        yield SearchTree(key, question, answer, passage, state, score, correct, tuple(map(_candidate, members)))


def _candidate(row: sa.Row[tuple[object, ...]]) -> TreeCandidate:
    values = dict(row._mapping)
    names = TreeCandidate.__slots__
    return TreeCandidate(**{**{name: values[name] for name in names}, "sources": tuple(values["sources"])})
