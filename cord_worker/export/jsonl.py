"""JSON lines: one trajectory an object, in dataset order, the same bytes for the same run.

Nothing that differs between two equal runs is written: no keys of the database, times, workers or durations.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from cord_worker.export.files import replaced_file
from cord_worker.export.report import ExportReport, Filters, look_up
from cord_worker.export.rows import write_lines
from cord_worker.prompting.trajectory import ANSWER_OPENING, THINK_OPEN, Segmentation, trajectory_text
from cord_worker.store.database import Database
from cord_worker.store.results import Failure, Provenance, Result, stream_failures, stream_results


def export_run(
    database: Database,
    run_name: str | None,
    output: str,
    *,
    filters: Filters | None = None,
    failures: str | None = None,
) -> ExportReport:
    """Writes the run's trajectories to `output` (a path, `-` for standard output), and its failures where asked.

    The files are complete or as before. Raises RunNotFound, and ExportError where a file cannot be written.
    """
    found = database.run(lambda connection: look_up(connection, run_name))
    made = _provenance(found.provenance)
    with database.transaction() as connection, replaced_file(output) as file:
        results = stream_results(connection, found.run.id, **asdict(filters or Filters()))
        exported = write_lines(file, (result_line(result, made, found.segmentation) for result in results))
    if failures is not None:
        export_failures(database, found.run.id, failures)
    return found.report(exported)


def export_failures(database: Database, run_id: int, output: str) -> None:
    """Writes the run's failed problems with their reasons. Raises ExportError where the file cannot be written."""
    with database.transaction() as connection, replaced_file(output) as file:
        write_lines(file, (failure_line(failure) for failure in stream_failures(connection, run_id)))


def result_line(result: Result, provenance: dict[str, Any], segmentation: Segmentation) -> dict[str, Any]:
    """A trajectory as the object of its line; its keys are always these, in this order.

    `sample` follows where a problem has several lines, `passage` where there is one.
    """
    answer = result.answer_text.strip()
    thinking = trajectory_text([step.text for step in result.steps], segmentation)
    verification = result.verification or {}
    line = {
        "id": result.key,
        "question": result.question,
        "answer": result.answer,
        "trajectory": f"{THINK_OPEN}\n{thinking}{ANSWER_OPENING}{answer}",
        "final_answer": answer,
        "score": result.score,
        "correct": result.correct,
        "verification": {
            "method": verification.get("method"),
            "extracted": verification.get("extracted"),
            "type": verification.get("type"),
            "compared": (verification.get("compared") or {}).get("method"),
        },
        "finish": result.finish,
        "steps": [
            {
                "step": step.step,
                "teacher": step.teacher,
                "text": step.text,
                "score": step.score,
                "finish_reason": step.finish_reason,
                "tokens": step.tokens,
            }
            for step in result.steps
        ],
        "provenance": provenance,
        "metadata": result.attributes,
    }
    if result.sample is not None:
        line["sample"] = result.sample
    if result.passage is not None:
        line["passage"] = result.passage
    return line


def failure_line(failure: Failure) -> dict[str, Any]:
    """A failed problem as the object of its line."""
    return {"id": failure.key, "question": failure.question, "answer": failure.answer, "reason": failure.reason}


def _provenance(provenance: Provenance) -> dict[str, Any]:
    prover = provenance.config["prover"] if provenance.prover_model is not None else {}
    return {
        "run": provenance.run,
        "config_fingerprint": provenance.config_fingerprint,
        "seed": provenance.seed,
        "prover_model": provenance.prover_model,
        "scoring_template": prover.get("scoring_template"),
        "scoring_mode": provenance.scoring_mode,
        "code_version": provenance.code_version,
    }
