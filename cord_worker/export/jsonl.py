"""JSON lines: one trajectory an object, in dataset order, the same bytes for the same run.

Nothing that differs between two equal runs is written: no keys of the database, times, workers or durations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, Any

from cord_worker.export.files import STANDARD_OUTPUT, replaced_file
from cord_worker.prompting.trajectory import ANSWER_OPENING, THINK_OPEN, trajectory_text
from cord_worker.store.database import Database
from cord_worker.store.results import (
    Failure,
    Provenance,
    Result,
    read_provenance,
    stream_failures,
    stream_results,
)
from cord_worker.store.runs import RunRow, resolve_run
from cord_worker.store.status import Counts, read_counts


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported of which run. `left_out` counts done problems that were not asked for."""

    run: str
    exported: int
    left_out: int
    failed: int
    unfinished: int

    def sentence(self, output: str) -> str:
        """For people."""
        others = [f"{self.left_out} done ones left out"] if self.left_out else []
        others += [f"{self.failed} failed problems not exported"] if self.failed else []
        others += [f"{self.unfinished} still being worked on"] if self.unfinished else []
        beside = f" ({', '.join(others)})" if others else ""
        where = "standard output" if output == STANDARD_OUTPUT else output
        return f"run {self.run}: {self.exported} trajectories to {where}{beside}"


def export_run(
    database: Database,
    run_name: str | None,
    output: str,
    *,
    only_correct: bool = False,
    failures: str | None = None,
) -> ExportReport:
    """Writes the run's trajectories to `output` (a path, `-` for standard output), and its failures where asked.

    The files are complete or as before. Raises RunNotFound, and ExportError where a file cannot be written.
    """

    def look(connection: Any) -> tuple[RunRow, Provenance, Counts]:
        run = resolve_run(connection, run_name)
        return run, read_provenance(connection, run.id), read_counts(connection, run.id)

    run, provenance, counts = database.run(look)
    made = _provenance(provenance)
    with database.transaction() as connection, replaced_file(output) as file:
        results = stream_results(connection, run.id, only_correct=only_correct)
        exported = _write(file, (result_line(result, made) for result in results))
    if failures is not None:
        with database.transaction() as connection, replaced_file(failures) as file:
            _write(file, (failure_line(failure) for failure in stream_failures(connection, run.id)))
    return ExportReport(
        run=run.name,
        exported=exported,
        left_out=counts.problems.get("done", 0) - exported,
        failed=counts.problems.get("failed", 0),
        unfinished=counts.total - counts.final,
    )


def result_line(result: Result, provenance: dict[str, Any]) -> dict[str, Any]:
    """A trajectory as the object of its line; its keys are always these, in this order."""
    answer = result.answer_text.strip()
    thinking = trajectory_text([step.text for step in result.steps])
    verification = result.verification or {}
    line = {
        "id": result.key,
        "question": result.question,
        "answer": result.answer,
        "trajectory": f"{THINK_OPEN}\n{thinking}{ANSWER_OPENING}{answer}",
        "final_answer": answer,
        "score": result.score,
        "correct": result.correct,
        "verification": {"method": verification.get("method"), "extracted": verification.get("extracted")},
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
    if result.passage is not None:
        line["passage"] = result.passage
    return line


def failure_line(failure: Failure) -> dict[str, Any]:
    """A failed problem as the object of its line."""
    return {"id": failure.key, "question": failure.question, "answer": failure.answer, "reason": failure.reason}


def _provenance(provenance: Provenance) -> dict[str, Any]:
    prover = provenance.config.get("prover", {})
    return {
        "run": provenance.run,
        "config_fingerprint": provenance.config_fingerprint,
        "seed": provenance.seed,
        "prover_model": provenance.prover_model,
        "scoring_template": prover.get("scoring_template"),
        "scoring_mode": provenance.scoring_mode,
        "code_version": provenance.code_version,
    }


def _write(file: IO[bytes], lines: Iterable[dict[str, Any]]) -> int:
    encode: Callable[[dict[str, Any]], str] = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    count = 0
    for line in lines:
        file.write(encode(line).encode() + b"\n")
        count += 1
    return count
