"""`Client`: the way into the service for a Python program."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, Unpack

from cord_worker.client.results import Enqueued, ReadingChoices, RejectedRow, RunOverview, RunProgress, Started
from cord_worker.client.run import EnqueuedRun, Run, progress_listener
from cord_worker.client.session import Session, settings_of
from cord_worker.errors import ConfigError, WaitTimeout

if TYPE_CHECKING:
    from cord_worker.config import RunConfig
    from cord_worker.dataset import RejectedRecord
    from cord_worker.operations.enqueue import EnqueueResult

    Config = str | os.PathLike[str] | Mapping[str, Any] | RunConfig

_DEFAULT_CONFIG = "cord.toml"


class Client:
    """Enqueues datasets, watches runs and reads their results. A client is a context manager for one database.

    It finds the services as `cordctl` does: at `database_url` and `broker_url`, else at CORD_DATABASE_URL and
    CORD_BROKER_URL, else embedded in `state_dir` (CORD_STATE_DIR, else .cord). Nothing is opened before the first
    call. The first call starts an embedded PostgreSQL that does not run; `close` stops it, unless another process needs
    it. Only `run_local` and `up` start workers.

    Several threads may use one client. It does not survive a fork: make another one in each process.

    Raises:
        ConfigError: a URL or a CORD_ variable is wrong; no message repeats a password.
    """

    def __init__(
        self,
        state_dir: str | os.PathLike[str] | None = None,
        *,
        database_url: str | None = None,
        broker_url: str | None = None,
    ) -> None:
        self._session = Session(settings_of(state_dir, database_url, broker_url))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the database. Readers that have not been read to their end raise StoreError from now on. What `up` has
        started continues."""
        self._session.close()

    def runs(self) -> list[RunOverview]:
        """All runs, oldest first.

        Raises ConfigError if no service is known, StoreError if the database is unreachable.
        """
        from cord_worker.operations.run_watch import list_overviews

        documents = [one.to_json() for one in self._session.database().run(list_overviews)]
        return [RunOverview(**{**one, "created_at": datetime.fromisoformat(one["created_at"])}) for one in documents]

    def run(self, name: str) -> Run:
        """A handle of the run with this name. Raises RunNotFound, which names the existing ones."""
        from cord_worker.store.runs.runs import resolve_run

        if not isinstance(name, str):
            raise TypeError(f"the name of a run is a text, not {name!r}")
        return Run(self._session, self._session.database().run(lambda connection: resolve_run(connection, name)).name)

    def enqueue(
        self,
        dataset: Any,
        config: Config = _DEFAULT_CONFIG,
        *,
        run: str | None = None,
        dry_run: bool = False,
        **reading: Unpack[ReadingChoices],
    ) -> EnqueuedRun:
        """Adds the problems of a dataset to a run, as `cordctl enqueue` does: all of them, or none. Called again, it
        adds only new problems. Starts no worker.

        Args:
            dataset: the path of a file or folder, a dataset of the hub (`ORG/NAME` or `ORG/NAME@REVISION`), an iterable
                of mappings, a table of pyarrow, pandas or polars, or a `datasets.Dataset`.
            config: the path of a cord.toml, a mapping with its tables, or a `RunConfig`.
            run: the run's name. The default is made of the dataset's file name and the configuration, so rows that
                have no file need a name.
            dry_run: checks everything, but writes nothing. The returned handle may be of a run that does not exist.
            reading: the options of `cordctl enqueue` of the same names. With `skip_invalid=True`, bad rows are left out
                and listed in `enqueued.rejects`; otherwise the first one raises DatasetError.

        Raises:
            DatasetError: the dataset, or a row of it, cannot be used.
            ConfigError: the configuration is wrong, a model has no room for a step, or no service is known.
            RunConflict: the run exists with another configuration.
        """
        from cord_worker.operations.enqueue import dataset_source, enqueue_dataset
        from cord_worker.operations.given_configs import given_config
        from cord_worker.operations.given_datasets import dataset_path, is_path

        _check_name(dataset, run)
        given = given_config(config)
        rejects: list[RejectedRecord] = []
        with dataset_path(dataset, reading.get("split")) as path:
            source = replace(dataset_source(path, **reading), writes_rejects=is_path(dataset))
            source.check()
            result = enqueue_dataset(
                self._session.database(), source, given.config, run, dry_run=dry_run, on_rejected=rejects.append
            )
        return EnqueuedRun(self._session, _enqueued(result, rejects))

    def run_local(
        self,
        dataset: Any,
        config: Config = _DEFAULT_CONFIG,
        *,
        run: str | None = None,
        on_progress: Callable[[RunProgress], None] | None = None,
        on_message: Callable[[str], None] | None = None,
        **reading: Unpack[ReadingChoices],
    ) -> EnqueuedRun:
        """Does a whole run on this machine, as `cordctl run` does, and returns when every problem is final.

        It starts the embedded services (unless URLs are given), a coordinator and the workers of all models, and stops
        them at the end, also after an error or Ctrl-C. If `up` has started them, they are used and not stopped. After
        an interruption, the same call continues where this one stopped.

        Args:
            dataset, config, run, reading: see `enqueue`.
            on_progress: gets the progress twice a second.
            on_message: gets the other messages of `cordctl run`, line by line.

        Raises:
            RunFailed: problems failed, and none is done.
            RunStopped, RunConflict: the run is or becomes paused or cancelled.
            LocalServiceError: a service or a worker cannot be started, or ends again after each restart.
            MachineLimit: the machine allows too little memory, files or processes.
            DatasetError, ConfigError: see `enqueue`.
        """
        from cord_worker.operations.enqueue import dataset_source
        from cord_worker.operations.given_configs import given_config
        from cord_worker.operations.given_datasets import dataset_path, is_path
        from cord_worker.operations.local_run import LocalRun, run_until_final
        from cord_worker.operations.preload import preloading
        from cord_worker.operations.run_wait import CallbackView, check_end

        self._session.check_open()
        _check_name(dataset, run)
        given = given_config(config)
        settings = self._session.settings
        view = CallbackView(progress_listener(on_progress), on_message or (lambda _: None))
        rejects: list[RejectedRecord] = []
        with dataset_path(dataset, reading.get("split")) as path:
            source = replace(dataset_source(path, **reading), writes_rejects=is_path(dataset))
            source.check()
            with preloading(given.config, settings) as fork_server:
                task = LocalRun(
                    source=source,
                    config=given.config,
                    config_path=given.file(settings.state_dir),
                    run_name=run,
                    settings=settings,
                    on_rejected=rejects.append,
                )
                ended = run_until_final(
                    task, view, lambda: None, lambda database, _: check_end(database, view.last), fork_server
                )
        return EnqueuedRun(self._session, _enqueued(ended.enqueued, rejects))

    def up(
        self,
        config: Config = _DEFAULT_CONFIG,
        *,
        wait: bool = True,
        timeout: float = 600.0,
        on_message: Callable[[str], None] | None = None,
    ) -> Started:
        """Starts services and workers in the background, as `cordctl up` does. They outlive this program, until `down`
        (or `cordctl down`). If they run already, those that stopped are started again.

        Args:
            config: see `enqueue`.
            wait: wait until every model is loaded.
            timeout: the most seconds to wait for that.
            on_message: gets what `cordctl up` says, line by line.

        Raises:
            WaitTimeout: not every model is loaded after `timeout` seconds; loading continues.
            LocalServiceError: workers of another configuration run for this state folder, or something cannot be
                started.
            MachineLimit: the machine allows too little memory, files or processes.
        """
        from cord_worker.operations.background import bring_up, wait_until_ready
        from cord_worker.operations.given_configs import given_config
        from cord_worker.operations.services import known_endpoints

        self._session.check_open()
        given, settings = given_config(config), self._session.settings
        say = on_message or (lambda _: None)
        running, is_new = bring_up(given.config, given.file(settings.state_dir), settings, say)
        if wait and not wait_until_ready(given.config, settings, known_endpoints(settings), timeout, say):
            raise WaitTimeout(
                f"not every model is loaded after {timeout:g} s; loading continues: see {running.state_dir}"
            )
        processes = [
            {"name": one.name, "state": one.state, "pid": one.pid, "error": one.error} for one in running.workers
        ]
        return Started(is_new, running.pid, running.state_dir, processes, True if wait else None)

    def down(self) -> bool:
        """Stops what `up` started; False if nothing ran. Nothing that was committed is lost, and an embedded database
        is started again when it is next used."""
        from cord_worker.operations.background import bring_down

        self._session.check_open()
        return bring_down(self._session.settings)


def preset(name: str = "tiny", *, values: Sequence[str] = (), only_teachers: Sequence[str] = ()) -> dict[str, Any]:
    """The tables of a ready configuration, as `cordctl init --preset NAME --set SECTION.KEY=VALUE` prints it. A program
    may change them, and gives them to methods of `Client` as `config`. Raises ConfigError for an unknown name or
    option."""
    import tomllib

    from cord_worker.name_suggestions import unknown
    from cord_worker.presets import PRESETS, adapted, preset_text

    if name not in PRESETS:
        raise ConfigError(unknown("preset", name, PRESETS))
    return tomllib.loads(adapted(preset_text(name), only_teachers=only_teachers, values=values))


def _check_name(dataset: object, run: str | None) -> None:
    from cord_worker.operations.given_datasets import is_path

    if run == "":
        raise ConfigError("the run's name is empty: leave it out for the default")
    if run is None and not is_path(dataset):
        raise ConfigError("these rows have no file name from which to make the run's name: give one, run='…'")


def _enqueued(result: EnqueueResult, rejects: Sequence[RejectedRecord]) -> Enqueued:
    return Enqueued(
        **{**result.to_json(), "rejects_file": result.rejects},
        rejects=tuple(RejectedRow(row.location, row.field, row.reason, row.raw) for row in rejects),
    )
