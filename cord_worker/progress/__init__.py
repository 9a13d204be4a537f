"""Showing where a run stands: a live table in a terminal, a line now and then elsewhere, JSON for scripts.

Names, ids and reasons come from datasets and models, so they are hostile text: everything that is shown goes through
`shown`, and nothing is ever read as markup.
"""

from __future__ import annotations

from cord_worker.progress.drawing import SILENCE_SECONDS, line, panel, without_workers
from cord_worker.progress.format import duration, figure, percent
from cord_worker.progress.snapshot import Condition, Snapshot, named_conditions, named_workers
from cord_worker.progress.terminal import console
from cord_worker.progress.text import shown_lines
from cord_worker.progress.views import LINE_SECONDS, JsonView, LineView, LiveView, ProgressView, open_view
from cord_worker.showing import shown

__all__ = [
    "LINE_SECONDS",
    "SILENCE_SECONDS",
    "Condition",
    "JsonView",
    "LineView",
    "LiveView",
    "ProgressView",
    "Snapshot",
    "console",
    "duration",
    "figure",
    "line",
    "named_conditions",
    "named_workers",
    "open_view",
    "panel",
    "percent",
    "shown",
    "shown_lines",
    "without_workers",
]
