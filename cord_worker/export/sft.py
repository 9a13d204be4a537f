"""Rows for supervised fine-tuning: TRL's `trl sft` reads them directly, with text columns `prompt` and `completion`.

The prompt is the student's own first turn, rendered here once and ending with `<think>`. The completion is the steps,
`</think>` and the final answer. Chat messages would be unsafe: a student's template may drop the thinking of a reply
(those of DeepSeek's distilled models do), and training would then silently teach only the answer. The trainer computes
the loss on the completion, to which it adds the student's end token.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from cord_worker.config import ModelConfig
from cord_worker.contamination import QuestionIndex
from cord_worker.engines.protocol import Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.tokenizer import load_tokenizer
from cord_worker.export.decontaminate import Decontaminator
from cord_worker.export.files import ExportError
from cord_worker.export.formats import format_of
from cord_worker.export.jsonl import export_failures
from cord_worker.export.report import ExportReport, Filters, read_scope
from cord_worker.export.rows import Schema, write_rows
from cord_worker.prompting.first_turn import DEFAULT_DATE, TurnPiece
from cord_worker.prompting.trajectory import ANSWER_OPENING, Segmentation, scoring_pieces
from cord_worker.store.database import Database
from cord_worker.store.reports.results import Result, stream_results

COLUMNS: dict[str, Schema] = {"id": "text", "prompt": "text", "completion": "text"}


class Student:
    """Makes prompts and completions for the model that is trained, with its tokenizer."""

    def __init__(self, path: str) -> None:
        """`path` is a model's folder or hub id; only its tokenizer is read. Raises ExportError and EngineLoadError."""
        tokenizer = load_tokenizer(EngineSettings.of(ModelConfig(path=path)))
        if tokenizer is None:
            raise ExportError(f"no tokenizer of {path!r} was found: give --student a model's folder or its hub id.")
        self._chat: Any = tokenizer.chat
        self._codec = tokenizer.codec
        opening = list(self._chat("")["input_ids"])
        # A trainer encodes the prompt as ordinary text. If that adds the start token, the text must not hold it too.
        self._start = str(self._chat.bos_token) if opening and opening[0] == self._chat.bos_token_id else ""

    def row(
        self, result: Result, segmentation: Segmentation, today: datetime.date = DEFAULT_DATE
    ) -> dict[str, str] | None:
        """The row of a trajectory; `today` is the run's date, for templates that show one. None without a final answer,
        or if the text or question holds one of the student's control tokens: in plain text a trainer cannot tell them
        from its own."""
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
    benchmark: QuestionIndex | None = None,
) -> ExportReport:
    """Writes the run's trajectories as training rows for `student`, in the format that the name of `output` says (see
    `formats`).

    Problems whose question `benchmark` has are left out. Each file is written completely or stays unchanged. Raises
    RunNotFound, and ExportError if a file cannot be written.
    """
    for name in (output, failures):
        if name is not None:
            format_of(name)
    found = database.run(lambda connection: read_scope(connection, run_name))
    rows = _Rows(student, found.segmentation, found.run.prompt_date)
    clean = Decontaminator(benchmark)
    with database.transaction() as connection:
        fitting = rows.of(clean.of(stream_results(connection, found.run.id, **asdict(filters or Filters()))))
        exported = write_rows(output, fitting, COLUMNS)
    if failures is not None:
        export_failures(database, found.run.id, failures)
    return found.report(exported, rows.unfit, clean.problems)


class _Rows:
    """Makes the rows and counts those that it leaves out."""

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
