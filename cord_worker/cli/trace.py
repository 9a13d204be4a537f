"""`cordctl trace`: a run as traces of OpenTelemetry."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cord_worker.cli.options import (
    json_option,
    newest_run_argument,
    print_result,
    problem_option,
    read_settings,
    state_dir_option,
)

if TYPE_CHECKING:
    from cord_worker.operations.run_traces import SpanWriter


@click.command()
@newest_run_argument
@problem_option
@click.option(
    "--otlp",
    metavar="URL",
    help="Send the spans to this receiver, such as http://127.0.0.1:4318 of a collector, Jaeger or Tempo.",
)
@click.option(
    "--output",
    "-o",
    help="Write the spans to this file instead, as lines of OTLP in JSON; - prints them.",
)
@state_dir_option
@json_option
def trace(
    run: str | None,
    problems: tuple[str, ...],
    otlp: str | None,
    output: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Write RUN as OpenTelemetry traces, made from its stored rows.

    Default: the newest run. Every problem is a trace (problem, steps, candidates, the requests to models, the final
    answer), and so is the run, with a span for each problem. The same rows always have the same ids. Texts are not
    written. It needs the extra `trace`: pip install 'cord-worker[trace]'.
    """
    from cord_worker.operations import otlp as sending
    from cord_worker.operations.database import open_database
    from cord_worker.operations.run_traces import write_traces

    if (otlp is None) == (output is None):
        raise click.UsageError("say where to write the spans: either --otlp URL or -o FILE")
    if otlp is not None:
        try:
            otlp = sending.traces_url(otlp)
        except ValueError as error:
            raise click.UsageError(f"--otlp {error}") from None
    else:
        assert output is not None
        sending.check_output(output)
    sending.check_installed()
    with ExitStack() as stack, open_database(read_settings(state_dir)) as database:
        writer: SpanWriter
        if otlp is not None:
            sender = sending.OtlpSender(otlp)
            stack.callback(sender.close)
            writer = sender
        else:
            assert output is not None
            writer = sending.OtlpFile(stack.enter_context(click.open_file(output, "w", encoding="utf-8", atomic=True)))
        traced = write_traces(database, run, writer, problems=problems or None)
    if output != "-":
        print_result("\n".join(traced.lines()), traced.to_json(), as_json=as_json)
