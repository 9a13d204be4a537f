"""Batches of the transformers engine: no result depends on the others, and requests join, share rows and leave."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from cord_worker.config import DEFAULT_SCORING_TEMPLATE
from cord_worker.engines.protocol import Generation, Turn
from cord_worker.engines.transformers.engine import TransformersEngine
from cord_worker.engines.transformers.model_runner import ModelRunner
from cord_worker.errors import EngineError, NotFiniteError, RequestError
from tests.support.transformers_engine import (
    GREEDY,
    Request,
    SettingsOf,
    alone,
    mixed_requests,
    outcome,
    proposing,
    sampling,
    scoring,
    together,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone_outcomes(settings_of: SettingsOf, random_folder: Path) -> tuple[Path, list[Any]]:
    engine = TransformersEngine(settings_of(random_folder, batch_size=1, prefix_cache_bytes=0))
    outcomes = [outcome(result) for result in alone(engine, mixed_requests())]
    engine.stop()
    return random_folder, outcomes


@pytest.mark.parametrize(("batch_size", "cache_bytes"), [(3, 0), (64, 0), (7, 2**20), (64, 2**28), (5, 60_000)])
def test_results_depend_neither_on_the_batch_nor_on_the_prefix_cache(
    settings_of: SettingsOf, alone_outcomes: tuple[Path, list[Any]], batch_size: int, cache_bytes: int
) -> None:
    folder, expected = alone_outcomes
    engine = TransformersEngine(settings_of(folder, batch_size=batch_size, prefix_cache_bytes=cache_bytes))
    try:
        requests = mixed_requests()
        for seed in range(2):
            order = random.Random(seed).sample(range(len(requests)), len(requests))
            results = together(engine, [requests[index] for index in order])
            assert [outcome(result) for result in results] == [expected[index] for index in order]
    finally:
        engine.stop()


def test_forwards_split_into_small_ones_give_the_same_results(
    alone_outcomes: tuple[Path, list[Any]], settings_of: SettingsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cord_worker.engines.transformers.model_runner._FORWARD_TOKENS_CPU", 24)
    monkeypatch.setattr("cord_worker.engines.transformers.model_runner._LOGIT_ROWS", 5)
    monkeypatch.setattr("cord_worker.engines.transformers.output_head._FLOAT64_ROWS", 2)
    folder, expected = alone_outcomes
    engine = TransformersEngine(settings_of(folder, batch_size=6))
    try:
        assert [outcome(result) for result in together(engine, mixed_requests())] == expected
    finally:
        engine.stop()


@pytest.mark.parametrize(("seconds", "is_last"), [(3600.0, True), (0.0, False)])
def test_a_newcomer_joins_a_larger_batch_once_it_has_waited(
    settings_of: SettingsOf, random_folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, is_last: bool
) -> None:
    monkeypatch.setattr("cord_worker.engines.transformers.compute_thread._JOIN_SECONDS", seconds)
    engine = TransformersEngine(settings_of(random_folder, batch_size=6))
    order: list[str] = []

    async def ask(name: str, tokens: int) -> None:
        await proposing("How many?", [], sampling(max_tokens=tokens, temperature=0.0))(engine)
        order.append(name)

    async def run() -> None:
        running = [asyncio.create_task(ask(f"running {number}", 100)) for number in range(3)]
        while not engine._thread._rows:
            await asyncio.sleep(0.001)
        await asyncio.gather(ask("newcomer", 1), *running)

    try:
        asyncio.run(run())
        assert (order[-1] == "newcomer") is is_last
    finally:
        engine.stop()


@pytest.mark.parametrize(
    "request_", [proposing("How many?", [], GREEDY), scoring("How many?", ["We add."], "3")], ids=["proposal", "score"]
)
def test_a_batch_waits_to_be_full_up_to_its_limit(
    settings_of: SettingsOf, random_folder: Path, request_: Request
) -> None:
    engine = TransformersEngine(settings_of(random_folder, batch_size=3, gather_seconds=3600.0))

    async def run() -> tuple[bool, list[Any]]:
        early = [asyncio.ensure_future(request_(engine)) for _ in range(2)]
        waited = not (await asyncio.wait(early, timeout=0.5))[0]
        return waited, await asyncio.wait_for(asyncio.gather(*early, request_(engine)), timeout=60)

    try:
        waited, results = asyncio.run(run())
    finally:
        engine.stop()
    assert waited
    assert len({outcome(result) for result in results}) == 1


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_samples_of_one_prompt_share_a_row_while_their_texts_are_equal(
    settings_of: SettingsOf, random_folder: Path, monkeypatch: pytest.MonkeyPatch, penalty: float
) -> None:
    rows: list[int] = []
    decode = ModelRunner.decode

    def counted(runner: ModelRunner, slots: Any, tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        rows.append(len(tokens))
        return decode(runner, slots, tokens, *rest)

    def samples(temperature: float) -> list[Request]:
        same = [
            proposing("How many?", ["We add."], sampling(seed, temperature=temperature, repetition_penalty=penalty))
            for seed in range(6)
        ]
        return [*same, proposing("How many?", ["We add."], sampling(temperature=temperature, max_tokens=5))]

    engine = TransformersEngine(settings_of(random_folder, batch_size=7, gather_seconds=3600.0))
    single = TransformersEngine(settings_of(random_folder, batch_size=1))
    try:
        expected = [[outcome(result) for result in alone(single, samples(heat))] for heat in (0.0, 0.3)]
        monkeypatch.setattr(ModelRunner, "decode", counted)
        equal = [outcome(result) for result in together(engine, samples(0.0))]
        rows_of_equal = rows.copy()
        rows.clear()
        parted = [outcome(result) for result in together(engine, samples(0.3))]
    finally:
        engine.stop()
        single.stop()
    assert [equal, parted] == expected
    assert rows_of_equal == [2] * 5 + [1] * (len(rows_of_equal) - 5)
    assert rows[0] == 2
    assert max(rows) > 2
    assert len({text for text, *_ in parted[:6]}) > 1


def test_a_request_without_companions_starts_after_its_wait(settings_of: SettingsOf, random_folder: Path) -> None:
    engine = TransformersEngine(settings_of(random_folder, batch_size=3, gather_seconds=0.3))
    try:
        generation, score = alone(engine, [proposing("How many?", [], GREEDY), scoring("How many?", ["We add."], "3")])
    finally:
        engine.stop()
    assert generation.seconds >= 0.3
    assert score.seconds >= 0.3


def test_a_score_near_one_does_not_depend_on_the_batch(parrot: TransformersEngine) -> None:
    requests = [scoring("close", [" That is all."], "204")]
    others = [scoring("close", ["We add.", f" It is {number}."], f"{number}, {number}") for number in range(7)]
    results = {outcome(together(parrot, others[:size] + requests)[-1]) for size in range(8)}
    assert len(results) == 1
    assert results.pop()[0] > 0.99


def test_siblings_share_their_prompt(parrot: TransformersEngine) -> None:
    results = together(parrot, [proposing("a fresh question", ["We add."], sampling(seed)) for seed in range(4)])
    assert sum(result.cached_tokens >= result.prompt_tokens - 1 for result in results) >= 3


def test_a_prompt_beyond_the_context_is_refused_and_the_others_continue(parrot: TransformersEngine) -> None:
    async def run() -> list[Any]:
        long = parrot.propose(Turn("why? " * 300), [], GREEDY)
        long_score = parrot.score(Turn("why? " * 300), ["a"], "1", DEFAULT_SCORING_TEMPLATE)
        fine = parrot.propose(Turn("just end"), [], GREEDY)
        return list(await asyncio.gather(long, long_score, fine, return_exceptions=True))

    too_long, too_long_score, fine = asyncio.run(run())
    assert isinstance(too_long, RequestError)
    assert "256" in str(too_long)
    assert isinstance(too_long_score, RequestError)
    assert fine.text == " It ends"


def test_a_request_that_is_given_up_leaves_the_batch(parrot: TransformersEngine) -> None:
    async def run() -> Generation:
        endless = sampling(temperature=3.0, top_p=1.0, max_tokens=200)
        given_up = [asyncio.ensure_future(parrot.propose(Turn("q"), [], endless)) for _ in range(20)]
        await asyncio.sleep(0.02)
        for task in given_up:
            task.cancel()
        return await parrot.propose(Turn("just end"), [], GREEDY)

    assert asyncio.run(run()).text == " It ends"


def test_requests_that_wait_when_the_engine_closes_fail_and_later_ones_are_refused(
    settings_of: SettingsOf, parrot_folder: Path
) -> None:
    engine = TransformersEngine(settings_of(parrot_folder, batch_size=1))
    begun, may_go_on = threading.Event(), threading.Event()

    def held_up(*_: object) -> None:
        begun.set()
        may_go_on.wait(60)

    engine._loaded.model.register_forward_pre_hook(held_up)

    async def run() -> list[Any]:
        endless = sampling(temperature=3.0, top_p=1.0, max_tokens=200)
        waiting = [asyncio.ensure_future(engine.propose(Turn("q"), [], endless)) for _ in range(5)]
        await asyncio.to_thread(begun.wait, 60)
        closing = asyncio.ensure_future(engine.close())
        while not engine._thread._closing:
            await asyncio.sleep(0.001)
        may_go_on.set()
        await closing
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    results = asyncio.run(run())
    assert all(isinstance(result, (EngineError, Generation)) for result in results)
    assert isinstance(results[-1], EngineError)
    with pytest.raises(EngineError, match="closed"):
        together(engine, [proposing("q", [], GREEDY)])


def test_a_failed_forward_ends_the_engine_for_all_requests(settings_of: SettingsOf, parrot_folder: Path) -> None:
    engine = TransformersEngine(settings_of(parrot_folder, batch_size=2))
    with torch.no_grad():  # a model whose layers do not fit together, as after a fault of the device
        engine._loaded.model.model.norm.forward = lambda x: x[..., :3]

    async def run() -> list[Any]:
        requests = [engine.propose(Turn("q"), [], GREEDY) for _ in range(3)]
        scores = [engine.score(Turn("q"), ["a"], "1", DEFAULT_SCORING_TEMPLATE)]
        return list(await asyncio.gather(*requests, *scores, return_exceptions=True))

    results = asyncio.run(run())
    assert all(type(result) is EngineError for result in results)
    assert "restart the worker" in str(results[0])
    with pytest.raises(EngineError, match="died"):
        together(engine, [proposing("q", [], GREEDY)])


def test_a_model_that_computes_nan_fails_its_requests_and_keeps_running(
    settings_of: SettingsOf, parrot_folder: Path
) -> None:
    engine = TransformersEngine(settings_of(parrot_folder, batch_size=2))
    try:
        embedding = engine._loaded.model.get_input_embeddings().weight
        token = engine._codec.decode
        poisoned = next(i for i in range(len(embedding)) if token([i]) == "Q")
        kept = embedding[poisoned].clone()
        embedding.data[poisoned] = float("nan")

        async def run() -> list[Any]:
            requests = [engine.propose(Turn(question), [], GREEDY) for question in ("Q", "just end")]
            return list(await asyncio.gather(*requests, return_exceptions=True))

        broken, fine = asyncio.run(run())
        embedding.data[poisoned] = kept
        assert isinstance(broken, NotFiniteError)
        assert isinstance(fine, (Generation, RequestError))  # tied weights: the same token's logit is NaN everywhere
        assert together(engine, [proposing("just end", [], GREEDY)])[0].text == " It ends"
    finally:
        engine.stop()
