"""Reads and checks problems: JSON lines, JSON, CSV, Parquet, and folders of these in the layout of Hugging Face.

A bad row becomes a `RejectedRecord` in its place; an unusable file raises `DatasetError`.
"""

from __future__ import annotations

from cord_worker.dataset.hub import HubDataset, HubSnapshot
from cord_worker.dataset.reading import read_problems
from cord_worker.dataset.records import Change, FieldMapping, Note, ProblemRecord, ReadOptions, RejectedRecord
from cord_worker.dataset.rejects import flaw_of, rejection_error, rejects_file, write_rejects

__all__ = [
    "Change",
    "FieldMapping",
    "HubDataset",
    "HubSnapshot",
    "Note",
    "ProblemRecord",
    "ReadOptions",
    "RejectedRecord",
    "flaw_of",
    "read_problems",
    "rejection_error",
    "rejects_file",
    "write_rejects",
]
