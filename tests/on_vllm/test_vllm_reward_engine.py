"""Reward heads by vLLM's pooling: the numbers of transformers, and process reward models that only vLLM knows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaForTokenClassification,
    Qwen2Config,
    Qwen2Model,
)

from cord_worker.config import ModelConfig, VllmOptions
from cord_worker.engines import load_engine
from cord_worker.engines.heads import PROCESS_REWARD_MODEL, probability
from cord_worker.engines.protocol import StepReward, Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.text_codec import TextCodec
from cord_worker.errors import EngineError, EngineLoadError, RequestError
from tests.support.settings import engine_settings

PROVER = ModelConfig(path="bundled:prover").location()
TURN = Turn("A box holds 12 pens and costs 7 dollars. How much do 60 pens cost?")
STEPS = [" Divide 60 by 12, which is 5 boxes.\n", " Multiply 5 by 7.\n", " That is 35 dollars."]
SEPARATOR = "<extra_0>"
QUICK = VllmOptions(enforce_eager=True, kv_cache_gib=0.25, max_batched_tokens=2048)
HEADS = {"sequence": (LlamaForSequenceClassification, 1), "token": (LlamaForTokenClassification, 2)}


def settings_of(folder: Path, engine: str) -> EngineSettings:
    return engine_settings(
        path=str(folder),
        engine=engine,
        dtype="float32",
        device="cpu",
        batch_size=8,
        max_model_len=512,
        head="reward",
        vllm=QUICK if engine == "vllm" else None,
    )


def classifier(folder: Path, kind: str) -> None:
    """The bundled prover's body under a random head."""
    head, labels = HEADS[kind]
    torch.manual_seed(labels)
    model: Any = head.from_pretrained(PROVER, config=LlamaConfig.from_pretrained(PROVER, num_labels=labels))
    torch.nn.init.normal_(model.score.weight, std=0.3)
    if getattr(model.score, "bias", None) is not None:
        torch.nn.init.normal_(model.score.bias)
    model.float().save_pretrained(folder)
    AutoTokenizer.from_pretrained(PROVER).save_pretrained(folder)


def process_reward_model(folder: Path) -> Callable[[list[int]], list[float]]:
    """A tiny random model stored like Qwen2.5-Math-PRM; returns the output of its head at the last token."""
    torch.manual_seed(7)
    tokenizer = AutoTokenizer.from_pretrained(PROVER)
    tokenizer.add_special_tokens({"additional_special_tokens": [SEPARATOR]})
    tokenizer.save_pretrained(folder)
    labels: dict[str, Any] = {"num_labels": 2}
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        dtype="float32",
        **labels,
    )
    body = Qwen2Model(config).float().eval()
    head = torch.nn.Sequential(torch.nn.Linear(128, 128), torch.nn.ReLU(), torch.nn.Linear(128, 2))
    tensors = {f"model.{name}": tensor for name, tensor in body.state_dict().items()}
    tensors |= {f"score.{name}": tensor for name, tensor in head.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    written = {**config.to_dict(), "architectures": [PROCESS_REWARD_MODEL]}
    written["auto_map"] = {"AutoModel": f"modeling_qwen2_rm.{PROCESS_REWARD_MODEL}"}
    (folder / "config.json").write_text(json.dumps(written), encoding="utf-8")

    @torch.inference_mode()
    def last(ids: list[int]) -> list[float]:
        hidden = body(input_ids=torch.tensor([ids])).last_hidden_state
        return [float(value) for value in head(hidden)[0, -1]]

    return last


@contextmanager
def loaded(run: Callable[[Coroutine[Any, Any, Any]], Any], settings: EngineSettings) -> Iterator[Any]:
    async def load() -> Any:
        return load_engine(settings)

    engine = run(load())
    try:
        yield engine
    finally:
        run(engine.close())


def judged(
    run: Callable[[Coroutine[Any, Any, Any]], Any], engine: Any, separator: str | None, requests: list[list[str]]
) -> list[StepReward]:
    async def ask() -> list[StepReward]:
        return list(await asyncio.gather(*(engine.reward(TURN, steps, separator) for steps in requests)))

    found: list[StepReward] = run(ask())
    return found


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_a_classifier_gives_the_numbers_of_transformers(kind: str, run: Any, tmp_path: Path) -> None:
    classifier(tmp_path, kind)
    prefixes = [STEPS[:end] for end in (1, 2, 3)]
    with loaded(run, settings_of(tmp_path, "transformers")) as engine:
        expected = [judged(run, engine, separator, prefixes) for separator in (None, "\n\n")]
    with loaded(run, settings_of(tmp_path, "vllm")) as engine:
        found = [judged(run, engine, separator, prefixes) for separator in (None, "\n\n")]
        again = judged(run, engine, None, prefixes)
        extended = judged(run, engine, None, [[*STEPS, " So it is 35."]])
        with pytest.raises(RequestError, match="reward head"):
            run(engine.score(TURN, STEPS, "7", "</think> {answer}"))
        with pytest.raises(RequestError, match="context"):
            run(engine.reward(TURN, ["pens " * 600], None))
        assert engine.scoring_mode.endswith("-reward")
    with pytest.raises(EngineError, match="closed"):
        run(engine.reward(TURN, STEPS, None))
    for ours, theirs in zip([*found[0], *found[1]], [*expected[0], *expected[1]], strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=1e-3)
        assert ours.logits == pytest.approx(theirs.logits, abs=1e-3)
        assert ours.prompt_tokens == theirs.prompt_tokens
    assert len({one.score for one in found[0]}) == 3
    assert [(one.score, one.logits) for one in again] == [(one.score, one.logits) for one in found[0]]
    assert extended[0].cached_tokens > 0


def test_a_process_reward_model_judges_the_step_before_its_last_separator(run: Any, tmp_path: Path) -> None:
    last = process_reward_model(tmp_path)
    with pytest.raises(EngineLoadError, match='engine = "vllm"'):
        load_engine(settings_of(tmp_path, "transformers"))
    codec = TextCodec(AutoTokenizer.from_pretrained(tmp_path))
    prefixes = [STEPS[:end] for end in (1, 2, 3)]
    with loaded(run, settings_of(tmp_path, "vllm")) as engine:
        found = judged(run, engine, SEPARATOR, prefixes)
    for steps, one in zip(prefixes, found, strict=True):
        ids = list(codec.judged_candidate(TURN, steps, SEPARATOR))
        assert ids.count(ids[-1]) == len(steps)
        logits = last(ids)
        assert one.logits == pytest.approx(logits, abs=1e-3)
        assert one.score == pytest.approx(probability(logits), abs=1e-3)
    assert len({one.score for one in found}) == 3
