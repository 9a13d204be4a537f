"""Where a plan comes from: the number of problems, the pilot's run, and the prices."""

from __future__ import annotations

from pathlib import Path

from cord_worker.config import Prices, RunConfig
from cord_worker.dataset import HubSnapshot, RejectedRecord, flaw_of
from cord_worker.errors import ConfigError, DatasetError, StoreError
from cord_worker.operations.enqueue import DatasetSource, default_run_name
from cord_worker.store.database import Database
from cord_worker.store.runs.runs import RunRow, find_run, resolve_run


def count_problems(source: DatasetSource, config: RunConfig) -> int:
    """The number of problems that a run of the dataset has. Raises DatasetError if a row is invalid or repeats an
    earlier id, and `skip_invalid` is not set."""
    keys: set[str] = set()
    for record in source.records(config=config):
        if isinstance(record, RejectedRecord):
            flaw = flaw_of(record)
        elif record.key in keys:
            flaw = (
                f"{record.location}: its id {record.key!r} (given, or made from its content) is that of an earlier row"
            )
        else:
            keys.add(record.key)
            continue
        if not source.skip_invalid:
            raise DatasetError(f"{flaw} (--skip-invalid leaves such rows out)")
    if not keys:
        raise DatasetError(f"{source.path}: no valid row")
    return len(keys)


def pilot_run(
    database: Database, dataset: Path | HubSnapshot, config: RunConfig, config_path: Path, name: str | None
) -> RunRow:
    """The run that the plan is based on: the named one, or the one that `cordctl run` would continue.

    Raises RunNotFound, or StoreError if its search was another one than the configuration's.
    """
    if name is None:
        own = default_run_name(dataset, config)
        run = database.run(lambda connection: find_run(connection, own))
        if run is None:
            raise StoreError(
                f"there is no pilot: run {own} does not exist. Make one, which counts towards the run: cordctl run "
                f"{dataset} --config {config_path} --limit 30 -o pilot.jsonl. Or name another run with --from"
            )
    else:
        run = database.run(lambda connection: resolve_run(connection, name))
    if run.trimmed_from is not None or run.config_fingerprint != config.fingerprint():
        raise StoreError(
            f"run {run.name} computes something else than {config_path}: a plan needs a pilot with the same models, "
            "search and sampling"
        )
    return run


def planned_prices(config: RunConfig, given: Prices | None) -> Prices | None:
    """The given prices, or those of the configuration; None without any. Raises ConfigError if a model has none."""
    prices = given or config.prices
    if prices is not None:
        try:
            config.price_by_path(prices)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    return prices
