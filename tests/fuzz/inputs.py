"""What several fuzzed targets share: segmentations, texts, and odd values for changed inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from cord_worker.prompting.trajectory import Segmentation, SegmentationRule

SEGMENTATIONS = tuple(Segmentation.of(rule, ("wait", "let me check", "等等")) for rule in SegmentationRule)


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape" if data[:1] == b"\xff" else "replace")


ODD: tuple[Any, ...] = (
    0, 1, -1, 2**63, 10**400, 0.0, -0.5, 1e308, math.inf, math.nan, True, False, "", " ", "\0", "\ud800", "a" * 70_000,
    "../..", "cord", "greedy",
    "curation", "mcts", "sample", "integration", "reward_model", "binary_judgment", "random",
    "line_break", "phrases", "judge", "numeric", "choice", "vllm", "openai", "instant", "reward", [], ["wait"],
    [1, None],
    {}, {"model": "prover"}, {"base_url": "http://x"}, {"relative": 0.1}, None,
)  # fmt: skip


def tables_in(value: Any) -> Iterator[dict[str, Any]]:
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield item
        yield from tables_in(item)
