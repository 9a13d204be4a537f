"""`cordctl`. Click commands, one file a group, no logic; every import that costs time is inside a function."""

from __future__ import annotations

import click

from cord_worker import __version__
from cord_worker.cli.root import LazyGroup

_HERE = "cord_worker.cli"

_SECTIONS = {
    "Begin": {
        "init": f"{_HERE}.configuring:init",
        "validate": f"{_HERE}.datasets:validate",
        "doctor": f"{_HERE}.doctor:doctor",
    },
    "On one machine": {
        "run": f"{_HERE}.running:run",
        "up": f"{_HERE}.background:up",
        "down": f"{_HERE}.background:down",
    },
    "Work and results": {
        "enqueue": f"{_HERE}.datasets:enqueue",
        "runs": f"{_HERE}.runs:runs",
        "status": f"{_HERE}.runs:status",
        "stats": f"{_HERE}.runs:stats",
        "cost": f"{_HERE}.costing:cost",
        "compare": f"{_HERE}.comparing:compare",
        "eval": f"{_HERE}.evaluating:evaluate",
        "export": f"{_HERE}.exporting:export",
        "pause": f"{_HERE}.runs:pause",
        "resume": f"{_HERE}.runs:resume",
        "cancel": f"{_HERE}.runs:cancel",
        "replay": f"{_HERE}.replaying:replay",
        "verify-db": f"{_HERE}.replaying:verify_db",
        "check": f"{_HERE}.checking:check",
        "recheck": f"{_HERE}.checking:recheck",
        "retry": f"{_HERE}.control:retry",
        "rm": f"{_HERE}.control:remove",
        "priority": f"{_HERE}.control:priority",
    },
    "On a cluster": {
        "worker": f"{_HERE}.processes:worker",
        "coordinator": f"{_HERE}.processes:coordinator",
        "drain": f"{_HERE}.control:drain",
        "flower": f"{_HERE}.processes:flower",
        "bench": f"{_HERE}.bench:bench",
        "db": f"{_HERE}.database:db",
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
    folder (CORD_STATE_DIR, .cord by default). RUN may be left out where a command only reads: the newest is meant.
    """


def main() -> None:
    """Entry point of `cordctl`."""
    cli.main(prog_name="cordctl")


__all__ = ["cli", "main"]
