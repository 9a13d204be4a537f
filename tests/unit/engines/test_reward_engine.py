"""Reward heads: judgments equal a plain forward, and a model without such a head is refused."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
)

from cord_worker.config import ModelConfig
from cord_worker.engines import load_engine
from cord_worker.engines.heads import probability
from cord_worker.engines.protocol import StepReward, Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.text_codec import TextCodec
from cord_worker.errors import EngineLoadError, NotFiniteError, RequestError
from tests.support.settings import engine_settings

pytestmark = pytest.mark.slow

PROVER = ModelConfig(path="bundled:prover").location()
TURN = Turn("What is 3 + 4?")
STEPS = [" Add 3 and 4.\n", " That is 7."]
KINDS = {"sequence": LlamaForSequenceClassification, "token": LlamaForTokenClassification}


def head(folder: Path, kind: str = "sequence", labels: int = 1) -> EngineSettings:
    """The bundled prover's body under a random head."""
    torch.manual_seed(labels)
    config = LlamaConfig.from_pretrained(PROVER, num_labels=labels)
    KINDS[kind].from_pretrained(PROVER, config=config, dtype=torch.float32).save_pretrained(folder)
    AutoTokenizer.from_pretrained(PROVER).save_pretrained(folder)
    return engine_settings(path=str(folder), dtype="float64", device="cpu", threads=1, head="reward")


def rewards(settings: EngineSettings, *requests: tuple[list[str], str | None]) -> list[StepReward]:
    async def ask() -> list[StepReward]:
        engine = load_engine(settings)
        found = await asyncio.gather(*(engine.reward(TURN, steps, separator) for steps, separator in requests))
        with pytest.raises(RequestError, match="reward head"):
            await engine.score(TURN, STEPS, "7", "</think> {answer}")
        await engine.close()
        return list(found)

    return asyncio.run(ask())


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("labels", [1, 2])
@pytest.mark.parametrize("separator", [None, "\n\n"])
def test_a_judgment_equals_a_plain_forward(kind: str, labels: int, separator: str | None, tmp_path: Path) -> None:
    settings = head(tmp_path, kind, labels)
    first, again, shorter = rewards(settings, (STEPS, separator), (STEPS, separator), (STEPS[:1], separator))
    codec = TextCodec(AutoTokenizer.from_pretrained(tmp_path))
    ids = torch.tensor([codec.judged_candidate(TURN, STEPS, separator)])
    model = KINDS[kind].from_pretrained(tmp_path, dtype=torch.float64)
    logits = model(input_ids=ids).logits[0].double()
    logits = (logits[-1] if logits.dim() == 2 else logits).detach()
    expected = torch.sigmoid(logits)[0] if labels == 1 else torch.softmax(logits, -1)[1]
    assert first.score == pytest.approx(float(expected), abs=1e-5)
    assert first.logits == pytest.approx(logits.tolist(), abs=1e-4)
    assert (first.score, first.logits) == (again.score, again.logits)
    assert shorter.score != first.score
    assert first.prompt_tokens == ids.shape[1]
    assert 0.0 < first.score < 1.0
    assert math.isfinite(first.seconds)


def test_with_a_separator_the_model_reads_plain_steps_also_of_a_whole_trajectory() -> None:
    tokenizer = AutoTokenizer.from_pretrained(PROVER)
    codec = TextCodec(tokenizer)
    ids = codec.judged_candidate(TURN, ["One.", " Two. "], "\n\n")
    text = str(tokenizer.decode(list(ids)))
    assert text.endswith("One.\n\nTwo.\n\n")
    assert "<think>" not in text
    assert codec.judged_candidate(TURN, ["One.\n### Step 2. Two."], "\n\n") == ids


def test_a_model_without_the_requested_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineLoadError, match="no reward head"):
        load_engine(engine_settings(path=PROVER, head="reward", device="cpu"))
    settings = head(tmp_path, labels=1)
    with pytest.raises(EngineLoadError, match="neither teacher nor prover"):
        load_engine(engine_settings(path=settings.path, device="cpu"))


def test_three_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineLoadError, match="3 labels"):
        load_engine(head(tmp_path, labels=3))


def test_a_head_that_computes_no_number_fails_the_request_as_not_finite(tmp_path: Path) -> None:
    settings = head(tmp_path)
    model = LlamaForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
    model.score.weight.data[0, 0] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(NotFiniteError, match="dtype"):
        rewards(settings, (STEPS, None))


def test_a_process_reward_model_only_known_to_vllm_is_refused_with_the_engine_that_hosts_it(tmp_path: Path) -> None:
    settings = head(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config["architectures"] = ["Qwen2ForProcessRewardModel"]
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(EngineLoadError, match='engine = "vllm"'):
        load_engine(settings)


@pytest.mark.parametrize("logits", [(0.0,), (3.0,), (-700.0,), (1.0, 2.5), (2.5, 1.0)])
def test_a_probability_is_sigmoid_of_one_logit_and_the_second_class_of_two(logits: tuple[float, ...]) -> None:
    values = torch.tensor(logits, dtype=torch.float64)
    expected = torch.sigmoid(values)[0] if len(logits) == 1 else torch.softmax(values, -1)[1]
    assert probability(logits) == pytest.approx(float(expected), rel=1e-12)
