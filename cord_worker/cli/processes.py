"""`cordctl worker`, `coordinator`, `drain`, `flower`: the processes of a cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cord_worker.cli.command_groups import print_error
from cord_worker.cli.completion import models_of_the_configuration
from cord_worker.cli.options import config_option, json_option, print_result, read_settings, state_dir_option

_RESTART_CANNOT_HELP = 78
"""Exit code EX_CONFIG: supervisors do not restart the process after it (`local.supervisor.DO_NOT_RESTART`)."""
_EXIT_CODE_VARIABLE = "CORD_HOPELESS_EXIT_CODE"
"""Environment variable: an exit code to use instead, for supervisors that only distinguish 0 from the rest (Docker)."""


@click.command()
@click.argument("model", shell_complete=models_of_the_configuration)
@config_option
@click.option("--name", help="Name of the process in logs and Flower (default: MODEL).")
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    help="Messages handled at once (default: batch_size, at least 2).",
)
@state_dir_option
def worker(model: str, config_path: Path, name: str | None, concurrency: int | None, state_dir: Path | None) -> None:
    """Host MODEL of cord.toml and serve its queue until SIGTERM."""
    from cord_worker.config import RunConfig
    from cord_worker.local import limits
    from cord_worker.operations.fleet import check_engine, model_named, need_of

    with _no_restart_on_permanent_errors():
        hosted = model_named(RunConfig.load(config_path, unused_models=True), model)
        check_engine(model, hosted)
        limits.check(f"the worker {name or model}", [need_of(hosted)])
        settings = read_settings(state_dir)
        # Imported late, because it imports the engine.
        from cord_worker.coordination.process.main import run_model_worker

        raise SystemExit(run_model_worker(hosted, settings, name=name or model, concurrency=concurrency))


@click.command()
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=8, show_default=True, help="Messages handled at once."
)
@state_dir_option
def coordinator(concurrency: int, state_dir: Path | None) -> None:
    """Admit problems, decide beams, check answers and sweep until SIGTERM.

    Any number of coordinators may run.
    """
    from cord_worker.local import limits

    with _no_restart_on_permanent_errors():
        limits.check("the coordinator", [limits.COORDINATOR])
        from cord_worker.coordination.process.main import run_coordinator

        raise SystemExit(run_coordinator(read_settings(state_dir), concurrency=concurrency))


@click.command()
@click.argument("worker")
@state_dir_option
@json_option
def drain(worker: str, state_dir: Path | None, as_json: bool) -> None:
    """Ask WORKER to finish the work that it holds, take no more and exit.

    WORKER is host:pid, or the beginning of its id, as cordctl status shows them. The worker exits with code 0,
    however long its work takes.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.store.runs.processes import request_drain

    settings = read_settings(state_dir)
    with open_database(settings) as database:
        drained = database.run(
            lambda connection: request_drain(connection, worker, timeout_seconds=settings.worker_timeout_seconds)
        )
    finishes = "was asked before; it finishes" if drained.was_draining else "finishes"
    document = {
        "process": drained.address,
        "id": drained.id,
        "role": drained.kind,
        "was_draining": drained.was_draining,
    }
    sentence = f"{drained.kind} {drained.address} {finishes} what it holds and exits; see cordctl status"
    print_result(sentence, document, as_json=as_json)


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5555, show_default=True, help="Port on 127.0.0.1 to listen on."
)
@click.option(
    "--read-write",
    is_flag=True,
    help="Show Flower's buttons and send its commands, too; workers of this service do not obey them.",
)
@state_dir_option
def flower(port: int, read_write: bool, state_dir: Path | None) -> None:
    """Show tasks and workers in a browser with Flower, on this machine only."""
    from cord_worker.operations.flower import exec_flower

    exec_flower(read_settings(state_dir), port, read_write=read_write)


@contextmanager
def _no_restart_on_permanent_errors() -> Iterator[None]:
    """Turns errors that a restart cannot fix into the exit code that tells supervisors not to restart."""
    from cord_worker.errors import (
        BrokerRefused,
        ConfigError,
        CordError,
        DatabaseRefused,
        EngineLoadError,
        MachineLimit,
        SchemaMismatch,
        TablesMissing,
    )

    try:
        yield
    except TablesMissing:
        raise  # a restart can help: a migration or a restored dump may make the tables
    except (BrokerRefused, ConfigError, DatabaseRefused, EngineLoadError, MachineLimit, SchemaMismatch) as error:
        print_error(error)
        code = os.environ.get(_EXIT_CODE_VARIABLE, "")
        raise SystemExit(int(code) if code.isdecimal() else _RESTART_CANNOT_HELP) from error
    except CordError:
        raise
    except Exception as error:
        from cord_worker.local.limits import limit_that_caused

        if not isinstance(error, OSError) and limit_that_caused(error) is None:
            # The traceback goes to the log, too, because the temporary file that holds it is lost with a container.
            logging.getLogger(__name__).exception("this process ends")
        raise
