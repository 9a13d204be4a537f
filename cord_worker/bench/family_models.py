"""Small random models of the tested families, written as ordinary Hugging Face folders.

They have at most four layers, windows far shorter than the prompts, and weights so large that a wrong mask or position
changes the scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

CONTEXT = 1024
WINDOW = 24
"""Tokens of a sliding window or chunk; prompts are ten times as long."""
_SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}  # fmt: skip
_YARN = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 128,
    "mscale": 1.0, "mscale_all_dim": 0.5, "beta_fast": 32, "beta_slow": 1,
}  # fmt: skip
_LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 256, "factor": 4.0,
    "short_factor": [1.0 + 0.1 * i for i in range(8)], "long_factor": [1.5 + 0.7 * i for i in range(8)],
}  # fmt: skip
_BY_LAYER = {
    "full_attention": {"rope_type": "linear", "rope_theta": 100000.0, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1000.0},
}
_SLIDING_FULL = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
_LINEAR_FULL = ["linear_attention", "full_attention", "linear_attention", "full_attention"]
_MOE = {
    "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32, "decoder_sparse_step": 1, "norm_topk_prob": True,
}  # fmt: skip
_MLA = {
    "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 12,
    "head_dim": 8, "n_routed_experts": 4, "n_shared_experts": 1, "moe_intermediate_size": 32, "num_experts_per_tok": 2,
    "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1, "num_key_value_heads": 4,
}  # fmt: skip
_MAMBA = {
    "mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_ssm": 128, "mamba_d_state": 16, "mamba_expand": 2,
    "mamba_chunk_size": 16, "mamba_n_groups": 1, "mamba_d_conv": 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """One family: its type in transformers, and the settings (`options`) of its small model in addition to the sizes
    that all families have."""

    name: str
    model_type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    auto_class: Any = AutoModelForCausalLM
    has_vision: bool = False
    """True if the sizes belong to the language model inside a model that reads images."""
    extra_config: Mapping[str, Any] = field(default_factory=dict)
    """Further entries of config.json."""
    refused: bool = False
    """True if the service cannot host it and must refuse it."""


FAMILIES: tuple[Family, ...] = (
    Family("Llama 2", "llama", {"num_key_value_heads": 4}),
    Family("Llama 3 (llama3 RoPE, tied)", "llama", {"rope_parameters": _LLAMA3, "tie_word_embeddings": True}),
    Family(
        "Llama 4 (text)",
        "llama4_text",
        {
            "attention_chunk_size": WINDOW, "no_rope_layer_interval": 2, "intermediate_size_mlp": 96,
            "num_local_experts": 4, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2, "floor_scale": 32,
        },
    ),
    Family("Qwen2", "qwen2", {"tie_word_embeddings": True}),
    Family("Qwen2 (sliding layers)", "qwen2", {
        "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 2,
    }),
    Family("Qwen2-MoE", "qwen2_moe", _MOE),
    Family("Qwen3", "qwen3", {"tie_word_embeddings": True}),
    Family("Qwen3 (dynamic NTK)", "qwen3", {
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0},
    }),
    Family("Qwen3-MoE", "qwen3_moe", _MOE),
    Family("Qwen3-Next", "qwen3_next", {
        **_MOE, "layer_types": _LINEAR_FULL, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
        "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    }),
    Family("Phi-3 (sliding window)", "phi3", {"sliding_window": WINDOW}),
    Family("Phi-3 (longrope)", "phi3", {"rope_parameters": _LONGROPE, "original_max_position_embeddings": 256}),
    Family("Phi-4", "phi3", {"num_key_value_heads": 2}),
    Family("PhiMoE", "phimoe", _MOE),
    Family("Gemma", "gemma", {"tie_word_embeddings": True}),
    Family("Gemma 2", "gemma2", {
        "layer_types": _SLIDING_FULL, "sliding_window": WINDOW, "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 8.0, "query_pre_attn_scalar": 16, "tie_word_embeddings": True,
    }),
    Family("Gemma 3 (text)", "gemma3_text", {
        "layer_types": _SLIDING_FULL, "sliding_window": WINDOW, "rope_parameters": _BY_LAYER,
        "query_pre_attn_scalar": 16, "tie_word_embeddings": True,
    }),
    Family("Gemma 3 (with images)", "gemma3", {
        "layer_types": _SLIDING_FULL, "sliding_window": WINDOW, "rope_parameters": _BY_LAYER,
        "query_pre_attn_scalar": 16, "tie_word_embeddings": True,
    }, has_vision=True),
    Family("Gemma 3n (text)", "gemma3n_text", {
        "layer_types": _SLIDING_FULL, "sliding_window": WINDOW, "rope_parameters": _BY_LAYER, "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 261, "laurel_rank": 8,
        "intermediate_size": [96] * 4, "activation_sparsity_pattern": [0.0] * 4, "tie_word_embeddings": True,
    }),
    Family("Mistral (sliding window)", "mistral", {"sliding_window": WINDOW}),
    Family("Mixtral", "mixtral", _MOE),
    Family("Ministral", "ministral", {"layer_types": _SLIDING_FULL, "sliding_window": WINDOW}),
    Family("DeepSeek V2 (MLA, YaRN)", "deepseek_v2", {**_MLA, "rope_parameters": _YARN, "n_group": 1}),
    Family("DeepSeek V3 (MLA, YaRN)", "deepseek_v3", {**_MLA, "rope_parameters": _YARN}),
    Family("gpt-oss (sinks)", "gpt_oss", {
        **_MOE, "layer_types": _SLIDING_FULL, "sliding_window": WINDOW, "rope_parameters": _YARN,
    }),
    Family("Granite", "granite", {"attention_multiplier": 0.2, "residual_multiplier": 0.5, "logits_scaling": 2.0}),
    Family("Granite MoE", "granitemoe", _MOE),
    Family("Granite 4 (hybrid)", "granitemoehybrid", {
        **_MOE, **_MAMBA, "layer_types": _LINEAR_FULL, "shared_intermediate_size": 32,
        "position_embedding_type": "rope",
    }),
    Family("OLMo", "olmo", {}),
    Family("OLMo 2", "olmo2", {}),
    Family("OLMo 3", "olmo3", {"layer_types": _SLIDING_FULL, "sliding_window": WINDOW}),
    Family("OLMoE", "olmoe", _MOE),
    Family("SmolLM3 (layers without RoPE)", "smollm3", {"no_rope_layers": [1, 0, 1, 0], "tie_word_embeddings": True}),
    Family("GLM-4", "glm4", {}),
    Family("GLM-4-MoE", "glm4_moe", {
        **_MOE, "n_routed_experts": 4, "n_shared_experts": 1, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
    }),
    Family("Cohere", "cohere", {"tie_word_embeddings": True, "logit_scale": 0.5}),
    Family("Cohere 2", "cohere2", {
        "layer_types": _SLIDING_FULL, "sliding_window": WINDOW, "tie_word_embeddings": True, "logit_scale": 0.5,
    }),
    Family("Falcon-H1 (hybrid)", "falcon_h1", _MAMBA),
    Family("Mamba 2", "mamba2", {
        "num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 1, "chunk_size": 16, "expand": 2,
    }),
    Family("Mamba", "mamba", {"state_size": 8}),
    Family("Jamba (hybrid)", "jamba", {
        **_MOE, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False, "mamba_d_state": 8,
    }),
    Family("Bamba (hybrid)", "bamba", {**_MAMBA, "attn_layer_indices": [1, 3]}),
    Family("LFM2 (hybrid)", "lfm2", {
        "layer_types": ["conv", "full_attention", "conv", "full_attention"], "block_auto_adjust_ff_dim": False,
        "tie_word_embeddings": True,
    }),
    Family("Zamba 2 (hybrid)", "zamba2", {
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "mamba_d_state": 16, "mamba_ngroups": 1,
        "n_mamba_heads": 4, "chunk_size": 16, "use_mamba_kernels": False, "num_key_value_heads": 4,
        "attention_hidden_size": 128, "attention_head_dim": 32,
    }),
    Family("RecurrentGemma (hybrid)", "recurrent_gemma", {
        "block_types": ["recurrent", "attention"], "attention_window_size": WINDOW, "lru_width": 64,
        "logits_soft_cap": 8.0, "tie_word_embeddings": True,
    }),
    Family("Nemotron-H (hybrid)", "nemotron_h", {
        "layers_block_type": ["mamba", "attention", "mamba", "mlp"], "mamba_num_heads": 4, "mamba_head_dim": 32,
        "ssm_state_size": 16, "n_groups": 1, "chunk_size": 16,
    }),
    Family("MiniMax (linear attention)", "minimax", {**_MOE, "layer_types": _LINEAR_FULL, "block_size": 16}),
    Family("Falcon", "falcon", {
        "head_dim": None, "multi_query": True, "new_decoder_architecture": False, "alibi": False}),
    Family("Falcon (ALiBi)", "falcon", {
        "head_dim": None, "alibi": True, "new_decoder_architecture": False, "multi_query": True}),
    Family("GPT-NeoX", "gpt_neox", {}),
    Family("GPT-2", "gpt2", {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": CONTEXT}),
    Family("MPT (ALiBi)", "mpt", {"d_model": 64, "n_heads": 4, "n_layers": 3, "max_seq_len": CONTEXT}),
    Family("Bloom (ALiBi)", "bloom", {"n_layer": 3, "n_head": 4}),
    Family("StableLM", "stablelm", {}),
    Family("StarCoder2 (sliding window)", "starcoder2", {"sliding_window": WINDOW}),
    Family("ERNIE 4.5", "ernie4_5", {"tie_word_embeddings": True}),
    Family("EXAONE 4", "exaone4", {"layer_types": _SLIDING_FULL, "sliding_window": WINDOW}),
    Family("Hunyuan", "hunyuan_v1_dense", {}),
    Family("Seed-OSS", "seed_oss", {"attention_dropout": 0.0, "residual_dropout": 0.0}),
    Family("Apertus", "apertus", {}),
    Family("T5 (encoder-decoder)", "t5", {
        "d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0,
    }, auto_class=AutoModelForSeq2SeqLM, refused=True),
    Family("BERT (encoder)", "bert", {}, auto_class=AutoModel, refused=True),
    Family("BERT written as a decoder", "bert", {}, refused=True),
    Family("GPTQ without its package", "llama", {}, refused=True, extra_config={
        "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32},
    }),
    Family("AWQ without its package", "llama", {}, refused=True, extra_config={
        "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 32},
    }),
    Family("bitsandbytes without its package", "llama", {}, refused=True, extra_config={
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    }),
    Family("compressed-tensors without its package", "llama", {}, refused=True, extra_config={
        "quantization_config": {"quant_method": "compressed-tensors", "config_groups": {}},
    }),
    Family("Files that lack weights", "llama", {}, refused=True, extra_config={"num_hidden_layers": 6}),
)  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each byte and for each special text of the chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in _SPECIAL[:3]])
    core.add_tokens([AddedToken(text, special=False, normalized=False) for text in _SPECIAL[3:]])
    fast: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|pad|>"
    )
    fast.chat_template = _TEMPLATE
    return fast


def write_family(family: Family, folder: Path, seed: int = 0) -> None:
    """Writes a random model of the family, in float32, and its tokenizer."""
    fast = tokenizer()
    sizes: dict[str, Any] = {
        "vocab_size": len(fast), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": CONTEXT,
        "initializer_range": 0.2, "tie_word_embeddings": False, "bos_token_id": None, "pad_token_id": 0,
        "eos_token_id": fast.eos_token_id, **family.options,
    }  # fmt: skip
    sizes = {name: value for name, value in sizes.items() if value is not None or name == "bos_token_id"}
    torch.manual_seed(seed)
    if family.has_vision:
        vision = {
            "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 16, "patch_size": 8,
        }  # fmt: skip
        ids = {"boi_token_index": 1, "eoi_token_index": 2, "image_token_index": 3, "mm_tokens_per_image": 4}
        config = AutoConfig.for_model(family.model_type, text_config=sizes, vision_config=vision, **ids)
        config.tie_word_embeddings = sizes["tie_word_embeddings"]
    else:
        config = AutoConfig.for_model(family.model_type, **sizes)
    model = family.auto_class.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    if family.extra_config:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **family.extra_config}))
