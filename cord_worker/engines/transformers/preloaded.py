"""Imports whatever hosting a model with transformers needs, to be done once before processes are forked.

transformers imports lazily, so that most of it would be imported only when a model is loaded: any architecture brings
it in. No thread is started and no device is looked at.
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

with contextlib.suppress(ImportError):  # from 5 on: a thousand patterns that are compiled at the first model
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llama")  # type: ignore[no-untyped-call]
