"""CoRD synthesis service: collaborative step-wise multi-teacher decoding as a queue-based batch service.

Programs begin with `from cord_worker import Client` (docs/python-client.md). A name of `__all__` is imported
when it is first used: `import cord_worker` itself imports nothing. Type checkers read `__init__.pyi`.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.2.0"

__all__ = [
    "BrokerError",
    "Client",
    "ConfigError",
    "CordError",
    "DatabaseRefused",
    "DatasetError",
    "EngineError",
    "Enqueued",
    "EnqueuedRun",
    "ExportError",
    "LimitReached",
    "LocalServiceError",
    "MachineLimit",
    "OptionError",
    "RejectedRow",
    "Run",
    "RunConflict",
    "RunFailed",
    "RunNotFound",
    "RunOverview",
    "RunProgress",
    "RunStatus",
    "RunStopped",
    "SchemaMismatch",
    "Started",
    "StoreError",
    "TeacherProgress",
    "WaitError",
    "WaitTimeout",
    "WorkersMissing",
    "__version__",
    "preset",
]

_EXPORT_ERRORS = {"ExportError": "cord_worker.export.files", "OptionError": "cord_worker.export.format"}


def __getattr__(name: str) -> Any:
    """Imports a name of `__all__` when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = _EXPORT_ERRORS.get(name)
    if module is None:
        errors = import_module("cord_worker.errors")
        module = errors.__name__ if hasattr(errors, name) else "cord_worker.client"
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
