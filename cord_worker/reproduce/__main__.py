"""`make reproduce`: carries out the planned runs, trains the students and writes the report."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.interrupts import graceful_interrupts
from cord_worker.cli.options import read_settings, state_dir_option
from cord_worker.config import ModelConfig
from cord_worker.operations.database import open_database
from cord_worker.progress import console
from cord_worker.reproduce.carrying_out import Workplace, carry_out
from cord_worker.reproduce.figures import read_cells, read_findings
from cord_worker.reproduce.planned_runs import RUNS, STUDENTS, exam, write_problems
from cord_worker.reproduce.remarks import remarks_on
from cord_worker.reproduce.report import Report
from cord_worker.reproduce.students import StudentTrainer

_SFT_SETTINGS = Path("deploy/sft/tiny.yaml")


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("reproduce-out"),
    show_default=True,
    help="Folder of configurations, models, reproduce.json and reproduce.html.",
)
@click.option("--only", metavar="RUN", multiple=True, help="Carry out only this run; may be repeated.")
@click.option("--problems", type=click.IntRange(min=1), help="The most problems per run, for a quick look.")
@click.option(
    "--trl",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TRL's command, which trains the students; without it their table is left out.",
)
@click.option(
    "--sft-settings",
    type=click.Path(dir_okay=False, path_type=Path),
    default=_SFT_SETTINGS,
    help="YAML of `trl sft` for the bundled student.",
)
@state_dir_option
def main(
    output: Path,
    only: tuple[str, ...],
    problems: int | None,
    trl: Path | None,
    sft_settings: Path,
    state_dir: Path | None,
) -> None:
    """Reproduce the paper's tables in miniature, with the bundled models.

    If interrupted, run the same command again: it continues where it stopped.
    """
    output.mkdir(parents=True, exist_ok=True)
    write_problems(output)
    runs = [run for run in RUNS if not only or run.run in only]
    settings = read_settings(state_dir or output / "state")
    with graceful_interrupts("run the same command again to continue") as check:
        place = Workplace(output, settings, click.echo, check, problems)
        trainer = None
        if trl is not None and any(run.run in STUDENTS for run in runs):
            initial_model = ModelConfig(path="bundled:student").location()
            trainer = StudentTrainer(trl, sft_settings, initial_model, output / "students", place.say)
            runs.append(exam("student-base", initial_model))
        done = [planned.run for planned in carry_out(runs, place, trainer)]
        with open_database(settings) as database:
            cells = database.run(lambda connection: read_cells(connection, done))
            findings = database.run(lambda connection: read_findings(connection, done))
        report = Report(cells, findings, remarks_on(findings))
        cells_path, page = report.write(output)
    report.print(console())
    click.echo(f"{cells_path}, {page}")


if __name__ == "__main__":
    main()
