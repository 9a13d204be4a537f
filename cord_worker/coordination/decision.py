"""Computes the decision from a problem's rows: for the coordinator, and again for `cordctl replay`."""

from __future__ import annotations

import sqlalchemy as sa

from cord_worker.coordination.run_context import RunContext
from cord_worker.search.decision import Decision
from cord_worker.search.pipelines import PIPELINES
from cord_worker.search.seeds import answer_seed
from cord_worker.search.types import SeedScope
from cord_worker.store.search import decisions


def decide(connection: sa.Connection, context: RunContext, problem: decisions.ProblemSnapshot) -> Decision:
    """The decision that follows from the candidates of the snapshot's step and round; their rows must be final.

    Raises SearchError if the rows contradict each other.
    """
    scope = SeedScope(run_seed=context.config.run.seed, problem_key=problem.key)
    pipeline = PIPELINES[context.search.pipeline]
    if problem.step == 0:
        return pipeline.initial(context.search, scope, context.teacher_names)
    candidates = decisions.read_candidates(connection, problem.id, problem.step, problem.round)
    if pipeline.READS_EARLIER:
        candidates = [*decisions.read_earlier(connection, problem.id, problem.step), *candidates]
    budgeted = context.search.total_tokens is not None
    return pipeline.decide(
        context.search,
        scope,
        context.teacher_names,
        step=problem.step,
        round=problem.round,
        beam=decisions.read_beam(connection, problem.id, problem.step - 1),
        candidates=candidates,
        spent=decisions.read_spent(connection, problem.id, problem.step, problem.round) if budgeted else 0,
    )


def answer_seeds(context: RunContext, problem_key: str, lineage: str, teacher_name: str) -> list[int]:
    """Sampling seeds of the final answer after the trajectory `lineage`, in the order in which they are tried.

    The next seed is tried if a content filter refuses the answer. A sample has one seed: another seed would make it
    another sample.
    """
    draws = context.search.max_rounds if context.config.is_scored else 1
    return [answer_seed(context.config.run.seed, problem_key, lineage, teacher_name, draw) for draw in range(draws)]
