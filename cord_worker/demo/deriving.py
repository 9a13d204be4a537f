"""Bundled models that begin as another one: writers of plain text and their prover, and a process reward model."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from cord_worker.demo.corpus import AUTHORS, judged_pieces, plain_pieces, plain_prover_pieces, write
from cord_worker.demo.problems import problems
from cord_worker.demo.training import NO_LOSS, Encoder, Sample, authors_of, batches, fit, save

REWARD = "reward"
PLAIN_PROVER = "prover-plain"
DERIVED: dict[str, tuple[str, int]] = {
    "planner-plain": ("planner", 300),
    "calculator-plain": ("calculator", 300),
    "closer-plain": ("closer", 300),
    PLAIN_PROVER: ("prover", 300),
    REWARD: ("prover", 150),
}
"""Which model each begins as, and its batches of training."""

_PACE = 0.5
_MISTAKEN = 0.7
"""Share of the trajectories with mistakes, for the models that read them."""


def derive_model(name: str, seed: int, origin: Path, folder: Path) -> None:
    """Goes on training the model in `origin` and writes the outcome to `folder`, in bfloat16."""
    _, steps = DERIVED[name]
    torch.manual_seed(seed)
    tokenizer: Any = AutoTokenizer.from_pretrained(origin)
    stream = batches(samples(name, Encoder(tokenizer), seed), tokenizer.pad_token_id, seed)
    if name == REWARD:
        model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
            origin, num_labels=1, dtype=torch.float32, attn_implementation="eager"
        )
        fit(name, model, stream, steps, loss_of=right_step_loss, pace=_PACE)
    else:
        model = AutoModelForCausalLM.from_pretrained(origin, dtype=torch.float32, attn_implementation="eager")
        fit(name, model, stream, steps, pace=_PACE)
    save(model, tokenizer, folder)


def right_step_loss(model: PreTrainedModel, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross entropy of the score at the last token of every step; `labels` are 1 for a right one."""
    reader: Any = model
    hidden = reader.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    judged = labels != NO_LOSS
    scores = reader.score(hidden[judged]).squeeze(-1)
    return binary_cross_entropy_with_logits(scores.float(), labels[judged].float())


def samples(name: str, encoder: Encoder, seed: int) -> Iterator[Sample]:
    """Endless training samples of a derived model."""
    rng = random.Random(f"{name}-{seed}")
    origin = DERIVED[name][0]
    for problem in problems(seed, "train"):
        first_turn = encoder.first_turn(problem.question)
        if origin in AUTHORS:
            steps = write(problem, authors_of(origin, problem, rng, mixed=rng.random() < 0.5), rng, errors=True)
            yield encoder.sample(plain_pieces(first_turn, steps, origin, rng), ends=True)
            continue
        mixed = authors_of("", problem, rng, mixed=True)
        steps = write(problem, mixed, rng, errors=name == REWARD or rng.random() < _MISTAKEN)
        if name == PLAIN_PROVER:
            kept = rng.randint(1, len(steps))
            yield encoder.sample(plain_prover_pieces(first_turn, problem, steps, kept, rng), ends=False)
        else:
            ids: list[int] = []
            labels: list[int] = []
            for piece, right in judged_pieces(first_turn, steps):
                piece_ids = encoder.ids(piece.text)
                ids += piece_ids
                labels += [NO_LOSS] * (len(piece_ids) - 1) + [NO_LOSS if right is None else int(right)]
            yield ids, labels
