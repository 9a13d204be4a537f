"""Shows the progress of a run: a live table in a terminal, lines elsewhere, JSON for scripts.

Names, ids and reasons come from datasets and models, so they are untrusted text: all of it goes through `shown`, and
nothing is read as markup.
"""

from __future__ import annotations

from cord_worker.display_text import money, shown, shown_lines
from cord_worker.progress.number_format import duration, figure, percent
from cord_worker.progress.rendering import SILENCE_SECONDS, invalid_by_teacher, line, no_workers_sentence, panel
from cord_worker.progress.snapshot import Condition, Snapshot, named_conditions, named_workers
from cord_worker.progress.terminal import console
from cord_worker.progress.views import LINE_SECONDS, JsonView, LineView, LiveView, ProgressView, open_view

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
    "invalid_by_teacher",
    "line",
    "money",
    "named_conditions",
    "named_workers",
    "no_workers_sentence",
    "open_view",
    "panel",
    "percent",
    "shown",
    "shown_lines",
]
