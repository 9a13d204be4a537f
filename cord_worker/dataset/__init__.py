"""Reading and checking problems: JSON lines, JSON, CSV, Parquet and folders of them as Hugging Face lays them.

A bad row becomes a `RejectedRecord` in its place; a file that cannot be used raises `DatasetError`.
"""

from __future__ import annotations

from cord_worker.dataset.reading import read_problems
from cord_worker.dataset.records import Change, FieldMapping, Note, ProblemRecord, ReadOptions, RejectedRecord
from cord_worker.dataset.rejects import rejection_error, write_rejects

__all__ = [
    "Change",
    "FieldMapping",
    "Note",
    "ProblemRecord",
    "ReadOptions",
    "RejectedRecord",
    "read_problems",
    "rejection_error",
    "write_rejects",
]
