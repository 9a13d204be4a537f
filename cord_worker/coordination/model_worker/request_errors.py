"""Why a candidate is invalid whose request a model refused."""

from __future__ import annotations

from cord_worker.errors import RequestError
from cord_worker.search.types import InvalidReason


def reason_of(error: RequestError) -> InvalidReason:
    """What the tables say of it."""
    return InvalidReason(error.cause)
