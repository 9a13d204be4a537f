"""The bundled models: their architectures, tokenizers and chat templates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from transformers import LlamaConfig, Phi3Config, PretrainedConfig, Qwen3Config

from cord_worker.demo.tokenizers import CAPITAL_STARTS_WORD, DIGIT_ALONE, DIGIT_WITH_SPACE, MARKS_APART, TokenizerSpec

_CONTEXT = 1024
_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_OPENS_THINKING = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
_QUESTION_REPLY = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}<|reply|>{{ message['content'] }}"
    "<|endoftext|>{% else %}<|{{ message['role'] }}|>{{ message['content'] }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|reply|>{% endif %}"
)
# Like the templates of DeepSeek's distilled models: they open the thinking, and show only the part of a reply after it.
_DROPS_THINKING = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}<|assistant|>"
    "{{ message['content'].split('</think>')[-1] }}<|end|>{% else %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
_CHATML_MARKERS = ("<|im_start|>", "<|im_end|>")
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One bundled model: its tokenizer, and a function from (vocabulary, pad id, end id) to its configuration."""

    tokenizer: TokenizerSpec
    config: Callable[[int, int, int], PretrainedConfig]


def _llama(
    vocabulary: int, pad: int, end: int, *, hidden: int = 96, layers: int = 3, bias: bool = False
) -> PretrainedConfig:
    # Models with biases are Llama, not Qwen2, because AutoTokenizer gives every Qwen2 model its own splitting rule.
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=256, num_hidden_layers=layers,
        num_attention_heads=hidden // 32, num_key_value_heads=hidden // 32, head_dim=32, attention_bias=bias,
        max_position_embeddings=_CONTEXT, tie_word_embeddings=True, bos_token_id=None, pad_token_id=pad,
        eos_token_id=end,
    )  # fmt: skip


def _phi3(vocabulary: int, pad: int, end: int) -> PretrainedConfig:
    return Phi3Config(
        vocab_size=vocabulary, hidden_size=96, intermediate_size=256, num_hidden_layers=3,
        num_attention_heads=3, num_key_value_heads=3, max_position_embeddings=_CONTEXT,
        original_max_position_embeddings=_CONTEXT, tie_word_embeddings=True, bos_token_id=None, pad_token_id=pad,
        eos_token_id=end,
    )  # fmt: skip


def _qwen3(vocabulary: int, pad: int, end: int) -> PretrainedConfig:
    return Qwen3Config(
        vocab_size=vocabulary, hidden_size=96, intermediate_size=256, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=32, max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True, bos_token_id=None, pad_token_id=pad, eos_token_id=end,
    )  # fmt: skip


MODELS: dict[str, ModelSpec] = {
    "planner": ModelSpec(TokenizerSpec(460, MARKS_APART, _CHATML_MARKERS, "<|im_end|>", _CHATML), _phi3),
    "calculator": ModelSpec(TokenizerSpec(512, DIGIT_WITH_SPACE, _ROLES, "<|end|>", _OPENS_THINKING), _qwen3),
    "closer": ModelSpec(
        TokenizerSpec(
            480, CAPITAL_STARTS_WORD, ("<|system|>", "<|user|>", "<|reply|>"), "<|endoftext|>", _QUESTION_REPLY
        ),
        partial(_llama, bias=True),
    ),
    "prover": ModelSpec(
        TokenizerSpec(500, DIGIT_ALONE, _CHATML_MARKERS, "<|im_end|>", _CHATML),
        partial(_llama, hidden=128, layers=4, bias=True),
    ),
    "weak-prover": ModelSpec(
        TokenizerSpec(500, DIGIT_ALONE, _CHATML_MARKERS, "<|im_end|>", _CHATML), partial(_llama, layers=2)
    ),
    "student": ModelSpec(TokenizerSpec(480, DIGIT_ALONE, _ROLES, "<|end|>", _DROPS_THINKING), _llama),
}
