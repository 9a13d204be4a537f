"""The bundled process reward model: the prover with two more layers, which compare the expected token with the actual
one.

The prover knows only in its last layer which token comes next, so all its own layers are frozen. The first layer above
them compares every token with the token expected in its place, and marks it if they differ. The second layer looks for
marks in all of the text so far. Both layers are initialised to do this, and are then trained. In training the mark has
a loss of its own.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from cord_worker.demo.corpus import TEACHERS, judged_pieces, parts, write
from cord_worker.demo.problems import DemoProblem, generate
from cord_worker.demo.training import NO_LOSS, Encoder, Sample

MISTAKE, FINE, UNKNOWN = 0, 1, 2
"""Whether a token is right after the tokens before it; unknown after a mistake in the same step."""

_MISTAKE_WEIGHT = 5.0
_FLAWLESS_START = 0.5
_SHARPNESS = 5.0
_QUICK_PAIRS = 6
"""Rotary pairs that turn fast enough to distinguish a token from its neighbours."""
_MARK = "mark"
_MARK_GAIN = 10.0
_SEARCH = 2.6
_INITIAL_TEXTS = 20
"""Number of texts from which the new layers are initialised."""


def sample(encoder: Encoder, problem: DemoProblem, rng: random.Random) -> Sample:
    """Ids of a trajectory, and the label of every token: whether the right answer still follows from the text that ends
    here (0 or 1), plus twice one of `MISTAKE`, `FINE` and `UNKNOWN`."""
    count = len(parts(problem))
    teachers = [rng.choice(list(TEACHERS)) for _ in range(count)]
    flawless = rng.randint(1, count) if rng.random() < _FLAWLESS_START else 0
    steps = write(problem, teachers, rng, errors=True, flawless=flawless)
    ids: list[int] = []
    labels: list[int] = []
    for piece in judged_pieces(encoder.first_turn(problem.question), problem, steps):
        piece_ids = encoder.ids(piece.text)
        ids += piece_ids
        if not piece.judged:
            labels += [NO_LOSS] * len(piece_ids)
            continue
        slip = len(piece.text) if piece.slip is None else piece.slip
        before = 0
        for end in encoder.ends(piece.text):
            right = piece.before if end <= slip else piece.after
            token = FINE if end <= slip else MISTAKE if before <= slip else UNKNOWN
            labels.append(int(right) + 2 * token)
            before = end
    return ids, labels


def with_reward_head(origin: Path, encoder: Encoder, rng: random.Random) -> PreTrainedModel:
    """The model in `origin` with two more layers and a reward head; only these are trained.

    `_look_back` and `_find_marks` initialise them. They measure hidden states on a few texts.
    """
    layers = AutoConfig.from_pretrained(origin).num_hidden_layers
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        origin, num_labels=1, num_hidden_layers=layers + 2, dtype=torch.float32, attn_implementation="eager"
    )
    decoder = model.get_decoder()
    decoder.embed_tokens.requires_grad_(False)
    decoder.layers[:layers].requires_grad_(False)
    texts = [sample(encoder, problem, rng) for problem in generate(_INITIAL_TEXTS, 0, "train")]
    comparing, searching = decoder.layers[layers:]
    with torch.no_grad():
        for layer in (comparing, searching):
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
            for parameter_name, parameter in layer.named_parameters():
                if parameter_name.endswith("bias"):
                    parameter.zero_()
        _look_back(comparing, decoder.norm, _hidden(decoder, layers, texts))
        mark, score = _find_marks(searching, _hidden(decoder, layers + 1, texts))
        decoder.norm.weight.fill_(1.0)
        model.score.weight.copy_(-score[None])
    model.register_buffer(_MARK, mark, persistent=False)
    return model  # type: ignore[no-any-return]


def loss(model: PreTrainedModel, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross entropy of the score at every token, plus that of its mark; `labels` are those of `sample`."""
    reader: Any = model
    decoder = reader.get_decoder()
    marked: list[Tensor] = []
    searching = decoder.layers[-1].input_layernorm
    hook = searching.register_forward_hook(lambda _module, _inputs, output: marked.append(output))
    hidden = decoder(input_ids=ids, use_cache=False).last_hidden_state
    hook.remove()
    judged = labels != NO_LOSS
    right, token = (labels[judged] % 2).float(), labels[judged] // 2
    whole = binary_cross_entropy_with_logits(reader.score(hidden[judged]).squeeze(-1).float(), right)
    known = token != UNKNOWN
    mistaken = (token[known] == MISTAKE).float()
    marks = marked[0][judged][known].float() @ getattr(reader, _MARK)
    weight = 1 + (_MISTAKE_WEIGHT - 1) * mistaken
    single = binary_cross_entropy_with_logits(marks, mistaken, weight=weight, reduction="sum") / weight.sum()
    return whole + single


def _hidden(decoder: Any, layers: int, texts: list[Sample]) -> Tensor:
    """Output of the first `layers` layers at the judged tokens: (tokens, width)."""
    found = []
    for ids, labels in texts:
        states = decoder(input_ids=torch.tensor([ids]), use_cache=False, output_hidden_states=True).hidden_states
        found.append(states[layers][0, torch.tensor(labels) != NO_LOSS])
    return torch.cat(found)


def _look_back(layer: Any, norm: nn.Module, hidden: Tensor) -> None:
    """Makes every head attend to the previous token, by rotary angles alone. Each head writes a part of the prediction
    that was made at that token (`hidden` after `norm`), scaled to the size of the hidden state at this token."""
    attention = layer.self_attn
    layer.input_layernorm.load_state_dict(norm.state_dict())
    pairs, heads = attention.head_dim // 2, attention.config.num_attention_heads
    turns = torch.tensor([10_000 ** (-pair / pairs) for pair in range(_QUICK_PAIRS)])
    query, key = torch.zeros(2, pairs), torch.zeros(2, pairs)
    query[0, :_QUICK_PAIRS], query[1, :_QUICK_PAIRS] = _SHARPNESS * turns.cos(), -_SHARPNESS * turns.sin()
    key[0, :_QUICK_PAIRS] = _SHARPNESS
    for projection, bias in ((attention.q_proj, query), (attention.k_proj, key)):
        projection.weight.mul_(0.1)
        projection.bias.copy_(bias.flatten().repeat(heads))
    nn.init.eye_(attention.v_proj.weight)
    nn.init.orthogonal_(attention.o_proj.weight, gain=_root_mean_square(hidden) / _root_mean_square(norm(hidden)))


def _find_marks(layer: Any, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Makes the first head attend to marked tokens at any position, and write their mark where the score reads it.

    Returns two directions: the first reads a token's mark, the second reads the result. They are the two directions in
    which `hidden` varies least.
    """
    attention = layer.self_attn
    nn.init.ones_(layer.input_layernorm.weight)
    size = _root_mean_square(hidden)
    normalised = hidden / hidden.square().mean(1, keepdim=True).sqrt()
    mark, outcome = torch.linalg.eigh(normalised.T @ normalised / len(normalised)).eigenvectors[:, :2].T
    mark = _MARK_GAIN * mark
    slow = attention.head_dim // 2 - 1
    for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
        projection.weight.mul_(0.1)
        projection.weight[: attention.head_dim] = 0
    attention.q_proj.bias[slow] = _SEARCH
    attention.k_proj.weight[slow] = _SEARCH * mark
    attention.v_proj.weight[0] = mark
    attention.o_proj.weight[:, 0] = size / 10 * outcome
    return mark, outcome


def _root_mean_square(hidden: Tensor) -> float:
    return float(hidden.square().mean().sqrt())
