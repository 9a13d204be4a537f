"""All errors that the service raises on purpose, as one tree.

    CordError
    ├── ConfigError          cord.toml or an environment setting is wrong
    ├── DatasetError         a dataset cannot be used: file, line, field
    ├── StoreError           the database is unreachable, not migrated, or does not fit the request
    │   ├── DatabaseRefused  the database, role or password is wrong: a retry cannot help
    │   ├── SchemaMismatch   the schema is older or newer than this code
    │   │   └── TablesMissing  the tables are missing
    │   ├── ModelLost        the row of a model with a living worker is missing
    │   ├── RunNotFound      no run of that name
    │   └── RunConflict      a run of that name exists with another configuration or other content
    ├── SearchError          rows given to the search contradict each other (in `search.types`)
    ├── BrokerError          the message broker is unreachable or accepts no messages at present
    │   └── BrokerRefused    the user, password or kind of server is wrong: a retry cannot help
    ├── EngineError          a model could not be hosted, or its engine died
    │   ├── EngineLoadError  the model could not be loaded
    │   ├── UnavailableError  the model's server is unreachable or overloaded: the work is retried later
    │   └── RequestError     one request cannot be sent to the model, or its server rejects it; others still work
    │       ├── TooLongError          it does not fit the model's context
    │       ├── ContentFilterError    the server's content filter refuses it
    │       ├── NotFiniteError        the model computed NaN or an infinity for it
    │       └── EngineFaultError      the engine fails at this request repeatedly, and at no other
    ├── HubError             the Hugging Face hub cannot be used, or refuses
    ├── LocalServiceError    an embedded server or a supervised process could not be started or stopped
    ├── MachineLimit         the machine allows too few files or processes, or too little memory
    ├── ProcessPoolError     processes for answers and replies are closed or cannot be started
    ├── WaitError            a run that a Python program waits for does not become final, or it fails
    │   ├── RunStopped       it is paused or cancelled
    │   │   └── LimitReached  a spending limit paused it
    │   ├── RunFailed        all its problems are final, and none of them is done
    │   ├── WorkersMissing   a process that it needs does not run
    │   └── WaitTimeout      it takes longer than the program wanted to wait
    └── TrainingFailed       the training of a student ended with an error

Each message says what happened, to what, and what to do about it.
"""

from __future__ import annotations

from typing import ClassVar


class CordError(Exception):
    """Base of all errors that a user can act on; the CLI prints the message and exits with `exit_code`."""

    exit_code: ClassVar[int] = 1


class ConfigError(CordError):
    """cord.toml or an environment setting is wrong; names the key and the allowed values."""


class TrainingFailed(CordError):
    """The training of a student ended with an error; names its log."""


class DatasetError(CordError):
    """A dataset cannot be used; names file, line and field."""


class StoreError(CordError):
    """The database is unreachable or does not fit the request."""


class DatabaseRefused(StoreError):
    """The database, the role, the password or the URL is wrong: a retry cannot help."""


class SchemaMismatch(StoreError):
    """The database schema is older or newer than this code."""


class TablesMissing(SchemaMismatch):
    """The database has no tables of this application, or none at present."""


class ModelLost(StoreError):
    """The database has lost the model that a living worker hosts."""


class RunNotFound(StoreError):
    """No run of that name exists."""


class RunConflict(StoreError):
    """A run of that name exists with another configuration or with other content."""


class BrokerError(CordError):
    """The message broker is unreachable or accepts no messages at present."""


class BrokerRefused(BrokerError):
    """The user, the password or the kind of server is wrong: a retry cannot help."""


class EngineError(CordError):
    """A model could not be hosted, or its engine died. Ends the worker, except UnavailableError and RequestError."""


class EngineLoadError(EngineError):
    """A model could not be loaded; names the model and the cause."""


class UnavailableError(EngineError):
    """The engine accepts no requests now, and this request is not the cause; its lease is returned for a later attempt.

    `brief` is the server's message, shortened; `retry_after` is the number of seconds that it asked to wait, if any.
    `is_failing`: the server is reachable and accepts requests, but fails at them.
    """

    def __init__(
        self, message: str, *, brief: str | None = None, retry_after: float | None = None, is_failing: bool = False
    ) -> None:
        super().__init__(message)
        self.brief = brief or message
        self.retry_after = retry_after
        self.is_failing = is_failing


class RequestError(EngineError):
    """One request cannot be sent to the model, or its server rejects it; only its own candidate fails.

    `cause` is the invalid reason that the tables record; subclasses have more specific ones.
    """

    cause: ClassVar[str] = "malformed_request"


class TooLongError(RequestError):
    """The request does not fit the model's context."""

    cause = "too_long"


class ContentFilterError(RequestError):
    """The server's content filter refuses the request, or the text that the model wrote."""

    cause = "content_filter"


class NotFiniteError(RequestError):
    """A model computed NaN or an infinity for one request; only its own candidate fails."""

    cause = "not_finite"


class EngineFaultError(RequestError):
    """The engine fails at this request repeatedly, and at no other."""

    cause = "engine_fault"


class HubError(CordError):
    """The Hugging Face hub cannot be reached, may not be used, or refuses; names the dataset and what to do."""


class LocalServiceError(CordError):
    """An embedded server or a supervised process could not be started or stopped."""


class MachineLimit(CordError):
    """The machine allows too few files or processes, or too little memory: a retry cannot help."""


class ProcessPoolError(CordError):
    """The processes that compare answers or repair replies are closed or cannot be started."""


class WaitError(CordError):
    """A run that a Python program waits for does not become final, or it fails; committed results stay."""


class RunStopped(WaitError):
    """The run is paused or cancelled."""


class LimitReached(RunStopped):
    """The run is paused, because it has reached a spending limit; nothing is lost, and it can be continued."""

    exit_code = 3


class RunFailed(WaitError):
    """Every problem of the run is final, some failed, and none is done."""


class WorkersMissing(WaitError):
    """Models of the run, or the coordinator, have had no process for some time."""


class WaitTimeout(WaitError, TimeoutError):
    """The run takes longer than the program wanted to wait; the run continues."""
