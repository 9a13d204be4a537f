"""What a leased score asks the prover, and what becomes of its results."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from cord_worker.config import DEFAULT_SCORING_TEMPLATE, RunConfig
from cord_worker.coordination.model_worker.score import compute_score
from cord_worker.coordination.run_context import RunContext
from cord_worker.engines.instant import NOT_FINITE, InstantEngine
from cord_worker.engines.protocol import AnswerScore, Turn
from cord_worker.errors import TooLongError, UnavailableError
from cord_worker.prompting.trajectory import PROMPTED
from cord_worker.search.types import SearchSettings
from cord_worker.store.work.score import LeasedScore, ScoreResult

LEASE = LeasedScore(7, 2, 3, 1, "2 + 2?", None, "the four of them", (" Two and two.",), carries_base=True)


def context(**prover: Any) -> RunContext:
    config = RunConfig.model_validate(
        {
            "models": {"m": {"path": "m", "engine": "instant"}},
            "teachers": [{"name": "t", "model": "m"}],
            "prover": {"model": "m", **prover},
            "run": {"date": "2026-01-31"},
        }
    )
    return RunContext(1, config, SearchSettings.of(config.search, None), PROMPTED, "m", ())


def scored(lease: LeasedScore = LEASE, engine: InstantEngine | None = None, **prover: Any) -> ScoreResult:
    return asyncio.run(compute_score(engine or InstantEngine(), context(**prover), lease))


def asked(steps: Sequence[str], *, full_stop: bool = False) -> AnswerScore:
    request = (Turn(LEASE.question), steps, LEASE.answer, DEFAULT_SCORING_TEMPLATE)
    return asyncio.run(InstantEngine().score(*request, full_stop=full_stop))


class Refusing(InstantEngine):
    """Refuses what has as many steps as `steps`."""

    def __init__(self, steps: int, error: Exception) -> None:
        super().__init__()
        self._steps, self._error = steps, error

    async def score(self, turn: Turn, steps: Sequence[str], *arguments: Any, **options: Any) -> AnswerScore:
        if len(steps) == self._steps:
            raise self._error
        return await super().score(turn, steps, *arguments, **options)


def test_a_lease_that_carries_the_base_score_asks_for_both() -> None:
    found = scored()
    own, base = asked(LEASE.steps), asked(())
    assert (found.candidate_id, found.attempt, found.invalid_reason) == (7, 2, None)
    assert (found.score, found.mean_probability, found.log_prob_sum) == (
        own.score,
        own.mean_probability,
        own.log_prob_sum,
    )
    assert (found.base_score, found.base_mean_probability, found.base_log_prob_sum, found.base_answer_tokens) == (
        base.score,
        base.mean_probability,
        base.log_prob_sum,
        4,
    )
    assert (found.base_prompt_tokens, found.base_cached_tokens, found.base_seconds) == (3, 0, 0.0)
    assert found.base_score != found.score


def test_another_lease_asks_for_the_candidate_alone() -> None:
    found = scored(replace(LEASE, carries_base=False), Refusing(0, AssertionError("it was asked for")))
    both = scored()
    of_candidate = [name for name in ScoreResult.__slots__ if not name.startswith("base_")]
    assert [getattr(found, name) for name in of_candidate] == [getattr(both, name) for name in of_candidate]
    assert {getattr(found, name) for name in ScoreResult.__slots__ if name.startswith("base_")} == {None}


def test_the_score_is_the_mean_that_the_run_names() -> None:
    geometric, arithmetic = scored(), scored(score="mean_probability")
    assert geometric.score == pytest.approx(math.exp((geometric.log_prob_sum or 0.0) / 4))
    assert (arithmetic.score, arithmetic.base_score) == (geometric.mean_probability, geometric.base_mean_probability)
    assert arithmetic.log_prob_sum == geometric.log_prob_sum
    assert (arithmetic.score or 0.0) > (geometric.score or 0.0)


def test_the_full_stop_is_scored_if_the_run_says_so() -> None:
    found = scored(score_full_stop=True)
    assert (found.answer_tokens, found.base_answer_tokens) == (5, 5)
    assert found.log_prob_sum == asked(LEASE.steps, full_stop=True).log_prob_sum
    assert found.base_log_prob_sum == asked((), full_stop=True).log_prob_sum


def test_a_refused_base_score_does_not_harm_the_candidate() -> None:
    found = scored(engine=Refusing(0, TooLongError("no room")))
    assert (found.invalid_reason, found.score) == (None, asked(LEASE.steps).score)
    assert found.base_score is None
    assert found.base_prompt_tokens is None


def test_a_refused_candidate_does_not_harm_the_base_score() -> None:
    found = scored(engine=Refusing(1, TooLongError("no room")))
    assert (found.invalid_reason, found.score, found.mean_probability) == ("too_long", None, None)
    assert found.base_score == asked(()).score


def test_where_the_prover_gives_no_number_neither_has_one() -> None:
    found = scored(replace(LEASE, question=f"2 + 2? {NOT_FINITE}"))
    assert (found.invalid_reason, found.score, found.base_score) == ("not_finite", None, None)


def test_a_busy_engine_gets_the_whole_lease_again() -> None:
    with pytest.raises(UnavailableError):
        scored(engine=Refusing(0, UnavailableError("later")))
