"""Checks the method and the reference that a dataset row names for its own answer, before the row is enqueued."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import get_args

from cord_worker.config import VerifyConfig
from cord_worker.dataset import ProblemRecord, RejectedRecord

METHODS: tuple[str, ...] = get_args(VerifyConfig.model_fields["method"].annotation)
"""Every value of verify.method."""


def with_known_methods(
    records: Iterable[ProblemRecord | RejectedRecord], verify: VerifyConfig
) -> Iterator[ProblemRecord | RejectedRecord]:
    """`records` in their order; a row is rejected if its own method is unknown, or if its reference is not a text."""
    for record in records:
        yield record if isinstance(record, RejectedRecord) else _check_record(record, verify)


def _check_record(record: ProblemRecord, verify: VerifyConfig) -> ProblemRecord | RejectedRecord:
    if verify.field is not None:
        method = record.metadata.get(verify.field)
        if method not in (None, "", *METHODS):
            reason = (
                f"is {method!r:.40}: name the row's method of verification ({', '.join(METHODS)}), or give another "
                "name to the field of such methods (verify.field in cord.toml)"
            )
            return RejectedRecord(record.location, verify.field, reason, dict(record.metadata))
        if method == "judge" and verify.judge is None:
            reason = "asks for a judge, but cord.toml has no table [verify.judge]: name the judge's model there"
            return RejectedRecord(record.location, verify.field, reason, dict(record.metadata))
    if verify.reference_field is not None:
        reference = record.metadata.get(verify.reference_field)
        if reference is not None and (isinstance(reference, bool) or not isinstance(reference, str | int | float)):
            reason = f"is of type {type(reference).__name__}: write the reference as text or as a number"
            return RejectedRecord(record.location, verify.reference_field, reason, dict(record.metadata))
    return record
