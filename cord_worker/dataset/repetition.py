"""Rejects problems that have the id of an earlier one, and makes the id of a problem whose row has none."""

from __future__ import annotations

import hashlib

from cord_worker.dataset.records import RejectedRecord


def content_id(question: str, answer: str) -> str:
    """The id of a problem whose row has none."""
    return hashlib.sha256(f"{question}\0{answer}".encode()).hexdigest()[:16]


def repeated_record(key: str, location: str, first: str, *, has_given_id: bool, is_equal: bool) -> RejectedRecord:
    """The problem at `location`, rejected because the one at `first` has its id `key`. `has_given_id`: the row has this
    id, which is not made from the content. `is_equal`: question, answer and passage are the same."""
    if has_given_id:
        return RejectedRecord(location, "id", f"is {key!r}, which was given before, at {first}", {"id": key})
    same = f"question and answer are those of {first}"
    if not is_equal:
        same += ", only the passage is another; without ids in the rows these are one problem"
    return RejectedRecord(location, None, same, {"id": key})


def conflicting_record(key: str, location: str, run: str, *, has_given_id: bool) -> RejectedRecord:
    """The problem at `location`, rejected because the run already holds another one with its id `key`."""
    if has_given_id:
        reason = f"is {key!r}: run {run!r} already holds another problem with this id"
        return RejectedRecord(location, "id", reason, {"id": key})
    reason = (
        f"run {run!r} already holds a problem with this question and answer, but with another passage, or checked in "
        "another way; without ids in the rows these are one problem"
    )
    return RejectedRecord(location, None, reason, {"id": key})
