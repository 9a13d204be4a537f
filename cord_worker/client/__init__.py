"""The Python client: what `cordctl` does, for programs and notebooks. docs/python-client.md shows how to use it.

It prints nothing and ends no process; warnings go to the logger `cord_worker`. Errors are those of
`cord_worker.errors`. Slow imports are inside functions.
"""

from __future__ import annotations

import logging

from cord_worker.client.client import Client, preset
from cord_worker.client.results import (
    Enqueued,
    ExportChoices,
    ReadingChoices,
    RejectedRow,
    RunOverview,
    RunProgress,
    RunStatus,
    Started,
    TeacherProgress,
)
from cord_worker.client.run import EnqueuedRun, Run

# Otherwise Python prints warnings on standard error if the program has no handler.
logging.getLogger("cord_worker").addHandler(logging.NullHandler())

__all__ = [
    "Client",
    "Enqueued",
    "EnqueuedRun",
    "ExportChoices",
    "ReadingChoices",
    "RejectedRow",
    "Run",
    "RunOverview",
    "RunProgress",
    "RunStatus",
    "Started",
    "TeacherProgress",
    "preset",
]
