"""Reading and checking problems: JSON lines, JSON, CSV, Parquet and Hugging Face dataset folders.

A bad row becomes a `RejectedRecord` in its place; a file that cannot be used raises `DatasetError`.
"""

from __future__ import annotations

from cord_worker.dataset.reading import read_problems
from cord_worker.dataset.records import FieldMapping, ProblemRecord, RejectedRecord
from cord_worker.dataset.rejects import rejection_error, write_rejects

__all__ = [
    "FieldMapping",
    "ProblemRecord",
    "RejectedRecord",
    "read_problems",
    "rejection_error",
    "write_rejects",
]
