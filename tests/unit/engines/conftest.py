"""Small random models with real tokenizers, seeded, written as ordinary Hugging Face folders."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.transformers.engine import TransformersEngine
from tests.support import settings

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = [
    "### Step 1. We add the numbers and get 204.\n### Step 2. Then we halve it: \\frac{1}{2} of 408.\n",
    "Question: how many apples are there? Answer: The final answer is 12, 27, 39.",
    "user assistant system Let me check whether this is right. 三 is three, 四 is four.",
    "\n</think>\n\nThe final answer is 204.",
    string.printable,
]


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with Qwen's mix: special turn tokens, think tags that are added but not special."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    core.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    core.add_tokens([AddedToken(text, special=False, normalized=False) for text in ("<think>", "</think>")])
    fast = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHATML
    return fast


def save_model(folder: Path, kind: str, *, positions: int = 512, seed: int = 0) -> Path:
    """Writes a random model of `kind` (llama, qwen3, gpt_neox) and its tokenizer."""
    fast = tokenizer()
    torch.manual_seed(seed)
    common = {
        "vocab_size": len(fast),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": positions,
        "eos_token_id": fast.eos_token_id,
        "bos_token_id": None,
        "initializer_range": 0.2,
    }
    model: torch.nn.Module
    if kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, tie_word_embeddings=True, **common))
    elif kind == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(num_key_value_heads=2, head_dim=16, **common))
    else:
        model = GPTNeoXForCausalLM(GPTNeoXConfig(**common))
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


WRITINGS = {
    "write a step": "### Step 1. We add the numbers.\n\n### Step 2. We",
    "close": "### Step 1. That is all.\n</think>\n\nThe final answer is 204.<|im_end|>",
    "just end": "### Step 1. It ends<|im_end|>",
    "write headings": "### Step 1. See ### Step 1 above.\n### Note\nIt is 三.\n### Step 2. We",
    "write spaces": "### Step 1.   two  spaces   here.\n### Step 2. We",
}
"""Question → the parrot's greedy text."""
FREE_WRITINGS = {
    "write paragraphs": "\n\nWe add the numbers.\nThen wait.\n\nWe halve it.\n</think>\n\nIt is 204.<|im_end|>",
    "write doubts": "Wait, we add the numbers. I can wait.\n\nWait, is it 204? Yes.</think>\n\nIt is 204.<|im_end|>",
    "just end": "It ends<|im_end|>",
}
"""The same for the parrot that writes no markers."""


def save_parrot(folder: Path) -> Path:
    """A tiny Llama that has memorised `WRITINGS`, so that every way to stop can be provoked."""
    rows = []
    for question, writing in WRITINGS.items():
        text, _, closing = writing[11:].partition("\n</think>")
        rows.append([opened(question), writing[:11], text, *(["\n</think>" + closing] if closing else [])])
    return save_learned(folder, rows)


def save_free_parrot(folder: Path) -> Path:
    """The same for `FREE_WRITINGS`."""
    return save_learned(folder, [[opened(question), writing] for question, writing in FREE_WRITINGS.items()])


def opened(question: str) -> str:
    """The turn that asks `question`."""
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n<think>\n"


def save_learned(folder: Path, texts: list[list[str]]) -> Path:
    """A tiny Llama that has memorised these texts, given in pieces."""
    torch.set_num_threads(1)
    fast = tokenizer()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(fast),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            eos_token_id=fast.eos_token_id,
            bos_token_id=None,
        )
    )
    rows = [[token for piece in pieces for token in fast(piece)["input_ids"]] for pieces in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    labels = torch.tensor([row + [-100] * (width - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(100):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def engine_settings(folder: Path, **changes: object) -> EngineSettings:
    """Float64 on one CPU thread: the deterministic mode of the tiny preset."""
    return settings.engine_settings(folder, **{"dtype": "float64", "device": "cpu", "threads": 1, **changes})


@pytest.fixture(scope="session")
def parrot_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_parrot(tmp_path_factory.mktemp("parrot"))


@pytest.fixture(scope="session")
def free_parrot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransformersEngine]:
    folder = save_free_parrot(tmp_path_factory.mktemp("free_parrot"))
    engine = TransformersEngine(engine_settings(folder, batch_size=8))
    yield engine
    engine.stop()


@pytest.fixture(scope="session", params=["llama", "qwen3", "gpt_neox"])
def random_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session")
def parrot(parrot_folder: Path) -> Iterator[TransformersEngine]:
    engine = TransformersEngine(engine_settings(parrot_folder, batch_size=8))
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def settings_of() -> Callable[..., EngineSettings]:
    return engine_settings


@pytest.fixture(scope="session")
def fast_tokenizer() -> PreTrainedTokenizerFast:
    return tokenizer()


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory, fast_tokenizer: PreTrainedTokenizerFast) -> Path:
    """The folder of a tokenizer without a model."""
    path = tmp_path_factory.mktemp("tokenizer")
    fast_tokenizer.save_pretrained(path)
    return path
