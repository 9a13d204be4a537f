"""Rows that supervised fine-tuning reads as they are: TRL's `trl sft` with `prompt` and `completion` columns of text.

The prompt is the student's own first turn, rendered once here and ending with `<think>`; the completion is the
steps, `</think>` and the final answer. Chat messages would not do: a student's template is free to drop the thinking
of a reply (those of DeepSeek's distilled models do), and then nobody notices that only the answer is learnt. The
trainer computes the loss on the completion, which it ends with the student's end token.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from cord_worker.config import ModelConfig
from cord_worker.engines.protocol import Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.tokenizer import load_tokenizer
from cord_worker.export.files import ExportError
from cord_worker.export.forms import form_of
from cord_worker.export.jsonl import export_failures
from cord_worker.export.report import ExportReport, Filters, look_up
from cord_worker.export.rows import Schema, write_rows
from cord_worker.prompting.first_turn import DEFAULT_DATE, TurnPiece
from cord_worker.prompting.trajectory import ANSWER_OPENING, Segmentation, scoring_pieces
from cord_worker.store.database import Database
from cord_worker.store.reports.results import Result, stream_results

COLUMNS: dict[str, Schema] = {"id": "text", "prompt": "text", "completion": "text"}


class Student:
    """Writes prompts and completions for the model whose tokenizer it was given."""

    def __init__(self, path: str) -> None:
        """`path` is a model's folder or hub id; only its tokenizer is read. Raises ExportError and EngineLoadError."""
        tokenizer = load_tokenizer(EngineSettings.of(ModelConfig(path=path)))
        if tokenizer is None:
            raise ExportError(f"no tokenizer of {path!r} was found: give --student a model's folder or its hub id.")
        self._chat: Any = tokenizer.chat
        self._codec = tokenizer.codec
        opening = list(self._chat("")["input_ids"])
        # A trainer encodes the text as any other: where that writes the start token, the text must not hold it, too.
        self._start = str(self._chat.bos_token) if opening and opening[0] == self._chat.bos_token_id else ""

    def row(
        self, result: Result, segmentation: Segmentation, today: datetime.date = DEFAULT_DATE
    ) -> dict[str, str] | None:
        """The row of a trajectory, with the run's date where the student's template shows one. None where there is no
        final answer, and where its text or its question holds one of the student's control tokens: in a text a trainer
        cannot tell whose they are."""
        answer = result.answer_text.strip()
        if not answer or not result.steps:
            return None
        turn = Turn(question=result.question, passage=result.passage, date=today)
        first = self._codec.first_turn(turn)
        steps = scoring_pieces([step.text for step in result.steps], segmentation)
        marked = segmentation.has_markers
        thinking = [TurnPiece(text, is_content=not marked or index % 2 == 1) for index, text in enumerate(steps)]
        completion = [*thinking, TurnPiece(self._codec.tags.own(ANSWER_OPENING), False), TurnPiece(answer, True)]
        if self._codec.breaks_out([*first.pieces, *completion]):
            return None
        return {
            "id": result.key,
            "prompt": first.text.removeprefix(self._start),
            "completion": "".join(piece.text for piece in completion),
        }


def export_sft(
    database: Database,
    run_name: str | None,
    output: str,
    student: Student,
    *,
    filters: Filters | None = None,
    failures: str | None = None,
) -> ExportReport:
    """Writes the run's trajectories as rows to train `student` on, as the name of `output` says (see `forms`).

    The files are complete or as before. Raises RunNotFound, and ExportError where a file cannot be written.
    """
    for name in (output, failures):
        if name is not None:
            form_of(name)
    found = database.run(lambda connection: look_up(connection, run_name))
    rows = _Rows(student, found.segmentation, found.run.prompt_date)
    with database.transaction() as connection:
        fitting = rows.of(stream_results(connection, found.run.id, **asdict(filters or Filters())))
        exported = write_rows(output, fitting, COLUMNS)
    if failures is not None:
        export_failures(database, found.run.id, failures)
    return found.report(exported, rows.unfit)


class _Rows:
    """Counts what it leaves out."""

    def __init__(self, student: Student, segmentation: Segmentation, today: datetime.date) -> None:
        self.unfit = 0
        self._student = student
        self._segmentation = segmentation
        self._today = today

    def of(self, results: Iterable[Result]) -> Iterator[dict[str, str]]:
        for result in results:
            row = self._student.row(result, self._segmentation, self._today)
            if row is None:
                self.unfit += 1
            else:
                yield row
