"""The format `jsonl`: everything known about each trajectory, in one row; the same run gives the same rows.

Nothing that differs between two equal runs is written: no database keys, times, workers or durations.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cord_worker.export.format import LeftOut, Scope
from cord_worker.export.schema import Fields, Row, Schema
from cord_worker.prompting.trajectory import ANSWER_OPENING, THINK_OPEN, trajectory_text

if TYPE_CHECKING:
    from cord_worker.store.reports.results import Failure, Provenance, Result

_STEP: dict[str, Schema] = {
    "step": "integer",
    "teacher": "text",
    "text": "text",
    "score": "number",
    "finish_reason": "text",
    "tokens": "integer",
}
_PROVENANCE: dict[str, Schema] = {
    "run": "text",
    "config_fingerprint": "text",
    "seed": "integer",
    "prover_model": "text",
    "scoring_template": "text",
    "prover_score": "text",
    "score_full_stop": "flag",
    "scoring_mode": "text",
    "code_version": "text",
    "run_digest": "text",
}
_VERIFICATION = ("method", "extracted", "type", "compared")
FAILURE_FIELDS: Fields = {"id": "text", "question": "text", "answer": "text", "reason": "text"}


def fields(scope: Scope) -> Fields:
    """Fields and their types. `sample` is a field if the run's problems have several results, `passage` if they have
    passages."""
    facts = scope.facts()
    return {
        "id": "text",
        "question": "text",
        "answer": "text",
        "trajectory": "text",
        "final_answer": "text",
        "base_score": "number",
        "score": "number",
        "correct": "flag",
        "verification": dict.fromkeys(_VERIFICATION, "text"),
        "finish": "text",
        "steps": [_STEP],
        "provenance": _PROVENANCE,
        "metadata": facts.metadata.schema,
        **({"sample": "integer"} if facts.has_samples else {}),
        **({"passage": "text"} if facts.has_passages else {}),
    }


def rows(scope: Scope, results: Sequence[Result]) -> Iterator[Row | LeftOut]:
    """A row for each trajectory."""
    facts = scope.facts()
    for result in results:
        answer = result.answer_text.strip()
        thinking = trajectory_text([step.text for step in result.steps], scope.segmentation)
        yield {
            "id": result.key,
            "question": result.question,
            "answer": result.answer,
            "trajectory": f"{THINK_OPEN}\n{thinking}{ANSWER_OPENING}{answer}",
            "final_answer": answer,
            "base_score": result.base_score,
            "score": result.score,
            "correct": result.correct,
            "verification": _verification(result.verification or {}),
            "finish": result.finish,
            "steps": [asdict(step) for step in result.steps],
            "provenance": facts.provenance,
            "metadata": facts.metadata.of(result.attributes),
            **({"sample": result.sample} if facts.has_samples else {}),
            **({"passage": result.passage} if facts.has_passages else {}),
        }


def failure_row(failure: Failure) -> Row:
    """A failed problem as a row."""
    return {"id": failure.key, "question": failure.question, "answer": failure.answer, "reason": failure.reason}


def provenance_of(provenance: Provenance, digest: str | None) -> dict[str, Any]:
    """What produced the run's trajectories, as the field `provenance`."""
    from cord_worker.config import DEFAULT_SCORE  # imports pydantic, as the next module does
    from cord_worker.export.public_names import public_name

    prover = provenance.config["prover"] if provenance.prover_model is not None else {}

    return {
        "run": provenance.run,
        "config_fingerprint": provenance.config_fingerprint,
        "seed": provenance.seed,
        "prover_model": None if provenance.prover_model is None else public_name(provenance.prover_model),
        "scoring_template": prover.get("scoring_template"),
        "prover_score": prover.get("score", DEFAULT_SCORE) if prover else None,
        "score_full_stop": prover.get("score_full_stop", False) if prover else None,
        "scoring_mode": provenance.scoring_mode,
        "code_version": provenance.code_version,
        "run_digest": digest,
    }


def _verification(found: dict[str, Any]) -> dict[str, Any]:
    """How the answer was checked; `compared` is the method of the comparison before the judge, None without a judge."""
    found = {**found, "compared": (found.get("compared") or {}).get("method")}
    return {name: _text(found.get(name)) for name in _VERIFICATION}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
