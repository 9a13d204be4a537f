"""The ways to search, by the name that `search.pipeline` of cord.toml gives them."""

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
