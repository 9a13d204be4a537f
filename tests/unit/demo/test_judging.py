"""The bundled reward model: its training data, how its training begins, and that it tells right from wrong steps."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import cord_worker.demo
from cord_worker.demo.corpus import TEACHERS, Step, parts, plan_text, write
from cord_worker.demo.judging import FINE, MISTAKE, sample, with_reward_head
from cord_worker.demo.problems import DemoProblem, generate
from cord_worker.demo.training import NO_LOSS, Encoder
from cord_worker.engines.protocol import Turn
from cord_worker.engines.text_codec import TextCodec
from cord_worker.engines.transformers.reward_engine import RewardEngine
from tests.support.settings import engine_settings

pytestmark = pytest.mark.slow

MODELS = Path(cord_worker.demo.__file__).parent / "models"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODELS / "prover")


def drawn_steps(problem: DemoProblem, rng: random.Random, flawless: int = 0) -> list[Step]:
    teachers = [rng.choice(list(TEACHERS)) for _ in parts(problem)]
    return write(problem, teachers, rng, errors=True, flawless=flawless)


def test_the_first_steps_are_without_mistakes_if_asked() -> None:
    rng, mistaken = random.Random(0), 0
    for problem in generate(100, 2, "train"):
        steps = drawn_steps(problem, rng, flawless=2)
        assert all(step.right and step.slip is None for step in steps[:2])
        mistaken += not all(step.right for step in steps)
    assert mistaken > 50


def test_a_slip_is_where_a_wrong_step_departs_from_the_right_step_in_the_same_wording() -> None:
    rng, found = random.Random(1), 0
    for problem in generate(200, 2, "train"):
        wrong = drawn_steps(problem, rng)[0]
        wordings = {plan_text(problem.plan, random.Random(seed)) for seed in range(20)}
        if wrong.slip is None:
            assert wrong.text in wordings
        else:
            assert any(right.startswith(wrong.text[: wrong.slip]) for right in wordings)
            assert not any(right.startswith(wrong.text[: wrong.slip + 1]) for right in wordings)
            found += 1
    assert found > 40


def test_a_trajectory_is_encoded_as_in_the_service_and_labelled_by_its_outcome(tokenizer: Any) -> None:
    encoder, codec, rng = Encoder(tokenizer), TextCodec(tokenizer), random.Random(2)
    outcomes = set()
    for problem in generate(100, 2, "train"):
        ids, labels = sample(encoder, problem, rng)
        asked = labels.count(NO_LOSS)
        assert set(labels[:asked]) == {NO_LOSS}
        text = codec.decode(ids[asked:], after=ids[:asked])
        steps = re.split(r"\n?### Step \d+\.", text)[1:]
        assert codec.judged_candidate(Turn(problem.question), steps, None) == tuple(ids)
        right = [label % 2 for label in labels[asked:]]
        kinds = [label // 2 for label in labels[asked:]]
        last_answer = re.split(r" are |: ", steps[-1])[-1].rstrip(".")
        assert right[-1] == (last_answer == problem.answer)
        first = kinds.index(MISTAKE) if MISTAKE in kinds else len(kinds)
        assert set(right[:first]) == {1}
        assert set(kinds[:first]) == {FINE}
        outcomes.add(right[-1])
    assert outcomes == {0, 1}


def test_the_reward_model_begins_as_the_prover_with_heads_that_look_one_token_back(tokenizer: Any) -> None:
    encoder = Encoder(tokenizer)
    model: Any = with_reward_head(MODELS / "prover", encoder, random.Random(0))
    prover: Any = AutoModelForCausalLM.from_pretrained(
        MODELS / "prover", dtype=torch.float32, attn_implementation="eager"
    )
    ids = torch.tensor([encoder.ids("### Step 2. Now 11 + 6 = 17.\n### Step 3. So 17 - 5 = 12.")])
    with torch.no_grad():
        judging = model.get_decoder()(input_ids=ids, output_hidden_states=True, output_attentions=True)
        expected = prover.get_decoder()(input_ids=ids, output_hidden_states=True)
    layers = prover.config.num_hidden_layers
    torch.testing.assert_close(judging.hidden_states[layers - 1], expected.hidden_states[-2])
    looks = judging.attentions[layers][0].diagonal(-1, 1, 2)
    assert float(looks.min()) > 0.8
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any(f"layers.{layer}." in name for name in learning for layer in range(layers))


def test_the_bundled_reward_model_tells_right_from_wrong_through_the_service() -> None:
    """Steps of problems that it was not trained on, half of them right."""
    engine = RewardEngine(engine_settings(path=str(MODELS / "reward"), dtype="float32", device="cpu", threads=1))
    rng = random.Random(4)
    scores: dict[bool, list[float]] = {True: [], False: []}
    for problem in generate(40, 5, "heldout"):
        steps = drawn_steps(problem, rng, flawless=rng.randint(0, 3))
        for kept in range(1, len(steps) + 1):
            texts = [step.text for step in steps[:kept]]
            found = asyncio.run(engine.reward(Turn(problem.question), texts, None))
            scores[steps[kept - 1].state.answer() == problem.answer].append(found.score)
    asyncio.run(engine.close())
    pairs = [(good, bad) for good in scores[True] for bad in scores[False]]
    assert sum(good > bad for good, bad in pairs) / len(pairs) > 0.8
