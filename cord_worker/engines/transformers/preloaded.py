"""Imports everything that the transformers engine needs; do it once, before processes are forked.

transformers imports lazily: most of it would otherwise be imported only when a model is loaded. Any architecture
triggers these imports. No thread is started and no device is touched.
"""

from __future__ import annotations

import contextlib

from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.models.llama import modeling_llama

from cord_worker.engines.transformers import engine as transformers_engine
from cord_worker.engines.transformers import reward_engine

__all__ = [
    "AutoConfig",
    "AutoModelForCausalLM",
    "AutoModelForSequenceClassification",
    "AutoTokenizer",
    "modeling_llama",
    "reward_engine",
    "transformers_engine",
]

with contextlib.suppress(ImportError):  # since 5.0: a thousand patterns, compiled when the first model is loaded
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llama")  # type: ignore[no-untyped-call]
