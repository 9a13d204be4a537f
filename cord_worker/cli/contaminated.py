"""`cordctl contaminated`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cord_worker.cli.exit_codes import FOUND_SOMETHING
from cord_worker.cli.options import (
    OUTPUT_HELP,
    DatasetPath,
    NearChoice,
    NumberRange,
    dataset_argument,
    fetch_dataset,
    json_option,
    print_json,
    question_options,
)

if TYPE_CHECKING:
    from rich.table import Table

    from cord_worker.dataset import HubDataset, HubSnapshot
    from cord_worker.operations.contamination import ContaminationReport

_KINDS = ("exact", "renumbered", "ngram", "containment", "near")
_MOST_PRINTED = 5
_MOST_CHARACTERS = 300
_WIDEST = 160


@click.command()
@dataset_argument
@click.option(
    "--against",
    multiple=True,
    type=DatasetPath(path_type=Path),
    metavar="FILE",
    help="A benchmark's file, folder or hub id, of any kind that DATASET may be; may be repeated.",
)
@click.option("--against-field", help="Field of the question in the benchmarks (default: question, problem, …).")
@click.option("--against-split", help="Split to read from benchmarks with several.")
@click.option("--within", is_flag=True, help="Also find questions that repeat earlier ones of DATASET.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=NearChoice(_KINDS),
    help="Only hits of this kind; may be repeated (default: all but near).",
)
@click.option("--near", is_flag=True, help="Also find near-equal questions, by MinHash and LSH.")
@click.option(
    "--similarity",
    type=NumberRange(0.1, 1.0),
    help="With near: least Jaccard similarity, in [0.1, 1] (default: 0.4).",
)
@click.option("-o", "--output", help=OUTPUT_HELP)
@question_options
@click.option("--skip-unreadable", is_flag=True, help="Leave out rows without a question, and count them.")
@json_option
def contaminated(
    dataset: Path | HubDataset,
    against: tuple[Path | HubDataset, ...],
    against_field: str | None,
    against_split: str | None,
    within: bool,
    kinds: tuple[str, ...],
    near: bool,
    similarity: float | None,
    output: str | None,
    skip_unreadable: bool,
    as_json: bool,
    question_field: str | None,
    split: str | None,
    repair_latex: bool,
    limit: int | None,
) -> None:
    """Find the questions of benchmarks in DATASET, before it is worked on.

    Only questions are compared, so rows need no answers. -o writes all hits, each with the matching text and the
    benchmark's row. Exits with 0 if nothing was found, with 4 if something was, with another code if the questions
    could not be compared.

    \b
      cordctl contaminated problems.jsonl --against math500.jsonl --against aime.jsonl -o hits.jsonl
      cordctl contaminated problems.jsonl --within --near
    """
    if not against and not within:
        raise click.UsageError("give a benchmark with --against FILE, or --within")
    if not against and (against_field or against_split):
        raise click.UsageError("--against-field and --against-split go with --against FILE")
    if as_json and output == "-":
        raise click.UsageError("--json and -o - both write to standard output: give one of them")
    if similarity is not None and not (near or "near" in kinds):
        raise click.UsageError("--similarity goes with --near")
    from cord_worker.contamination import HitKind
    from cord_worker.dataset import FieldMapping, ReadOptions
    from cord_worker.operations.contamination import DEFAULT_KINDS, benchmark_source, find_contaminated
    from cord_worker.operations.enqueue import DatasetSource
    from cord_worker.operations.outputs import check_outside_datasets

    if output is not None:
        check_outside_datasets(output, [dataset])
        check_outside_datasets(output, against, "benchmark")
    chosen = [HitKind(kind) for kind in kinds] or list(DEFAULT_KINDS)
    local = fetch_dataset(dataset, split)
    report = find_contaminated(
        DatasetSource(
            local,
            FieldMapping(question=question_field),
            split,
            limit,
            skip_invalid=skip_unreadable,
            options=ReadOptions(repair_latex=repair_latex),
        ),
        [
            benchmark_source(
                _fetch_benchmark(one, against_split), against_field, against_split, repair_latex=repair_latex
            )
            for one in against
        ],
        kinds=[*chosen, HitKind.NEAR] if near else chosen,
        within=within,
        similarity=similarity,
        output=output,
    )
    if as_json:
        print_json(report.to_json())
    else:
        _print(local, report, to_stderr=output == "-")
    if report.contaminated:
        raise SystemExit(FOUND_SOMETHING)


def _fetch_benchmark(benchmark: Path | HubDataset, split: str | None) -> Path | HubSnapshot:
    from cord_worker.errors import DatasetError
    from cord_worker.operations.contamination import OF_BENCHMARK

    try:
        return fetch_dataset(benchmark, split)
    except DatasetError as error:
        raise DatasetError(OF_BENCHMARK.applied_to(str(error))) from None


def _print(dataset: Path | HubSnapshot, report: ContaminationReport, *, to_stderr: bool) -> None:
    from cord_worker.display_text import counted
    from cord_worker.progress import console, shown

    screen = console(stderr=to_stderr)
    if report.contaminated:
        screen.print(_kinds_table(report))
        screen.print(_hits_table(report, min(screen.width, _WIDEST)))
    for name, count in report.benchmarks.items():
        screen.print(f"against {shown(name)}: {counted(count, 'question')}", soft_wrap=True)
    if report.invalid:
        screen.print(f"left out: {counted(report.invalid, 'row')} without a question")
    sentence = f"{counted(report.questions, 'question')}, {report.contaminated:,} with hits"
    screen.print(f"{shown(str(dataset))}: {sentence}", soft_wrap=True)


def _kinds_table(report: ContaminationReport) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("kind")
    table.add_column("questions", justify="right")
    for kind, count in sorted(report.by_kind.items(), key=lambda one: _KINDS.index(one[0].value)):
        table.add_row(kind.value, f"{count:,}")
    return table


def _hits_table(report: ContaminationReport, width: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    from cord_worker.progress import shown

    table = Table(padding=(0, 1), header_style="bold", show_lines=True, width=width)
    for title, ratio in (("hit", None), ("dataset", 1), ("benchmark", 1), ("matching text", 1)):
        table.add_column(title, ratio=ratio, overflow="fold")
    for found in report.first[:_MOST_PRINTED]:
        hit = found.hits[0]
        table.add_row(
            f"{hit.kind.value}\n{hit.score:.2f}",
            Text(f"{shown(found.question.location)}\n{shown(found.question.text, _MOST_CHARACTERS)}"),
            Text(f"{shown(hit.benchmark.location)}\n{shown(hit.benchmark.text, _MOST_CHARACTERS)}"),
            Text(shown(hit.matching, _MOST_CHARACTERS)),
        )
    return table
