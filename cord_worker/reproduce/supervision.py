"""`make students`: compares students that are trained on whole winners, on trimmed winners, and by step-DPO after SFT
(docs/students.md).

All students are trained on the output of one run of the service. Those of SFT learn from the same problems.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import sqlalchemy as sa

from cord_worker.cli.interrupts import graceful_interrupts
from cord_worker.cli.options import NumberRange, read_settings, state_dir_option
from cord_worker.config import ModelConfig
from cord_worker.display_text import counted
from cord_worker.errors import ConfigError, CordError
from cord_worker.export.exporting import Request, open_export
from cord_worker.export.files import replaced_file
from cord_worker.export.format import Choices
from cord_worker.export.formats import FORMATS
from cord_worker.export.report import Filters
from cord_worker.export.rows import write_rows
from cord_worker.export.schema import Fields, Row
from cord_worker.local.state import write_atomically
from cord_worker.operations.comparison import ComparedRun, Interval, RunComparison, compare_results
from cord_worker.operations.database import open_database
from cord_worker.operations.trimming import Trim, trim_locally, trimmed_run_of
from cord_worker.progress import open_view
from cord_worker.prompting.trajectory import ANSWER_OPENING
from cord_worker.reproduce.carrying_out import Workplace, carry_out
from cord_worker.reproduce.planned_runs import EXAM_PROBLEMS, RUNS, TRAINING_PROBLEMS, exam, write_problems
from cord_worker.reproduce.students import StudentTrainer
from cord_worker.store.database import Database

BASE, WHOLE, TRIMMED, KEPT_ANSWER = "base", "whole", "trimmed", "trimmed-kept-answer"
PREFERRING, BALANCED, CHOSEN = "step-dpo", "step-dpo-and-sft", "chosen-steps"
TITLES = {
    BASE: "before training",
    WHOLE: "whole winners",
    TRIMMED: "trimmed winners, with their new answers",
    KEPT_ANSWER: "trimmed winners, with the answers of the whole ones",
    PREFERRING: "whole winners, then step-DPO",
    BALANCED: "whole winners, then step-DPO plus the loss of SFT on the chosen steps",
    CHOSEN: "whole winners, then the loss of SFT on the chosen steps alone",
}
"""The students and what each learns from, in the order of the table."""
LOSSES: Mapping[str, Sequence[str]] = {
    PREFERRING: ("sigmoid",),
    BALANCED: ("sigmoid", "sft"),
    CHOSEN: ("sft",),
}
"""The losses, as TRL names them, of the students that learn from pairs after SFT on whole winners. The last student
shows the effect of further training without any preference."""
_SOURCE = next(run for run in RUNS if run.run == "cord")
_MIN_MARGIN = 0.1
_INITIAL_MODEL = ModelConfig(path="bundled:student").location()
"""The initial model of all students."""
_DEFAULT_CHOICES = Choices()
_DPO_SCRIPT = Path("deploy/sft/step_dpo.py")
_INTERVAL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Rows that a student learns from, with the types of their fields."""

    fields: Fields
    rows: Sequence[Row]

    @property
    def mean_tokens(self) -> float | None:
        """Mean number of the student's tokens in a completion, with the end token; None for pairs, or without rows."""
        from cord_worker.export.student import Student  # imports torch, which takes seconds

        student = Student(_INITIAL_MODEL)
        counts = [student.count(row["completion"]) for row in self.rows if "completion" in row]
        return fmean(counts) if counts else None

    def write(self, folder: Path) -> Path:
        """Writes the rows to `folder`, where TRL finds them; returns the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(str(folder / "train.jsonl"), self.rows, self.fields)
        return folder


@dataclass(frozen=True, slots=True)
class StudentResult:
    """The result of one student: the number of rows that it was trained on, their mean number of tokens (None for
    pairs, or without rows), and its exam, compared with that of the student of whole winners."""

    student: str
    rows: int
    row_tokens: float | None
    exam: ComparedRun

    def to_json(self) -> dict[str, Any]:
        """A JSON object for scripts; keys are stable."""
        compared = self.exam.to_json()
        return {
            "student": self.student,
            "rows": self.rows,
            "row_tokens": self.row_tokens,
            "pass@1": compared["accuracy"],
            "difference": compared["accuracy_difference"],
            "reply_tokens": compared["tokens"],
        }


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("students-out"),
    show_default=True,
    help="Folder of configurations, rows, students and students.json.",
)
@click.option(
    "--trl",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="TRL's command, which trains the students; the python in the same folder runs step-DPO.",
)
@click.option(
    "--problems",
    type=click.IntRange(1, TRAINING_PROBLEMS),
    default=400,
    show_default=True,
    help="Problems of the run that the students learn from.",
)
@click.option(
    "--exam-problems",
    type=click.IntRange(1, EXAM_PROBLEMS),
    default=300,
    show_default=True,
    help="Problems of the exam.",
)
@click.option(
    "--above",
    type=NumberRange(0.0, 1.0, max_open=True),
    default=0.9,
    show_default=True,
    help="A trimmed winner ends at its first step from which every score is above this number.",
)
@click.option(
    "--sft-settings",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=Path("deploy/sft/tiny.yaml"),
    show_default=True,
    help="YAML of `trl sft`.",
)
@click.option(
    "--dpo-settings",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=Path("deploy/sft/tiny-step-dpo.yaml"),
    show_default=True,
    help="YAML of step-DPO.",
)
@state_dir_option
def main(
    output: Path,
    trl: Path,
    problems: int,
    exam_problems: int,
    above: float,
    sft_settings: Path,
    dpo_settings: Path,
    state_dir: Path | None,
) -> None:
    """Train students on whole and on trimmed winners, and by step-DPO; compare them in an exam.

    If interrupted, run the same command again: it continues where it stopped.
    """
    output.mkdir(parents=True, exist_ok=True)
    try:
        check_options(
            output / "options.json",
            {
                "problems": problems,
                "exam_problems": exam_problems,
                "above": above,
                "sft_settings": sft_settings.read_text(encoding="utf-8"),
                "dpo_settings": dpo_settings.read_text(encoding="utf-8"),
            },
        )
        write_problems(output)
        with graceful_interrupts("run the same command again to continue") as check:
            place = Workplace(output, read_settings(state_dir or output / "state"), click.echo, check, problems)
            trainer = StudentTrainer(trl, sft_settings, _INITIAL_MODEL, output / "students", place.say)
            training_rows = _training_rows(place, above)
            students = _train(trainer, training_rows, dpo_settings, check)
            compared = _examine(students, replace(place, problems=exam_problems))
            with open_database(place.settings) as database:
                trimming = database.run(lambda connection: _compare_trimmed(connection, above))
    except CordError as error:
        raise click.ClickException(str(error)) from error
    report = Report(trimming, student_results(training_rows, compared), compared.problems)
    report.write(output / "students.json")
    for line in report.lines():
        click.echo(line)
    click.echo(output / "students.json")


def check_options(path: Path, options: Mapping[str, Any]) -> None:
    """Writes the options to `path`. Raises ConfigError if the file holds other options, because students that exist are
    not trained again: students of different options would be compared."""
    text = json.dumps(options, indent=2) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ConfigError(
            f"folder {path.parent} holds students that were made with other options (see {path.name}): give another "
            "folder with --output, or those options"
        )
    write_atomically(path, text)


def _training_rows(place: Workplace, above: float) -> Mapping[str, TrainingRows]:
    """The rows that each student is trained on. Makes the run and the trimmed run if they do not exist."""
    carry_out([_SOURCE], place)
    trim_locally(place.settings, Trim(_SOURCE.run, above), open_view(as_json=False), place.check_interrupted)
    with open_database(place.settings) as database:
        trimmed_run = database.run(lambda connection: trimmed_run_of(connection, _SOURCE.run, above))
        right = Filters(only_correct=True)
        whole = _export(database, _SOURCE.run, "sft", right)
        trimmed = _export(database, trimmed_run, "sft", Filters())
        pairs = _export(database, _SOURCE.run, "step-dpo", right, Choices(min_margin=_MIN_MARGIN))
    wholes, shortened = same_problems(whole.rows, trimmed.rows)
    kept = [with_answer_of(row, other) for row, other in zip(shortened, wholes, strict=True)]
    return {
        WHOLE: replace(whole, rows=wholes),
        TRIMMED: replace(trimmed, rows=shortened),
        KEPT_ANSWER: replace(trimmed, rows=kept),
        **dict.fromkeys(LOSSES, pairs),
    }


def _export(
    database: Database, run: str, form: str, filters: Filters, choices: Choices = _DEFAULT_CHOICES
) -> TrainingRows:
    from cord_worker.export.student import Student  # imports torch, which takes seconds

    student = Student(_INITIAL_MODEL)
    with open_export(database, run, Request(FORMATS[form], filters, choices, student=student)) as opened:
        rows = list(opened.rows)
    return TrainingRows(opened.fields, rows)


def same_problems(rows: Sequence[Row], others: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows of the problems that both have: a list of those in `rows`, and a list of those in `others` in the same
    order."""
    known = {row["id"]: row for row in others}
    both = [(row, known[row["id"]]) for row in rows if row["id"] in known]
    return [row for row, _ in both], [other for _, other in both]


def with_answer_of(row: Row, other: Row) -> Row:
    """`row`, with its final answer replaced by that of `other`. Each completion must close the thinking exactly
    once."""
    thinking, _ = row["completion"].split(ANSWER_OPENING)
    _, answer = other["completion"].split(ANSWER_OPENING)
    return {**row, "completion": thinking + ANSWER_OPENING + answer}


def _train(
    trainer: StudentTrainer,
    training_rows: Mapping[str, TrainingRows],
    dpo_settings: Path,
    check_interrupted: Callable[[], None],
) -> dict[str, str]:
    """Folders of all students; those that exist are not trained again. Raises TrainingFailed."""
    folders = {name: one.write(trainer.folder / f"{name}.lessons") for name, one in training_rows.items()}
    step_dpo = [
        str(trainer.trl.with_name("python")), str(_DPO_SCRIPT), "--config", str(dpo_settings),
        "--model_name_or_path", str(trainer.folder / WHOLE),
    ]  # fmt: skip
    students = {BASE: _INITIAL_MODEL}
    try:
        for name in training_rows:  # one after the other: the student of whole winners before those that continue it
            continued = [*step_dpo, "--dataset_name", str(folders[name]), "--loss_type", *LOSSES.get(name, ())]
            trainer.train(name, continued if name in LOSSES else trainer.sft(folders[name]))
            while trainer.is_busy:
                check_interrupted()
                students |= {trained: str(folder.resolve()) for trained, folder in trainer.take_trained().items()}
                time.sleep(_INTERVAL_SECONDS)
    finally:
        trainer.close()
    return students


def _examine(students: Mapping[str, str], place: Workplace) -> RunComparison[ComparedRun]:
    """Lets each student write one answer to every problem of the exam, and compares the students. The first one in the
    comparison is the student of whole winners; the others follow in the order of TITLES."""
    names = sorted(TITLES, key=lambda name: name != WHOLE)
    carry_out([exam(_run_of(name), students[name]) for name in names], place)
    with open_database(place.settings) as database:
        return database.run(lambda connection: compare_results(connection, [_run_of(name) for name in names]))


def _run_of(student: str) -> str:
    return f"student-{student}"


def _compare_trimmed(connection: sa.Connection, above: float) -> RunComparison[ComparedRun]:
    return compare_results(connection, [_SOURCE.run, trimmed_run_of(connection, _SOURCE.run, above)])


def student_results(
    training_rows: Mapping[str, TrainingRows], compared: RunComparison[ComparedRun]
) -> list[StudentResult]:
    """The results of all students, in the order of TITLES."""
    exams = {one.run: one for one in compared.runs}
    found = []
    for name in TITLES:
        learnt = training_rows.get(name)
        rows = 0 if learnt is None else len(learnt.rows)
        found.append(StudentResult(name, rows, None if learnt is None else learnt.mean_tokens, exams[_run_of(name)]))
    return found


@dataclass(frozen=True, slots=True)
class Report:
    """The report: the comparison of the run with the trimmed run, the students, and the number of exam problems."""

    trimming: RunComparison[ComparedRun]
    students: Sequence[StudentResult]
    exam_problems: int

    def write(self, path: Path) -> None:
        """Writes the figures as JSON."""
        found = {
            "trimming": self.trimming.to_json(),
            "exam_problems": self.exam_problems,
            "students": [student.to_json() for student in self.students],
        }
        with replaced_file(str(path)) as file:
            file.write(json.dumps(found, indent=2, allow_nan=False).encode() + b"\n")

    def lines(self) -> list[str]:
        """The figures as a sentence and a Markdown table."""
        whole, trimmed = self.trimming.runs
        return [
            f"Winners of {counted(self.trimming.problems, 'problem')}: {_percent(whole.accuracy)} right, "
            f"{_number(whole.result_tokens)} tokens; trimmed {_percent(trimmed.accuracy)} right, "
            f"{_number(trimmed.result_tokens)} tokens.",
            "",
            f"| student of | rows | tokens a row | Pass@1 on {counted(self.exam_problems, 'problem')} | minus whole "
            "winners | tokens a reply |",
            "|---|---|---|---|---|---|",
            *(self._line(student) for student in self.students),
        ]

    def _line(self, student: StudentResult) -> str:
        tokens = "" if student.row_tokens is None else f"{student.row_tokens:.0f}"
        cells = [
            TITLES[student.student], f"{student.rows:,}" if student.rows else "", tokens,
            _percent(student.exam.accuracy), _percent(student.exam.accuracy_difference, sign="+"),
            _number(student.exam.tokens),
        ]  # fmt: skip
        return f"| {' | '.join(cells)} |"


def _percent(interval: Interval | None, sign: str = "") -> str:
    """An interval of shares as percents; empty for None."""
    if interval is None:
        return ""
    mean, low, high = (f"{100 * share:{sign}.1f}" for share in (interval.mean, interval.low, interval.high))
    return f"{mean} % [{low}, {high}]"


def _number(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


if __name__ == "__main__":
    main()
