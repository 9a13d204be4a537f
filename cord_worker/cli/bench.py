"""`cordctl bench`: measures on this machine what the service costs besides its models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cord_worker.cli.command_groups import SentenceGroup
from cord_worker.cli.exit_codes import FOUND_SOMETHING
from cord_worker.cli.interrupts import graceful_interrupts
from cord_worker.cli.options import (
    QUESTION_FIELD_HELP,
    FilePath,
    NumberRange,
    config_option,
    dataset_argument,
    dataset_options,
    dataset_source,
    fetch_dataset,
    json_option,
    read_settings,
)
from cord_worker.display_text import counted

if TYPE_CHECKING:
    from rich.table import Table

    from cord_worker.bench.answers import AnswerFigures
    from cord_worker.bench.contamination import ContaminationFigures
    from cord_worker.bench.families import FamilyFigures
    from cord_worker.bench.report import Report
    from cord_worker.dataset import HubDataset

_ADVICE = "run the command again"

rounds_option = click.option(
    "--rounds",
    type=click.IntRange(min=3),
    default=3,
    show_default=True,
    help="Measured rounds, 3 or more; medians are reported.",
)
external_option = click.option(
    "--external",
    is_flag=True,
    help="Use the servers of CORD_DATABASE_URL and CORD_BROKER_URL, with a temporary database and keys that are "
    "removed afterwards (default: embedded servers in a temporary folder).",
)


@click.group(cls=SentenceGroup)
def bench() -> None:
    """Measure what the service costs besides its models.

    bench COMMAND --help says what each command measures and how.
    """


@bench.command()
@dataset_argument
@config_option
@click.option(
    "--problems",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Problems that are measured in each round.",
)
@click.option(
    "--warm-up",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Problems run before the measured ones.",
)
@dataset_options
@rounds_option
@external_option
@json_option
def engine(
    dataset: Path | HubDataset,
    config_path: Path,
    problems: int,
    warm_up: int,
    rounds: int,
    external: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare the speed of the service with that of its engines alone, on DATASET.

    Every request of the service for a proposal, score or answer is sent again to engines in separate processes, in the
    same order and at the same concurrency, without Celery, Redis and PostgreSQL. Keys: service_over_engine,
    service_tokens_per_second, direct_tokens_per_second, and the tokens served from the prefix cache over those that an
    ideal one could have served: teacher_cached_over_ideal, prover_cached_over_ideal.

    \b
      cordctl bench engine gsm8k.jsonl --config cord.toml --problems 8 --rounds 3
    """
    from cord_worker.bench.engine import EngineBench, measure
    from cord_worker.bench.workspace import open_workspace
    from cord_worker.config import RunConfig

    config = RunConfig.load(config_path)
    source = dataset_source(fetch_dataset(dataset, options["split"]), options)
    task = EngineBench(source, config, config_path, problems, rounds, warm_up)
    with graceful_interrupts(_ADVICE), open_workspace(read_settings(), external=external) as workspace:
        report = measure(task, workspace, _say)
    _print(report, as_json=as_json)


@bench.command()
@config_option
@click.option(
    "--lengths",
    multiple=True,
    type=click.IntRange(min=64),
    default=(500, 1000, 2000, 3500),
    show_default=True,
    help="Prefix length in tokens; may be repeated. Lengths beyond the context are left out.",
)
@click.option("--reference", is_flag=True, help="Also compare with a forward pass of transformers in float32.")
@rounds_option
@json_option
def scoring(config_path: Path, lengths: tuple[int, ...], reference: bool, rounds: int, as_json: bool) -> None:
    """Measure how much the prefix cache speeds up the prover of cord.toml.

    Keys: cached_over_uncached (uncached seconds / cached seconds of a score, at 2,000 tokens), flatness (cached seconds
    at 3,500 tokens / at 500 tokens), max_abs_difference of a cached score from the uncached one (and from the
    reference), repeat_difference (of the same score requested twice).

    \b
      cordctl bench scoring --config cord.toml --reference
    """
    import tempfile

    from cord_worker.bench.scoring import ScoringBench, measure
    from cord_worker.config import RunConfig

    task = ScoringBench(RunConfig.load(config_path), config_path, lengths, rounds, reference)
    with graceful_interrupts(_ADVICE), tempfile.TemporaryDirectory(prefix="cord-b-") as folder:
        report = measure(task, Path(folder), _say)
    _print(report, as_json=as_json)


@bench.command("control-plane")
@click.option(
    "--problems",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Problems that are measured in each round.",
)
@click.option(
    "--max-active", type=click.IntRange(min=1), default=256, show_default=True, help="Problems in flight at once."
)
@click.option(
    "--beam-width",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Trajectories kept per problem.",
)
@click.option(
    "--noop-tasks",
    type=click.IntRange(min=100),
    default=4000,
    show_default=True,
    help="Number of empty Celery tasks in the reference measurement.",
)
@click.option(
    "--noop-concurrency",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Threads of the Celery worker in the reference measurement.",
)
@click.option(
    "--light-problems",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Problems per round at light load, one at a time.",
)
@click.option(
    "--soak-tasks",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Also compare each worker's memory, threads and files after this many tasks (such as 10000) with those after "
    "a tenth of them; 0 skips this.",
)
@rounds_option
@external_option
@json_option
def control_plane(external: bool, as_json: bool, **options: Any) -> None:
    """Measure the service with an engine that answers at once, against plain Celery.

    The reference is half the rate at which a Celery worker runs empty tasks: what one message per proposal and one per
    score would allow. The service sends fewer and may exceed it. Keys: candidates_per_second,
    ceiling_candidates_per_second (the reference), fraction_of_ceiling; overhead per candidate besides its engine, in
    milliseconds: overhead_light_p50_ms, …_p95_ms, overhead_full_p50_ms, …_p95_ms; with
    --soak-tasks rss_growth (a ratio), threads_growth, files_growth of the worker that grew most.

    \b
      cordctl bench control-plane --problems 200 --rounds 3
    """
    from cord_worker.bench.control_plane import ControlPlaneBench, measure
    from cord_worker.bench.workspace import open_workspace

    task = ControlPlaneBench(**options)
    with graceful_interrupts(_ADVICE), open_workspace(read_settings(), external=external) as workspace:
        report = measure(task, workspace, _say)
    _print(report, as_json=as_json)


@bench.command()
@click.argument("dataset", required=False, type=FilePath(path_type=Path, exists=True))
@click.option(
    "--rows",
    multiple=True,
    type=click.IntRange(min=1),
    default=(10_000, 1_000_000),
    show_default=True,
    help="Rows of a generated dataset; may be repeated, once per size.",
)
@click.option(
    "--row-bytes", type=click.IntRange(min=200), default=1024, show_default=True, help="Bytes per generated row."
)
@rounds_option
@external_option
@json_option
def enqueue(
    dataset: Path | None, rows: tuple[int, ...], row_bytes: int, rounds: int, external: bool, as_json: bool
) -> None:
    """Measure speed and memory of cordctl enqueue, with DATASET or generated rows.

    Keys: rows_per_second, peak_rss_mb (at the largest size), rss_growth (peak at the largest size / at the smallest).

    \b
      cordctl bench enqueue --rows 10000 --rows 1000000
    """
    from cord_worker.bench.enqueuing import EnqueueBench, measure
    from cord_worker.bench.workspace import open_workspace

    task = EnqueueBench(rows=rows, row_bytes=row_bytes, rounds=rounds, dataset=dataset)
    with graceful_interrupts(_ADVICE), open_workspace(read_settings(), external=external) as workspace:
        report = measure(task, workspace, _say)
    _print(report, as_json=as_json)


@bench.command()
@click.option(
    "--rows",
    multiple=True,
    type=click.IntRange(min=1),
    default=(10_000, 1_000_000),
    show_default=True,
    help="Trajectories of a generated run; may be repeated, once per size.",
)
@click.option("--steps", type=click.IntRange(min=1), default=3, show_default=True, help="Steps of a trajectory.")
@rounds_option
@external_option
@json_option
def export(rows: tuple[int, ...], steps: int, rounds: int, external: bool, as_json: bool) -> None:
    """Measure speed and memory of cordctl export, to JSON lines and Parquet.

    Keys, by type of file: jsonl_rows_per_second, jsonl_peak_rss_mb (at the largest size), jsonl_rss_growth (peak at the
    largest size / at the smallest); the same for parquet.

    \b
      cordctl bench export --rows 10000 --rows 1000000
    """
    from cord_worker.bench.exporting import ExportBench, measure
    from cord_worker.bench.workspace import open_workspace

    task = ExportBench(rows=rows, steps=steps, rounds=rounds)
    with graceful_interrupts(_ADVICE), open_workspace(read_settings(), external=external) as workspace:
        report = measure(task, workspace, _say)
    _print(report, as_json=as_json)


@bench.command()
@click.option(
    "--candidates",
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="Candidates in all tables together.",
)
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Number of runs that hold these candidates.",
)
@click.option(
    "--problems",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Problems of the run that is measured.",
)
@rounds_option
@external_option
@json_option
def tables(candidates: int, runs: int, problems: int, rounds: int, external: bool, as_json: bool) -> None:
    """Measure how long views and commands take when many candidates are stored.

    Multiplies a small real run in a temporary database. Then times every view, and the queries of stats, cost, status,
    runs and show, for one of the runs. Keys: slowest, slowest_seconds, database_mb, rollups_mb.

    \b
      cordctl bench tables --candidates 10000000 --runs 20 --problems 10000
    """
    from cord_worker.bench.tables import TablesBench, measure
    from cord_worker.bench.workspace import open_workspace

    task = TablesBench(candidates=candidates, runs=runs, problems=problems, rounds=rounds)
    with graceful_interrupts(_ADVICE), open_workspace(read_settings(), external=external) as workspace:
        report = measure(task, workspace, _say)
    _print(report, as_json=as_json)


@bench.command()
@click.argument("datasets", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATASET...")
@click.option("--against-others", is_flag=True, help="Also check wrong pairs: references of different values.")
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    help="Pairs checked at once (default: the number of processors).",
)
@click.option(
    "--timeout",
    type=NumberRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Time limit in seconds for the check of one pair.",
)
@dataset_options
@json_option
def answers(
    datasets: tuple[Path, ...],
    against_others: bool,
    processes: int | None,
    timeout: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure how reliably answers are checked, with the references of each DATASET in many styles.

    Every reference is written in 20 or more styles of models (boxed, in a sentence, with a dollar sign, as an exact
    decimal, in other languages …); all these texts must be accepted. With --against-others each reference is also
    checked against every reference of its dataset that has a different value; none of these wrong pairs may be
    accepted. Keys of each dataset: accepted_share, others_accepted, other_pairs, styles, misses.

    \b
      cordctl bench answers math500.jsonl gsm8k.jsonl --against-others
    """
    from cord_worker.bench.answers import Reference, measure_answers
    from cord_worker.dataset import RejectedRecord, rejection_error
    from cord_worker.verify import Rule

    measured = []
    for dataset in datasets:
        references = []
        for number, record in enumerate(dataset_source(dataset, options).records(), start=1):
            if isinstance(record, RejectedRecord):
                raise rejection_error(record)
            references.append(Reference(number, record.answer, record.question))
        found = measure_answers(
            dataset.name,
            references,
            rule=Rule(),
            others=against_others,
            processes=processes,
            timeout_seconds=timeout,
            tell=_say,
        )
        measured.append(found)
        if not as_json:
            _print_answers(found)
    if as_json:
        click.echo(json.dumps({"datasets": [found.to_json() for found in measured]}, ensure_ascii=False))


@bench.command()
@dataset_argument
@click.option(
    "--against",
    required=True,
    type=FilePath(path_type=Path),
    metavar="FILE",
    help="The benchmark whose questions are planted, a different file from DATASET.",
)
@click.option("--against-field", help="Field of the question in the benchmarks (default: question, problem, …).")
@click.option(
    "--copies", type=click.IntRange(min=5), default=50, show_default=True, help="Number of copies that are planted."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses what is planted, and where.")
@click.option("--question-field", help=QUESTION_FIELD_HELP)
@json_option
def contamination(
    dataset: Path | HubDataset,
    against: Path,
    against_field: str | None,
    copies: int,
    seed: int,
    question_field: str | None,
    as_json: bool,
) -> None:
    """Measure what cordctl contaminated finds, with planted copies.

    Copies of questions of the benchmark replace questions of DATASET: unchanged, with other numbers, with other
    punctuation, embedded in a longer text, and paraphrased mechanically. Keys: plants (planted, found, missed, by
    kind), false_alarms (hits of the other questions), found_near and false_near (what --near adds), index_seconds and
    lookup_seconds (processor time).

    \b
      cordctl bench contamination math500.jsonl --against gsm8k.jsonl --copies 50
    """
    from cord_worker.bench.contamination import measure_contamination
    from cord_worker.operations.contamination import SPLIT_BY_FILE, OptionNames, QuestionReader, benchmark_source

    reader = QuestionReader()
    of_dataset, of_benchmark = (
        OptionNames(field, split_advice=SPLIT_BY_FILE) for field in ("--question-field", "--against-field")
    )
    found = measure_contamination(
        list(reader.questions(benchmark_source(fetch_dataset(dataset, None), question_field), of_dataset)),
        list(reader.questions(benchmark_source(against, against_field), of_benchmark)),
        copies,
        seed,
    )
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        _print_contamination(found)


def _print_contamination(found: ContaminationFigures) -> None:
    from rich.table import Table

    from cord_worker.progress import console

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("planted copies", "planted", "found", "missed", "found as"):
        table.add_column(title, justify="right" if title in ("planted", "found", "missed") else "left")
    for name, one in found.plants.items():
        kinds = ", ".join(f"{count} {kind}" for kind, count in one.found.most_common())
        table.add_row(name, str(one.planted), str(one.found.total()), str(one.planted - one.found.total()), kinds)
    planted = sum(one.planted for one in found.plants.values())
    screen = console()
    screen.print(table)
    screen.print(
        f"false alarms: {found.false_alarms} of {counted(found.questions - planted, 'other question')}; "
        f"--near finds {counted(found.found_near, 'more copy')}, with {counted(found.false_near, 'more false alarm')}",
        soft_wrap=True,
    )
    screen.print(
        f"{counted(found.questions, 'question')} against {found.benchmark:,}: {found.index_seconds:.2f} s for the "
        f"index, {found.lookup_seconds:.2f} s to look up",
        soft_wrap=True,
    )


@bench.command()
@click.option(
    "--only",
    multiple=True,
    help="Only families whose names contain this text; may be repeated. If none does, all names are listed.",
)
@json_option
def families(only: tuple[str, ...], as_json: bool) -> None:
    """Check how each family of models is hosted, and its scores against a plain forward pass.

    Builds small random models of every family and tests them with engine = "transformers". Compares their scores
    (requested together, alone, from the prefix cache, and of a long text) and their greedy texts with those of
    transformers' own model called with one text. Takes minutes.

    Keys of each family: name, hosted, as_meant, mode, reason, difference (the largest in one answer token's
    log-probability, float32), noise (the change in the plain model from one unit in the last place of the embeddings; a
    difference must be at most 1e-5 + 2 noise), bfloat16_difference (at most 0.1 + 2 noise) and bfloat16_noise,
    texts_equal (null if none was compared), texts_compared, tokens_compared, seconds. Exits with 4 if a family is not
    hosted as intended.

    \b
      cordctl bench families --only gemma --only qwen3
    """
    from cord_worker.bench.families import measure_families

    def print_family(one: FamilyFigures) -> None:
        if not as_json:
            click.echo(f"{'ok' if one.as_meant else 'WRONG':<6}{one.name}: {_family_line(one)}")

    found = measure_families(
        only, print_family, lambda name, number, of: _say(f"{number} of {of}: building and testing {name}")
    )
    if as_json:
        click.echo(json.dumps({"families": [one.to_json() for one in found]}, ensure_ascii=False))
    if not all(one.as_meant for one in found):
        raise SystemExit(FOUND_SOMETHING)


def _family_line(one: FamilyFigures) -> str:
    if not one.hosted:
        return f"refused: {one.reason}"
    if one.texts_equal is None:
        texts = "no greedy text compared"
    else:
        result = "equal" if one.texts_equal else "DIFFER"
        texts = f"{counted(one.texts_compared, 'greedy text')} of {counted(one.tokens_compared, 'token')} {result}"
    return (
        f"hosted {one.mode}, float32 {one.difference:.1e} (noise {one.noise:.1e}), "
        f"bfloat16 {one.bfloat16_difference:.2g} (noise {one.bfloat16_noise:.2g}), {texts}"
    )


def _print_answers(found: AnswerFigures) -> None:
    from cord_worker.bench.answers import missed_styles
    from cord_worker.progress import shown

    for miss in found.misses:
        click.echo(
            f"{shown(miss['style'])}: reference {shown(miss['reference'])}, answer {shown(miss['answer'])}: "
            f"{'right' if miss['correct'] else 'wrong' if miss['correct'] is False else 'undecided'} "
            f"[{miss['type']}] {shown(miss['detail'] or '')}"
        )
    for style, count in missed_styles(found).most_common():
        click.echo(f"{count:,} not accepted: {style}")
    click.echo(
        f"{shown(found.dataset)}: {counted(found.references, 'reference')}, at least "
        f"{counted(found.least_styles, 'style')} of each; "
        f"{found.accepted:,} of {counted(found.pairs, 'text')} accepted ({100 * found.accepted_share:.2f} %), "
        f"{found.undecided:,} undecided"
    )
    if found.other_pairs:
        click.echo(
            f"{shown(found.dataset)}: {found.others_accepted:,} of {counted(found.other_pairs, 'wrong pair')} accepted"
        )


def _say(message: str) -> None:
    click.echo(message, err=True)


def _print(report: Report, *, as_json: bool) -> None:
    from cord_worker.progress import console

    screen = console()
    screen.print(_table(report))
    for note in report.notes:
        screen.print(note)
    if as_json:
        click.echo(json.dumps(report.to_json(), ensure_ascii=False))


def _table(report: Report) -> Table:
    from rich.table import Table

    table = Table(title=f"bench {report.bench}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for title in ("figure", "unit", "median", "least", "most", "times"):
        table.add_column(title, justify="left" if title in {"figure", "unit"} else "right")
    for item in report.figures:
        figures = (item.median, min(item.values), max(item.values))
        table.add_row(item.name, item.unit, *(f"{value:,.{item.digits}f}" for value in figures), str(len(item.values)))
    return table
