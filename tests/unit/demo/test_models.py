"""The bundled models: loadable, small, and with tokenizers that agree with the service's way of encoding."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import cord_worker.demo
from cord_worker.demo.corpus import TEACHERS, prover_pieces, teacher_pieces, write
from cord_worker.demo.problems import generate
from cord_worker.demo.training import Encoder

pytestmark = pytest.mark.slow

MODELS = Path(cord_worker.demo.__file__).parent / "models"
NAMES = (
    *TEACHERS, "prover", "student", "weak-prover", "integrator", "reward", "prover-plain",
    *(f"{name}-plain" for name in TEACHERS),
)  # fmt: skip
ODD_TEXTS = (
    "", " ", "  two  spaces  ", "\n\n\n", "\r\n\ttab", "12 + 7 = 19.", r"$\frac{1}{2} \times x^{2}$", "三角形",
    "🙂👩‍👧",
    "a\u0000b", "don't 'quote'", "ÄÖÜß ñ é", "<think>\n### Step 1. x\n</think>\n\n", " .", "\u00a0\u2003x",
)  # fmt: skip


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tokenizer(name: str) -> Any:
    return AutoTokenizer.from_pretrained(MODELS / name)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False).input_ids)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_decoding_gives_back_the_text_that_was_encoded(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(_ids(tokenizer, text)) == text


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@pytest.mark.long
def test_every_tokenizer_decodes_any_encoded_text_to_itself(text: str) -> None:
    for name in NAMES:
        tokenizer = _TOKENIZERS.setdefault(name, AutoTokenizer.from_pretrained(MODELS / name))
        assert tokenizer.decode(_ids(tokenizer, text)) == text


_TOKENIZERS: dict[str, Any] = {}


def test_encoding_adds_nothing_at_the_start_or_the_end(tokenizer: Any) -> None:
    assert tokenizer("Tom has 3 pens.").input_ids == _ids(tokenizer, "Tom has 3 pens.")


def test_think_tags_are_one_token_each_and_are_kept_when_special_tokens_are_dropped(tokenizer: Any) -> None:
    for tag in ("<think>", "</think>"):
        (token,) = _ids(tokenizer, tag)
        assert tokenizer.decode([token], skip_special_tokens=True) == tag


def test_the_end_of_a_turn_is_special_and_not_the_pad_token(tokenizer: Any) -> None:
    assert tokenizer.decode([tokenizer.eos_token_id], skip_special_tokens=True) == ""
    assert tokenizer.eos_token_id != tokenizer.pad_token_id


def test_every_digit_is_its_own_token(tokenizer: Any) -> None:
    tokens = [tokenizer.decode([token]).strip() for token in _ids(tokenizer, "7 12 345 6789")]
    assert [token for token in tokens if token] == list("7123456789")


def test_offsets_cover_the_text_without_gaps(tokenizer: Any) -> None:
    text = "\n</think>\n\nThe final answer is 11, 27, 39, 25."
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    assert offsets[0][0] == 0
    assert offsets[-1][1] == len(text)
    assert all(left[1] == right[0] for left, right in pairwise(offsets))


def test_the_first_turn_ends_in_one_think_tag_or_none(name: str, tokenizer: Any) -> None:
    message = [{"role": "user", "content": "How many?"}]
    text = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    opens = name.startswith("calculator") or name == "student"
    assert text.endswith("<think>\n") == opens
    assert text.count("<think>") == opens
    assert text.count("How many?") == 1


def test_a_system_turn_comes_before_the_question(tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How many?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert 0 <= text.index("Be brief.") < text.index("How many?")


def test_a_trajectory_encoded_whole_equals_its_pieces_joined(name: str, tokenizer: Any) -> None:
    encoder, rng = Encoder(tokenizer), random.Random(0)
    for problem in generate(100, 3, "heldout"):
        first_turn = encoder.first_turn(problem.question)
        teachers = [rng.choice(list(TEACHERS)) for _ in range(len(problem.plan.changes) + 2)]
        steps = write(problem, teachers, rng, errors=True)
        for pieces in (
            teacher_pieces(first_turn, steps, name),
            prover_pieces(first_turn, problem, steps, rng.randint(1, len(steps))),
        ):
            joined = [token for piece in pieces for token in encoder.ids(piece.text)]
            assert joined == _ids(tokenizer, "".join(piece.text for piece in pieces))


def test_every_model_loads_in_half_precision_without_missing_or_tied_up_weights(name: str) -> None:
    kind: Any = AutoModelForSequenceClassification if name == "reward" else AutoModelForCausalLM
    model, info = kind.from_pretrained(MODELS / name, output_loading_info=True)
    assert model.dtype == torch.bfloat16
    assert not any(info.values()), info
    assert model.config.max_position_embeddings >= 1024


def test_a_loaded_tokenizer_splits_as_its_file_says(name: str, tokenizer: Any) -> None:
    stored = Tokenizer.from_file(str(MODELS / name / "tokenizer.json"))
    for problem in generate(50, 3, "heldout"):
        text = (
            f"{problem.question}\n### Step 1. Plan: start 47, - 8.\n</think>\n\nThe final answer is {problem.answer}."
        )
        assert _ids(tokenizer, text) == stored.encode(text).ids


def test_every_teacher_has_its_own_architecture_and_vocabulary() -> None:
    configs = [AutoModelForCausalLM.from_pretrained(MODELS / name).config for name in TEACHERS]
    tokenizers = [AutoTokenizer.from_pretrained(MODELS / name) for name in TEACHERS]
    assert len({config.model_type for config in configs}) == 3
    assert len({tuple(sorted(tokenizer.get_vocab())) for tokenizer in tokenizers}) == 3


def test_all_files_of_the_models_stay_under_twelve_megabytes() -> None:
    assert sum(file.stat().st_size for file in MODELS.rglob("*") if file.is_file()) < 12 * 2**20
