"""What a client and its handles of runs share: the settings, the open database, and the readers that are open."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cord_worker.errors import ConfigError, CordError, StoreError

if TYPE_CHECKING:
    import pyarrow

    from cord_worker.config import Settings
    from cord_worker.export.exporting import OpenExport, Request
    from cord_worker.export.report import ExportReport
    from cord_worker.store.database import Database

_CLOSED = "this client is closed: make another one, and use its runs and readers before it is closed"
_FORKED = "this client belongs to the process that this one was forked from: make another client in this process"
_BATCH_ROWS = 1_000
"""Rows in one record batch; they are held in memory at once."""


class Session:
    """Opens the database at the first use and keeps it open until `close`. Readers have their own connections."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._stack = ExitStack()
        # For programs that do not call `close`. A finalizer runs at exit while Python's modules still exist.
        weakref.finalize(self, _close_in_this_process, os.getpid(), self._stack.close)
        self._database: Database | None = None
        self._url: str | None = None
        self._readers: weakref.WeakSet[_Batches] = weakref.WeakSet()
        self._is_closed = False

    @property
    def timeout(self) -> float:
        """Seconds without a heartbeat after which a worker counts as lost."""
        return self.settings.worker_timeout_seconds

    def database(self) -> Database:
        """The database; an embedded one that does not run is started, and stopped at `close`.

        Raises ConfigError if none is known, LocalServiceError if the embedded one cannot be started,
        SchemaMismatch for a schema of another version, and StoreError if the database cannot be used or the client is
        closed.
        """
        from cord_worker import endpoints
        from cord_worker.operations.database import database_url_for, open_database

        with self._lock:
            self.check_open()
            url = None
            with contextlib.suppress(ConfigError):
                url = endpoints.database_url(self.settings)
            if self._database is not None and url == self._url:
                return self._database
            # This is the first call, or the embedded server has stopped (`cordctl down`) or has another URL now.
            self._close_database()
            with ExitStack() as stack:
                self._url = stack.enter_context(database_url_for(self.settings))
                self._database = stack.enter_context(open_database(self.settings, url=self._url))
                self._stack.enter_context(stack.pop_all())
            return self._database

    def check_open(self) -> None:
        """Raises StoreError if the client is closed, or was made before a fork."""
        if os.getpid() != self._process:
            raise StoreError(_FORKED)
        if self._is_closed:
            raise StoreError(_CLOSED)

    def reader(
        self, run: str, request: Request, on_report: Callable[[ExportReport], None] | None
    ) -> pyarrow.RecordBatchReader:
        """The rows of the run as a stream of record batches. `on_report` gets the export's report after the last batch.
        Raises CordError if pyarrow cannot be imported."""
        arrow = _pyarrow()
        batches = _Batches(self._open_export(run, request), on_report)
        with self._lock:
            self.check_open()  # it may have been closed meanwhile by another thread
            self._readers.add(batches)
        return arrow.RecordBatchReader.from_batches(batches.schema, batches)

    @contextmanager
    def _open_export(self, run: str, request: Request) -> Iterator[OpenExport]:
        from cord_worker.export.exporting import open_export
        from cord_worker.operations.database import open_database

        self.database()  # the embedded server, if there is one, runs until the client is closed
        with open_database(self.settings, url=self._url) as database, open_export(database, run, request) as export:
            yield export

    def close(self) -> None:
        """Closes the database and ends the readers, which raise StoreError from now on. In a forked process it does
        nothing, because the connections are those of the process that made the client."""
        if os.getpid() != self._process:
            return
        with self._lock:
            self._is_closed = True
            for reader in list(self._readers):
                reader.close()
            self._close_database()

    def _close_database(self) -> None:
        self._database = self._url = None
        self._stack.close()


class _Batches:
    """Record batches of an open export, for `RecordBatchReader.from_batches`.

    A stream that was cut must never look complete. So after an error, or once it is closed, each further read raises.
    """

    def __init__(
        self, export_context: AbstractContextManager[OpenExport], on_report: Callable[[ExportReport], None] | None
    ) -> None:
        self._items = self._read(export_context, on_report)
        self._process = os.getpid()
        self._failure: Exception | None = None
        # Reading the first item opens the export, so errors of opening it are raised here.
        self.schema: pyarrow.Schema = next(self._items)
        weakref.finalize(self, _close_in_this_process, os.getpid(), self._items.close)

    @staticmethod
    def _read(
        export_context: AbstractContextManager[OpenExport], on_report: Callable[[ExportReport], None] | None
    ) -> Generator[Any, None, None]:
        """Yields the schema, then the batches."""
        from itertools import islice

        from cord_worker.export.rows import arrow_schema

        arrow = _pyarrow()
        with export_context as export:
            schema = arrow_schema(export.fields)
            yield schema
            rows = list(islice(export.rows, _BATCH_ROWS))
            # Yielded even if it is empty, because polars refuses a stream without a batch.
            yield arrow.RecordBatch.from_pylist(rows, schema=schema)
            while rows := list(islice(export.rows, _BATCH_ROWS)):
                yield arrow.RecordBatch.from_pylist(rows, schema=schema)
            report = export.report()
        if on_report is not None:
            on_report(report)

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> Any:
        if os.getpid() != self._process:
            raise StoreError(_FORKED)
        if self._failure is not None:
            raise self._failure
        try:
            return next(self._items)
        except StopIteration:
            raise
        except BaseException as error:
            self._failure = error if isinstance(error, Exception) else StoreError("the reading was interrupted")
            raise

    def close(self) -> None:
        """Ends the stream; a further read raises StoreError."""
        self._failure = self._failure or StoreError(_CLOSED)
        with contextlib.suppress(ValueError):  # raised while another thread reads: that read still returns its batch
            self._items.close()


def _close_in_this_process(pid: int, close: Callable[[], None]) -> None:
    """Calls `close`, unless this process was forked from `pid`: that process still uses the connections."""
    if os.getpid() == pid:
        close()


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise CordError(
            f"rows are read as Arrow tables, and pyarrow cannot be imported ({error}): install it"
        ) from None
    return pyarrow


def settings_of(state_dir: str | os.PathLike[str] | None, database_url: str | None, broker_url: str | None) -> Settings:
    """The settings of the environment; each argument that is not None replaces one of them. Raises ConfigError for a
    URL that cannot be used. The message does not repeat the URL, which may hold a password."""
    from cord_worker.config import Settings
    from cord_worker.service_url_checks import checked_broker_url, checked_database_url

    found = Settings.from_environment()
    # Absolute: a program may change its working folder.
    changes: dict[str, Any] = {"state_dir": Path(found.state_dir if state_dir is None else state_dir).absolute()}
    for name, url, check in (
        ("database_url", database_url, checked_database_url),
        ("broker_url", broker_url, checked_broker_url),
    ):
        if url is None:
            continue
        try:
            changes[name] = check(url)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None
    return found.model_copy(update=changes)
