from __future__ import annotations

import asyncio
import math
import random
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from cord_worker.config import DEFAULT_SCORING_TEMPLATE
from cord_worker.engines.protocol import AnswerScore, FinishReason, Generation, Sampling, Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.transformers.engine import TransformersEngine
from cord_worker.engines.transformers.model_runner import ModelRunner
from cord_worker.errors import EngineError, NotFiniteError, RequestError
from cord_worker.prompting.trajectory import Segmentation

pytestmark = pytest.mark.slow

SettingsOf = Callable[..., EngineSettings]
Request = Callable[[TransformersEngine], Awaitable[Generation | AnswerScore]]
ANSWERS = ["204", "-3", r"\frac{1}{2}", "三", "The apples are three, and the answer is a sentence"]


def sampling(seed: int = 0, **changes: Any) -> Sampling:
    settings = {
        "temperature": 1.0,
        "top_p": 0.95,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "max_tokens": 24,
        "seed": seed,
        "answer_tokens": 0,
    }
    return Sampling(**{**settings, **changes})


GREEDY = sampling(temperature=0.0, max_tokens=60)


def proposing(question: str, steps: Sequence[str], settings: Sampling) -> Request:
    return lambda engine: engine.propose(Turn(question), steps, settings)


def answering(question: str, steps: Sequence[str], settings: Sampling) -> Request:
    return lambda engine: engine.answer(Turn(question), steps, settings)


def scoring(question: str, steps: Sequence[str], answer: str) -> Request:
    return lambda engine: engine.score(Turn(question), steps, answer, DEFAULT_SCORING_TEMPLATE)


def mixed_requests() -> list[Request]:
    """Different questions, depths, lengths, settings and kinds; some share prefixes, two are the same."""
    requests: list[Request] = []
    for number in range(8):
        question = f"How many apples are in bag {number % 3}?"
        steps = ["We add.", "Then we halve it, 12, 27, 39."][: number % 3]
        settings = sampling(
            number,
            top_p=(0.95, 1.0, 0.5, 0.8)[number % 4],
            top_k=(0, 5)[number % 2],
            min_p=(0.0, 0.05)[number % 3 == 0],
            repetition_penalty=(1.0, 1.2)[number % 4 == 3],
            temperature=(1.0, 0.6, 0.0)[number % 3],
            max_tokens=12 + 5 * (number % 4),
        )
        requests.append(proposing(question, steps, settings))
        requests.append(answering(question, ["We add.", f"It is {number}"], settings))
        requests.append(scoring(question, ["We add.", f"It is {number // 2}."], ANSWERS[number % 5]))
    return requests


def outcome(result: Generation | AnswerScore) -> tuple[Any, ...]:
    """What must not depend on the batch: everything but times and cache hits."""
    if isinstance(result, Generation):
        return result.text, result.finish_reason, result.prompt_tokens, result.completion_tokens
    return (
        result.score,
        result.log_prob_sum,
        result.answer_tokens,
        result.prompt_tokens,
        result.thinking_tokens,
    )


def together(engine: TransformersEngine, requests: Sequence[Request]) -> list[Any]:
    async def run() -> list[Any]:
        return list(await asyncio.gather(*(request(engine) for request in requests)))

    return asyncio.run(run())


def alone(engine: TransformersEngine, requests: Sequence[Request]) -> list[Any]:
    return [together(engine, [request])[0] for request in requests]


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


def independent_log_probability(folder: Path, question: str, steps: Sequence[str], answer: str) -> tuple[float, int]:
    """The sum over the answer's tokens by one plain forward, written without the engine's code."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    pieces = [f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n<think>\n"]
    for number, step in enumerate(steps, start=1):
        pieces += [("\n" if number > 1 else "") + f"### Step {number}.", step]
    ids = [token for piece in pieces for token in tokenizer(piece)["input_ids"]]
    closing = f"\n</think>\n\nThe final answer is {answer}."
    encoded = tokenizer(closing, return_offsets_mapping=True)
    start = closing.index(answer)
    inside = [
        index
        for index, (left, right) in enumerate(encoded["offset_mapping"])
        if right > start and left < start + len(answer)
    ]
    with torch.no_grad():
        logits = model(torch.tensor([ids + encoded["input_ids"]])).logits[0].double()
    log_probabilities = torch.log_softmax(logits, -1)
    positions = [len(ids) + index for index in inside]
    tokens = [encoded["input_ids"][index] for index in inside]
    return sum(log_probabilities[p - 1, t].item() for p, t in zip(positions, tokens, strict=True)), len(inside)


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_score_equals_a_plain_forward(settings_of: SettingsOf, random_folder: Path, answer: str) -> None:
    engine = TransformersEngine(settings_of(random_folder))
    try:
        steps = [" We add 12 and 27.\n", " Then we halve it"]
        result = together(engine, [scoring("How many?", steps, answer)])[0]
        total, tokens = independent_log_probability(random_folder, "How many?", steps, answer)
        assert result.answer_tokens == tokens
        assert result.log_prob_sum == pytest.approx(total, abs=1e-4)
        assert result.score == pytest.approx(math.exp(total / tokens), rel=1e-4)
        again = together(engine, [scoring("How many?", steps, answer)])[0]
        assert outcome(again) == outcome(result)
        assert again.cached_tokens > result.cached_tokens
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
        early = [asyncio.create_task(request_(engine)) for _ in range(2)]
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


def test_a_request_that_stays_alone_is_begun_after_its_wait(settings_of: SettingsOf, random_folder: Path) -> None:
    engine = TransformersEngine(settings_of(random_folder, batch_size=3, gather_seconds=0.3))
    try:
        generation, score = alone(engine, [proposing("How many?", [], GREEDY), scoring("How many?", ["We add."], "3")])
    finally:
        engine.stop()
    assert generation.seconds >= 0.3
    assert score.seconds >= 0.3


def test_a_step_ends_at_the_next_marker(parrot: TransformersEngine) -> None:
    result = together(parrot, [proposing("write a step", [], GREEDY)])[0]
    assert (result.text, result.finish_reason) == (" We add the numbers.\n", FinishReason.STEP)


def test_a_step_ends_at_think_end(parrot: TransformersEngine) -> None:
    result = together(parrot, [proposing("close", [], GREEDY)])[0]
    assert (result.text, result.finish_reason) == (" That is all.\n", FinishReason.THINK_END)


def test_a_step_ends_at_the_end_of_the_sequence(parrot: TransformersEngine) -> None:
    result = together(parrot, [proposing("just end", [], GREEDY)])[0]
    assert (result.text, result.finish_reason) == (" It ends", FinishReason.EOS)


def test_a_step_ends_at_the_cap(parrot: TransformersEngine) -> None:
    result = together(parrot, [proposing("write a step", [], sampling(temperature=0.0, max_tokens=3))])[0]
    assert result.finish_reason is FinishReason.LENGTH
    assert result.completion_tokens == 3
    assert " We add the numbers.\n".startswith(result.text)


def test_headings_and_inline_markers_stay_in_the_step(parrot: TransformersEngine) -> None:
    result = together(parrot, [proposing("write headings", [], GREEDY)])[0]
    assert result.text == " See ### Step 1 above.\n### Note\nIt is 三."
    assert result.finish_reason is FinishReason.STEP


def test_a_whole_trajectory_continues_past_markers_and_ends_at_think_end(parrot: TransformersEngine) -> None:
    whole, step, closed = together(
        parrot,
        [
            lambda engine: engine.complete(Turn("write a step"), [], GREEDY),
            proposing("write a step", [], GREEDY),
            lambda engine: engine.complete(Turn("close"), [], GREEDY),
        ],
    )
    assert whole.text.startswith(f"{step.text}\n### Step 2.")
    assert (closed.text, closed.finish_reason) == (" That is all.\n", FinishReason.THINK_END)


LINE_BREAK = Segmentation.of("line_break", ())
PHRASES = Segmentation.of("phrases", ["wait"])


@pytest.mark.parametrize(
    ("question", "segmentation", "text", "ended"),
    [
        ("write paragraphs", LINE_BREAK, "We add the numbers.\nThen wait.", FinishReason.STEP),
        ("write paragraphs", PHRASES, "\n\nWe add the numbers.\nThen wait.\n\nWe halve it.\n", FinishReason.THINK_END),
        ("write doubts", LINE_BREAK, "Wait, we add the numbers. I can wait.", FinishReason.STEP),
        ("write doubts", PHRASES, "Wait, we add the numbers. I can wait.", FinishReason.STEP),
        ("just end", LINE_BREAK, "It ends", FinishReason.EOS),
        ("just end", PHRASES, "It ends", FinishReason.EOS),
    ],
)
def test_a_step_without_markers_ends_by_its_segmentation(
    free_parrot: TransformersEngine, question: str, segmentation: Segmentation, text: str, ended: FinishReason
) -> None:
    turn = Turn(question, segmentation=segmentation)
    step, whole = together(
        free_parrot,
        [lambda engine: engine.propose(turn, [], GREEDY), lambda engine: engine.complete(turn, [], GREEDY)],
    )
    assert (step.text, step.finish_reason) == (text, ended)
    assert whole.text.lstrip().startswith(text.lstrip())
    assert whole.finish_reason is (FinishReason.EOS if ended is FinishReason.EOS else FinishReason.THINK_END)


@pytest.mark.parametrize("segmentation", [LINE_BREAK, PHRASES])
def test_steps_without_markers_continue_from_the_prefix_cache(
    free_parrot: TransformersEngine, segmentation: Segmentation
) -> None:
    turn = Turn(f"How many are left with {segmentation.rule}?", segmentation=segmentation)
    steps = ["We add the numbers.", " Wait, we halve them.", " Done."]
    known = 0
    for depth in range(4):
        prefix = steps[:depth]
        result, sibling = (
            together(free_parrot, [lambda engine: engine.propose(turn, prefix, sampling(seed))])[0]  # noqa: B023
            for seed in range(2)
        )
        assert result.cached_tokens == known
        assert sibling.cached_tokens == result.prompt_tokens - 1
        known = result.prompt_tokens - 1


@pytest.mark.parametrize("segmentation", [LINE_BREAK, PHRASES])
def test_a_step_that_only_closes_the_thinking_changes_no_score(
    free_parrot: TransformersEngine, segmentation: Segmentation
) -> None:
    turn = Turn("write doubts", segmentation=segmentation)
    open_ended, closed = together(
        free_parrot,
        [
            lambda engine, steps=steps: engine.score(turn, steps, "204", DEFAULT_SCORING_TEMPLATE)
            for steps in (["We add.", " Wait, we halve.\n"], ["We add.", " Wait, we halve.", "\n"])
        ],
    )
    assert outcome(closed) == outcome(open_ended)


def test_spaces_survive_decoding(parrot: TransformersEngine) -> None:
    assert together(parrot, [proposing("write spaces", [], GREEDY)])[0].text == "   two  spaces   here."


def test_the_answer_follows_the_closed_trajectory(parrot: TransformersEngine) -> None:
    result = together(parrot, [answering("close", [" That is all."], GREEDY)])[0]
    assert (result.text, result.finish_reason) == ("The final answer is 204.", FinishReason.EOS)


def test_the_same_seed_gives_the_same_text_and_another_seed_another(parrot: TransformersEngine) -> None:
    hot = [proposing("write a step", [], sampling(seed, temperature=2.0, top_p=1.0)) for seed in (1, 1, 2, 2**64 - 1)]
    first, same, other, largest = (result.text for result in together(parrot, hot))
    assert first == same
    assert len({first, other, largest}) == 3


def test_the_known_answer_scores_higher_than_a_wrong_one(parrot: TransformersEngine) -> None:
    right, wrong = together(parrot, [scoring("close", [" That is all."], answer) for answer in ("204", "39")])
    assert right.score > 0.9 > wrong.score


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


def test_the_cap_is_cut_to_the_room_that_is_left(parrot: TransformersEngine) -> None:
    prompt = ["We add the numbers. " * 12]
    result = together(parrot, [proposing("q", prompt, sampling(temperature=5.0, top_p=1.0, max_tokens=10_000))])[0]
    assert result.prompt_tokens + result.completion_tokens <= parrot.max_model_len


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
    with torch.no_grad():  # a model whose layers no longer fit together, as after a fault of the device
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


@pytest.mark.parametrize("steps", [[], ()])
def test_a_candidate_without_steps_is_refused(parrot: TransformersEngine, steps: Sequence[str]) -> None:
    with pytest.raises(RequestError, match="no step"):
        together(parrot, [scoring("q", steps, "1")])
    with pytest.raises(RequestError, match="no step"):
        together(parrot, [answering("q", steps, GREEDY)])


def test_the_scoring_mode_names_number_format_and_path(parrot: TransformersEngine) -> None:
    assert parrot.scoring_mode == "transformers-float64-cached"
