"""What every engine promises: one suite that the tests of each engine run.

class TestContract(EngineContract):
    @pytest.fixture
    def subject(self, …) -> Subject: …
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest

from cord_worker.engines.protocol import AnswerScore, Engine, FinishReason, Generation, Sampling, Turn
from cord_worker.errors import EngineError, NotFiniteError, RequestError, TooLongError, UnavailableError
from tests.support.settings import greedy

GREEDY = greedy(seed=2**62 + 12345)
TEMPLATE = "\n</think>\n\nThe final answer is {answer}."


@dataclass(frozen=True)
class Request:
    """A step that is asked for."""

    turn: Turn
    steps: tuple[str, ...] = ()
    sampling: Sampling = GREEDY


@dataclass(frozen=True)
class Subject:
    """An engine with its event loop, and the requests that the contract needs.

    `to_marker` ends at the next step, `to_think_end` at the end of the thinking, `too_long` does not fit the context.
    Within `poisoned` the score of its request is not a number; within `busy` the engine takes its request only a
    moment later. Both are None for engines to which this cannot happen.
    """

    engine: Engine
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    to_marker: Request
    to_think_end: Request
    too_long: Request
    poisoned: Callable[[], AbstractContextManager[Request]] | None = None
    busy: Callable[[], AbstractContextManager[Request]] | None = None

    async def propose(self, request: Request, **changes: Any) -> Generation:
        """The step that the request asks for."""
        sampling = dataclasses.replace(request.sampling, **changes)
        return await self.engine.propose(request.turn, request.steps, sampling)

    async def score(self, request: Request, answer: str = "204") -> AnswerScore:
        """The score of the answer after one more step."""
        return await self.engine.score(request.turn, (*request.steps, " It is done."), answer, TEMPLATE)

    def outcomes(self, *work: Coroutine[Any, Any, Any]) -> list[Any]:
        """Results or errors of concurrent requests."""

        async def together() -> list[Any]:
            return await asyncio.gather(*work, return_exceptions=True)

        found: list[Any] = self.run(together())
        return found

    def check_alive(self) -> None:
        """Asserts that the engine still works."""
        generation, score = self.outcomes(self.propose(self.to_marker), self.score(self.to_marker))
        assert isinstance(generation, Generation), generation
        assert isinstance(score, AnswerScore), score


class EngineContract:
    """The tests; a subclass gives the fixture `subject`."""

    def test_a_step_ends_at_the_next_marker_and_holds_none(self, subject: Subject) -> None:
        generation = subject.run(subject.propose(subject.to_marker))
        assert generation.finish_reason is FinishReason.STEP
        assert generation.text.strip()
        assert "\n### Step" not in generation.text
        assert generation.prompt_tokens > 0
        assert generation.completion_tokens > 0

    def test_a_step_ends_at_the_end_of_the_thinking_and_does_not_hold_it(self, subject: Subject) -> None:
        generation = subject.run(subject.propose(subject.to_think_end))
        assert generation.finish_reason is FinishReason.THINK_END
        assert "</think>" not in generation.text

    def test_a_trajectory_ends_at_the_cap(self, subject: Subject) -> None:
        request = subject.to_marker
        sampling = dataclasses.replace(request.sampling, max_tokens=2)
        generation = subject.run(subject.engine.complete(request.turn, request.steps, sampling))
        assert generation.finish_reason is FinishReason.LENGTH

    def test_a_seed_gives_the_same_text_again(self, subject: Subject) -> None:
        first, again = (
            subject.run(subject.propose(subject.to_marker, temperature=1.0, seed=2**62 + 99)) for _ in range(2)
        )
        assert (first.text, first.finish_reason) == (again.text, again.finish_reason)

    def test_a_score_is_a_probability_and_equals_itself(self, subject: Subject) -> None:
        first, again = (subject.run(subject.score(subject.to_marker)) for _ in range(2))
        assert 0 < first.score <= 1
        assert first.log_prob_sum <= 0
        assert first.answer_tokens >= 1
        assert first.thinking_tokens >= 1
        assert (first.score, first.log_prob_sum, first.answer_tokens) == (
            again.score,
            again.log_prob_sum,
            again.answer_tokens,
        )

    def test_the_mean_probability_is_not_below_the_score_and_equals_itself(self, subject: Subject) -> None:
        first, again = (subject.run(subject.score(subject.to_marker)) for _ in range(2))
        assert first.score * (1 - 1e-5) <= first.mean_probability <= 1
        assert first.mean_probability == again.mean_probability
        assert first.answer_tokens > 1 or first.mean_probability == pytest.approx(first.score, rel=1e-5)
        assert (first.by("geometric_mean"), first.by("mean_probability")) == (first.score, first.mean_probability)

    def test_an_answer_is_scored_before_any_step(self, subject: Subject) -> None:
        request = subject.to_marker
        base = subject.run(subject.engine.score(request.turn, (), "204", TEMPLATE))
        after = subject.run(subject.engine.score(request.turn, (" It is 204.",), "204", TEMPLATE))
        again = subject.run(subject.engine.score(request.turn, (), "204", TEMPLATE))
        assert 0 < base.score <= 1
        assert (base.thinking_tokens, base.answer_tokens) == (0, after.answer_tokens)
        assert 0 < base.prompt_tokens < after.prompt_tokens
        assert (base.score, base.log_prob_sum, base.mean_probability) == (
            again.score,
            again.log_prob_sum,
            again.mean_probability,
        )

    def test_the_text_after_the_answer_is_scored_on_request(self, subject: Subject) -> None:
        request = subject.to_marker
        asked = (request.turn, (" It is 204.",), "204", TEMPLATE)
        plain, stopped = (subject.run(subject.engine.score(*asked, full_stop=stop)) for stop in (False, True))
        assert stopped.answer_tokens > plain.answer_tokens
        assert stopped.log_prob_sum != plain.log_prob_sum
        assert stopped.prompt_tokens == plain.prompt_tokens

    def test_a_request_that_is_too_long_fails_alone_and_says_so(self, subject: Subject) -> None:
        long = subject.too_long
        proposal, score, fine = subject.outcomes(
            subject.propose(long), subject.score(long), subject.propose(subject.to_marker)
        )
        assert isinstance(proposal, TooLongError), proposal
        assert isinstance(score, TooLongError), score
        assert isinstance(fine, Generation), fine
        subject.check_alive()

    def test_a_step_leaves_room_for_the_final_answer(self, subject: Subject) -> None:
        context = getattr(subject.engine, "max_model_len", None)
        if context is None:
            pytest.skip("the engine does not know its context")
        request = subject.to_marker
        whole = subject.run(subject.propose(request))
        left = context - whole.prompt_tokens
        # The length of the closing of the thinking depends on the model; if one token fits, it is all that is written.
        outcomes = subject.outcomes(*(subject.propose(request, answer_tokens=left - less) for less in range(16)))
        refused = [one for one in outcomes if isinstance(one, TooLongError)]
        written = [one for one in outcomes if isinstance(one, Generation)]
        assert refused
        assert all("final answer" in str(error) for error in refused)
        assert written[0].completion_tokens <= whole.completion_tokens
        assert whole.text.startswith(written[0].text)

    def test_a_score_that_is_no_number_fails_alone_and_says_so(self, subject: Subject) -> None:
        if subject.poisoned is None:
            pytest.skip("no test can have this engine compute NaN")
        with subject.poisoned() as request:
            (error,) = subject.outcomes(subject.score(request))
            assert isinstance(error, NotFiniteError), error
        subject.check_alive()

    def test_an_engine_that_is_busy_is_free_later(self, subject: Subject) -> None:
        if subject.busy is None:
            pytest.skip("this engine queues what it cannot do at once")
        with subject.busy() as request:
            error = subject.outcomes(subject.propose(request))[0]
            assert isinstance(error, UnavailableError), error

            async def later() -> Generation:
                await asyncio.wait_for(subject.engine.available(), 20)
                return await subject.propose(request)

            assert isinstance(subject.run(later()), Generation)
        subject.check_alive()

    def test_an_engine_that_was_not_busy_is_available_at_once(self, subject: Subject) -> None:
        async def is_available() -> bool:
            done, waiting = await asyncio.wait({asyncio.ensure_future(subject.engine.available())}, timeout=1)
            for task in waiting:
                task.cancel()
            return all(task.exception() is None for task in done) and not waiting

        assert subject.run(is_available())

    def test_a_request_to_a_missing_head_fails_alone(self, subject: Subject) -> None:
        request = subject.to_marker
        (error,) = subject.outcomes(subject.engine.reward(request.turn, (" One.",), None))
        if not isinstance(error, EngineError):
            pytest.skip("this engine has every head")
        assert type(error) is RequestError
        subject.check_alive()

    def test_a_cancelled_request_ends_no_other(self, subject: Subject) -> None:
        async def work() -> Generation:
            given_up = asyncio.create_task(subject.propose(subject.to_marker))
            kept = asyncio.create_task(subject.propose(subject.to_think_end))
            await asyncio.sleep(0)
            given_up.cancel()
            with contextlib.suppress(asyncio.CancelledError):  # it may have ended before
                await given_up
            return await kept

        assert subject.run(work()).finish_reason is FinishReason.THINK_END
        subject.check_alive()
