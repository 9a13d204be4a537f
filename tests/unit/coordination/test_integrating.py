"""How an integrator's worker does a lease, with real engines and their context lengths."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cord_worker.config import RunConfig
from cord_worker.coordination.model_worker.integrate import integrate
from cord_worker.coordination.run_context import RunContext
from cord_worker.engines import EngineSettings, load_engine
from cord_worker.engines.instant import InstantEngine
from cord_worker.engines.protocol import Engine, Generation, Sampling, Turn
from cord_worker.local.killable import KillablePool
from cord_worker.prompting.trajectory import PROMPTED
from cord_worker.search.types import SearchSettings
from cord_worker.store.work.propose import LeasedProposal, ProposalResult, Source

pytestmark = pytest.mark.slow

CONFIG = RunConfig.parse(
    """
    [models.planner]
    path = "bundled:planner"
    dtype = "float32"
    [[teachers]]
    name = "planner"
    model = "planner"
    [prover]
    model = "planner"
    [search]
    pipeline = "integration"
    [integration]
    model = "planner"
    prompt = "{question} {trajectories}"
    [run]
    date = 2026-01-31
    """,
    source="cord.toml",
    folder=Path(),
)
CONTEXT = RunContext(
    1, CONFIG, SearchSettings.of(CONFIG.search, CONFIG.integration), PROMPTED, prover_model="", teachers=()
)


def lease(*sources: Source, question: str = "What is 2 + 2?") -> LeasedProposal:
    return LeasedProposal(7, 1, 3, 2, 5, question, None, (), 11, 24, True, sources)


PROCESSES = KillablePool(timeout_seconds=2.0)


@pytest.fixture(scope="module", autouse=True)
def _ended_processes() -> Iterator[None]:
    yield
    PROCESSES.close()


def merged(engine: Engine, leased: LeasedProposal, max_tokens: int = 24) -> Coroutine[Any, Any, ProposalResult]:
    sampling = Sampling(0.6, 0.95, 0, 0.0, 1.0, max_tokens, 11, answer_tokens=0)
    return integrate(engine, PROCESSES, CONTEXT, leased, system_prompt=None, sampling=sampling)


def test_a_reply_becomes_one_numbered_trajectory_and_an_answer() -> None:
    result = asyncio.run(merged(InstantEngine(), lease(Source(2, (" a", " b")), Source(1, (" c",)))))
    assert result.invalid_reason is None
    assert result.text.startswith(" ")
    assert result.finish_reason == "eos"
    assert result.answer_part is not None
    assert result.answer_part.startswith("The final answer is")
    assert result.reply is not None
    assert result.reply.startswith("{")
    assert result.merged == 2


def test_the_order_of_the_scores_is_not_shown_to_the_integrator() -> None:
    one, other = Source(2, (" a", " b")), Source(1, (" c",))
    results = [asyncio.run(merged(InstantEngine(), lease(*order))) for order in ((one, other), (other, one))]
    assert results[0] == results[1]


@pytest.mark.timeout(300)
def test_the_worst_sources_are_left_out_until_the_context_has_room() -> None:
    small, large = Source(1, (" add 2 and 2.",)), Source(2, (" add 2 and 2." * 40,))

    async def work() -> list[ProposalResult]:
        engine = load_engine(EngineSettings.of(CONFIG.models["planner"]))
        try:
            huge = Source(3, (" add 2 and 2." * 400,))
            return [
                await merged(engine, lease(small, large, huge)),
                await merged(engine, lease(huge, small)),
                await merged(engine, lease(small), max_tokens=100_000),
            ]
        finally:
            await engine.close()

    some, none, cut = asyncio.run(work())
    assert (some.invalid_reason, some.merged) == ("malformed", 2)
    assert some.reply
    assert none.invalid_reason == "too_long"
    assert none.merged is None
    assert cut.invalid_reason in {"malformed", "too_long"}


class Replying(InstantEngine):
    """Replies with one text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    async def reply(self, turn: Turn, sampling: Sampling) -> Generation:
        """The text."""
        return replace(await super().reply(turn, sampling), text=self._text)


def test_a_reply_whose_repair_would_take_hours_is_given_up_and_the_next_one_repaired() -> None:
    for endless in ("{]" * 20_000, '{"' * 20_000):
        result = asyncio.run(merged(Replying(endless), lease(Source(1, (" a",)))))
        assert (result.invalid_reason, result.reply) == ("malformed", endless)
    broken = '{"integrated_step1": "a", "integrated_step2": "b", "answer_part": "It is 4.",'
    result = asyncio.run(merged(Replying(broken), lease(Source(1, (" a",)))))
    assert (result.invalid_reason, result.answer_part) == (None, "It is 4.")
