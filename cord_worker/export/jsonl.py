"""Exports one row per trajectory, in dataset order; the same run gives the same bytes.

Nothing that differs between two equal runs is written: no database keys, times, workers or durations.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from cord_worker.config import RunConfig
from cord_worker.contamination import QuestionIndex
from cord_worker.export.decontaminate import Decontaminator
from cord_worker.export.formats import format_of
from cord_worker.export.metadata import MAX_FIELDS, Metadata
from cord_worker.export.report import ExportReport, Filters, read_scope
from cord_worker.export.rows import Schema, write_rows
from cord_worker.prompting.trajectory import ANSWER_OPENING, THINK_OPEN, Segmentation, trajectory_text
from cord_worker.store.audit.digest_invariants import run_digest
from cord_worker.store.database import Database
from cord_worker.store.reports.results import (
    Failure,
    Provenance,
    Result,
    attribute_kinds,
    has_passages,
    stream_failures,
    stream_results,
)

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
    "scoring_mode": "text",
    "code_version": "text",
    "run_digest": "text",
}
_VERIFICATION = ("method", "extracted", "type", "compared")
_FAILURE: dict[str, Schema] = {"id": "text", "question": "text", "answer": "text", "reason": "text"}


@dataclass(frozen=True, slots=True)
class TrajectoryRows:
    """Turns the results of one run into rows that all have the same fields with the same types.

    `sample` is a field if the run's problems have several results, `passage` if they have passages.
    """

    provenance: dict[str, Any]
    segmentation: Segmentation
    metadata: Metadata
    has_samples: bool
    has_passages: bool

    @property
    def schema(self) -> dict[str, Schema]:
        """Fields and their types, in the order of the rows."""
        schema: dict[str, Schema] = {
            "id": "text",
            "question": "text",
            "answer": "text",
            "trajectory": "text",
            "final_answer": "text",
            "score": "number",
            "correct": "flag",
            "verification": dict.fromkeys(_VERIFICATION, "text"),
            "finish": "text",
            "steps": [_STEP],
            "provenance": _PROVENANCE,
            "metadata": self.metadata.schema,
        }
        if self.has_samples:
            schema["sample"] = "integer"
        if self.has_passages:
            schema["passage"] = "text"
        return schema

    def row(self, result: Result) -> dict[str, Any]:
        """A trajectory as a row."""
        answer = result.answer_text.strip()
        thinking = trajectory_text([step.text for step in result.steps], self.segmentation)
        row = {
            "id": result.key,
            "question": result.question,
            "answer": result.answer,
            "trajectory": f"{THINK_OPEN}\n{thinking}{ANSWER_OPENING}{answer}",
            "final_answer": answer,
            "score": result.score,
            "correct": result.correct,
            "verification": _verification(result.verification or {}),
            "finish": result.finish,
            "steps": [asdict(step) for step in result.steps],
            "provenance": self.provenance,
            "metadata": self.metadata.of(result.attributes),
        }
        if self.has_samples:
            row["sample"] = result.sample
        if self.has_passages:
            row["passage"] = result.passage
        return row


def export_run(
    database: Database,
    run_name: str | None,
    output: str,
    *,
    filters: Filters | None = None,
    failures: str | None = None,
    benchmark: QuestionIndex | None = None,
) -> ExportReport:
    """Writes the run's trajectories to `output` (a path, `-` for standard output), and its failures if asked for.

    The name of `output` decides the format (see `formats`). Problems whose question `benchmark` has are left out. Each
    file is written completely or stays unchanged. Raises RunNotFound, and ExportError if a file cannot be written.
    """
    for name in (output, failures):
        if name is not None:
            format_of(name)
    found = database.run(lambda connection: read_scope(connection, run_name))
    clean = Decontaminator(benchmark)
    with database.transaction() as connection:
        rows = TrajectoryRows(
            _provenance(found.provenance, run_digest(connection, found.run.id)),
            found.segmentation,
            Metadata(attribute_kinds(connection, found.run.id, MAX_FIELDS + 1)),
            has_samples=RunConfig.from_stored(found.provenance.config).search.pipeline == "sample",
            has_passages=has_passages(connection, found.run.id),
        )
        results = clean.of(stream_results(connection, found.run.id, **asdict(filters or Filters())))
        exported = write_rows(output, (rows.row(result) for result in results), rows.schema)
    if failures is not None:
        export_failures(database, found.run.id, failures)
    return found.report(exported, contaminated=clean.problems)


def export_failures(database: Database, run_id: int, output: str) -> None:
    """Writes the run's failed problems with their reasons. Raises ExportError if the file cannot be written."""
    with database.transaction() as connection:
        write_rows(output, (failure_row(failure) for failure in stream_failures(connection, run_id)), _FAILURE)


def failure_row(failure: Failure) -> dict[str, Any]:
    """A failed problem as a row."""
    return {"id": failure.key, "question": failure.question, "answer": failure.answer, "reason": failure.reason}


def _verification(found: dict[str, Any]) -> dict[str, Any]:
    """How the answer was checked; `compared` is the comparison before a judge was asked, if there was one."""
    found = {**found, "compared": (found.get("compared") or {}).get("method")}
    return {name: _text(found.get(name)) for name in _VERIFICATION}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _provenance(provenance: Provenance, digest: str | None) -> dict[str, Any]:
    prover = provenance.config["prover"] if provenance.prover_model is not None else {}
    return {
        "run": provenance.run,
        "config_fingerprint": provenance.config_fingerprint,
        "seed": provenance.seed,
        "prover_model": provenance.prover_model,
        "scoring_template": prover.get("scoring_template"),
        "scoring_mode": provenance.scoring_mode,
        "code_version": provenance.code_version,
        "run_digest": digest,
    }
