"""`cordctl worker`, `coordinator`, `flower`: what the machines of a cluster run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cord_worker.cli.options import config_option, read_settings, state_dir_option
from cord_worker.cli.root import print_error

_STARTING_AGAIN_CANNOT_HELP = 78
"""EX_CONFIG: a supervisor that reads it does not start the process again (`local.supervisor.DO_NOT_RESTART`)."""
_INSTEAD = "CORD_HOPELESS_EXIT_CODE"
"""Environment variable: another exit code in its place, for supervisors that tell only 0 from the others (Docker)."""


@click.command()
@click.argument("model")
@config_option
@click.option("--name", help="Name of the process in logs and Flower (default: MODEL).")
@click.option(
    "--concurrency", type=click.IntRange(min=1), help="Most requests taken at once (default: from batch_size)."
)
@state_dir_option
def worker(model: str, config_path: Path, name: str | None, concurrency: int | None, state_dir: Path | None) -> None:
    """Host MODEL of cord.toml and serve its queue until SIGTERM."""
    from cord_worker.config import RunConfig
    from cord_worker.local import limits
    from cord_worker.operations.fleet import model_named, need_of

    with _hopeless_errors():
        hosted = model_named(RunConfig.load(config_path), model)
        limits.check(f"the worker {name or model}", [need_of(hosted)])
        settings = read_settings(state_dir)
        # Late: this imports the engine.
        from cord_worker.coordination.process.main import run_model_worker

        raise SystemExit(run_model_worker(hosted, settings, name=name or model, concurrency=concurrency))


@click.command()
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=8, show_default=True, help="Most decisions taken at once."
)
@state_dir_option
def coordinator(concurrency: int, state_dir: Path | None) -> None:
    """Admit problems, decide beams, verify answers and sweep until SIGTERM.

    Any number of coordinators may run.
    """
    from cord_worker.local import limits

    with _hopeless_errors():
        limits.check("the coordinator", [limits.COORDINATOR])
        from cord_worker.coordination.process.main import run_coordinator

        raise SystemExit(run_coordinator(read_settings(state_dir), concurrency=concurrency))


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5555, show_default=True, help="Port on 127.0.0.1 to listen at."
)
@state_dir_option
def flower(port: int, state_dir: Path | None) -> None:
    """Show tasks and workers in a browser, with Flower on this machine only."""
    from cord_worker.operations.flower import exec_flower

    exec_flower(read_settings(state_dir), port)


@contextmanager
def _hopeless_errors() -> Iterator[None]:
    from cord_worker.errors import (
        BrokerRefused,
        ConfigError,
        CordError,
        DatabaseRefused,
        EngineLoadError,
        MachineLimit,
        SchemaMismatch,
    )

    try:
        yield
    except (BrokerRefused, ConfigError, DatabaseRefused, EngineLoadError, MachineLimit, SchemaMismatch) as error:
        print_error(error)
        instead = os.environ.get(_INSTEAD, "")
        raise SystemExit(int(instead) if instead.isdecimal() else _STARTING_AGAIN_CANNOT_HELP) from error
    except CordError:
        raise
    except Exception as error:
        from cord_worker.local.limits import explained

        if not isinstance(error, OSError) and explained(error) is None:
            # Its log outlives the container, in which the file with the traceback would be lost.
            logging.getLogger(__name__).exception("this process ends")
        raise
