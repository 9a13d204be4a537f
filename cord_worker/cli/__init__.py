"""`cordctl`: Click commands without logic. Slow imports are inside functions."""

from __future__ import annotations

import click

from cord_worker import __version__
from cord_worker.cli.command_groups import LazyGroup

_HERE = "cord_worker.cli"

_SECTIONS = {
    "Begin": {
        "init": f"{_HERE}.init:init",
        "schema": f"{_HERE}.schema:schema",
        "validate": f"{_HERE}.datasets:validate",
        "contaminated": f"{_HERE}.contaminated:contaminated",
        "doctor": f"{_HERE}.doctor:doctor",
        "completion": f"{_HERE}.completion:completion",
    },
    "On one machine": {
        "run": f"{_HERE}.run:run",
        "up": f"{_HERE}.up_and_down:up",
        "down": f"{_HERE}.up_and_down:down",
        "logs": f"{_HERE}.logs:logs",
    },
    "Work and results": {
        "plan": f"{_HERE}.plan:plan",
        "enqueue": f"{_HERE}.datasets:enqueue",
        "runs": f"{_HERE}.run_reports:runs",
        "status": f"{_HERE}.run_reports:status",
        "watch": f"{_HERE}.watch:watch",
        "show": f"{_HERE}.show:show",
        "stats": f"{_HERE}.run_reports:stats",
        "view": f"{_HERE}.view:view",
        "report": f"{_HERE}.report:report",
        "cost": f"{_HERE}.cost:cost",
        "trace": f"{_HERE}.trace:trace",
        "compare": f"{_HERE}.compare:compare",
        "rescore": f"{_HERE}.rescore:rescore",
        "eval": f"{_HERE}.evaluate:evaluate",
        "export": f"{_HERE}.export:export",
        "trim": f"{_HERE}.trim:trim",
        "pause": f"{_HERE}.run_control:pause",
        "resume": f"{_HERE}.run_control:resume",
        "cancel": f"{_HERE}.run_control:cancel",
        "replay": f"{_HERE}.replay:replay",
        "verify-db": f"{_HERE}.verify_db:verify_db",
        "check": f"{_HERE}.check:check",
        "recheck": f"{_HERE}.check:recheck",
        "retry": f"{_HERE}.run_control:retry",
        "rm": f"{_HERE}.run_control:remove",
        "priority": f"{_HERE}.run_control:priority",
    },
    "On a cluster": {
        "worker": f"{_HERE}.processes:worker",
        "coordinator": f"{_HERE}.processes:coordinator",
        "drain": f"{_HERE}.processes:drain",
        "flower": f"{_HERE}.processes:flower",
        "bench": f"{_HERE}.bench:bench",
        "db": f"{_HERE}.db:db",
    },
}


@click.group(
    cls=LazyGroup,
    sections=_SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="cordctl")
@click.option("--debug", is_flag=True, help="Show tracebacks (also CORD_DEBUG=1).")
def cli(debug: bool) -> None:
    """Reasoning trajectories from several teachers, decoded step by step together (CoRD).

    \b
      cordctl init --preset tiny > cord.toml
      cordctl run problems.jsonl --config cord.toml -o out.jsonl

    PostgreSQL and Redis (or RabbitMQ) come from CORD_DATABASE_URL and CORD_BROKER_URL, or are embedded in the state
    folder (CORD_STATE_DIR, .cord by default). Commands that only read a RUN take the newest one if RUN is left out.
    """


def main() -> None:
    """Entry point of `cordctl`."""
    cli.main(prog_name="cordctl")


__all__ = ["cli", "main"]
