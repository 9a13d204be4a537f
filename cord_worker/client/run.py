"""Handles of runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from cord_worker.client.results import Enqueued, ExportChoices, Files, RunProgress, RunStatus
from cord_worker.client.session import Session
from cord_worker.errors import StoreError

if TYPE_CHECKING:
    import pyarrow

    from cord_worker.export.report import ExportReport
    from cord_worker.operations.exports import ExportOptions
    from cord_worker.operations.recheck import RecheckResult
    from cord_worker.operations.run_control import Cancelled, Paused, Resumed, RetryResult
    from cord_worker.progress import Snapshot

    OnReport = Callable[[ExportReport], None]


class Run:
    """A handle of one run: it holds the name, and every call reads the database anew. `Client` makes it.

    Every method raises RunNotFound if the run was removed, and StoreError if the database is unreachable.
    """

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    @property
    def name(self) -> str:
        """The run's name."""
        return self._name

    def status(self) -> RunStatus:
        """How far the run is: the numbers of `cordctl status --json`."""
        from cord_worker.operations.run_status import report_on, watch_of

        database, timeout = self._session.database(), self._session.timeout
        watched = watch_of(database, self._name, worker_timeout_seconds=timeout)
        report = report_on(database, watched, watched.snapshot(), worker_timeout_seconds=timeout)
        return RunStatus.from_json(report.to_json())

    def wait(
        self,
        timeout: float | None = None,
        *,
        on_progress: Callable[[RunProgress], None] | None = None,
        interval: float = 1.0,
        missing_workers_seconds: float | None = 60.0,
    ) -> RunStatus:
        """Waits until every problem of the run is final, and returns the status then. Starts nothing: workers must run
        (`Client.up`, `cordctl worker`). Ctrl-C ends only the wait.

        Args:
            timeout: the most seconds to wait; None: as long as it takes.
            on_progress: gets the progress every `interval` seconds.
            interval: seconds between two readings of the database.
            missing_workers_seconds: how long a model of the run, or the coordinator, may be without a process; None:
                forever.

        Raises:
            RunStopped: the run is paused (LimitReached: by a spending limit), or was cancelled.
            RunFailed: problems failed, and none is done. If some are done, nothing is raised: see `RunStatus.failed`.
            WorkersMissing: a model of it, or the coordinator, has had no process for too long.
            WaitTimeout: it is not final after `timeout` seconds; it continues.
            LocalServiceError: the background processes of the state folder ended, or one of them was given up.
        """
        from cord_worker.operations.run_wait import wait_for_run

        _check_seconds(timeout=timeout, interval=interval, missing_workers_seconds=missing_workers_seconds)
        wait_for_run(
            self._session.database(),
            self._name,
            self._session.settings,
            timeout_seconds=timeout,
            interval_seconds=max(interval, 0.05),
            missing_seconds=missing_workers_seconds,
            on_snapshot=progress_listener(on_progress),
        )
        return self.status()

    def pause(self) -> Paused:
        """Pauses the run: no new work of it starts, but the results of begun work are written.

        Raises RunConflict if it was cancelled.
        """
        from cord_worker.operations import run_control

        return run_control.pause(self._session.database(), self._name)

    def resume(
        self,
        *,
        max_tokens: int | Literal["none"] | None = None,
        max_cost: float | Literal["none"] | None = None,
        prices: str | os.PathLike[str] | None = None,
    ) -> Resumed:
        """Continues the paused run. `missing_workers` of the result names the roles and models without a process.

        A run that a spending limit paused needs a higher limit, or `none`; `prices` names a file of new prices. Raises
        RunConflict if it was cancelled or has reached its limit, ConfigError if prices are missing or do not fit it.
        """
        from cord_worker.config import Prices
        from cord_worker.operations import run_control
        from cord_worker.store.runs.spending import NewLimits

        limits = NewLimits(max_tokens, max_cost, None if prices is None else Prices.load(Path(prices)))
        database, timeout = self._session.database(), self._session.timeout
        return run_control.resume(database, self._name, limits=limits, worker_timeout_seconds=timeout)

    def retry(
        self, problems: str | Collection[str] | None = None, *, reason: str | None = None, from_scratch: bool = False
    ) -> RetryResult:
        """Continues failed problems where they stopped: all of them, those with these ids, or those whose reason
        contains `reason` (numbers in it are ignored).

        With `from_scratch` their results so far are deleted, without a question, and they start over. Raises
        RunConflict if the run was cancelled, StoreError if it has no such problem, or if `problems` is empty.
        """
        from cord_worker.operations import run_control

        keys = (problems,) if isinstance(problems, str) else () if problems is None else tuple(problems)
        if problems is not None and not keys:
            # An empty list must not mean all problems.
            raise StoreError("no id of a problem was given: leave `problems` out to retry all failed ones")
        return run_control.retry(
            self._session.database(),
            self._name,
            problems=keys,
            reason=reason,
            from_scratch=from_scratch,
            worker_timeout_seconds=self._session.timeout,
        )

    def cancel(self) -> Cancelled:
        """Ends the run for good, without a question; finished problems stay and can be exported."""
        from cord_worker.operations import run_control

        return run_control.cancel(self._session.database(), self._name)

    def recheck(
        self, *, dry_run: bool = False, judged: bool = False, processes: int | None = None, timeout: float = 5.0
    ) -> RecheckResult:
        """Checks the stored answers again by the current rules, without a model, and stores what changed, as
        `cordctl recheck` does. `processes` answers are checked at once (None: as many as processors), each for
        `timeout` seconds at most.

        Rows that were changed after the service wrote them are not checked: they are `broken` in the result.
        """
        from cord_worker.operations.recheck import recheck_run

        return recheck_run(
            self._session.database(),
            self._name,
            dry_run=dry_run,
            judged=judged,
            processes=processes,
            timeout_seconds=timeout,
        )

    def trajectories(
        self,
        *,
        only_correct: bool = False,
        min_score: float | None = None,
        top_k: int | None = None,
        teachers: str | Collection[str] | None = None,
        decontaminate: Files | None = None,
        decontaminate_field: str | None = None,
        on_report: OnReport | None = None,
    ) -> pyarrow.RecordBatchReader:
        """The winning trajectory of each done problem, or all its samples: the rows of the export format `jsonl`, in
        dataset order.

        The filters are the options of `cordctl export` of the same names. For the rest see `export`.
        """
        chosen = _without_none(
            min_score=min_score,
            top_k=top_k,
            teachers=teachers,
            decontaminate=decontaminate,
            decontaminate_field=decontaminate_field,
        )
        return self.export("jsonl", on_report=on_report, only_correct=only_correct, **chosen)

    def candidates(
        self,
        *,
        teachers: str | Collection[str] | None = None,
        decontaminate: Files | None = None,
        decontaminate_field: str | None = None,
        rescoring: str | None = None,
        on_report: OnReport | None = None,
    ) -> pyarrow.RecordBatchReader:
        """Every candidate of the searches of done and failed problems, losers and invalid ones included: the rows of
        the export format `candidates`, in dataset order; with the scores of a `rescoring`, if it is named. For the
        rest see `export`."""
        chosen = _without_none(
            teachers=teachers,
            decontaminate=decontaminate,
            decontaminate_field=decontaminate_field,
            rescoring=rescoring,
        )
        return self.export("candidates", on_report=on_report, **chosen)

    def export(
        self, format: str = "jsonl", *, on_report: OnReport | None = None, **choices: Unpack[ExportChoices]
    ) -> pyarrow.RecordBatchReader:
        """The rows of an export format as a stream of Arrow record batches, with the format's schema.

        `read_pandas()` and `read_all()` of the reader read all rows; a loop over it has one batch in memory at a time;
        polars, DuckDB and `datasets` take the reader. The rows are those of this moment, even if the run is unfinished.
        A reader can be read once. Until it is read to its end or dropped (`del reader`), it keeps one connection and
        one transaction. After ten minutes without a read, PostgreSQL ends the transaction, and the next read raises
        StoreError. A reader never ends early without an error.

        Args:
            format: a name of docs/exports.md.
            on_report: gets the report once the last row is read: how many rows, and how many were left out and why.
            choices: the options of `cordctl export` of the same names, but not `split`, `dataset_info`, `card` and
                `push`, which are for files.

        Raises:
            OptionError: the choices do not fit the format or each other.
            ExportError: the run lacks what the format needs.
        """
        from cord_worker.export.format import OptionError

        file_options = ["split", "dataset_info", "card", "push"]
        if given := [name for name in file_options if choices.get(name)]:
            raise OptionError(f"{' and '.join(given)}: that writes files, so use export_to")
        options = _options(format, choices)
        options.check()
        options.publication()  # raises OptionError for further options of a card or a push
        run = self._session.database().run(lambda connection: options.run_of(connection, self._name))
        return self._session.reader(run, options.request(), on_report)

    def export_to(
        self,
        path: str | os.PathLike[str],
        *,
        format: str = "jsonl",
        failures: str | os.PathLike[str] | None = None,
        **choices: Unpack[ExportChoices],
    ) -> ExportReport:
        """Writes the rows of an export format to a file, as `cordctl export -o PATH` does: the name decides the type
        (.jsonl, .jsonl.gz, .jsonl.zst, .parquet), and the file appears complete or not at all.

        Args:
            path: the file; with `split` the files are called `NAME-SPLIT`.
            format: a name of docs/exports.md.
            failures: another file, for the failed problems and their reasons.
            choices: the options of `cordctl export` of the same names.

        Raises:
            OptionError: the choices do not fit the format or each other.
            ExportError: a file cannot be written or would replace something else, or the run lacks what the format
                needs.
            HubError: the push failed; the files stay.
        """
        from contextlib import nullcontext

        from cord_worker.export.files import STANDARD_OUTPUT, ExportError
        from cord_worker.operations.exports import export_to_files

        output = os.fsdecode(path)
        if STANDARD_OUTPUT in (output, failures):
            raise ExportError("a program's export goes to a file, not to standard output: name one, or use export()")
        return export_to_files(
            nullcontext(self._session.database()),
            self._name,
            output,
            _options(format, choices),
            failures=None if failures is None else os.fsdecode(failures),
        ).report


class EnqueuedRun(Run):
    """A handle of a run to which problems were added. `enqueued` says how many, and which rows were left out."""

    def __init__(self, session: Session, enqueued: Enqueued) -> None:
        super().__init__(session, enqueued.run)
        self._enqueued = enqueued

    @property
    def enqueued(self) -> Enqueued:
        """The result of enqueuing."""
        return self._enqueued


def progress_listener(on_progress: Callable[[RunProgress], None] | None) -> Callable[[Snapshot], None]:
    """A function that converts snapshots to progress and passes them to `on_progress`."""

    def listen(snapshot: Snapshot) -> None:
        if on_progress is not None:
            on_progress(RunProgress.from_json(snapshot.to_json()))

    return listen


def _check_seconds(**given: object) -> None:
    """Raises OptionError unless each argument is None or a number from 0. NaN is refused, because with it the wait
    would never end."""
    from cord_worker.export.format import OptionError

    for name, seconds in given.items():
        if seconds is not None and not (isinstance(seconds, Real) and float(seconds) >= 0):
            raise OptionError(f"{name}={seconds!r}: give a number of seconds from 0")


def _without_none(**choices: Any) -> Any:
    """The choices that are not None."""
    return {name: value for name, value in choices.items() if value is not None}


def _options(form: str, choices: ExportChoices) -> ExportOptions:
    """The options of an export. Raises TypeError for an unknown one, as a function does, and OptionError."""
    from cord_worker.export.format import OptionError
    from cord_worker.operations.exports import ExportOptions

    values: dict[str, Any] = dict(choices)
    if isinstance(values.get("teachers"), str):
        values["teachers"] = [name.strip() for name in values["teachers"].split(",") if name.strip()]
    files = values.pop("decontaminate", None)
    if files is None:
        return ExportOptions(form=form, **values)
    listed = [files] if isinstance(files, str | os.PathLike) else files
    if not isinstance(listed, Collection) or not all(isinstance(one, str | os.PathLike) and str(one) for one in listed):
        raise OptionError(f"--decontaminate {files!r}: give the path of a file, or of several")
    if not listed:
        raise OptionError("--decontaminate names no file")
    return ExportOptions(form=form, decontaminate=tuple(map(Path, listed)), **values)
