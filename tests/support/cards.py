"""Configurations and facts for the cards of exported datasets, without a database."""

from __future__ import annotations

from typing import Any

from cord_worker.config import RunConfig
from cord_worker.export.card import CardFacts
from cord_worker.export.formats import FORMATS
from cord_worker.export.report import ExportReport
from cord_worker.store.reports.status import Counts, Totals


def config(**changed: Any) -> RunConfig:
    """A configuration of one model; `model` and `teacher` change their tables."""
    document: dict[str, Any] = {
        "models": {"m": {"path": "/home/someone/secret/model-7b", **changed.pop("model", {})}},
        "teachers": [{"name": "t", "model": "m", **changed.pop("teacher", {})}],
        "prover": {"model": "m"},
        **changed,
    }
    return RunConfig.model_validate(document)


def facts(run_config: RunConfig | None = None, **changed: Any) -> CardFacts:
    """The facts in the card of a run of two problems."""
    totals = Totals(
        done=2, mean_score=0.5, checked=2, correct=1, undecided=0, accuracy=0.5, mean_steps=3.0, candidates={},
        teachers=(), answer_tokens=7, scored_tokens=0, prover_seconds=0.0, first_admitted_at=None,
        last_finished_at=None, finished_recently=0, recent_seconds=0.0,
    )  # fmt: skip
    report = ExportReport("mine", "jsonl", "trajectory", 2, {"rows.jsonl": 2}, 0, 0, 0)
    values: dict[str, Any] = {
        "run": "mine", "config": run_config or config(), "config_fingerprint": "f" * 16, "run_digest": None,
        "prompt_date": "2025-01-31", "scoring_mode": None, "code_version": "1.2.3",
        "counts": Counts({"done": 2}, 0, {}, 0.0, 0.0, 0.0), "totals": totals, "results": 2, "datasets": [],
        "format": FORMATS["jsonl"], "fields": {"id": "text"}, "report": report, "output": "rows.jsonl",
        "files": {"rows.jsonl": ("train", 2)}, "command": ["--format jsonl"], "license": "mit", "repository": None,
        "trimmed_from": None, "trim_above": None, "rescoring": None,
    }  # fmt: skip
    return CardFacts(**{**values, **changed})
