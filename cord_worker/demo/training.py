"""Trains one bundled model from scratch on one CPU thread."""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from cord_worker.demo.architectures import MODELS
from cord_worker.demo.corpus import TEACHERS, THINK_OPEN, Piece, prover_pieces, teacher_pieces, write
from cord_worker.demo.problems import DemoProblem, generate, problems
from cord_worker.demo.tokenizers import train_tokenizer

log = logging.getLogger(__name__)

PROVERS = ("prover", "weak-prover")
STUDENT = "student"
BATCH = 32
_BUCKET_BATCHES = 32  # the samples of this many batches are sorted by length together
_LENGTH_UNIT = 16  # lengths are rounded up to it, because each new shape costs the kernels time and memory
_WARM_UP = 0.03
NO_LOSS = -100
_OUTER = ("embed", "lm_head", "score")  # parts of the names of matrices outside the layers

# Batches of flawless trajectories, then batches of trajectories that may contain mistakes.
SCHEDULE = {
    "planner": (900, 350),
    "calculator": (900, 400),
    "closer": (900, 450),
    "prover": (200, 1100),
    "weak-prover": (100, 300),
    STUDENT: (500, 400),
}

Sample = tuple[list[int], list[int]]
"""Token ids, and a label for each."""


class Encoder:
    """Encodes trajectories piece by piece, the way the service does."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        """Token ids of one piece; short pieces recur and are cached."""
        if text not in self._known:
            if len(self._known) > 200_000:
                self._known.clear()
            self._known[text] = self._tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        return self._known[text]

    def ends(self, text: str) -> list[int]:
        """End position of each token of a piece, in characters."""
        encoding = self._tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        return [end for _, end in encoding.offsets]

    def first_turn(self, question: str) -> str:
        """The rendered first turn, ending in exactly one `<think>` line."""
        message = [{"role": "user", "content": question}]
        text = str(self._tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
        return text if text.endswith(THINK_OPEN) else text + THINK_OPEN

    def request(self, text: str) -> str:
        """The rendered turn that asks for a plain reply."""
        message = [{"role": "user", "content": text}]
        return str(self._tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))

    def sample(self, pieces: list[Piece], ends: bool) -> Sample:
        """Ids of a trajectory, and a label for each: the id, or `NO_LOSS` if the token is not learnt."""
        ids: list[int] = []
        labels: list[int] = []
        for piece in pieces:
            piece_ids = self.ids(piece.text)
            ids += piece_ids
            labels += piece_ids if piece.learnt else [NO_LOSS] * len(piece_ids)
        if ends:
            ids.append(self._tokenizer.eos_token_id)
            labels.append(self._tokenizer.eos_token_id)
        return ids, labels


def build_tokenizer(name: str, seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer of a model; its merges are learnt from flawless trajectories."""
    rng = random.Random(f"tokenizer-{seed}")
    corpus = ["system", "user", "assistant"] * 4000
    for problem in generate(4000, seed, "train"):
        steps = write(problem, [next(iter(TEACHERS))] * (len(problem.plan.changes) + 2), rng, errors=False)
        corpus += [piece.text for piece in teacher_pieces(problem.question, steps, "")]
    return train_tokenizer(MODELS[name].tokenizer, corpus)


def samples(name: str, encoder: Encoder, seed: int, flawless: int) -> Iterator[Sample]:
    """Endless training samples of a model: the first `flawless` samples have no mistakes, later ones may."""
    rng = random.Random(f"{name}-{seed}")
    for index, problem in enumerate(problems(seed, "train")):
        first_turn = encoder.first_turn(problem.question)
        errors = index >= flawless
        if name in PROVERS:
            yield encoder.sample(_prover_trajectory(first_turn, problem, errors, rng), ends=False)
        elif name == STUDENT:
            steps = write(problem, teachers_of_steps(name, problem, rng, mixed=True), rng, errors=errors)
            yield encoder.sample(teacher_pieces(first_turn, steps, None), ends=True)
        else:
            teachers = teachers_of_steps(name, problem, rng, mixed=errors and rng.random() < 0.5)
            steps = write(problem, teachers, rng, errors=errors)
            yield encoder.sample(teacher_pieces(first_turn, steps, name), ends=True)


def teachers_of_steps(name: str, problem: DemoProblem, rng: random.Random, *, mixed: bool) -> list[str]:
    """The teacher of each step of a trajectory: always `name`, or with `mixed` a random one."""
    count = len(problem.plan.changes) + 2
    return [rng.choice(list(TEACHERS)) for _ in range(count)] if mixed else [name] * count


def _prover_trajectory(first_turn: str, problem: DemoProblem, errors: bool, rng: random.Random) -> list[Piece]:
    teachers = teachers_of_steps("", problem, rng, mixed=True)
    steps = write(problem, teachers, rng, errors=errors and rng.random() < 0.7)
    return prover_pieces(first_turn, problem, steps, rng.randint(1, len(steps)))


def batches(stream: Iterator[Sample], pad: int, seed: int, *, size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
    """Right-padded batches of `size` samples of similar length: ids and labels, both (size, length)."""
    rng = random.Random(f"batches-{seed}")
    while True:
        pool = sorted((next(stream) for _ in range(size * _BUCKET_BATCHES)), key=lambda sample: len(sample[0]))
        groups = [pool[at : at + size] for at in range(0, len(pool), size)]
        rng.shuffle(groups)
        for group in groups:
            length = -(-len(group[-1][0]) // _LENGTH_UNIT) * _LENGTH_UNIT
            ids = [sample[0] + [pad] * (length - len(sample[0])) for sample in group]
            labels = [sample[1] + [NO_LOSS] * (length - len(sample[1])) for sample in group]
            yield torch.tensor(ids), torch.tensor(labels)


def train_model(name: str, seed: int, folder: Path, schedule: tuple[int, int] | None = None) -> None:
    """Trains a model and writes it with its tokenizer to `folder`, in bfloat16."""
    flawless_batches, later_batches = schedule or SCHEDULE[name]
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(name, seed)
    config = MODELS[name].config(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, attn_implementation="eager"
    )
    stream = batches(samples(name, Encoder(tokenizer), seed, flawless_batches * BATCH), tokenizer.pad_token_id, seed)
    fit(name, model, stream, flawless_batches + later_batches)
    save(model, tokenizer, folder)


def next_token_loss(model: PreTrainedModel, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of the learnt tokens."""
    logits = model(input_ids=ids, use_cache=False).logits
    return cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=NO_LOSS)


def fit(
    name: str,
    model: PreTrainedModel,
    stream: Iterator[tuple[Tensor, Tensor]],
    batch_count: int,
    *,
    loss_of: Callable[[PreTrainedModel, Tensor, Tensor], Tensor] = next_token_loss,
    rate_factor: float = 1.0,
) -> None:
    """Trains `model` on `batch_count` batches, at `rate_factor` times the usual learning rates."""
    log.info("%s: %d parameters, %d batches", name, model.num_parameters(), batch_count)
    optimizers = _optimizers(model)
    started, loss_sum = time.monotonic(), 0.0
    for batch in range(batch_count):
        scale = rate_factor * _rate(batch, batch_count)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * scale
        ids, labels = next(stream)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, ids, labels)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        loss_sum += loss.item()
        if (batch + 1) % 50 == 0:
            log.info("%s: batch %d, loss %.4f, %.0f s", name, batch + 1, loss_sum / 50, time.monotonic() - started)
            loss_sum = 0.0


def _optimizers(model: PreTrainedModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the rest."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter_name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        inner = parameter.ndim == 2 and not any(outer in parameter_name for outer in _OUTER)
        (matrices if inner else others).append(parameter)
    muon = torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.01)
    adamw = torch.optim.AdamW(others, lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0)
    for optimizer in (muon, adamw):
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return [muon, adamw]


def _rate(batch: int, batch_count: int) -> float:
    """The learning rate, as a share of the highest: a linear warm-up, then a cosine down to zero."""
    warm_up = max(1, int(batch_count * _WARM_UP))
    if batch < warm_up:
        return (batch + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (batch - warm_up) / (batch_count - warm_up)))


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes model and tokenizer to `folder`, in bfloat16."""
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=0.6,
        top_p=0.95,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # transformers 5 writes a new class name; older releases, and servers that use them, know only the older name.
    settings = folder / "tokenizer_config.json"
    named = json.loads(settings.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings.write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").chmod(0o644)
