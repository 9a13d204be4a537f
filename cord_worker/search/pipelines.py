"""The pipelines, by their names in `search.pipeline` of cord.toml."""

from __future__ import annotations

from collections.abc import Mapping

from cord_worker.search import cord, curation, greedy, integration, mcts, sample
from cord_worker.search.decision import Pipeline

PIPELINES: Mapping[str, Pipeline] = {
    "cord": cord,
    "greedy": greedy,
    "curation": curation,
    "integration": integration,
    "mcts": mcts,
    "sample": sample,
}
