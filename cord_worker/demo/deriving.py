"""Derives bundled models from others: teachers that do not number their steps ("plain") and the prover for these, an
integrator, a reward model."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from cord_worker.demo import judging, merging
from cord_worker.demo.corpus import THINK_OPEN, plain_pieces, plain_prover_pieces, write
from cord_worker.demo.problems import DemoProblem, problems
from cord_worker.demo.training import BATCH, Encoder, Sample, batches, fit, next_token_loss, save, teachers_of_steps

REWARD = "reward"
INTEGRATOR = "integrator"
PLAIN_PROVER = "prover-plain"
DERIVED: dict[str, tuple[str, int]] = {
    "planner-plain": ("planner", 300),
    "calculator-plain": ("calculator", 300),
    "closer-plain": ("closer", 300),
    PLAIN_PROVER: ("prover", 300),
    REWARD: ("prover", 300),
    INTEGRATOR: ("student", 500),
}
"""For each derived model: the model from which its training starts, and the number of training batches."""

RATE_FACTORS = {REWARD: 1.0, INTEGRATOR: 0.7}
"""Factors by which the usual learning rates are multiplied; 0.5 for models that are not named here."""
_LONG_BATCH = 16
_SHARE_WITH_MISTAKES = 0.7
"""Share of the plain prover's training trajectories that may contain mistakes."""


def derive_model(name: str, seed: int, origin: Path, folder: Path) -> None:
    """Continues training the model in `origin` and writes the result to `folder`, in bfloat16."""
    _, batch_count = DERIVED[name]
    torch.manual_seed(seed)
    tokenizer: Any = AutoTokenizer.from_pretrained(origin)
    loss_of = next_token_loss
    if name == REWARD:
        rng = random.Random(f"wiring-{seed}")
        model: PreTrainedModel = judging.with_reward_head(origin, Encoder(tokenizer), rng)
        loss_of = judging.loss
    else:
        attention = "sdpa" if name == INTEGRATOR else "eager"  # sdpa is faster for long texts, eager for short ones
        model = AutoModelForCausalLM.from_pretrained(origin, dtype=torch.float32, attn_implementation=attention)
    if name == INTEGRATOR:
        add_tokens(model, tokenizer, merging.FORM)
        # The integrator replies without thinking, so its template must not open the thinking.
        tokenizer.chat_template = tokenizer.chat_template.replace(THINK_OPEN, "")
    stream = samples(name, Encoder(tokenizer), seed)
    size = _LONG_BATCH if name == INTEGRATOR else BATCH
    fit(
        name,
        model,
        batches(stream, tokenizer.pad_token_id, seed, size=size),
        batch_count,
        loss_of=loss_of,
        rate_factor=RATE_FACTORS.get(name, 0.5),
    )
    save(model, tokenizer, folder)


def add_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: tuple[str, ...]) -> None:
    """Makes each text a single token. The new token's embedding in `model` begins as the mean of the embeddings of the
    tokens into which the text was split before."""
    old = [tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    known = len(tokenizer)
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in texts])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    embeddings: Any = model.get_input_embeddings()
    with torch.no_grad():
        for token, ids in enumerate(old, start=known):
            embeddings.weight[token] = embeddings.weight[ids].mean(0)


def samples(name: str, encoder: Encoder, seed: int) -> Iterator[Sample]:
    """Endless training samples of a derived model."""
    rng = random.Random(f"{name}-{seed}")
    for problem in problems(seed, "train"):
        if name == REWARD:
            yield judging.sample(encoder, problem, rng)
        elif name == INTEGRATOR:
            yield merging.sample(encoder, problem, rng)
        else:
            yield _plain_sample(name, encoder, problem, rng)


def _plain_sample(name: str, encoder: Encoder, problem: DemoProblem, rng: random.Random) -> Sample:
    first_turn = encoder.first_turn(problem.question)
    if name == PLAIN_PROVER:
        teachers = teachers_of_steps("", problem, rng, mixed=True)  # mixed: a random teacher for each step, no name
        steps = write(problem, teachers, rng, errors=rng.random() < _SHARE_WITH_MISTAKES)
        kept = rng.randint(1, len(steps))
        return encoder.sample(plain_prover_pieces(first_turn, problem, steps, kept, rng), ends=False)
    origin, _ = DERIVED[name]
    steps = write(problem, teachers_of_steps(origin, problem, rng, mixed=rng.random() < 0.5), rng, errors=True)
    return encoder.sample(plain_pieces(first_turn, steps, origin, rng), ends=True)
